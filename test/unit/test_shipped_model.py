# SPDX-License-Identifier: Apache-2.0
"""With the shipped model: precision and chunks change no plan that matters."""

import pytest
import torch
from scipy.stats import spearmanr

from vjepa2_ros.benchmark.decisions import make_decisions
from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.planning.planners import make_planner_named
from vjepa2_ros.share import model_path
from vjepa2_ros.world_model.checkpoint import load_world_model

SPACE = ActionSpace(fixed_axes={"gripper": 0.0})


@pytest.fixture(scope="module")
def model():
    if not model_path("tabletop").is_dir():
        pytest.skip("THE SHIPPED MODEL IS ABSENT: its precision is not tested")
    return load_world_model(model_path("tabletop"))


@pytest.fixture(scope="module")
def decisions(model):
    return make_decisions(model, seed=8, count=6)


def plan(objective):
    planner = make_planner_named("latent_quadratic", 48)
    return planner.plan(objective, SPACE, torch.Generator().manual_seed(0))


def objective(model, decision, chunk=64, through=lambda latent: latent):
    return LatentDistance(
        model,
        through(decision.latent),
        decision.state,
        through(decision.goal),
        chunk=chunk,
    )


def same_plan(exact, decision, model, metres, energy):
    """Another computation's plan is as good, judged by the exact one, and leads as far."""
    reference = plan(objective(model, decision))
    judged = float(objective(model, decision)(exact.actions[None])[0])
    assert judged <= reference.energy * (1.0 + energy)
    assert (exact.actions - reference.actions)[0, :3].norm() < metres


def test_latents_rounded_to_half_precision_lead_to_the_same_plan(model, decisions):
    def rounded(latent):
        return latent.half().float()

    for decision in decisions:
        assert not torch.equal(rounded(decision.latent), decision.latent)
        found = plan(objective(model, decision, through=rounded))
        same_plan(found, decision, model, 0.002, 0.001)


@pytest.mark.parametrize("chunk", [5, None])
def test_chunks_of_another_size_lead_to_the_same_plan(model, decisions, chunk):
    for decision in decisions[:3]:
        same_plan(plan(objective(model, decision, chunk)), decision, model, 0.002, 0.001)


def test_bfloat16_ranks_candidates_as_float32_does_and_plans_as_well(model, decisions):
    rounded = load_world_model(model_path("tabletop"), dtype="bfloat16")
    draws = 2 * torch.rand(100, SPACE.dimensions, generator=torch.Generator().manual_seed(0)) - 1
    actions = SPACE.from_unit(draws)
    for decision in decisions[:3]:
        exact, half = (objective(each, decision)(actions) for each in (model, rounded))
        assert spearmanr(exact, half)[0] > 0.999
        # Where the goal is a step away the energy is small, and a millimetre more of it.
        same_plan(plan(objective(rounded, decision)), decision, model, 0.015, 0.02)
