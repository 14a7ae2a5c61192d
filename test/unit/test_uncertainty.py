# SPDX-License-Identifier: Apache-2.0
"""The uncertainty of predictions: expected squared errors, and energies that count them."""

from dataclasses import replace

import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.planning.planner import Plan
from vjepa2_ros.planning.receding_horizon import RecedingHorizon
from vjepa2_ros.settings.planning import ActionSettings, GripperPolicy, LoopSettings
from vjepa2_ros.training.predictor_training import Rollout
from vjepa2_ros.world_model.checkpoint import load_world_model, save_world_model
from vjepa2_ros.world_model.uncertainty import PatchUncertainty
from vjepa2_ros.world_model.world_model import WorldModel

CONFIG = {"channels": 48, "hidden": 16}
STATE = torch.tensor([0.5, 0.0, 0.3, 3.1, 0.0, 0.1, 0.2])


def latents(count, seed=0):
    drawn = torch.randn(count, 16, 48, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.layer_norm(drawn, (48,))


def actions(count, horizon=3):
    return 0.1 * torch.randn(count, horizon, 7, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def certain():
    return small_world_model()


@pytest.fixture(scope="module")
def model(certain):
    torch.manual_seed(1)
    part = PatchUncertainty(CONFIG)
    with torch.no_grad():
        part.fc2.weight.mul_(20.0)
    return WorldModel(certain.encoder, certain.predictor, parts={"uncertainty": part.eval()})


def test_it_learns_the_mean_of_squared_errors_that_vary():
    torch.manual_seed(0)
    part = PatchUncertainty(CONFIG)
    predictions = torch.cat([torch.zeros(64, 16, 48), torch.ones(64, 16, 48)])
    error = torch.cat([torch.full((64, 16), 0.01), torch.rand(64, 16)])
    optimiser = torch.optim.Adam(part.parameters(), 0.01)
    for _ in range(300):
        optimiser.zero_grad()
        part.loss(predictions, error).backward()
        optimiser.step()
    low, high = part(predictions)[:64].mean().item(), part(predictions)[64:].mean().item()
    assert low == pytest.approx(0.01, rel=0.1)
    assert high == pytest.approx(error[64:].mean().item(), rel=0.1)


@pytest.mark.parametrize(
    "config",
    [{}, {"channels": 48}, {**CONFIG, "depth": 2}, {**CONFIG, "hidden": 0}],
)
def test_a_configuration_that_cannot_be_used_is_refused(config):
    with pytest.raises(ValueError):
        PatchUncertainty(config)


def test_latents_are_the_same_with_and_without_their_variances(model):
    latent = latents(1)[0]
    found, variances = model.rollout_with_variance(latent, STATE, actions(5), chunk=2)
    wanted = model.rollout(latent, STATE, actions(5), chunk=2, every_step=True)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert variances.shape == (5, 3, 16) and (variances > 0).all()
    assert variances.std() > 0.001, "all patches are equally certain"


def test_a_model_without_the_part_cannot_tell_and_rates_the_mean_alone(certain):
    latent, goal = latents(2)
    with pytest.raises(ValueError, match="has no part uncertainty"):
        certain.rollout_with_variance(latent, STATE, actions(1))
    asked = LatentDistance(certain, latent, STATE, goal, "l2", variance_weight=1.0)
    plain = LatentDistance(certain, latent, STATE, goal, "l2")
    assert not asked.rates_variance
    torch.testing.assert_close(asked(actions(5)), plain(actions(5)), rtol=0, atol=0)


@pytest.mark.parametrize("path_weight", [0.0, 0.5])
def test_expected_energies_are_those_of_the_mean_and_the_variance(model, path_weight):
    latent, goal = latents(2)
    offset = 0.1 * latents(1, 5)[0].expand(3, -1, -1)
    offset = offset if path_weight else offset[0]
    options = {"cost": "l2", "offset": offset, "path_weight": path_weight}
    mean = LatentDistance(model, latent, STATE, goal, **options)(actions(5))
    objective = LatentDistance(model, latent, STATE, goal, **options, variance_weight=2.0)
    variances = model.rollout_with_variance(latent, STATE, actions(5))[1].mean(-1)
    expected = (variances[:, -1] + path_weight * variances.mean(1)) / (1.0 + path_weight)
    torch.testing.assert_close(objective(actions(5)), mean + 2.0 * expected)


def test_absolute_differences_have_no_variance(model):
    latent, goal = latents(2)
    with pytest.raises(ValueError, match="variance_weight needs the cost l2"):
        LatentDistance(model, latent, STATE, goal, "l1", variance_weight=1.0)
    with pytest.raises(ValueError, match="variance_weight 1.0 needs cost l2"):
        LoopSettings(variance_weight=1.0)


class Still:
    """A planner that does nothing, or says that it expects less than nothing does."""

    evaluations = 1

    def __init__(self, share):
        self._share = share

    def plan(self, objective, space, generator, previous=None):
        still = torch.zeros(1, space.horizon, 7)
        return Plan(still[0], self._share * float(objective(still)[0]), 1)


@pytest.mark.parametrize(("share", "finished"), [(0.99, None), (1.01, "reached")])
def test_an_improvement_is_one_on_the_expected_energy_of_doing_nothing(model, share, finished):
    """The energy of the present latent is certain, and no plan would be below it at the goal."""
    goal = latents(1)
    running = RecedingHorizon(
        Still(share),
        model,
        goal,
        replace(ActionSettings(), gripper=GripperPolicy("sampled")),
        LoopSettings(cost="l2", variance_weight=1.0, patience=1),
    )
    step = running.step(goal[0] + 0.1 * latents(1, 3)[0], STATE)
    assert step.predicted_energy > step.energy, "the variance is missing"
    assert step.finished == finished
    assert step.evaluations == 3, "the plan's, the offset's and that of doing nothing"


def test_a_checkpoint_that_holds_it_is_never_loaded_without(model, tmp_path):
    """Plans that ask for expected energies do not depend on who opened the checkpoint."""
    save_world_model(model, tmp_path, {})
    loaded = load_world_model(tmp_path)
    assert set(loaded.parts) == {"uncertainty"}
    torch.testing.assert_close(
        loaded.rollout_with_variance(latents(1)[0], STATE, actions(2))[1],
        model.rollout_with_variance(latents(1)[0], STATE, actions(2))[1],
    )


def test_training_fits_it_to_the_errors_of_the_rollout_and_leaves_the_other_losses(certain):
    windows, states = latents(8).reshape(2, 4, 16, 48), STATE.expand(2, 4, 7)
    torch.manual_seed(2)
    part = PatchUncertainty(CONFIG)
    plain = Rollout(certain.predictor, squared=True).losses(windows, states)
    losses = Rollout(certain.predictor, True, part).losses(windows, states)
    for name in ("teacher", "rollout"):
        torch.testing.assert_close(losses[name], plain[name])
    losses["loss"].backward()
    assert part.fc1.weight.grad.norm() > 0
    # Errors of an untrained predictor are larger than it expects.
    assert part.fc2.bias.grad.item() < 0
