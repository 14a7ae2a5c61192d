# SPDX-License-Identifier: Apache-2.0
"""Loading and saving world models.

Ours is a folder of config.json and model.safetensors.  A file is taken for the
published layout (see `published`).  Weights go straight from the mapped file
into a model that was built without memory, so that the 1.3 B parameters of the
published model exist once.
"""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vjepa2_ros.world_model.encoder import Encoder, encoder_config
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor, PredictorConfig
from vjepa2_ros.world_model.published import (
    CheckpointError,
    PublishedGeometry,
    infer_encoder_fields,
    infer_predictor_config,
    read_published,
    transformers_state,
)
from vjepa2_ros.world_model.world_model import WorldModel

__all__ = ["CheckpointError", "load_world_model", "save_world_model"]

FORMAT = "vjepa2_ros world model 1"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
ATTENTIONS = ("sdpa", "eager")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_LISTED = 6


def load_world_model(
    path: str | Path, device: str = "auto", dtype: str = "auto", attention: str = "sdpa"
) -> WorldModel:
    """World model from our folder or from a file in the published layout, in evaluation mode.

    device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1", ...
    dtype: "float32", "bfloat16" (autocast, with weights rounded once), or "auto":
        float32 on a CPU, bfloat16 on CUDA.
    attention: "sdpa" (fused) or "eager".
    Raises CheckpointError where the checkpoint cannot be used, ValueError where an option cannot.
    """
    path = Path(path).expanduser()
    chosen_device, compute_dtype = choose_computation(device, dtype, attention)
    if path.is_dir():
        read = _read_folder
    elif path.is_file():
        read = _read_published
    else:
        raise CheckpointError(
            f"no checkpoint at {path.absolute()}: give a model folder or a V-JEPA 2-AC .pt file"
        )
    name, crop_aspect, encoder_fields, predictor_config, encoder_state, predictor_state = read(path)

    try:
        with torch.device("meta"):
            encoder = Encoder(encoder_config(encoder_fields, attention))
            predictor = ActionConditionedPredictor(predictor_config)
        model = WorldModel(encoder, predictor, crop_aspect, name, compute_dtype)
    except Exception as error:  # transformers raises anything at all on values that make no sense
        raise CheckpointError(f"{path} describes no model that works: {error!r}") from error
    _assign(encoder.model, encoder_state, f"{path}: encoder")
    _assign(predictor, predictor_state, f"{path}: predictor")
    if compute_dtype != torch.float32:
        model.round_weights()
    encoder.to(chosen_device).eval()
    predictor.to(chosen_device).eval()
    return model


def save_world_model(model: WorldModel, folder: str | Path, card: dict) -> None:
    """Write config.json and model.safetensors; each file appears whole or not at all.

    card: what a person wants to know of the model (data, time, figures); plain JSON values.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"encoder": model.encoder.model, "predictor": model.predictor}
    weights = {
        f"{part}.{name}": weight.detach().cpu().contiguous()
        for part, module in parts.items()
        for name, weight in module.state_dict().items()
    }
    config = {"format": FORMAT, "name": model.name, **model.config, "card": card}

    partial = folder / (WEIGHTS_FILE + ".partial")
    save_file(weights, partial)
    os.replace(partial, folder / WEIGHTS_FILE)
    partial = folder / (CONFIG_FILE + ".partial")
    partial.write_text(json.dumps(config, indent=2) + "\n")
    os.replace(partial, folder / CONFIG_FILE)


def choose_computation(device: str, dtype: str, attention: str) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of these options, see `load_world_model`; ValueError where there is none."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}: use auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device!r} is not there: PyTorch sees {torch.cuda.device_count()} CUDA devices"
        )
    if dtype == "auto":
        dtype = "bfloat16" if chosen.type == "cuda" else "float32"
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}: use auto, {' or '.join(DTYPES)}")
    if attention not in ATTENTIONS:
        raise ValueError(f"unknown attention {attention!r}: use {' or '.join(ATTENTIONS)}")
    return chosen, DTYPES[dtype]


def _read_folder(folder: Path) -> tuple:
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder.absolute()} has no {name}: not a world model folder")
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
        if config["format"] != FORMAT:
            raise ValueError(f"format {config['format']!r}, wanted {FORMAT!r}")
        predictor = dict(config["predictor"])
        predictor["image_size"] = tuple(predictor["image_size"])
        crop_aspect = float(config["crop_aspect"])
        described = (config["name"], crop_aspect, config["encoder"], PredictorConfig(**predictor))
    except KeyError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} lacks {error}") from error
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} cannot be used: {error}") from error
    try:
        weights = load_file(folder / WEIGHTS_FILE)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} is truncated or no safetensors file: {error}"
        ) from error
    states = {"encoder": {}, "predictor": {}}
    for name, weight in weights.items():
        part, _, rest = name.partition(".")
        if part not in states:
            raise CheckpointError(f"{folder / WEIGHTS_FILE}: unexpected weight {name}")
        states[part][rest] = weight
    return *described, states["encoder"], states["predictor"]


def _read_published(path: Path) -> tuple:
    geometry = PublishedGeometry.beside(path)
    encoder_state, predictor_state = read_published(path)
    encoder = infer_encoder_fields(encoder_state, geometry)
    predictor = infer_predictor_config(predictor_state, encoder, geometry)
    return (
        path.stem,
        geometry.crop_aspect,
        encoder,
        predictor,
        transformers_state(encoder_state),
        predictor_state,
    )


def _assign(module: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Make `state` the module's weights without copying.  Raises CheckpointError unless it fits."""
    wanted = module.state_dict()
    faults = {
        "missing": sorted(set(wanted) - set(state)),
        "unexpected": sorted(set(state) - set(wanted)),
        "of another shape": [
            f"{name} {list(state[name].shape)} instead of {list(wanted[name].shape)}"
            for name in sorted(set(wanted) & set(state))
            if state[name].shape != wanted[name].shape
        ],
    }
    found = [
        f"{len(names)} {fault}: {', '.join(names[:_LISTED] + ['...'] * (len(names) > _LISTED))}"
        for fault, names in faults.items()
        if names
    ]
    if found:
        raise CheckpointError(f"{what} weights do not fit; {'; '.join(found)}")
    module.load_state_dict({name: weight.float() for name, weight in state.items()}, assign=True)
