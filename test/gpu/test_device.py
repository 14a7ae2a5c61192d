# SPDX-License-Identifier: Apache-2.0
"""Model and planning on the device that VJEPA2_TEST_DEVICE names; the CPU without it.

`vjepa2-ros bench gpu` runs these tests on its device.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from small_model import small_world_model

from vjepa2_ros.benchmark.acceleration import NotOnThisDevice, captured, compiled
from vjepa2_ros.benchmark.device_timing import host_synchronisations
from vjepa2_ros.benchmark.gpu import TEST_DEVICE
from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.planning.planners import make_planner_named
from vjepa2_ros.settings.planning import search_names
from vjepa2_ros.verification.verify import full_precision, run
from vjepa2_ros.world_model.checkpoint import load_world_model, save_world_model
from vjepa2_ros.world_model.parts import SUCCESS
from vjepa2_ros.world_model.success import SuccessProbe
from vjepa2_ros.world_model.world_model import WorldModel

DEVICE = torch.device(os.environ.get(TEST_DEVICE, "cpu"))
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
STATE = torch.tensor([0.4, 0.0, 0.3, 3.0, 0.1, 0.2, 0.5])
NEAR = {"atol": 1e-4, "rtol": 0}
"""Float32 on two devices: the order of sums differs."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    plain = small_world_model()
    torch.manual_seed(1)
    probe = SuccessProbe({"width": 48, "hidden": 32, "blocks": 1, "heads": 2})
    parts = {SUCCESS: probe}
    save_world_model(WorldModel(plain.encoder, plain.predictor, parts=parts), folder, card={})
    return folder


@pytest.fixture(scope="module")
def reference(folder):
    return load_world_model(folder, "cpu", "float32")


@pytest.fixture(scope="module")
def model(folder):
    return load_world_model(folder, str(DEVICE), "float32")


@pytest.fixture
def latent(reference):
    return reference.encode(IMAGE)


def actions(count=16, horizon=1):
    return 0.1 * torch.randn(count, horizon, 7, generator=torch.Generator().manual_seed(0))


def objective(model, latent):
    return LatentDistance(model, latent, STATE, latent.flip(0))


@pytest.mark.skipif(DEVICE.type == "cpu", reason="on the CPU test_verify.py does so")
def test_every_case_of_the_reference_is_met_on_the_device():
    assert [case for case in run(GOLDEN, str(DEVICE)) if not case.passed] == []


def test_a_model_loaded_on_the_device_is_the_model_of_the_cpu(model, reference):
    assert model.device.type == DEVICE.type
    assert model.fingerprint == reference.fingerprint


def test_latents_of_images_agree_with_the_cpu(model, latent):
    with full_precision():
        found = model.encode(IMAGE)
    assert found.device.type == DEVICE.type
    torch.testing.assert_close(found.cpu(), latent, **NEAR)


@pytest.mark.parametrize("horizon", [1, 3])
def test_predicted_latents_agree_with_the_cpu(model, reference, latent, horizon):
    predicted = model.rollout(latent, STATE, actions(horizon=horizon), chunk=5)
    assert predicted.device.type == DEVICE.type
    expected = reference.rollout(latent, STATE, actions(horizon=horizon))
    torch.testing.assert_close(predicted.cpu(), expected, **NEAR)


def test_energies_agree_with_the_cpu_and_come_back_to_it(model, reference, latent):
    energies = objective(model, latent)(actions())
    assert energies.device.type == "cpu"
    torch.testing.assert_close(energies, objective(reference, latent)(actions()), **NEAR)


def test_energies_with_the_state_of_the_goal_agree_with_the_cpu(model, reference, latent):
    energies, expected = (
        LatentDistance(m, latent, STATE, latent.flip(0), goal_state=STATE + 0.1, state_weight=2.0)(
            actions()
        )
        for m in (model, reference)
    )
    torch.testing.assert_close(energies, expected, **NEAR)
    assert not torch.allclose(energies, objective(reference, latent)(actions()))


def test_the_success_probe_answers_as_on_the_cpu(model, reference, latent):
    goal = latent.flip(0)
    assert model.success(latent, goal) == pytest.approx(reference.success(latent, goal), abs=1e-4)


def test_energies_in_bfloat16_rank_like_those_in_float32(folder, reference, latent):
    rounded = load_world_model(folder, str(DEVICE), "bfloat16")
    energies = objective(rounded, latent)(actions(64))
    expected = objective(reference, latent)(actions(64))
    assert spearmanr(energies, expected)[0] > 0.9


@pytest.mark.parametrize("name", search_names())
def test_planners_find_plans_whose_energies_are_those_of_the_cpu(model, reference, latent, name):
    planner = make_planner_named(name, 40)
    plan = planner.plan(objective(model, latent), ActionSpace(), torch.Generator().manual_seed(0))
    assert plan.actions.device.type == "cpu"
    expected = objective(reference, latent)(plan.actions.unsqueeze(0))
    assert plan.energy == pytest.approx(float(expected[0]), abs=1e-4)
    standing_still = objective(reference, latent)(torch.zeros(1, 1, 7))
    assert plan.energy <= float(standing_still[0]) + 1e-4


def test_the_host_does_not_wait_between_the_actions_and_the_energies_of_a_round(model, latent):
    judge, on_device = objective(model, latent), actions().to(DEVICE)
    waits = host_synchronisations(lambda: judge.energies(judge.differences(on_device)), DEVICE)
    assert waits == (0 if DEVICE.type == "cuda" else None)


def test_a_compiled_model_gives_what_the_model_gives_and_leaves_it_as_it_is(model, latent):
    before = objective(model, latent)(actions())
    fast = compiled(model)
    torch.testing.assert_close(objective(fast, latent)(actions()), before, **NEAR)
    torch.testing.assert_close(fast.encode(IMAGE), model.encode(IMAGE), atol=5e-3, rtol=0)
    assert torch.equal(objective(model, latent)(actions()), before)
    weights = {weight.data_ptr() for weight in model.predictor.parameters()}
    assert {weight.data_ptr() for weight in fast.predictor.parameters()} == weights


def test_a_captured_function_gives_what_the_function_gives_for_other_inputs(model, latent):
    judge = objective(model, latent)

    def energies(on_device):
        return judge.energies(judge.differences(on_device))

    first, second = actions(32).to(DEVICE).split(16)
    if DEVICE.type != "cuda":
        with pytest.raises(NotOnThisDevice, match="CUDA device"):
            captured(energies, first)
        return
    replay = captured(energies, first)
    for part in (first, second, first):
        torch.testing.assert_close(replay(part), energies(part), **NEAR)
