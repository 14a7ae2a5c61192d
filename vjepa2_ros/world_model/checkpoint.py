# SPDX-License-Identifier: Apache-2.0
"""Loading and saving world models.

Our own layout is a folder of config.json and model.safetensors; a file is read as the published
layout (see `published`). Configuration, names, shapes and dtypes are checked before anything is
built. Weights go from the mapped file straight into a model that was built without memory, so that
the 1.3 B parameters of the published model exist once.
"""

import logging
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vjepa2_ros import plain_json
from vjepa2_ros.settings.model import ATTENTIONS, DTYPES, ModelSettings
from vjepa2_ros.share import model_names, model_path
from vjepa2_ros.world_model.encoder import Encoder, encoder_config
from vjepa2_ros.world_model.parts import (
    ALWAYS_LOADED,
    PARTS,
    REQUIRED_PARTS,
    assign_weights,
    build_part,
)
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor, PredictorConfig
from vjepa2_ros.world_model.preprocessing import CROPS
from vjepa2_ros.world_model.published import (
    PublishedGeometry,
    infer_encoder_fields,
    infer_predictor_config,
    read_published,
    transformers_state,
)
from vjepa2_ros.world_model.validation import (
    CheckpointError,
    check_positive,
    first_line,
    read_json_object,
)
from vjepa2_ros.world_model.world_model import WorldModel

__all__ = [
    "CheckpointError",
    "check_world_model",
    "load_world_model",
    "open_world_model",
    "save_world_model",
]

FORMAT = "vjepa2_ros world model 1"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Stored:
    """What a checkpoint holds.

    Attributes:
        name: of the model.
        crop_aspect: width / height of the central crop.
        encoder: fields of the encoder's configuration.
        predictor: configuration of the predictor.
        weights: by part, then by name.
        parts: configurations of optional parts.
    """

    name: str
    crop_aspect: float
    encoder: dict
    predictor: PredictorConfig
    weights: Mapping[str, Mapping[str, Tensor]]
    parts: Mapping[str, dict] = field(default_factory=dict)


def open_world_model(settings: ModelSettings, parts: Collection[str] | None = ()) -> WorldModel:
    """Load the world model that the settings name, and set PyTorch's number of threads.

    Args:
        settings: checkpoint (a path, or a name under models/), device, dtype, attention, threads.
        parts: names of the optional parts to load, see `parts.PARTS`; None: all that the
            checkpoint holds and that are known.

    Raises:
        CheckpointError: the checkpoint cannot be used, or lacks a part.
        ValueError: the device is unknown or absent, or a part is unknown.
    """
    torch.set_num_threads(settings.threads)
    return load_world_model(
        _path(settings.checkpoint),
        settings.device,
        settings.dtype,
        settings.attention,
        parts,
        CROPS.get(settings.crop),
    )


def check_world_model(settings: ModelSettings) -> None:
    """Look whether the settings name a checkpoint that can be used, in a moment: nothing is built.

    Raises:
        CheckpointError: it is not there, or its configuration, names, shapes or dtypes are wrong.
    """
    _read(_path(settings.checkpoint))


def load_world_model(
    path: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "sdpa",
    parts: Collection[str] | None = (),
    crop_aspect: float | None = None,
) -> WorldModel:
    """Load a world model from our folder or from a file in the published layout.

    Args:
        path: folder or file.
        device: "auto" (CUDA if available), "cpu", "cuda" or "cuda:N".
        dtype: "float32", "bfloat16" (autocast, with weights rounded once), or "auto": float32 on a
            CPU, bfloat16 on CUDA.
        attention: "sdpa" (fused) or "eager".
        parts: names of the optional parts to load; None: all that the checkpoint holds and that
            are known. Those that are not asked for are ignored, but for `parts.ALWAYS_LOADED`;
            unknown ones are named in a warning.
        crop_aspect: width / height of the central crop, instead of the checkpoint's.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: the checkpoint cannot be used, or lacks a part.
        ValueError: an option has an unknown value, or a part is unknown.
    """
    chosen_device, compute_dtype = choose_computation(device, dtype, attention)
    unknown = sorted(set(parts or ()) - set(PARTS))
    if unknown:
        raise ValueError(f"unknown parts {unknown}: known are {sorted(PARTS)}")
    stored = _read(Path(path))
    if parts is None:
        parts = sorted(set(stored.parts) & set(PARTS))
    else:
        parts = sorted({*parts, *(set(ALWAYS_LOADED) & set(stored.parts))})
    _check_parts(stored, parts, path)

    source = str(path)
    builders = {
        "encoder": lambda: Encoder(encoder_config(stored.encoder, attention)),
        "predictor": lambda: ActionConditionedPredictor(stored.predictor),
        **{name: partial(PARTS[name], stored.parts[name]) for name in parts},
    }
    modules = {
        name: build_part(name, build, stored.weights[name], source)
        for name, build in builders.items()
    }
    encoder, predictor = (modules[name] for name in REQUIRED_PARTS)
    optional = {name: modules[name] for name in parts}
    try:
        model = WorldModel(
            encoder,
            predictor,
            stored.crop_aspect if crop_aspect is None else crop_aspect,
            stored.name,
            compute_dtype,
            optional,
        )
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}") from error
    # Weights are named as in the model of transformers that the encoder holds.
    for name, module in (modules | {"encoder": encoder.model}).items():
        assign_weights(name, module, stored.weights[name], source)
    if compute_dtype != torch.float32:
        model.round_weights()
    for module in modules.values():
        module.to(chosen_device).eval()
    return model


def save_world_model(model: WorldModel, folder: str | Path, card: dict) -> None:
    """Write config.json and model.safetensors; each file is replaced at once or not at all.

    Args:
        model: with the optional parts that it holds.
        folder: made if it does not exist.
        card: facts about the model for people (data, time, figures); plain JSON values.

    Raises:
        OSError: a file cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    modules = {"encoder": model.encoder.model, "predictor": model.predictor, **model.parts}
    weights = {
        f"{part}.{name}": weight.detach().cpu().contiguous()
        for part, module in modules.items()
        for name, weight in module.state_dict().items()
    }
    config = {"format": FORMAT, "name": model.name, **model.config}
    if model.parts:
        config["parts"] = {name: module.config for name, module in model.parts.items()}
    text = plain_json.dumps(config | {"card": card})

    _replace(folder / WEIGHTS_FILE, lambda path: save_file(weights, path))
    _replace(folder / CONFIG_FILE, lambda path: path.write_text(text))


def read_card(path: Path) -> dict:
    """Facts about the model of a folder, as `save_world_model` was given them; else none.

    Raises:
        CheckpointError: the folder's configuration cannot be read.
    """
    if not path.is_dir():
        return {}
    card = read_json_object(path / CONFIG_FILE).get("card", {})
    return card if isinstance(card, dict) else {}


def choose_computation(device: str, dtype: str, attention: str) -> tuple[torch.device, torch.dtype]:
    """Device and dtype that these options mean; see `load_world_model`.

    Raises:
        ValueError: an option has an unknown value, or the device is absent.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"unknown device {device!r}: use auto, cpu, cuda or cuda:N")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device!r} is absent: PyTorch finds {torch.cuda.device_count()} CUDA devices"
        )
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}: use {', '.join(DTYPES)}")
    if attention not in ATTENTIONS:
        raise ValueError(f"unknown attention {attention!r}: use {' or '.join(ATTENTIONS)}")
    if dtype == "auto":
        dtype = "bfloat16" if chosen.type == "cuda" else "float32"
    return chosen, getattr(torch, dtype)


def _path(checkpoint: str) -> Path:
    try:
        return model_path(checkpoint)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{checkpoint}: {first_line(error)}") from error


def _read(path: Path) -> _Stored:
    """What the checkpoint at a path holds; CheckpointError if it cannot be used."""
    try:
        path = path.expanduser()
        if path.is_dir():
            return _read_folder(path)
        if path.is_file():
            return _read_published(path)
        where = path.absolute()
    except CheckpointError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {first_line(error)}") from error
    raise CheckpointError(
        f"no checkpoint at {where}: give a model folder, a V-JEPA 2-AC .pt file, or the name of a "
        f"shipped model ({', '.join(model_names()) or 'none is there'})"
    )


def _read_folder(folder: Path) -> _Stored:
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder.absolute()} has no {name}: not a world model folder")
    config = read_json_object(folder / CONFIG_FILE)
    weights = _read_weights(folder / WEIGHTS_FILE)
    try:
        if config["format"] != FORMAT:
            raise ValueError(f"format {config['format']!r:.99}, wanted {FORMAT!r}")
        name, crop_aspect, parts = config["name"], config["crop_aspect"], config.get("parts", {})
        encoder, predictor = (dict(config[part]) for part in REQUIRED_PARTS)
        check_positive("crop_aspect", crop_aspect)
        if not isinstance(name, str):
            raise ValueError("name is not a string")
        if not isinstance(parts, dict) or not all(isinstance(p, dict) for p in parts.values()):
            raise ValueError("parts is not an object of objects")
        predictor["image_size"] = tuple(predictor["image_size"])
        predictor_config = PredictorConfig(**predictor)
        encoder_config(encoder)
    except KeyError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} cannot be used: {error}") from error
    split: dict[str, dict[str, Tensor]] = {part: {} for part in (*REQUIRED_PARTS, *parts)}
    for key, weight in weights.items():
        part, _, rest = key.partition(".")
        if part not in split:
            raise CheckpointError(f"{folder / WEIGHTS_FILE}: unexpected weight {key[:99]}")
        split[part][rest] = weight
    return _Stored(name, float(crop_aspect), encoder, predictor_config, split, parts)


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, mapped and not yet read."""
    try:
        return load_file(path)
    except Exception as error:  # SafetensorError, OSError, errors from malformed headers
        raise CheckpointError(
            f"{path} is truncated or no safetensors file: {first_line(error)}"
        ) from error


def _read_published(path: Path) -> _Stored:
    geometry = PublishedGeometry.beside(path)
    encoder_state, predictor_state = read_published(path, geometry)
    encoder = infer_encoder_fields(encoder_state, geometry)
    predictor = infer_predictor_config(predictor_state, encoder, geometry)
    weights = {"encoder": transformers_state(encoder_state), "predictor": predictor_state}
    return _Stored(path.stem, float(geometry.crop_aspect), encoder, predictor, weights)


def _check_parts(stored: _Stored, asked: Collection[str], source: str | Path) -> None:
    """CheckpointError if a part that was asked for is absent; a warning for unknown parts."""
    absent = sorted(set(asked) - set(stored.parts))
    if absent:
        raise CheckpointError(
            f"{source} has no part {' and '.join(absent)}; its optional parts are"
            f" {', '.join(stored.parts) or 'none'}"
        )
    unknown = sorted(set(stored.parts) - set(PARTS))
    if unknown:
        _log.warning("%s: ignored the unknown optional parts %s", source, ", ".join(unknown))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file through a temporary one beside it, which is removed if writing fails."""
    temporary = path.with_name(path.name + ".partial")
    try:
        write(temporary)
        os.replace(temporary, path)
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OSError(f"cannot write {path}: {first_line(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)
