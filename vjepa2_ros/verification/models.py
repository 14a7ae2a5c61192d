# SPDX-License-Identifier: Apache-2.0
"""Golden cases of the networks: predictors, encoders, names and sizes of the published model."""

import re
from collections.abc import Callable, Collection
from functools import partial

import torch
from torch import Tensor, nn

from vjepa2_ros.verification.golden import (
    Case,
    GoldenError,
    GoldenSet,
    compare,
    exactly,
    not_covered,
)
from vjepa2_ros.world_model.encoder import Encoder, encoder_config, normalise
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor, PredictorConfig
from vjepa2_ros.world_model.published import transformers_names, transformers_state

_INTERMEDIATE = re.compile(r"block(\d+)_(in|out|attn_out)")
_PREDICTOR_OPTIONS = {
    "img_size",
    "patch_size",
    "num_frames",
    "tubelet_size",
    "embed_dim",
    "predictor_embed_dim",
    "depth",
    "num_heads",
    "use_extrinsics",
    "mlp_ratio",
}
_ENCODER_OPTIONS = {
    "img_size",
    "patch_size",
    "num_frames",
    "tubelet_size",
    "embed_dim",
    "depth",
    "num_heads",
    "mlp_ratio",
    "qkv_bias",
    "use_rope",
    # These change how the reference computes, not what.
    "use_sdpa",
    "uniform_power",
}


def is_predictor(model: dict) -> bool:
    """Whether a described model is an action-conditioned predictor."""
    return "action_encoder.weight" in model["keys"]


def is_encoder(model: dict) -> bool:
    """Whether a described model is an encoder."""
    return "patch_embed.proj.weight" in model["keys"]


def build_predictor(golden: GoldenSet, name: str) -> ActionConditionedPredictor:
    """Predictor of a set, with its weights, on the set's device, in evaluation mode.

    Args:
        golden: the set.
        name: of the model in the set.

    Raises:
        GoldenError: the model has options that this package does not have.
    """
    options = dict(golden.meta["models"][name]["kwargs"])
    _refuse_unknown(options, _PREDICTOR_OPTIONS)
    options["image_size"] = tuple(options.pop("img_size"))
    predictor = ActionConditionedPredictor(PredictorConfig(**options))
    predictor.load_state_dict(golden.weights(name))
    return predictor.to(golden.device).eval()


def build_encoder(golden: GoldenSet, name: str, size: int | None = None) -> Encoder:
    """Encoder of a set, with its weights, on the set's device, in evaluation mode.

    Args:
        golden: the set.
        name: of the model in the set.
        size: largest side of the inputs [px]; None for the one that the set gives.

    Raises:
        GoldenError: the model has options that this package does not have.
    """
    options = golden.meta["models"][name]["kwargs"]
    _refuse_unknown(options, _ENCODER_OPTIONS)
    if not options.get("use_rope", False):
        raise GoldenError("encoder without rotary positions")
    fields = {
        "crop_size": size or max(options["img_size"]),
        "patch_size": options["patch_size"],
        "tubelet_size": options["tubelet_size"],
        "hidden_size": options["embed_dim"],
        "num_hidden_layers": options["depth"],
        "num_attention_heads": options["num_heads"],
        "mlp_ratio": options["mlp_ratio"],
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
        "qkv_bias": options["qkv_bias"],
    }
    encoder = Encoder(encoder_config(fields))
    encoder.model.load_state_dict(transformers_state(golden.weights(name)))
    return encoder.to(golden.device).eval()


def _refuse_unknown(options: dict, known: set[str]) -> None:
    """Raise GoldenError where an option is not known."""
    unknown = sorted(set(options) - known)
    if unknown:
        raise GoldenError(f"not covered: options {', '.join(unknown)}")


def model_cases(golden: GoldenSet, elsewhere: Collection[str] = ()) -> list[Case]:
    """Every case of every model of the set.

    Args:
        golden: the set.
        elsewhere: names of the models that other comparisons run.
    """
    cases = []
    for name, model in golden.meta["models"].items():
        if name in elsewhere:
            continue
        groups = golden.groups(f"{name}/")
        if is_predictor(model):
            run = partial(_predictor_case, golden, name)
        elif is_encoder(model):
            run = partial(_encoder_case, golden, name)
        else:
            cases.append(not_covered(name, "model", "neither a predictor nor an encoder"))
            continue
        if not groups:
            cases.append(not_covered(name, "model", "the set holds no case of it"))
        for group, names in groups.items():
            try:
                cases += run(group, names)
            except (GoldenError, KeyError, RuntimeError, ValueError, TypeError) as error:
                cases.append(Case(f"{name}/{group}", "case", False, message=str(error)))
    return cases


def _predictor_case(golden: GoldenSet, model: str, group: str, names: list[str]) -> list[Case]:
    """Predictions of given latents [B, T*N, D], actions [B, T, 7] and states [B, T, 7]."""
    case = f"{model}/{group}"
    predictor = build_predictor(golden, model)
    expected = {
        name for name in names if name in ("out", "out_ln") or _INTERMEDIATE.fullmatch(name)
    }
    inputs = [golden.model_input(f"{case}/{name}") for name in ("z", "actions", "states")]
    if f"{case}/extrinsics" in golden:
        inputs.append(golden.model_input(f"{case}/extrinsics"))
    found = _run(
        predictor, predictor.predictor_blocks, "attn", lambda: predictor(*inputs), expected
    )
    found["out_ln"] = normalise(found["out"])
    return _compare_all(golden, case, found, expected)


def _encoder_case(golden: GoldenSet, model: str, group: str, names: list[str]) -> list[Case]:
    """Features of given pixels [B, 3, T, H, W], or of the transformed clip of the same name."""
    case = f"{model}/{group}"
    if "x" in names:
        video = golden.model_input(f"{case}/x").transpose(1, 2)
    else:
        size = golden.meta["models"][model]["kwargs"]["img_size"][0]
        frames = golden.model_input(f"preproc/{group}_{size}/out").transpose(0, 1)
        video = frames.unsqueeze(1).repeat(1, 2, 1, 1, 1)
    encoder = build_encoder(golden, model, size=max(video.shape[-2:]))
    expected = {name for name in names if name == "out" or _INTERMEDIATE.fullmatch(name)}
    found = _run(
        encoder, encoder.model.encoder.layer, "attention", lambda: encoder.features(video), expected
    )
    return _compare_all(golden, case, found, expected)


def _run(
    model: nn.Module,
    blocks: nn.ModuleList,
    attention: str,
    call: Callable[[], Tensor],
    expected: set[str],
) -> dict[str, Tensor]:
    """Run a model and record what goes through its blocks.

    Args:
        model: that `call` runs.
        blocks: of the model, in order.
        attention: name of the attention module in a block.
        call: the forward pass.
        expected: names such as "block0_in", "block0_out", "block0_attn_out".

    Returns:
        The call's result as "out", and the named inputs and outputs.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
        value = inputs if name.endswith("_in") else output
        found[name] = value[0] if isinstance(value, tuple) else value

    hooks = []
    for name in expected:
        intermediate = _INTERMEDIATE.fullmatch(name)
        if intermediate and int(intermediate[1]) < len(blocks):
            block = blocks[int(intermediate[1])]
            module = getattr(block, attention) if intermediate[2] == "attn_out" else block
            hooks.append(module.register_forward_hook(partial(keep, name)))
    try:
        with torch.no_grad():
            found["out"] = call()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _compare_all(
    golden: GoldenSet, case: str, found: dict[str, Tensor], expected: set[str]
) -> list[Case]:
    """Compare every expected array of a case."""
    cases = []
    for name in sorted(expected):
        if name not in found:
            cases.append(not_covered(case, name, "the model has no such block"))
            continue
        wanted = golden.tensor(f"{case}/{name}")
        # Large intermediates are stored for the first elements of the batch only.
        actual = found[name][: len(wanted)] if _INTERMEDIATE.fullmatch(name) else found[name]
        cases.append(compare(case, name, actual, wanted, golden.tolerance("feature")))
    return cases


def published_cases(golden: GoldenSet) -> list[Case]:
    """Names of the published weights in `transformers`, and sizes of the published model."""
    cases = []
    mapping = golden.meta.get("hf", {}).get("mapping", {})
    for key, names in mapping.items():
        if key.startswith("example_"):
            wrong = [name for name, wanted in names.items() if transformers_names(name) != wanted]
            cases.append(exactly("hf", key, wrong))
    for part, described in golden.meta.get("real_model", {}).items():
        if isinstance(described, dict):
            cases += _published_size(part, described)
    return cases


def _published_size(part: str, described: dict) -> list[Case]:
    """Names, shapes and number of the weights of one network of the published model."""
    case = f"real_model/{part}"
    shapes = described["keys_block0_and_outer"]
    with torch.device("meta"):
        if "action_encoder.weight" in shapes:
            config = PredictorConfig(
                embed_dim=described["embed_dim"],
                predictor_embed_dim=described["predictor_embed_dim"],
                depth=described["depth"],
                num_heads=described["num_heads"],
            )
            model: nn.Module = ActionConditionedPredictor(config)
            sizes = {name: list(value.shape) for name, value in model.state_dict().items()}
            wrong = [name for name, shape in shapes.items() if sizes.get(name) != shape]
        else:
            _, _, tubelet, patch, _ = shapes["patch_embed.proj.weight"]
            fields = {
                "crop_size": 256,
                "patch_size": patch,
                "tubelet_size": tubelet,
                "hidden_size": described["embed_dim"],
                "num_hidden_layers": described["depth"],
                "num_attention_heads": described["num_heads"],
                "mlp_ratio": described["mlp_hidden"] / described["embed_dim"],
                "layer_norm_eps": 1e-6,
                "hidden_act": "gelu",
                "qkv_bias": True,
            }
            model = Encoder(encoder_config(fields)).model
            renamed = transformers_state(
                {name: torch.empty(shape) for name, shape in shapes.items()}
            )
            sizes = {name: list(value.shape) for name, value in model.state_dict().items()}
            wrong = [
                name for name, value in renamed.items() if sizes.get(name) != list(value.shape)
            ]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return [
        exactly(case, "names and shapes", wrong),
        Case(
            case,
            "parameters",
            parameters == described["params"],
            abs(parameters - described["params"]),
            0.0,
        ),
    ]
