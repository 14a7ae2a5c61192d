# SPDX-License-Identifier: Apache-2.0
"""Practice: a model's own plans, carried out and recorded."""

from itertools import islice

import numpy as np
import pytest
import torch

from vjepa2_ros.simulation.simulator import Simulator, SimulatorConfig
from vjepa2_ros.tasks.task import EpisodeError
from vjepa2_ros.training import practice as practice_module
from vjepa2_ros.training.practice import Practice
from vjepa2_ros.training.recipe import Recipe, encoder_geometry, predictor_geometry
from vjepa2_ros.world_model.encoder import Encoder
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor
from vjepa2_ros.world_model.world_model import WorldModel

SMALL = Recipe(
    image_size=64, width=48, heads=2, encoder_layers=1, predictor_layers=1
)  # fmt: skip
BOUND = 0.05


@pytest.fixture(scope="module")
def practice():
    torch.manual_seed(0)
    encoder = Encoder(encoder_geometry(SMALL))
    predictor = ActionConditionedPredictor(predictor_geometry(SMALL))
    return Practice(WorldModel(encoder, predictor.eval()), BOUND)


@pytest.fixture(scope="module")
def simulator():
    return Simulator(SimulatorConfig(box_yaw=0.5))


def states(practice, simulator, steps, turning=False, seed=1_000_000):
    simulator.reset(seed)
    motion = practice.steps(simulator, np.random.default_rng(seed), turning)
    return np.stack([simulator.state() for _ in islice(motion, steps)])


def test_practice_moves_the_hand_within_the_bound_and_the_same_each_time(practice, simulator):
    seen = states(practice, simulator, 5)
    steps = np.diff(seen[:, :3], axis=0)
    assert 0.005 < np.abs(steps).max() < BOUND + 0.01
    np.testing.assert_array_equal(seen, states(practice, simulator, 5))


def test_the_hand_turns_in_practice_only_where_it_should(practice, simulator):
    turned, straight = (
        np.ptp(states(practice, simulator, 6, turning)[:, 5]) for turning in (True, False)
    )
    assert turned > 0.05 > 0.02 > straight


def test_practice_goes_on_with_play_after_its_goal(practice, simulator, monkeypatch):
    monkeypatch.setattr(practice_module, "_STEPS", 1)
    played = []
    play = practice_module.Play.steps

    def steps(player):
        for _ in play(player):
            played.append(simulator.time)
            yield

    monkeypatch.setattr(practice_module.Play, "steps", steps)
    assert len(states(practice, simulator, 8)) == 8
    assert 1 <= len(played) <= 6


def test_a_scene_without_an_episode_is_played_in(practice, simulator, monkeypatch):
    def refuse(*arguments):
        raise EpisodeError("none")

    monkeypatch.setattr(practice_module, "draw_episode", refuse)
    assert len(states(practice, simulator, 3)) == 3
