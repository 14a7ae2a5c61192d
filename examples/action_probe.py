# SPDX-License-Identifier: Apache-2.0
"""A probe for actions of your own: from clips in one folder for each action, for `classify`.

Clips of the simulation to try it with, 240 in one to four minutes:

    .venv/bin/python examples/action_probe.py render runs/clips

Train on one encoder's tokens; of each action the first, the sixth clip and so on are held out:

    .venv/bin/python examples/action_probe.py train runs/clips --output runs/actions.pt

The probe is in the published layout and its labels lie beside it, so that both go to `classify` and
`clip_node` like published ones, with the frames and the step they were trained with:

    .venv/bin/vjepa2-ros classify CLIP --probe runs/actions.pt --labels runs/actions.json \
        --frames 16 --step 2
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from vjepa2_ros.cli.arguments import positive_integer
from vjepa2_ros.evaluation.writable import check_folder
from vjepa2_ros.share import model_path
from vjepa2_ros.simulation.simulator import (
    DOWN,
    GRASP_HEIGHTS,
    OBJECTS,
    TRAINING_SCENES,
    Simulator,
)
from vjepa2_ros.video.classification import Clips, encode
from vjepa2_ros.video.clip_encoder import load_clip_encoder
from vjepa2_ros.video.frames import open_video
from vjepa2_ros.video.probe import LABELS, save_probe
from vjepa2_ros.world_model.attentive_probe import AttentiveProbe

CLIPS = Clips(frames=16, step=2)
RATE, SECONDS = 5, 6.4  # of a rendered clip: frames/s and length, for 16 frames at a step of 2
BATCH, BLOCKS, LEARNING_RATE = 16, 1, 3e-4
HELD_OUT = 5  # one clip of five

# Waypoints from above the object: along its push direction and up [m], gripper closedness.
ACTIONS = {
    "lift the {}": [(0.0, 0.1, 0), (0.0, 0.0, 0), (0.0, 0.0, 1), (0.0, 0.12, 1)],
    "push the {}": [(-0.11, 0.1, 1), (-0.11, 0.0, 1), (0.04, 0.0, 1)],
    "reach over the {}": [(-0.1, 0.15, 0), (0.0, 0.1, 0)],
    "close the hand over the {}": [(0.0, 0.1, 0), (0.0, 0.1, 1)],
}


def render(folder: Path, count: int) -> None:
    """Render `count` clips of each action with each object, into a folder of each."""
    simulator = Simulator()
    wanted = [
        (text.format(name), number, waypoints, clip)
        for text, waypoints in ACTIONS.items()
        for number, name in enumerate(OBJECTS)
        for clip in range(count)
    ]
    for seed, (action, number, waypoints, clip) in enumerate(tqdm(wanted, desc="clips")):
        (folder / action).mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(seed)
        simulator.reset(TRAINING_SCENES[seed])
        frames = film(simulator, number, waypoints, random)
        write(folder / action / f"{clip}.mp4", frames)


def film(simulator: Simulator, number: int, waypoints: list, random: np.random.Generator) -> list:
    """Frames uint8 RGB [S, S, 3] of one action, until the clip's length is reached."""
    place = simulator.object_positions()[number][:2]
    angle = random.uniform(-np.pi, np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    workspace, frames = simulator.config.workspace, []
    for along, up, closedness in waypoints:
        target = np.append(place + along * direction, GRASP_HEIGHTS[number] + up)
        target = target + random.normal(0.0, 0.004, 3)
        target = np.clip(target, workspace.lower, workspace.upper)
        simulator.set_target(target, DOWN.as_quat(), closedness)
        for _ in range(round(RATE * SECONDS / len(waypoints))):
            simulator.advance(1.0 / RATE)
            frames.append(simulator.render())
    return frames + frames[-1:] * (round(RATE * SECONDS) - len(frames))


def write(path: Path, frames: list) -> None:
    """Write frames as a video file."""
    height, width, _ = frames[0].shape
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), RATE, (width, height))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def train(folder: Path, checkpoint: str, output: Path, steps: int) -> float:
    """Train a probe, write it and its labels, and return the share of held-out clips it names."""
    # Asked now, not after the training.
    check_folder(output.parent)
    if output.is_dir():
        raise ValueError(f"{output} is a folder: name a file with --output")
    torch.manual_seed(0)
    encoder = load_clip_encoder(model_path(checkpoint))
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    found: list[tuple[torch.Tensor, int, bool]] = []
    for number, name in enumerate(tqdm(names, desc="actions")):
        clips = []
        for path in tqdm(sorted((folder / name).iterdir()), desc=name, leave=False):
            try:
                clips.append(next(encode(encoder, open_video(path), CLIPS))[0].cpu())
            except ValueError as error:
                tqdm.write(f"left out: {error}")
        if len(clips) < 2:
            raise ValueError(f"{folder / name} needs two clips at least, one to train on")
        found += [(clip, number, place % HELD_OUT == 0) for place, clip in enumerate(clips)]
    if len(names) < 2:
        raise ValueError(f"{folder} needs a folder of clips for each of two actions at least")
    tokens = torch.stack([clip for clip, _, _ in found])
    classes = torch.tensor([number for _, number, _ in found])
    held_out = torch.tensor([held for _, _, held in found])
    probe = AttentiveProbe(tokens.shape[-1], BLOCKS, {LABELS: len(names)})
    nn.init.trunc_normal_(probe.pooler.query_tokens, std=0.02)
    optimizer = torch.optim.AdamW(probe.parameters(), LEARNING_RATE, weight_decay=0.01)
    seen = (~held_out).nonzero()[:, 0]
    for _ in tqdm(range(steps), desc="training"):
        batch = seen[torch.randint(len(seen), (BATCH,))]
        loss = nn.functional.cross_entropy(probe(tokens[batch])[LABELS], classes[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        guess = probe.eval()(tokens[held_out])[LABELS].argmax(1)
    right = (guess == classes[held_out]).float().mean().item()
    save_probe(output, probe)
    output.with_suffix(".json").write_text(json.dumps(names))
    print(f"{right:.1%} of {int(held_out.sum())} held-out clips; {output} and its labels written")
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("render", "train"):
        command = commands.add_parser(name)
        command.add_argument("folder", type=Path)
        if name == "render":
            command.add_argument(
                "--count",
                type=positive_integer,
                default=30,
                help="clips of each action with each object",
            )
        else:
            command.add_argument("--checkpoint", default="tabletop")
            command.add_argument("--output", type=Path, required=True)
            command.add_argument("--steps", type=positive_integer, default=400)
    args = parser.parse_args()
    try:
        if args.command == "render":
            render(args.folder, args.count)
        else:
            train(args.folder, args.checkpoint, args.output, args.steps)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
