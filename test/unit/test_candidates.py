# SPDX-License-Identifier: Apache-2.0
"""What a search looked at, kept for those who watch: of every planner, with the same plan."""

import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.planning.candidates import Candidates, RecordedDistance
from vjepa2_ros.planning.landscape import slice_actions
from vjepa2_ros.planning.objective import LatentDistance, distance
from vjepa2_ros.planning.planners import make_planner
from vjepa2_ros.planning.receding_horizon import RecedingHorizon
from vjepa2_ros.planning.surprise import surprise
from vjepa2_ros.settings.declaration import build
from vjepa2_ros.settings.planning import (
    ActionSettings,
    GripperPolicy,
    LoopSettings,
    SearchSettings,
    search_names,
)
from vjepa2_ros.world_model.encoder import normalise
from vjepa2_ros.world_model.poses import compose

STATE = torch.tensor([0.5, 0.0, 0.3, 3.1, 0.0, 0.1, 0.2])
FEW = {
    "latent_quadratic.evaluations": 16,
    "quadratic.evaluations": 24,
    "icem.evaluations": 16,
    "cma_es.evaluations": 16,
    "mppi.evaluations": 16,
    "cem.samples": 12,
    "cem.iterations": 2,
    "cem.top_k": 4,
    "skeletons.evaluations": 48,
}


@pytest.fixture(scope="module")
def model():
    return small_world_model()


def latents(count, seed=0):
    return normalise(torch.randn(count, 16, 48, generator=torch.Generator().manual_seed(seed)))


def loop(model, planner, keeps, horizon=1, **settings):
    search = build(SearchSettings, {"planner": planner, **FEW})
    mode = "enumerated" if planner == "skeletons" else "hold"
    action = ActionSettings(horizon=horizon, gripper=GripperPolicy(mode))
    running = RecedingHorizon(
        make_planner(search), model, latents(1, 7), action, LoopSettings(patience=0, **settings)
    )
    running.keeps_candidates = keeps
    return running


@pytest.mark.parametrize("planner", search_names())
def test_every_planner_finds_the_same_plan_while_it_is_watched(model, planner):
    (now,) = latents(1)
    horizon = 2 if planner == "skeletons" else 1
    alone, watched = (loop(model, planner, keeps, horizon).step(now, STATE) for keeps in (0, 1))
    torch.testing.assert_close(watched.planned, alone.planned, atol=0, rtol=0)
    assert watched.predicted_energy == alone.predicted_energy
    assert alone.candidates is None
    found = watched.candidates
    # Without an offset, which the loop itself evaluates.
    assert len(found.energies) == watched.evaluations - 1
    assert found.actions.shape == (len(found.energies), horizon, 7)
    assert (found.energies.diff() >= 0).all()
    assert float(found.energies[0]) <= watched.predicted_energy + 1e-6


def test_the_energies_that_are_kept_are_those_of_the_sequences(model):
    now, goal = latents(2)
    objective = LatentDistance(model, now, STATE, goal, chunk=3)
    actions = 0.05 * torch.randn(10, 2, 7, generator=torch.Generator().manual_seed(1))
    recorded = RecordedDistance(objective)
    assert recorded.candidates() is None
    torch.testing.assert_close(recorded(actions), objective(actions))
    kept = recorded.candidates()
    torch.testing.assert_close(objective(kept.actions), kept.energies)
    # A search may change its own.
    before = kept.actions.clone()
    actions.zero_()
    torch.testing.assert_close(recorded.candidates().actions, before)


def test_many_candidates_are_thinned_to_the_best_and_some_of_the_others():
    energies = torch.arange(1000.0)
    many = Candidates(energies[:, None, None].expand(-1, 1, 7), energies)
    few = many.thinned(100)
    assert few.energies.tolist()[:50] == list(range(50))
    assert len(few.energies) == 100 and few.energies[-1] == 999
    assert (few.energies.diff() > 0).all()
    torch.testing.assert_close(few.actions[:, 0, 0], few.energies)
    assert many.thinned(1000) is many
    with pytest.raises(ValueError, match="at least 2"):
        many.thinned(1)


def test_the_objective_of_the_last_step_stays_for_those_who_ask_for_more(model):
    running = loop(model, "latent_quadratic", True)
    assert running.objective is None
    (now,) = latents(1)
    step = running.step(now, STATE)
    energies = running.objective(step.planned[None])
    assert float(energies[0]) == pytest.approx(step.predicted_energy, abs=1e-6)


def test_slices_of_the_landscape_hold_no_motion_in_their_middle():
    actions = slice_actions(5, 0.06, 3).reshape(2, 5, 5, 3, 7)
    assert not actions[:, 2, 2].any()
    assert not actions[:, :, :, 1:].any()
    torch.testing.assert_close(actions[0, 0, 4, 0, :3], torch.tensor([-0.06, 0.06, 0.0]))
    torch.testing.assert_close(actions[1, 4, 0, 0, :3], torch.tensor([0.06, 0.0, -0.06]))


@pytest.mark.parametrize("points", [0, 1, 4, 52, 53])
def test_slices_that_are_too_fine_or_have_no_middle_are_refused(points):
    with pytest.raises(ValueError, match="odd number from 3 to 51"):
        slice_actions(points, 0.06, 1)


# Surprise -----------------------------------------------------------------------------------


def test_there_is_no_surprise_in_what_was_predicted(model):
    (now,) = latents(1)
    action = torch.tensor([0.03, -0.02, 0.01, 0.0, 0.0, 0.1, 0.0])
    after = compose(STATE, action)
    predicted = model.rollout(now, STATE, action[None, None])[0]
    assert surprise(model, (now, STATE), (predicted, after)) == pytest.approx(0.0, abs=1e-5)
    other = latents(1, 5)[0]
    expected = float(distance(predicted, other))
    assert surprise(model, (now, STATE), (other, after)) == pytest.approx(expected, abs=1e-5)


def test_the_surprise_of_a_step_is_of_the_motion_since_the_one_before(model):
    running = loop(model, "latent_quadratic", False)
    now, then = latents(2)
    first = running.step(now, STATE)
    assert first.surprise != first.surprise  # NaN: nothing was predicted yet
    # Not where it was told to go: held up half way.
    after = compose(STATE, 0.5 * first.action)
    second = running.step(then, after)
    assert second.surprise == pytest.approx(surprise(model, (now, STATE), (then, after)))


@pytest.mark.parametrize("cost", ["l1", "l2"])
def test_surprise_does_not_depend_on_the_cost(model, cost):
    now, then = latents(2)
    running = loop(model, "latent_quadratic", False, cost=cost)
    running.step(now, STATE)
    assert running.step(then, STATE).surprise == pytest.approx(
        surprise(model, (now, STATE), (then, STATE))
    )
