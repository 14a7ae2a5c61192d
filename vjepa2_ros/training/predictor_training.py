# SPDX-License-Identifier: Apache-2.0
"""Training of the action-conditioned predictor on the frozen encoder's latents.

The paper's two losses (section 3.1): teacher forcing, where each next latent is predicted from the
true ones before it, and a two-step rollout, where the second prediction is made from the first.
Both are L1 on layer-normed latents.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from vjepa2_ros.training.dataset import Dataset
from vjepa2_ros.training.loop import LoopConfig, train
from vjepa2_ros.world_model.encoder import Encoder
from vjepa2_ros.world_model.poses import difference
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor
from vjepa2_ros.world_model.preprocessing import preprocess


@torch.inference_mode()
def encode_dataset(dataset: Dataset, encoder: Encoder, folder: Path) -> np.ndarray:
    """Latents of every frame, memory-mapped float16 [E, T, N, D].

    They are made once for each pair of encoder and recording, which `latents.json` beside them
    names; those of another pair are replaced.
    """
    episodes, length = dataset.frames.shape[:2]
    shape = (episodes, length, encoder.rows * encoder.columns, encoder.channels)
    path, origin = folder / "latents.npy", folder / "latents.json"
    made_from = json.dumps({"encoder": _encoder_hash(encoder), "frames": _frames_hash(dataset)})
    if path.is_file() and origin.is_file() and origin.read_text() == made_from:
        latents = np.load(path, mmap_mode="r")
        if latents.shape == shape:
            return latents
    # First of all, so that it never stands beside latents that it does not describe.
    origin.unlink(missing_ok=True)
    partial = folder / "latents.part.npy"
    latents = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
    for episode in tqdm(range(0, episodes, 10), desc="encode", unit="10 episodes"):
        frames = dataset.frames[episode : episode + 10]
        tokens = encoder(preprocess(frames.reshape(-1, *frames.shape[2:]), encoder.size))
        latents[episode : episode + 10] = (
            tokens.reshape(len(frames), length, *shape[2:]).half().numpy()
        )
    latents.flush()
    partial.replace(path)
    origin.write_text(made_from)
    return np.load(path, mmap_mode="r")


def _encoder_hash(encoder: Encoder) -> str:
    """SHA-256 of an encoder's weights."""
    digest = hashlib.sha256()
    for name, weight in sorted(encoder.state_dict().items()):
        digest.update(f"{name}{list(weight.shape)}".encode())
        digest.update(weight.cpu().numpy().tobytes())
    return digest.hexdigest()


def _frames_hash(dataset: Dataset) -> str:
    """SHA-256 of a recording's frames: the same settings record something else in another scene."""
    digest = hashlib.sha256(str(dataset.frames.shape).encode())
    for episode in dataset.frames:
        digest.update(episode.tobytes())
    return digest.hexdigest()


def start_as_identity(predictor: ActionConditionedPredictor) -> None:
    """Set the predictor up to return the frame that it is given.

    Nothing changes between two frames but what the action moves, so copying is the place to learn
    from; a default initialisation spends most of a short training on finding it.

    Raises:
        ValueError: predictor and encoder differ in width, so that no identity exists.
    """
    width = predictor.predictor_embed.out_features
    if predictor.predictor_embed.in_features != width:
        raise ValueError("only a predictor as wide as the encoder can start as the identity")
    with torch.no_grad():
        for layer in (predictor.predictor_embed, predictor.predictor_proj):
            layer.weight.copy_(torch.eye(width))
            layer.bias.zero_()
        for block in predictor.predictor_blocks:
            for branch in (block.attn.proj, block.mlp.fc2):
                branch.weight.mul_(0.05)
                branch.bias.zero_()


class Rollout(nn.Module):
    """The predictor with its teacher-forcing and two-step losses."""

    def __init__(self, predictor: ActionConditionedPredictor) -> None:
        super().__init__()
        self.predictor = predictor

    def losses(self, latents: torch.Tensor, states: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses over windows of three frames.

        Args:
            latents: [B, 3, N, D].
            states: [B, 3, 7].
        """
        batch, _, patches, channels = latents.shape
        actions = difference(states[:, :-1], states[:, 1:])
        context, wanted = latents[:, :2].flatten(1, 2), latents[:, 1:].flatten(1, 2)
        forced = self._predict(context, actions, states[:, :2])
        teacher = functional.l1_loss(forced, wanted)
        imagined = torch.cat([context[:, :patches], forced[:, :patches]], dim=1)
        last = self._predict(imagined, actions, states[:, :2])[:, patches:]
        rollout = functional.l1_loss(last, wanted[:, patches:])
        copied = functional.l1_loss(context, wanted)
        return {
            "loss": teacher + rollout,
            "teacher": teacher,
            "rollout": rollout,
            "relative_to_copy": teacher.detach() / copied,
        }

    def _predict(
        self, latents: torch.Tensor, actions: torch.Tensor, states: torch.Tensor
    ) -> torch.Tensor:
        predicted = self.predictor(latents, actions, states)
        return functional.layer_norm(predicted, predicted.shape[-1:])


def train_predictor(
    dataset: Dataset,
    latents: np.ndarray,
    predictor: ActionConditionedPredictor,
    batch: int,
    loop: LoopConfig,
    folder: Path,
    episodes: int,
) -> None:
    """Train `predictor` in place on random windows of the first `episodes`."""
    torch.manual_seed(loop.seed)
    start_as_identity(predictor)
    module = Rollout(predictor)
    length = latents.shape[1]

    def losses(random: np.random.Generator, progress: float) -> dict[str, torch.Tensor]:
        episode = random.integers(0, episodes, (batch, 1))
        step = random.integers(0, length - 2, (batch, 1)) + np.arange(3)
        return module.losses(
            torch.from_numpy(latents[episode, step]).float(),
            torch.from_numpy(dataset.states[episode, step]),
        )

    train("predictor", module, losses, loop, folder)
    predictor.eval()


@torch.inference_mode()
def error_by_step(
    predictor: ActionConditionedPredictor, latents: np.ndarray, states: np.ndarray, steps: int
) -> np.ndarray:
    """Mean L1 of imagined latents after 1 … `steps` steps, relative to copying the first frame.

    Args:
        latents: [E, T, N, D] of held-out episodes, T > steps.
        states: [E, T, 7].
    """
    true = torch.from_numpy(np.asarray(latents)).float()
    poses = torch.from_numpy(np.asarray(states))
    patches = true.shape[2]
    actions = difference(poses[:, :steps], poses[:, 1 : steps + 1])
    context = true[:, 0]
    relative = []
    for step in range(1, steps + 1):
        predicted = predictor(context, actions[:, :step], poses[:, :step])[:, -patches:]
        predicted = functional.layer_norm(predicted, predicted.shape[-1:])
        context = torch.cat([context, predicted], dim=1)
        copied = (true[:, 0] - true[:, step]).abs().mean()
        relative.append(float((predicted - true[:, step]).abs().mean() / copied))
    return np.array(relative)
