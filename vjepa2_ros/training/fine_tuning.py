# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of an existing model on a recording: its predictor, and its encoder if asked."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

from vjepa2_ros.evaluation.writable import check_folder
from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.settings.planning import ActionSettings
from vjepa2_ros.training.dataset import Dataset
from vjepa2_ros.training.distributed import by_first
from vjepa2_ros.training.loop import LoopConfig
from vjepa2_ros.training.predictor_training import (
    Recorded,
    encode_dataset,
    error_by_step,
    train_predictor,
)
from vjepa2_ros.training.pretrain import PretrainConfig, pretrain
from vjepa2_ros.training.recipe import (
    MEASURED_STEPS,
    RecipeError,
    check_held_out,
    check_shares,
    keep_recipe,
)
from vjepa2_ros.training.recording import RecordingConfig, collect
from vjepa2_ros.training.uncertainty_training import train_uncertainty
from vjepa2_ros.world_model.checkpoint import save_world_model
from vjepa2_ros.world_model.parts import SUCCESS, UNCERTAINTY
from vjepa2_ros.world_model.uncertainty import Uncertainty
from vjepa2_ros.world_model.world_model import WorldModel

HELD_OUT_SHARE = 20
"""1 in N episodes is held out, and at least one."""


@dataclass(frozen=True)
class FineTuning:
    """Everything that determines the fine-tuned model; the device is no part of it.

    Attributes:
        start: fingerprint of the model that is fine-tuned.
        recording: folder of a finished recording, or None to record random motion in simulation.
        episodes, length: size of that recording.
        batch: windows of three frames per step.
        loop: length, learning rate and seed. The peak of the learning rate is a tenth of that of
            training from nothing, so that the first steps do not undo what the model has learned.
        pretrain: batches, masks and losses of the encoder.
        pretrain_loop: as `loop`, of the encoder; without iterations it stays as it is.
        workspace: box in which the hand moves in simulation.
        max_translation: bound of one simulated step on each axis [m].
    """

    start: str
    recording: str | None = None
    episodes: int = 400
    length: int = 10
    batch: int = 64
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(600, learning_rate=1e-4))
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    pretrain_loop: LoopConfig = field(default_factory=lambda: LoopConfig(0, learning_rate=1e-4))
    workspace: Workspace = Workspace()
    max_translation: float = ActionSettings().max_translation


def fine_tune(model: WorldModel, settings: FineTuning, folder: Path, output: Path) -> dict:
    """Fine-tune a model in place, on its device, or resume doing so.

    Without iterations the weights stay exactly those of `model`. Several processes that
    `distributed.processes` joined train together.

    Args:
        model: in float32, with the fingerprint `settings.start`.
        settings: what is trained on, and how long.
        folder: keeps the recording, checkpoints, histories and loss curves.
        output: folder of the finished model. Of the checkpoint's optional parts, `uncertainty` is
            fine-tuned after the predictor, and `success` stays as it is where the encoder does; the
            others are not copied.

    Returns:
        The card of the model: settings, and the prediction errors before and after.

    Raises:
        FirstProcessError: the first of several processes failed.
        OSError: a folder cannot be written, or its disk is full.
        RecipeError: the model or the recording cannot be trained on, the folder holds a training
            with other settings, or the processes cannot share a batch equally.
        RecordingError: the recording cannot be used.
        SimulatorError: MuJoCo cannot render.
    """
    started = time.perf_counter()
    if model.predictor.config.use_extrinsics:
        raise RecipeError("a predictor with extrinsics cannot be fine-tuned: recordings have none")
    if model.predictor.config.max_frames < 2:
        raise RecipeError("a predictor of a single frame cannot be fine-tuned: windows have two")
    by_first(lambda: _check(settings, folder, output))
    dataset = _recording(settings, model.encoder.size, folder)
    episodes, length = dataset.frames.shape[:2]
    held_out = max(1, episodes // HELD_OUT_SHARE)
    check_held_out(held_out, episodes)
    if length < 3:
        raise RecipeError(f"the episodes have {length} frames, at least 3 are needed")
    trained = episodes - held_out
    if settings.pretrain_loop.iterations:
        model.encoder.requires_grad_(True)
        encoder, decoder = pretrain(
            dataset, model.encoder, settings.pretrain, settings.pretrain_loop, folder, trained
        )
        # What a success probe has learned to read is the old encoder's.
        kept = {name: part for name, part in model.parts.items() if name != SUCCESS}
        parts = {**kept, "decoder": decoder}
        model = WorldModel(encoder, model.predictor, model.crop_aspect, model.name, parts=parts)
    model.encoder.requires_grad_(False)
    latents = encode_dataset(dataset, model.encoder, folder, model.crop_aspect)
    states = dataset.predictor_states(model.predictor.config.commanded_gripper)

    def errors() -> list[float]:
        steps = min(MEASURED_STEPS, length - 1, model.predictor.config.max_frames)
        held = latents[trained:], states[trained:]
        return error_by_step(model.predictor, *held, steps).tolist()

    before = by_first(errors)
    recordings = [Recorded(latents[:trained], states[:trained])]
    train_predictor(recordings, model.predictor, settings.batch, settings.loop, folder)
    if uncertainty := cast("Uncertainty | None", model.parts.get(UNCERTAINTY)):
        train_uncertainty(
            recordings,
            uncertainty,
            model.predictor,
            settings.batch,
            settings.loop,
            folder,
            window=3,
        )

    def finish() -> dict:
        card = {
            "fine_tuning": asdict(settings),
            "minutes": (time.perf_counter() - started) / 60,
            "prediction_relative_to_copy": {"before": before, "after": errors()},
        }
        tuned = WorldModel(
            model.encoder, model.predictor, model.crop_aspect, model.name, parts=model.parts
        )
        save_world_model(tuned, output, card)
        return card

    return by_first(finish)


def _check(settings: FineTuning, folder: Path, output: Path) -> None:
    """Raise what can be raised before any work."""
    check_shares(settings.batch)
    if settings.pretrain_loop.iterations:
        check_shares(settings.pretrain.batch)
    keep_recipe(settings, folder)
    check_folder(folder)
    check_folder(output)


def _recording(settings: FineTuning, size: int, folder: Path) -> Dataset:
    """The recording that the settings name, or one made in `folder` with frames of `size` px."""
    if settings.recording is not None:
        return Dataset.open(Path(settings.recording))
    config = RecordingConfig(
        settings.episodes,
        settings.length,
        size,
        seed=settings.loop.seed,
        workspace=settings.workspace,
        max_translation=settings.max_translation,
    )
    return collect(folder / "data", config)
