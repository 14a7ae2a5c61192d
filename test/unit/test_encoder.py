# SPDX-License-Identifier: Apache-2.0
"""The encoder's grid, its use of single frames, and training with a part of the patches."""

import pytest
import torch
from small_model import small_encoder

from vjepa2_ros.world_model.encoder import encoder_config, encoder_fields


@torch.no_grad()
def test_a_frame_is_encoded_alone_and_normed_twice():
    encoder = small_encoder()
    frames = torch.randn(3, 3, 64, 64)
    latents = encoder(frames)
    assert latents.shape == (3, encoder.rows * encoder.columns, encoder.channels) == (3, 16, 48)
    torch.testing.assert_close(encoder(frames[1:2]), latents[1:2], atol=1e-5, rtol=0)
    assert latents.mean(-1).abs().max() < 1e-5
    torch.testing.assert_close(
        latents.var(-1, unbiased=False), torch.ones(3, 16), atol=1e-3, rtol=0
    )
    repeated = encoder.model.get_vision_features(frames.unsqueeze(1).repeat(1, 2, 1, 1, 1))
    torch.testing.assert_close(torch.nn.functional.layer_norm(repeated, (48,)), latents)


@torch.no_grad()
def test_an_oblong_image_gives_what_a_larger_square_model_gives():
    encoder, larger = small_encoder(size=96), small_encoder(size=128)
    larger.load_state_dict(encoder.state_dict())
    video = torch.randn(1, 4, 3, 64, 96)
    torch.testing.assert_close(encoder.features(video), larger.features(video), atol=1e-5, rtol=0)
    assert encoder.features(video).shape == (1, 2 * 4 * 6, 48)


def test_an_image_larger_than_the_grid_is_refused():
    with pytest.raises(ValueError, match="64x96 px is larger"):
        small_encoder(size=64).features(torch.zeros(1, 2, 3, 64, 96))


def test_layers_train_on_a_part_of_the_patches_at_their_places():
    encoder = small_encoder()
    inner = encoder.model.encoder
    video = torch.randn(2, 2, 3, 64, 64)

    def through_layers(tokens, positions):
        for layer in inner.layer:
            tokens = layer(tokens, position_mask=positions)[0]
        return inner.layernorm(tokens)

    tokens = inner.embeddings(video)
    torch.testing.assert_close(
        through_layers(tokens, torch.arange(16)[None]), encoder.features(video)
    )
    kept = torch.tensor([[1, 5, 6, 12]])
    part = through_layers(tokens[:, kept[0]], kept)
    moved = through_layers(tokens[:, kept[0]], torch.tensor([[0, 1, 2, 3]]))
    assert part.shape == (2, 4, 48) and (part - moved).abs().max() > 1e-5
    part.square().sum().backward()
    assert inner.embeddings.patch_embeddings.proj.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_eager_attention_agrees_with_the_fused_one():
    fused, eager = small_encoder(), small_encoder(attention="eager")
    eager.load_state_dict(fused.state_dict())
    frames = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(eager(frames), fused(frames), atol=1e-5, rtol=0)


def test_the_configuration_survives_its_fields():
    fields = encoder_fields(small_encoder().config)
    assert encoder_fields(encoder_config(fields)) == fields


def test_a_configuration_with_missing_or_unknown_fields_is_refused():
    fields = encoder_fields(small_encoder().config)
    fields["wdith"] = fields.pop("hidden_size")
    with pytest.raises(ValueError, match=r"missing \['hidden_size'\], unknown \['wdith'\]"):
        encoder_config(fields)
