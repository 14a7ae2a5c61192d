# SPDX-License-Identifier: Apache-2.0
"""Encoding, prediction and the fingerprint of a model."""

import weakref
from dataclasses import asdict

import numpy as np
import pytest
import torch
from small_model import small_encoder, small_predictor, small_world_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vjepa2_ros.planning.objective import LatentDistance, distance
from vjepa2_ros.world_model.encoder import normalise
from vjepa2_ros.world_model.parts import UNCERTAINTY
from vjepa2_ros.world_model.poses import compose
from vjepa2_ros.world_model.preprocessing import preprocess
from vjepa2_ros.world_model.uncertainty import Uncertainty
from vjepa2_ros.world_model.world_model import WorldModel

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return small_world_model()


def scene(model, samples=6, horizon=3):
    torch.manual_seed(0)
    return model.encode(IMAGE), torch.rand(7), 0.1 * torch.randn(samples, horizon, 7)


@torch.no_grad()
def test_an_image_is_encoded_by_preprocessing_and_encoder(model):
    latent = model.encode(IMAGE)
    assert latent.shape == model.latent_shape == (16, 48)
    torch.testing.assert_close(latent, model.encoder(preprocess(IMAGE, 64, 1.35)[None])[0])


@torch.no_grad()
def test_each_step_sees_the_whole_predicted_history(model):
    latent, state, actions = scene(model)
    latents = latent.expand(6, 16, 48)
    states = state.expand(6, 1, 7)
    for step in range(3):
        predicted = normalise(model.predictor(latents, actions[:, : step + 1], states)[:, -16:])
        latents = torch.cat([latents, predicted], dim=1)
        states = torch.cat([states, compose(states[:, -1:], actions[:, step : step + 1])], dim=1)
    torch.testing.assert_close(model.rollout(latent, state, actions), predicted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("chunk", [1, 4, 6, 100])
def test_chunks_change_nothing(model, chunk):
    latent, state, actions = scene(model)
    whole = model.rollout(latent, state, actions)
    torch.testing.assert_close(
        model.rollout(latent, state, actions, chunk), whole, atol=1e-5, rtol=0
    )
    goal = torch.zeros(16, 48)
    energies = LatentDistance(model, latent, state, goal, chunk=chunk)(actions)
    torch.testing.assert_close(energies, distance(whole, goal), atol=1e-5, rtol=0)


def test_nothing_records_gradients_and_latents_may_be_trained_on(model):
    latent, state, actions = scene(model)
    predicted = model.rollout(latent, state, actions)
    assert not latent.requires_grad and not predicted.requires_grad
    weight = torch.ones(48, requires_grad=True)
    (latent * weight).sum().backward()
    assert weight.grad is not None


def test_shapes_that_do_not_fit_are_refused(model):
    latent, state, actions = scene(model)
    with pytest.raises(ValueError, match=r"latent has shape \[15, 48\]"):
        model.rollout(latent[1:], state, actions)
    with pytest.raises(ValueError, match="wanted state"):
        model.rollout(latent, state[:6], actions)
    with pytest.raises(ValueError, match="wanted state"):
        model.rollout(latent, state, actions[:, 0])


def test_encoder_and_predictor_of_different_grids_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 4, 48\).*\(8, 8, 48\)"):
        WorldModel(small_encoder(64), small_predictor(128))


def test_the_fingerprint_names_weights_and_configuration():
    first, again, other = small_world_model(1), small_world_model(1), small_world_model(2)
    assert first.fingerprint == again.fingerprint and len(first.fingerprint) == 16
    assert first.fingerprint != other.fingerprint
    cropped = WorldModel(first.encoder, first.predictor, crop_aspect=1.0)
    assert cropped.fingerprint != first.fingerprint
    renamed = WorldModel(first.encoder, first.predictor, name="renamed")
    assert renamed.fingerprint == first.fingerprint


def test_a_model_without_its_encoder_keeps_its_name_and_predicts_the_same():
    whole, released = small_world_model(1), small_world_model(1)
    latent = whole.encode(IMAGE)
    released.release_encoder()
    assert all(weight.is_meta for weight in released.encoder.parameters())
    assert released.fingerprint == whole.fingerprint
    actions = torch.full((2, 2, 7), 0.01)
    predicted = released.rollout(latent, torch.zeros(7), actions)
    assert torch.equal(predicted, whole.rollout(latent, torch.zeros(7), actions))
    with pytest.raises(RuntimeError, match="meta"):
        released.encode(IMAGE)


def test_distances_are_means_over_patches_and_channels():
    latent, goal = torch.full((2, 16, 48), 3.0), torch.ones(16, 48)
    assert distance(latent, goal).tolist() == [2.0, 2.0]
    assert distance(latent, goal, "l2").tolist() == [4.0, 4.0]
    with pytest.raises(ValueError, match="unknown cost 'cosine'"):
        distance(latent, goal, "cosine")


def test_an_objective_that_cannot_be_is_refused(model):
    latent, state, _ = scene(model)
    with pytest.raises(ValueError, match="unknown cost"):
        LatentDistance(model, latent, state, latent, cost="l3")
    with pytest.raises(ValueError, match="chunk"):
        LatentDistance(model, latent, state, latent, chunk=0)
    with pytest.raises(ValueError, match="goal has shape"):
        LatentDistance(model, latent, state, latent[:4])


class LiveMemory(TorchDispatchMode):
    """Bytes of all tensors made inside that are alive, and the most there ever were."""

    def __init__(self, weights):
        super().__init__()
        self.live = self.peak = 0
        self._known = weakref.WeakKeyDictionary({w.untyped_storage(): True for w in weights})

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage):
        if storage not in self._known:
            self._known[storage] = True
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._forget, storage.nbytes())

    def _forget(self, size):
        self.live -= size


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("horizon", "context"), [(1, 1), (3, 1), (1, 3), (2, 2)])
def test_predicting_stays_within_the_memory_that_it_was_given(dtype, horizon, context):
    model = small_world_model()
    model.compute_dtype = dtype
    latent, state, _ = scene(model)
    past = None
    if context > 1:
        seen = [latent.expand(context - 1, -1, -1), state.expand(context - 1, -1)]
        past = model.prefill(*seen, torch.zeros(context - 1, 7))
    budget = 2**22
    count = model.sequences_within(budget, horizon, context)
    actions = 0.1 * torch.randn(count, horizon, 7)
    with LiveMemory(model.predictor.parameters()) as memory:
        model.rollout(latent, state, actions, past=past)
    assert 0.5 * budget < memory.peak <= budget


@pytest.mark.parametrize("uncertain", [False, True])
@pytest.mark.parametrize("horizon", [1, 3, 5])
def test_the_latents_of_every_step_and_their_variances_fit_into_the_memory(uncertain, horizon):
    model = small_world_model()
    if uncertain:
        model.parts[UNCERTAINTY] = Uncertainty(asdict(model.predictor.config) | {"depth": 2})
    latent, state, _ = scene(model)
    budget = 2**22
    count = model.sequences_within(budget, horizon, every_step=True)
    actions = 0.1 * torch.randn(count, horizon, 7)
    weights = [*model.predictor.parameters()]
    weights += [w for part in model.parts.values() for w in part.parameters()]
    with LiveMemory(weights) as memory:
        if uncertain:
            model.rollout_with_variance(latent, state, actions)
        else:
            model.rollout(latent, state, actions, every_step=True)
    assert 0.5 * budget < memory.peak <= budget


def test_one_sequence_is_predicted_at_least_and_more_where_there_is_more_memory(model):
    assert model.sequences_within(1, horizon=1) == 1
    few, many = (model.sequences_within(budget, 1) for budget in (2**22, 2**24))
    assert many >= 4 * few > 0
    assert model.sequences_within(2**24, horizon=4) < many


def test_nothing_between_actions_and_energies_waits_for_the_device(model):
    latent, state, actions = scene(model)
    objective = LatentDistance(model, latent, state, latent, chunk=2)
    asked = []

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            asked.append(function)
            return function(*arguments, **(options or {}))

    with Operators():
        objective(actions)
    # Each of these makes the host wait until a GPU has computed a value.
    waiting = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}
    assert len(asked) > 100 and not waiting & set(asked)


def test_weights_rounded_once_give_what_autocast_gives_to_the_last_bit():
    plain, rounded = small_world_model(), small_world_model()
    for model in (plain, rounded):
        model.compute_dtype = torch.bfloat16
    name = rounded.fingerprint
    rounded.round_weights()
    latent, state, actions = scene(plain)
    assert torch.equal(rounded.encode(IMAGE), latent)
    assert torch.equal(
        rounded.rollout(latent, state, actions), plain.rollout(latent, state, actions)
    )
    sizes = [
        sum(p.numel() * p.element_size() for p in model.predictor.parameters())
        for model in (plain, rounded)
    ]
    assert sizes[1] < 0.6 * sizes[0]
    assert rounded.fingerprint == name == plain.fingerprint


def test_the_latents_after_every_step_are_those_of_shorter_sequences():
    model = small_world_model()
    latent, state = torch.randn(16, 48), torch.rand(7)
    actions = 0.1 * torch.randn(3, 3, 7)
    steps = model.rollout(latent, state, actions, chunk=2, every_step=True)
    assert steps.shape == (3, 3, 16, 48)
    for count in (1, 2, 3):
        torch.testing.assert_close(
            steps[:, count - 1],
            model.rollout(latent, state, actions[:, :count]),
            atol=1e-5,
            rtol=0,
        )
