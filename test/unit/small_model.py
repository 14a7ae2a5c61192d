# SPDX-License-Identifier: Apache-2.0
"""Small random world models, and files of them in the published layout."""

import torch

from vjepa2_ros.world_model.encoder import Encoder, encoder_config
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor, PredictorConfig
from vjepa2_ros.world_model.world_model import WorldModel


def small_encoder(size=64, width=48, heads=3, depth=2, attention="sdpa"):
    fields = {
        "crop_size": size,
        "patch_size": 16,
        "tubelet_size": 2,
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "mlp_ratio": 4.0,
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
        "qkv_bias": True,
    }
    return Encoder(encoder_config(fields, attention)).eval()


def small_predictor(size=64, width=48, predictor_width=48, heads=2, depth=2, **options):
    return ActionConditionedPredictor(
        PredictorConfig(
            image_size=(size, size),
            embed_dim=width,
            predictor_embed_dim=predictor_width,
            num_heads=heads,
            depth=depth,
            **options,
        )
    ).eval()


def small_world_model(seed=0, commanded_gripper=False, **sizes):
    """64 px, 16 patches, 48 channels; weights far from zero, so that every part has an effect."""
    torch.manual_seed(seed)
    predictor = small_predictor(**sizes, commanded_gripper=commanded_gripper)
    model = WorldModel(small_encoder(**sizes), predictor, name="small")
    with torch.no_grad():
        for part in (model.encoder, model.predictor):
            for weight in part.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
    return model


def published_states(model):
    """Encoder and predictor weights of a model under the names of the reference."""
    encoder = {}
    state = {
        name.removeprefix("encoder."): value
        for name, value in model.encoder.model.state_dict().items()
    }
    for name, value in state.items():
        if ".key." in name or ".value." in name:
            continue
        if ".query." in name:
            value = torch.cat(
                [state[name.replace(".query.", f".{part}.")] for part in ("query", "key", "value")]
            )
        name = name.replace("embeddings.patch_embeddings.", "patch_embed.").replace(
            "layer.", "blocks."
        )
        name = name.replace(".attention.query.", ".attn.qkv.").replace(".attention.", ".attn.")
        encoder[name.replace("layernorm.", "norm.")] = value
    return encoder, dict(model.predictor.state_dict())


def write_published(path, model, prefix="module.", extras=True, **changes):
    """Save a model as vjepa2-ac-vitg.pt is; `changes` replace top-level entries, None drops one."""
    encoder, predictor = published_states(model)
    content = {
        "encoder": {prefix + name: value.clone() for name, value in encoder.items()},
        "predictor": {prefix + name: value.clone() for name, value in predictor.items()},
    }
    if extras:
        content["encoder"][prefix + "pos_embed"] = torch.zeros(1, 16, 48)
        content["predictor"][prefix + "predictor_pos_embed"] = torch.zeros(1, 16, 48)
        content["target_encoder"] = content["encoder"]
        content["opt"] = {
            "state": {0: {"exp_avg": torch.zeros(3)}},
            "param_groups": [{"lr": 4.25e-4}],
        }
        content |= {
            "scaler": None,
            "epoch": 315,
            "loss": 0.5,
            "batch_size": 8,
            "world_size": 32,
            "lr": 4.25e-4,
        }
    content |= changes
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    return path
