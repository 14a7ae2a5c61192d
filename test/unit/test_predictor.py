# SPDX-License-Identifier: Apache-2.0
"""The predictor's structure; its numbers are compared with the reference in test_verify.py."""

import pytest
import torch
from small_model import small_predictor

from vjepa2_ros.world_model.predictor import ActionConditionedPredictor, PredictorConfig
from vjepa2_ros.world_model.rope import rotary_tables

N, D = 16, 48


def inputs(batch=2, frames=3):
    generator = torch.Generator().manual_seed(1)
    shapes = [(batch, frames * N, D), (batch, frames, 7), (batch, frames, 7)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


@torch.no_grad()
def test_a_frame_does_not_see_later_frames():
    predictor = small_predictor()
    latents, actions, states = inputs()
    before = predictor(latents, actions, states)
    latents[:, 2 * N :] += 1.0
    actions[:, 2:] += 1.0
    states[:, 2:] += 1.0
    after = predictor(latents, actions, states)
    torch.testing.assert_close(after[:, : 2 * N], before[:, : 2 * N])
    assert (after[:, 2 * N :] - before[:, 2 * N :]).abs().max() > 1e-3


@torch.no_grad()
def test_a_shared_latent_gives_what_copies_of_it_give():
    predictor = small_predictor()
    latents, actions, states = inputs(batch=5, frames=1)
    shared = predictor(latents[:1], actions, states)
    torch.testing.assert_close(shared, predictor(latents[:1].expand(5, -1, -1), actions, states))


def modulated():
    torch.manual_seed(0)
    predictor = small_predictor(modulated=True, use_states=False)
    with torch.no_grad():
        for weight in predictor.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return predictor


@torch.no_grad()
def test_actions_modulate_the_frame_that_they_belong_to_and_those_after_it():
    predictor = modulated()
    latents, actions, states = inputs()
    before = predictor(latents, actions, states)
    assert before.shape == latents.shape
    torch.testing.assert_close(predictor(latents, actions, states + 1.0), before)
    actions[:, 1] += 1.0
    changes = (predictor(latents, actions, states) - before).abs().amax(-1).unflatten(1, (3, N))
    assert changes[:, 0].max() == 0 and changes[:, 1:].min() > 1e-4


@torch.no_grad()
def test_a_modulated_block_without_shift_and_scale_and_with_open_gates_is_the_other():
    """Shift 0, scale 0, gates 1."""
    predictor, plain = modulated(), small_predictor()
    block, dim = predictor.predictor_blocks[0], predictor.config.predictor_embed_dim
    block.adaLN_modulation[1].weight.zero_()
    block.adaLN_modulation[1].bias.copy_(torch.tensor([0.0, 0, 1, 0, 0, 1]).repeat_interleave(dim))
    shared = {n: w for n, w in block.state_dict().items() if not n.startswith("adaLN")}
    plain.predictor_blocks[0].load_state_dict(shared)
    x, condition = torch.randn(2, 3 * N, dim), torch.randn(2, 3, dim)
    tables = rotary_tables(3, 4, 4, 0, dim // 2, torch.device("cpu"))
    torch.testing.assert_close(
        block(x, *tables, condition=condition), plain.predictor_blocks[0](x, *tables)
    )


@torch.no_grad()
def test_the_cache_of_a_modulated_predictor_is_exact():
    predictor = modulated()
    latents, actions, states = inputs()
    whole = predictor(latents, actions, states)
    _, past = predictor.extend(latents[:, : 2 * N], actions[:, :2], states[:, :2])
    last = predictor(latents[:, 2 * N :], actions[:, 2:], states[:, 2:], past=past)
    torch.testing.assert_close(last, whole[:, 2 * N :])


def test_it_trains_after_it_was_used_in_inference_mode():
    predictor = small_predictor()
    with torch.inference_mode():
        predictor(*inputs())
    predictor(*inputs()).square().mean().backward()
    used = {name for name, weight in predictor.named_parameters() if weight.grad is not None}
    assert used == {
        name for name, _ in predictor.named_parameters() if not name.startswith("extrinsics")
    }


def test_tokens_of_conditions_turn_with_time_only_and_left_over_channels_not_at_all():
    cosine, _ = rotary_tables(2, 2, 2, 2, 32, torch.device("cpu"))
    cosine = cosine.unflatten(0, (2, 6))
    assert (cosine[1, :2, 10:] == 1).all() and (cosine[1, :2, :5] < 1).all()
    assert (cosine[..., 30:] == 1).all()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda z, a, s: (z[:, :-1], a, s), "latents have shape"),
        (lambda z, a, s: (z[..., :-1], a, s), "latents have shape"),
        (lambda z, a, s: (z, a[..., :6], s), "must both be"),
        (lambda z, a, s: (z, a, s[:, :2]), "must both be"),
        (lambda z, a, s: (z, a, s, torch.zeros(2, 3, 6)), "takes no extrinsics"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        small_predictor()(*change(*inputs()))


def test_more_frames_than_it_was_made_for_are_refused():
    with pytest.raises(ValueError, match="at most 8"):
        small_predictor()(*inputs(frames=9))


def test_missing_extrinsics_are_named():
    with pytest.raises(ValueError, match="requires extrinsics"):
        small_predictor(use_extrinsics=True)(*inputs())


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="not a multiple"):
        ActionConditionedPredictor(PredictorConfig(predictor_embed_dim=50, num_heads=4))


@torch.no_grad()
@pytest.mark.parametrize("cut", [1, 2])
def test_frames_given_one_after_the_other_give_what_all_at_once_give(cut):
    predictor = small_predictor()
    latents, actions, states = inputs(batch=3, frames=3)
    # The past is shared: one row stands for all.
    latents[:, : cut * N], actions[:, :cut], states[:, :cut] = (
        part[:1] for part in (latents[:, : cut * N], actions[:, :cut], states[:, :cut])
    )
    whole = predictor(latents, actions, states)
    first, cache = predictor.extend(latents[:1, : cut * N], actions[:1, :cut], states[:1, :cut])
    rest, cache = predictor.extend(
        latents[:, cut * N :], actions[:, cut:], states[:, cut:], past=cache
    )
    torch.testing.assert_close(first, whole[:1, : cut * N])
    torch.testing.assert_close(rest, whole[:, cut * N :])
    assert cache.frames == 3


@torch.no_grad()
def test_more_frames_than_the_predictor_takes_are_refused_also_one_by_one():
    predictor = small_predictor()
    latents, actions, states = inputs(batch=1, frames=8)
    _, cache = predictor.extend(latents, actions, states)
    with pytest.raises(ValueError, match="9 frames given"):
        predictor.extend(latents[:, :N], actions[:, :1], states[:, :1], past=cache)
