# SPDX-License-Identifier: Apache-2.0
"""The uncertainty of predictions: expected squared errors, and energies that count them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.planning.planner import Plan
from vjepa2_ros.planning.receding_horizon import RecedingHorizon
from vjepa2_ros.settings.planning import ActionSettings, GripperPolicy, LoopSettings
from vjepa2_ros.training.loop import LoopConfig
from vjepa2_ros.training.predictor_training import Recorded
from vjepa2_ros.training.uncertainty_training import new_uncertainty, train_uncertainty
from vjepa2_ros.world_model.checkpoint import load_world_model, save_world_model
from vjepa2_ros.world_model.poses import compose
from vjepa2_ros.world_model.uncertainty import Uncertainty
from vjepa2_ros.world_model.world_model import WorldModel

CONFIG = {
    "image_size": [64, 64],
    "embed_dim": 48,
    "predictor_embed_dim": 48,
    "num_heads": 2,
    "depth": 1,
}
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
    part = Uncertainty(CONFIG)
    with torch.no_grad():
        part.network.predictor_proj.weight.mul_(200.0)
    return WorldModel(certain.encoder, certain.predictor, parts={"uncertainty": part.eval()})


def test_it_learns_the_mean_of_squared_errors_that_vary():
    torch.manual_seed(0)
    part = Uncertainty(CONFIG)
    windows = latents(2)[:, None].expand(2, 32, 16, 48).flatten(0, 1)
    still = torch.zeros(64, 1, 7), STATE.expand(64, 1, 7)
    error = torch.cat([torch.full((32, 1, 16), 0.01), torch.rand(32, 1, 16)])
    optimiser = torch.optim.Adam(part.parameters(), 0.003)
    for _ in range(150):
        optimiser.zero_grad()
        part.loss(part(windows, *still)[0], error).backward()
        optimiser.step()
    low, high = part(windows, *still)[0].exp().flatten(1).mean(1).split(32)
    assert low.mean().item() == pytest.approx(0.01, rel=0.2)
    assert high.mean().item() == pytest.approx(error[32:].mean().item(), rel=0.2)


@pytest.mark.parametrize(
    "config",
    [{}, {"image_size": [64, 64], "width": 48}, {**CONFIG, "depth": 0}, {**CONFIG, "layers": 2}],
)
def test_a_configuration_that_cannot_be_used_is_refused(config):
    with pytest.raises(ValueError):
        Uncertainty(config)


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": [64, 128]},
        {"patch_size": 32},
        {"num_frames": 2},
        {"embed_dim": 96},
        {"use_extrinsics": True},
        {"commanded_gripper": True},
    ],
)
def test_an_uncertainty_of_another_predictor_is_refused_when_the_model_is_made(certain, change):
    part = Uncertainty(CONFIG | change)
    with pytest.raises(ValueError, match=f"of another predictor: its {next(iter(change))} is"):
        WorldModel(certain.encoder, certain.predictor, parts={"uncertainty": part})


def test_models_that_differ_in_their_uncertainty_have_other_fingerprints_of_it(certain, model):
    torch.manual_seed(5)
    other = WorldModel(
        certain.encoder, certain.predictor, parts={"uncertainty": Uncertainty(CONFIG)}
    )
    assert certain.uncertainty_fingerprint == ""
    assert model.fingerprint == other.fingerprint == certain.fingerprint
    assert model.uncertainty_fingerprint != other.uncertainty_fingerprint


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


class Nearly:
    """A planner that does little, and expects a share of the energy of doing nothing of it."""

    evaluations = 1

    def __init__(self, share):
        self._share = share

    def plan(self, objective, space, generator, previous=None):
        still = torch.zeros(1, space.horizon, 7)
        actions = still[0].clone()
        actions[0, 0] = 0.01
        return Plan(actions, self._share * float(objective(still)[0]), 1)


@pytest.mark.parametrize(
    ("share", "hold", "moves"), [(0.9, True, True), (0.97, True, False), (0.97, False, True)]
)
def test_where_no_plan_is_better_than_staying_it_stays_if_asked(model, share, hold, moves):
    """Also at the goal itself: the variance of doing nothing is in every plan."""
    goal = latents(1)
    running = RecedingHorizon(
        Nearly(share),
        model,
        goal,
        replace(ActionSettings(), gripper=GripperPolicy("sampled")),
        LoopSettings(
            cost="l2",
            variance_weight=1.0,
            patience=0,
            min_improvement=0.05,
            hold_unless_better=hold,
        ),
    )
    step = running.step(goal[0], STATE)
    assert step.predicted_energy > step.energy, "the variance is missing"
    assert (step.action[0] != 0) == moves and step.finished is None
    assert step.evaluations == 3, "the plan's, the offset's and that of doing nothing"


def test_a_gripper_that_the_goal_tells_moves_where_no_plan_is_better(model):
    goal = latents(1)
    running = RecedingHorizon(
        Nearly(2.0),
        model,
        goal,
        ActionSettings(),
        LoopSettings(cost="l2", hold_unless_better=True),
        gripper=["close"],
    )
    assert running.step(goal[0], STATE).target_state[6] == 1.0


def test_a_checkpoint_that_holds_it_is_never_loaded_without(model, tmp_path):
    """Plans that ask for expected energies do not depend on who opened the checkpoint."""
    save_world_model(model, tmp_path, {})
    loaded = load_world_model(tmp_path)
    assert set(loaded.parts) == {"uncertainty"}
    torch.testing.assert_close(
        loaded.rollout_with_variance(latents(1)[0], STATE, actions(2))[1],
        model.rollout_with_variance(latents(1)[0], STATE, actions(2))[1],
    )


def test_training_changes_it_and_not_the_predictor(certain, tmp_path):
    recorded = Recorded(latents(12).reshape(3, 4, 16, 48).numpy(), moving(3, 4))
    before = {name: value.clone() for name, value in certain.predictor.state_dict().items()}
    part = new_uncertainty(certain.predictor, 1, recorded.states)
    with torch.no_grad():
        first = part(latents(1), torch.zeros(1, 1, 7), STATE[None, None])[0].mean()
    config = LoopConfig(20, learning_rate=3e-3, warmup=1)
    train_uncertainty([recorded], part, certain.predictor, 4, config, tmp_path, window=3)
    torch.testing.assert_close(dict(certain.predictor.state_dict()), before, rtol=0, atol=0)
    with torch.no_grad():
        last = part(latents(1), torch.zeros(1, 1, 7), STATE[None, None])[0].mean()
    assert last > first + 0.5, "errors of an untrained predictor are larger than it starts with"
    history = [json.loads(line) for line in (tmp_path / "uncertainty.jsonl").open()]
    assert set(history[0]) == {"loss", "error", "correlation"}


def test_variances_of_a_rollout_are_those_of_the_training_that_sees_it_whole(model):
    """Frame by frame with a cache, as plans are evaluated, or all at once."""
    latent = latents(1)[0]
    chosen = actions(2)
    predicted, variances = model.rollout_with_variance(latent, STATE, chosen)
    given = torch.cat([latent.expand(2, 1, -1, -1), predicted[:, :-1]], 1)
    states = [STATE.expand(2, 1, -1)]
    for step in range(2):
        states.append(compose(states[-1], chosen[:, step : step + 1]))
    logs, _ = model.parts["uncertainty"](given.flatten(1, 2), chosen, torch.cat(states, 1))
    torch.testing.assert_close(variances, logs.exp(), atol=1e-5, rtol=1e-4)


def moving(episodes, length):
    """States [E, T, 7] of a hand that moves at random."""
    random = np.random.default_rng(0)
    steps = 0.05 * random.normal(size=(episodes, length, 7)).astype(np.float32)
    return STATE.numpy() + np.cumsum(steps, axis=1)
