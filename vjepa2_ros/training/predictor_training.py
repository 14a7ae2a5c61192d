# SPDX-License-Identifier: Apache-2.0
"""Training of the action-conditioned predictor on the frozen encoder's latents.

It minimises the two losses of the paper (arXiv 2506.09985, section 3.1): teacher forcing, where
each latent is predicted from the true ones before it, and a rollout, where each prediction is made
from the ones before it: of two steps in the paper, and of as many as a window has here. Both are L1
distances of layer-normed latents in the paper. Squared differences are the other choice: what is
best by them is the mean of what may come, not its median, and they weigh the few patches in which
much changes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from vjepa2_ros.training.dataset import Dataset, allocate
from vjepa2_ros.training.distributed import by_first, share
from vjepa2_ros.training.loop import LoopConfig, train
from vjepa2_ros.world_model.encoder import Encoder, normalise
from vjepa2_ros.world_model.poses import difference
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor
from vjepa2_ros.world_model.preprocessing import TRAINING_ASPECT, preprocess

_FRAMES_AT_ONCE = 100
_CONSTANT = 1e-3  # standard deviation under which an input counts as constant


def encode_dataset(
    dataset: Dataset, encoder: Encoder, folder: Path, crop_aspect: float = TRAINING_ASPECT
) -> np.ndarray:
    """Encode every frame of a recording, on the encoder's device.

    The latents are kept in `folder`; `latents.json` names the encoder and the recording that they
    were made from, and latents of others are replaced. Of several processes the first one encodes.

    Args:
        dataset: of E episodes of T frames.
        encoder: frozen.
        folder: for the files.
        crop_aspect: width / height of the central crop.

    Returns:
        Latents [E, T, N, D] float16, memory-mapped.

    Raises:
        FirstProcessError: the first of several processes cannot encode.
        OSError: the folder cannot be written, or its disk has no space.
    """
    by_first(lambda: _encode(dataset, encoder, folder, crop_aspect))
    return np.load(folder / "latents.npy", mmap_mode="r")


@torch.inference_mode()
def _encode(dataset: Dataset, encoder: Encoder, folder: Path, crop_aspect: float) -> None:
    """Write the latents, unless those of this recording and encoder are there."""
    episodes, length = dataset.frames.shape[:2]
    shape = (episodes, length, encoder.rows * encoder.columns, encoder.channels)
    device = next(encoder.parameters()).device
    path, origin = folder / "latents.npy", folder / "latents.json"
    made_from = json.dumps(
        {
            "encoder": _encoder_hash(encoder),
            "frames": _frames_hash(dataset),
            "crop_aspect": crop_aspect,
        }
    )
    if path.is_file() and origin.is_file() and origin.read_text() == made_from:
        if np.load(path, mmap_mode="r").shape == shape:
            return
    # First of all, so that it never describes other latents than those next to it.
    origin.unlink(missing_ok=True)
    partial = folder / "latents.part.npy"
    latents = allocate(partial, np.float16, shape)
    frames, rows = (array.reshape(-1, *array.shape[2:]) for array in (dataset.frames, latents))
    for first in tqdm(range(0, len(frames), _FRAMES_AT_ONCE), desc="encode", unit="batch"):
        part = np.array(frames[first : first + _FRAMES_AT_ONCE])  # the mapped ones are read-only
        batch = preprocess(part, encoder.size, crop_aspect)
        rows[first : first + len(batch)] = encoder(batch.to(device)).half().cpu().numpy()
    latents.flush()
    partial.replace(path)
    origin.write_text(made_from)


def _encoder_hash(encoder: Encoder) -> str:
    """SHA-256 of an encoder's weights."""
    digest = hashlib.sha256()
    for name, weight in sorted(encoder.state_dict().items()):
        digest.update(f"{name}{list(weight.shape)}".encode())
        digest.update(weight.cpu().numpy().tobytes())
    return digest.hexdigest()


def _frames_hash(dataset: Dataset) -> str:
    """SHA-256 of a recording's frames: equal settings record other frames in another scene."""
    digest = hashlib.sha256(str(dataset.frames.shape).encode())
    for episode in dataset.frames:
        digest.update(episode.tobytes())
    return digest.hexdigest()


def start_as_identity(predictor: ActionConditionedPredictor, projection: bool = True) -> None:
    """Initialise a predictor such that it returns the frame that it is given.

    Two frames differ only by what the action moves, so copying is a good start; from the default
    initialisation, most of a short training is spent on learning to copy.

    Args:
        predictor: changed in place.
        projection: whether its last layer is initialised as well.

    Raises:
        ValueError: predictor and encoder differ in width, so that no identity exists.
    """
    width = predictor.predictor_embed.out_features
    if predictor.predictor_embed.in_features != width:
        raise ValueError("only a predictor as wide as the encoder can start as the identity")
    with torch.no_grad():
        layers = (predictor.predictor_embed, *([predictor.predictor_proj] if projection else []))
        for layer in layers:
            layer.weight.copy_(torch.eye(width))
            layer.bias.zero_()
        for block in predictor.predictor_blocks:
            for branch in (block.attn.proj, block.mlp.fc2):
                branch.weight.mul_(0.05)
                branch.bias.zero_()


def scale_inputs(predictor: ActionConditionedPredictor, states: np.ndarray) -> None:
    """Initialise the encoders of actions and states by what they will be given.

    The first LayerNorm of the blocks makes every token equally long. From the default
    initialisation a step of some centimetres becomes a token of length 0.01, of which only the
    direction is left, not how far it leads; a change of the gripper, of order 1, drowns the
    translation, and a roll that is pi or -pi by chance, since the hand points down, drowns the
    position. A training of thousands of steps then learns above all to make those weights small,
    and does not imagine a gripper that closes. Here each input has variance 1, beside a constant
    part that keeps lengths apart, and roll and pitch have none.

    Args:
        predictor: changed in place.
        states: of a recording, as the predictor takes them [E, T, 7].
    """
    given = torch.from_numpy(np.array(states, np.float32))
    inputs = {
        predictor.state_encoder: given,
        predictor.action_encoder: difference(given[:, :-1], given[:, 1:]),
    }
    with torch.no_grad():
        for layer, values in inputs.items():
            mean, deviation = values.flatten(0, 1).mean(0), values.flatten(0, 1).std(0)
            scale = torch.where(deviation > _CONSTANT, 1.0 / deviation, 0.0)
            scale[3:5] = 0.0
            weight = torch.randn(layer.weight.shape) * scale
            layer.weight.copy_(weight)
            layer.bias.copy_(torch.randn(len(weight)) - weight @ mean)


class Rollout(nn.Module):
    """The predictor with its losses of teacher forcing and rollout.

    Args:
        predictor: trained in place.
        squared: whether differences are squared (L2), instead of the paper's L1.
    """

    def __init__(self, predictor: ActionConditionedPredictor, squared: bool = False) -> None:
        super().__init__()
        self.predictor = predictor
        self._distance = functional.mse_loss if squared else functional.l1_loss

    def losses(self, latents: torch.Tensor, states: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses over windows of T frames, T at least 3.

        Args:
            latents: [B, T, N, D].
            states: [B, T, 7].

        Returns:
            Scalars: "loss", its two terms "teacher" and "rollout", and "relative_to_copy", the
            teacher-forcing loss relative to that of copying the last frame.
        """
        actions = difference(states[:, :-1], states[:, 1:])
        # The first frame is the same for both losses: its keys and values are computed once.
        first, past = self.predictor.extend(latents[:, 0], actions[:, :1], states[:, :1])
        first = normalise(first)
        true = latents[:, 1:-1].flatten(1, 2)
        others = normalise(self.predictor(true, actions[:, 1:], states[:, 1:-1], past=past))
        predicted = torch.cat([first[:, None], others.unflatten(1, latents[:, 1:-1].shape[1:3])], 1)
        teacher = self._distance(predicted, latents[:, 1:])
        imagined, last = [], first
        for step in range(1, actions.shape[1]):
            last, past = self.predictor.extend(
                last, actions[:, step : step + 1], states[:, step : step + 1], past=past
            )
            last = normalise(last)
            imagined.append(last)
        rollout = self._distance(torch.stack(imagined, 1), latents[:, 2:])
        copied = self._distance(latents[:, :-1], latents[:, 1:])
        return {
            "loss": teacher + rollout,
            "teacher": teacher,
            "rollout": rollout,
            "relative_to_copy": teacher.detach() / copied,
        }


@dataclass(frozen=True)
class Recorded:
    """What a predictor is trained on.

    Attributes:
        latents: [E, T, N, D].
        states: as the predictor takes them, float32 [E, T, 7].
        share: of what is drawn, relative to that of other recordings.
    """

    latents: np.ndarray
    states: np.ndarray
    share: float = 1.0


def draw_windows(
    recordings: Sequence[Recorded],
    batch: int,
    window: int,
    random: np.random.Generator,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """This process's share of a batch of windows: latents [B, window, N, D], states [B, window, 7].

    Args:
        recordings: drawn from by their shares.
        batch: windows, of all processes together.
        window: frames in each.
        random: decides.
        device: of the tensors, float32.
    """
    shares = np.array([recording.share for recording in recordings])
    counts = np.array([recording.states.shape[:2] for recording in recordings])
    number = random.choice(len(recordings), batch, p=shares / shares.sum())
    first = random.integers(0, counts[number] - (0, window - 1))
    drawn = share(np.column_stack([number, first]))
    latents, states = (
        np.stack([getattr(recordings[n], array)[e, t : t + window] for n, e, t in drawn])
        for array in ("latents", "states")
    )
    return torch.from_numpy(latents).to(device).float(), torch.from_numpy(states).to(device)


def train_predictor(
    recordings: Sequence[Recorded],
    predictor: ActionConditionedPredictor,
    batch: int,
    loop: LoopConfig,
    folder: Path,
    window: int = 3,
    squared: bool = False,
) -> None:
    """Train a predictor from its present weights, in place and on its device.

    Also in several processes (`distributed`).

    Args:
        recordings: all of their episodes are used.
        predictor: trained in place.
        batch: windows per step.
        loop: length, learning rate and seed.
        folder: for checkpoints, history and loss curves.
        window: frames in a window, at least 3.
        squared: see `Rollout`.
    """
    device = next(predictor.parameters()).device
    module = Rollout(predictor, squared)

    def losses(random: np.random.Generator, progress: float) -> dict[str, torch.Tensor]:
        return module.losses(*draw_windows(recordings, batch, window, random, device))

    train("predictor", module, losses, loop, folder)
    predictor.eval()


@torch.inference_mode()
def error_by_step(
    predictor: ActionConditionedPredictor, latents: np.ndarray, states: np.ndarray, steps: int
) -> np.ndarray:
    """Mean L1 error of latents predicted 1 to `steps` steps ahead, relative to copying the first.

    Args:
        predictor: on any device.
        latents: of held-out episodes [E, T, N, D], T > steps.
        states: [E, T, 7].
        steps: as many as the predictor takes latents, at most.

    Returns:
        Relative errors [steps]; below 1 the prediction is better than a copy.
    """
    device = next(predictor.parameters()).device
    true = torch.tensor(latents, dtype=torch.float32, device=device)
    poses = torch.tensor(states, device=device)
    patches = true.shape[2]
    actions = difference(poses[:, :steps], poses[:, 1 : steps + 1])
    context = true[:, 0]
    relative = []
    for step in range(1, steps + 1):
        predicted = predictor(context, actions[:, :step], poses[:, :step])[:, -patches:]
        predicted = normalise(predicted)
        context = torch.cat([context, predicted], dim=1)
        copied = (true[:, 0] - true[:, step]).abs().mean()
        relative.append(float((predicted - true[:, step]).abs().mean() / copied))
    return np.array(relative)
