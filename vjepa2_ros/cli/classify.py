# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros classify`: name the action in a video by an attentive probe."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vjepa2_ros.cli.arguments import positive_integer
from vjepa2_ros.cli.clips import (
    add_clip_arguments,
    add_encoder_arguments,
    add_video_argument,
    clips_of,
    load_encoder,
    open_given_video,
    picture_path,
)
from vjepa2_ros.cli.tables import wide_console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_video_argument(parser)
    parser.add_argument(
        "--probe", type=Path, required=True, metavar="FILE", help="such as ssv2-vitl-16x2x3.pt"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names of the classes: JSON, or text with one a line; see the documentation for where "
        "those of Something-Something v2 and Diving48 are (default: numbers)",
    )
    parser.add_argument(
        "--heads",
        type=positive_integer,
        default=16,
        help="attention heads of the probe, which its file does not tell (default: 16)",
    )
    parser.add_argument("--top", type=positive_integer, default=5, help="most likely (default: 5)")
    parser.add_argument(
        "--output", type=Path, metavar="PNG", help="picture (default: runs/classify-….png)"
    )
    add_encoder_arguments(parser)
    add_clip_arguments(parser, frames=16, step=4)


def run(args: argparse.Namespace) -> int:
    """Print the most likely classes and draw them beside the frames.

    Returns:
        0; 2 if something given cannot be used.
    """
    from vjepa2_ros.video.classification import check_fit, classify, most_likely
    from vjepa2_ros.video.labels import load_labels
    from vjepa2_ros.video.pictures import draw_scores
    from vjepa2_ros.video.probe import LABELS, load_probe

    try:
        path = picture_path(args.output, "classify")
        clips = clips_of(args)
        probe = load_probe(args.probe, args.heads)
        if set(probe.classes) != {LABELS}:
            raise ValueError(
                f"{args.probe} names {', '.join(probe.classes)}: use `vjepa2-ros anticipate`"
            )
        count = probe.classes[LABELS]
        names = load_labels(args.labels, count) if args.labels else list(map(str, range(count)))
        encoder = load_encoder(args)
        check_fit(encoder, probe)
        video = open_given_video(args.video, (clips.frames - 1) * clips.step + 1, args.rate)
        indices = clips.indices(video.length)
        probabilities = classify(encoder, probe.to(encoder.device), video, clips)[LABELS]
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    rows = most_likely(probabilities, names, args.top)
    console = wide_console()
    console.print(f"{video.name}, {encoder.source}", markup=False)
    for name, probability in rows:
        console.print(f"{probability * 100:6.2f} %  {name}", markup=False)
    draw_scores(video, indices, {"": rows}, path)
    print(f"picture in {path}")
    return 0
