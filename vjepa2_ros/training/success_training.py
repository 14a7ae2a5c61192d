# SPDX-License-Identifier: Apache-2.0
"""Training of the success probe on play that was recorded in simulation.

Any two frames of an episode are a question: is what the second one shows reached in the first one?
The truth about hand and objects answers, as a person would who labels the recording.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vjepa2_ros.evaluation.writable import check_folder
from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.settings.planning import ActionSettings
from vjepa2_ros.training.dataset import Dataset, RecordingError
from vjepa2_ros.training.distributed import by_first, share
from vjepa2_ros.training.loop import LoopConfig, train
from vjepa2_ros.training.predictor_training import encode_dataset
from vjepa2_ros.training.recipe import check_held_out, check_shares, keep_recipe
from vjepa2_ros.training.recording import RecordingConfig, collect
from vjepa2_ros.world_model.checkpoint import read_card, save_world_model
from vjepa2_ros.world_model.parts import SUCCESS
from vjepa2_ros.world_model.success import QUESTIONS, REACHED, SuccessProbe
from vjepa2_ros.world_model.world_model import WorldModel

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the back end is chosen before)

TOLERANCE = 0.02
"""Hand and objects within this distance of where the goal shows them are there [m]."""
_CLOSEDNESS = 0.25  # difference up to which two grippers are closed alike
_NEAR = 4 * TOLERANCE  # distance of the hand up to which a pair counts as near [m]
_BINS = 10
_PAIRS_AT_ONCE = 256
_SEEDS = 80  # the scenes are other ones than those of the world model's training


@dataclass(frozen=True)
class SuccessTraining:
    """Everything that determines the trained probe.

    Attributes:
        start: fingerprint of the model.
        episodes, length: size of the recording of play.
        held_out: share of the episodes that are not trained on: the probe is measured on them.
        hidden, blocks, heads: of the probe, see `SuccessProbe`.
        batch: pairs per step.
        loop: length, learning rate and seed.
        measured: pairs that the figures are made of.
        workspace: box in which the hand moves.
        max_translation: bound of one step on each axis [m].
    """

    start: str
    episodes: int = 1200
    length: int = 12
    held_out: float = 0.1
    hidden: int = 128
    blocks: int = 2
    heads: int = 4
    batch: int = 96
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(3000, learning_rate=1e-3))
    measured: int = 6000
    workspace: Workspace = Workspace()
    max_translation: float = ActionSettings().max_translation


def answers(dataset: Dataset) -> np.ndarray:
    """True answers to all pairs of frames of each episode.

    - reached: hand and both objects are within `TOLERANCE` of where the goal shows them, and the
      gripper is closed, and holds, as there.
    - holding: an object is held.
    - placed: both objects are where the goal shows them, and none is held, here or there.
    - dropped: an object that was held earlier in the episode is not held any more, and is not where
      the goal shows it.

    Args:
        dataset: of E episodes of T frames, with the truth about the objects.

    Returns:
        bool [E, T, T, 4]: episode, frame, frame of the goal, question as in `QUESTIONS`.

    Raises:
        RecordingError: the recording lacks that truth.
    """
    if dataset.objects is None or dataset.held is None:
        raise RecordingError(
            "the recording has no truth to label it by: it needs objects.npy, float32 [episodes, "
            "length, 2, 3], and held.npy, bool [episodes, length, 2]"
        )
    hand, objects = np.asarray(dataset.states[..., :3]), np.asarray(dataset.objects)
    closedness, held = np.asarray(dataset.states[..., 6]), np.asarray(dataset.held)
    earlier = np.logical_or.accumulate(held, axis=1)
    there = np.linalg.norm(objects[:, :, None] - objects[:, None], axis=-1) <= TOLERANCE
    hand_there = np.linalg.norm(hand[:, :, None] - hand[:, None], axis=-1) <= TOLERANCE
    alike = np.abs(closedness[:, :, None] - closedness[:, None]) <= _CLOSEDNESS
    alike &= (held[:, :, None] == held[:, None]).all(-1)
    none_held = np.logical_not(held.any(-1))
    found = np.stack(
        [
            hand_there & there.all(-1) & alike,
            np.broadcast_to(~none_held[:, :, None], hand_there.shape),
            there.all(-1) & none_held[:, :, None] & none_held[:, None],
            ((earlier & ~held)[:, :, None] & ~there).any(-1),
        ],
        axis=-1,
    )
    assert found.shape[-1] == len(QUESTIONS)
    return found


class Pairs:
    """Draws pairs of frames: a third reached, a third near but not reached, a third any.

    Args:
        dataset: of E episodes.
        latents: of its frames [E, T, N, D].
        episodes: those that are drawn from.
    """

    def __init__(self, dataset: Dataset, latents: np.ndarray, episodes: slice) -> None:
        self._latents = latents[episodes]
        self._answers = answers(dataset)[episodes]
        hand = np.asarray(dataset.states[episodes, :, :3])
        near = np.linalg.norm(hand[:, :, None] - hand[:, None], axis=-1) <= _NEAR
        other = ~np.eye(hand.shape[1], dtype=bool)
        reached = self._answers[..., REACHED]
        groups = (reached & other, near & ~reached & other, np.broadcast_to(other, near.shape))
        self._groups = [np.argwhere(group) for group in groups]
        if not all(len(group) for group in self._groups):
            raise RecordingError(
                "no two frames of an episode show the same: record more episodes (--episodes)"
            )

    def draw(
        self, count: int, random: np.random.Generator, device: torch.device, shared: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw pairs.

        Args:
            count: of pairs.
            random: decides.
            device: of the tensors.
            shared: whether several processes have a share each of them.

        Returns:
            Latents and goals [B, N, D] and answers [B, 4], float32.
        """
        parts = np.array_split(np.arange(count), len(self._groups))
        drawn = np.concatenate(
            [
                group[random.integers(len(group), size=len(part))]
                for group, part in zip(self._groups, parts, strict=True)
            ]
        )
        random.shuffle(drawn)
        episode, frame, goal = (share(drawn) if shared else drawn).T

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device).float()

        return (
            tensor(self._latents[episode, frame]),
            tensor(self._latents[episode, goal]),
            tensor(self._answers[episode, frame, goal]),
        )


class _Likelihood(nn.Module):
    """A probe with its loss."""

    def __init__(self, probe: SuccessProbe) -> None:
        super().__init__()
        self.probe = probe

    def losses(
        self, latents: torch.Tensor, goals: torch.Tensor, truth: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Loss, and share of right answers to each question."""
        logits = self.probe(latents, goals)
        right = ((logits.detach() > 0) == (truth > 0.5)).float().mean(0)
        return {
            "loss": functional.binary_cross_entropy_with_logits(logits, truth),
            **dict(zip(QUESTIONS, right, strict=True)),
        }


@torch.inference_mode()
def ask(
    probe: SuccessProbe, pairs: Pairs, count: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Answers of a probe to pairs, the same ones each time, and the true ones.

    Returns:
        Probabilities float64 and truth bool, each [M, 4].
    """
    random = np.random.default_rng(0)
    said, true = [], []
    for _ in range(0, count, _PAIRS_AT_ONCE):
        latents, goals, truth = pairs.draw(_PAIRS_AT_ONCE, random, device)
        said.append(probe(latents, goals).sigmoid().cpu())
        true.append(truth.cpu())
    return torch.cat(said).double().numpy(), torch.cat(true).numpy() > 0.5


def figures(probability: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Figures of probabilities [M] and what was true [M] of one question.

    Returns:
        `share` of the pairs of which it is true, `accuracy`, `recall` (of those that are true),
        `specificity` (of those that are not), and the expected `calibration_error`: the mean
        difference between probability and frequency over ten bins of probability.
    """
    said = probability > 0.5
    error = sum(
        count * abs(mean - frequency) for mean, frequency, count in reliability(probability, truth)
    ) / len(truth)

    def part(which: np.ndarray) -> float:
        return float((said == truth)[which].mean()) if which.any() else float("nan")

    return {
        "share": float(truth.mean()),
        "accuracy": float((said == truth).mean()),
        "recall": part(truth),
        "specificity": part(~truth),
        "calibration_error": float(error),
    }


def reliability(probability: np.ndarray, truth: np.ndarray) -> Iterator[tuple[float, float, int]]:
    """Mean probability, frequency and number of the pairs of each bin that holds some."""
    bins = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    for number in range(_BINS):
        inside = bins == number
        if inside.any():
            yield (
                float(probability[inside].mean()),
                float(truth[inside].mean()),
                int(inside.sum()),
            )


def draw_reliability(probability: np.ndarray, truth: np.ndarray, path: Path) -> None:
    """Draw frequency over probability for each question, into a PNG.

    Args:
        probability: [M, 4].
        truth: [M, 4].
        path: of the file.
    """
    figure, axis = plt.subplots(figsize=(4.2, 4))
    axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for number, question in enumerate(QUESTIONS):
        points = list(reliability(probability[:, number], truth[:, number]))
        axis.plot(*list(zip(*points, strict=True))[:2], marker="o", markersize=3, label=question)
    axis.set(xlabel="probability said", ylabel="frequency of the truth", aspect="equal")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def train_success(
    model: WorldModel, start: Path, settings: SuccessTraining, folder: Path, output: Path
) -> dict:
    """Train a success probe for a model, or resume doing so; the model stays as it is.

    Args:
        model: in float32, with the fingerprint `settings.start`, and all parts of its checkpoint.
        start: where it was loaded from, for its card.
        settings: what is trained.
        folder: keeps the recording, checkpoints, histories and loss curves.
        output: folder of the model with the probe.

    Returns:
        The card of the probe: settings and figures.

    Raises:
        FirstProcessError: the first of several processes failed.
        OSError: a folder cannot be written, or its disk is full.
        RecipeError: the folder holds a training with other settings, or too few episodes are left.
        RecordingError: the recording cannot be used.
        SimulatorError: MuJoCo cannot render.
    """
    started = time.perf_counter()
    held_out = max(1, round(settings.episodes * settings.held_out))
    by_first(lambda: _check(settings, held_out, folder, output))
    config = RecordingConfig(
        settings.episodes,
        settings.length,
        model.encoder.size,
        play=1.0,
        seed=settings.loop.seed + _SEEDS,
        workspace=settings.workspace,
        max_translation=settings.max_translation,
    )
    dataset = collect(folder / "data", config)
    latents = encode_dataset(dataset, model.encoder, folder, model.crop_aspect)
    trained = settings.episodes - held_out
    pairs, unseen = (
        Pairs(dataset, latents, part) for part in (slice(0, trained), slice(trained, None))
    )
    torch.manual_seed(settings.loop.seed)
    probe = SuccessProbe(
        {
            "width": model.encoder.channels,
            "hidden": settings.hidden,
            "blocks": settings.blocks,
            "heads": settings.heads,
        }
    )
    nn.init.trunc_normal_(probe.probe.pooler.query_tokens, std=0.02)
    module = _Likelihood(probe.to(model.device))

    def losses(random: np.random.Generator, progress: float) -> dict[str, torch.Tensor]:
        return module.losses(*pairs.draw(settings.batch, random, model.device, shared=True))

    train("success", module, losses, settings.loop, folder)
    probe.eval()

    def finish() -> dict:
        probability, truth = ask(probe, unseen, settings.measured, model.device)
        draw_reliability(probability, truth, folder / "success_reliability.png")
        card = {
            "success_training": asdict(settings),
            "minutes": (time.perf_counter() - started) / 60,
            "unseen_episodes": {
                question: figures(probability[:, number], truth[:, number])
                for number, question in enumerate(QUESTIONS)
            },
        }
        parts = {**model.parts, SUCCESS: probe}
        probed = WorldModel(
            model.encoder, model.predictor, model.crop_aspect, model.name, parts=parts
        )
        save_world_model(probed, output, {**read_card(start), SUCCESS: card})
        return card

    return by_first(finish)


def _check(settings: SuccessTraining, held_out: int, folder: Path, output: Path) -> None:
    """Raise what can be raised before any work."""
    check_held_out(held_out, settings.episodes)
    check_shares(settings.batch)
    keep_recipe(settings, folder)
    check_folder(folder)
    check_folder(output)
