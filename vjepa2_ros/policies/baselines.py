# SPDX-License-Identifier: Apache-2.0
"""The policies that are fitted to a model's latents, in one file beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from vjepa2_ros.planning.action_space import AXES
from vjepa2_ros.policies.cloning import Cloner
from vjepa2_ros.share import model_path
from vjepa2_ros.world_model.parts import assign_weights, build_part
from vjepa2_ros.world_model.predictor import PredictorConfig
from vjepa2_ros.world_model.validation import first_line
from vjepa2_ros.world_model.world_model import WorldModel

FORMAT = "vjepa2_ros baselines 1"
FILE = "baselines.safetensors"


class BaselinesError(ValueError):
    """A file of baselines that cannot be used; the text says what to do."""


class Baselines(nn.Module):
    """Everything that is fitted.

    Args:
        config: geometry of the model's predictor.

    Attributes:
        linear: change of x, y, z, gripper [4] to that of a latent [N * D].
        readout: latent [N * D] to x, y, z [m] and measured closedness [4].
        cloner: behaviour cloning.
    """

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        values = config.rows * config.columns * config.embed_dim
        self.linear = nn.Linear(len(AXES), values, bias=False)
        self.readout = nn.Linear(values, len(AXES))
        self.cloner = Cloner(config)


def baselines_path(checkpoint: str) -> Path:
    """Where the baselines of a checkpoint are: in its folder, or in that of a `.pt` file."""
    path = model_path(checkpoint)
    return (path if path.is_dir() else path.parent) / FILE


def save_baselines(baselines: Baselines, model: WorldModel, path: Path) -> None:
    """Write baselines that were fitted to a model; the file is replaced at once or not at all.

    Raises:
        OSError: it cannot be written.
    """
    weights = {
        name: value.detach().cpu().contiguous() for name, value in baselines.state_dict().items()
    }
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(weights, partial, {"format": FORMAT, "model": model.fingerprint})
        partial.replace(path)
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OSError(f"cannot write {path}: {first_line(error)}") from error
    finally:
        partial.unlink(missing_ok=True)


def load_baselines(path: Path, model: WorldModel) -> Baselines:
    """Read the baselines of a model, on its device and in evaluation mode.

    Raises:
        BaselinesError: the file is missing, damaged or of another model.
    """
    fit = "fit them with `vjepa2-ros baselines --checkpoint MODEL --folder FOLDER_OF_TRAINING`"
    if not path.is_file():
        raise BaselinesError(f"no fitted policies at {path}: {fit}")
    try:
        with safe_open(path, "pt") as file:
            described = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BaselinesError(f"{path} cannot be read ({first_line(error)}): {fit}") from error
    if described.get("format") != FORMAT:
        raise BaselinesError(
            f"{path} is no file of fitted policies in the format {FORMAT!r}: {fit}"
        )
    if described.get("model") != model.fingerprint:
        raise BaselinesError(
            f"{path} was fitted to the model {described.get('model')}, and this one is "
            f"{model.fingerprint}: {fit}"
        )
    try:
        baselines = build_part(
            "baselines", lambda: Baselines(model.predictor.config), weights, str(path)
        )
        assign_weights("baselines", baselines, weights, str(path))
    except ValueError as error:
        raise BaselinesError(f"{error}: {fit}") from error
    return cast(Baselines, baselines.to(model.device).eval())
