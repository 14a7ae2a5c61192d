# SPDX-License-Identifier: Apache-2.0
"""The loop round the planner, with a real small model."""

import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.planning.cem import CEMConfig, CrossEntropyMethod
from vjepa2_ros.planning.objective import LatentDistance, distance
from vjepa2_ros.planning.receding_horizon import RecedingHorizon, RecedingHorizonSettings
from vjepa2_ros.world_model.poses import compose

PLANNER = CrossEntropyMethod(CEMConfig(samples=16, iterations=2, top_k=4))
STATE = torch.tensor([0.5, 0.0, 0.3, 3.1, 0.0, 0.1, 0.2])


@pytest.fixture(scope="module")
def model():
    return small_world_model()


def latents(count, seed=0):
    return torch.nn.functional.layer_norm(
        torch.randn(count, 16, 48, generator=torch.Generator().manual_seed(seed)), (48,)
    )


def loop(model, goals, steps, **settings):
    return RecedingHorizon(PLANNER, model, goals, RecedingHorizonSettings(steps, **settings))


def test_a_step_says_where_to_go_and_what_it_expects(model):
    goal, now = latents(2)
    step = loop(model, goal[None], [5]).step(now, STATE)
    torch.testing.assert_close(step.target_state, compose(STATE, step.action))
    assert step.energy == pytest.approx(float(distance(now, goal)))
    objective = LatentDistance(model, now, STATE, goal)
    assert step.predicted_energy == pytest.approx(
        float(objective(step.action[None, None])[0]), abs=1e-6
    )
    assert (step.subgoal, step.step, step.finished) == (0, 1, None)
    assert step.plan_seconds > 0


def test_subgoals_follow_each_other_after_their_steps_and_end_with_the_last(model):
    running = loop(model, latents(3), [2, 1, 3])
    steps = [running.step(latents(1, seed)[0], STATE) for seed in range(6)]
    assert [step.subgoal for step in steps] == [0, 0, 1, 2, 2, 2]
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step.finished for step in steps] == [None] * 5 + ["step_limit"]
    with pytest.raises(RuntimeError, match="finished"):
        running.step(latents(1)[0], STATE)


def test_it_stops_and_holds_where_no_improvement_is_expected(model):
    goal = latents(1)
    running = loop(model, goal, [10], patience=3)
    steps = [
        running.step(goal[0], STATE) for _ in range(3)
    ]  # at the goal, every imagined step leads away
    assert [step.finished for step in steps] == [None, None, "reached"]
    assert torch.equal(steps[-1].target_state, STATE) and (steps[-1].action == 0).all()
    assert running.finished == "reached"


def test_an_expected_improvement_resets_the_patience(model):
    now = latents(1, seed=5)[0]
    goal = model.rollout(now, STATE, torch.tensor([[[0.05, 0, 0, 0, 0, 0, 0]]]))
    running = loop(model, goal, [10], patience=2)
    sequence = [goal[0], now, goal[0], goal[0]]
    assert [running.step(latent, STATE).finished for latent in sequence] == [
        None,
        None,
        None,
        "reached",
    ]


def test_the_loop_does_not_stop_early_before_the_last_subgoal(model):
    goal = latents(1)
    running = loop(model, goal.repeat(2, 1, 1), [4, 4], patience=1)
    assert [running.step(goal[0], STATE).finished for _ in range(5)] == [None] * 4 + ["reached"]


def test_the_same_seed_gives_the_same_steps(model):
    goals, now = latents(1), latents(1, seed=1)[0]
    first, again, other = (loop(model, goals, [3], seed=seed) for seed in (7, 7, 8))
    assert torch.equal(first.step(now, STATE).action, again.step(now, STATE).action)
    assert not torch.equal(first.step(now, STATE).action, other.step(now, STATE).action)


@pytest.mark.parametrize(
    ("latent", "state", "complaint"),
    [
        (torch.zeros(15, 48), STATE, r"latent has shape \[15, 48\]"),
        (torch.full((16, 48), float("nan")), STATE, "latent holds values that are not finite"),
        (torch.zeros(16, 48), STATE[:6], r"state has shape \[6\]"),
        (
            torch.zeros(16, 48),
            torch.full((7,), float("inf")),
            "state holds values that are not finite",
        ),
    ],
)
def test_a_bad_observation_is_refused_and_not_counted(model, latent, state, complaint):
    running = loop(model, latents(1), [1])
    with pytest.raises(ValueError, match=complaint):
        running.step(latent, state)
    assert running.step(latents(1)[0], STATE).step == 1


def test_goals_that_do_not_fit_are_refused(model):
    with pytest.raises(ValueError, match=r"wanted \[G, 16, 48\]"):
        loop(model, torch.zeros(1, 9, 48), [3])
    with pytest.raises(ValueError, match="not finite"):
        loop(model, torch.full((1, 16, 48), float("nan")), [3])
    with pytest.raises(ValueError, match="2 goals, but steps for 1"):
        loop(model, latents(2), [3])


def test_a_horizon_beyond_the_models_frames_is_refused_at_once(model):
    planner = CrossEntropyMethod(CEMConfig(horizon=9))
    with pytest.raises(ValueError, match="horizon 9 is longer than the model's 8 frames"):
        RecedingHorizon(planner, model, latents(1), RecedingHorizonSettings([3]))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"steps_per_subgoal": []}, "steps_per_subgoal"),
        ({"steps_per_subgoal": [3, 0]}, "steps_per_subgoal"),
        ({"steps_per_subgoal": [3], "patience": 0}, "patience"),
        ({"steps_per_subgoal": [3], "min_improvement": 1.0}, "min_improvement"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        RecedingHorizonSettings(**settings)
