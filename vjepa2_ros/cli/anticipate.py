# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros anticipate`: name the action that comes next in a video."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2_ros.cli.arguments import non_negative_number, positive_integer, positive_number
from vjepa2_ros.cli.clips import (
    DEFAULT_RATE,
    MAX_FRAMES,
    add_encoder_arguments,
    add_video_argument,
    load_encoder,
    open_given_video,
    picture_path,
)
from vjepa2_ros.cli.tables import wide_console
from vjepa2_ros.settings.clip import RESIZES

if TYPE_CHECKING:
    from vjepa2_ros.world_model.attentive_probe import AttentiveProbe


_LONGEST = 60.0  # [s]
_SLOWEST, _FASTEST = 0.1, 1000.0  # [frames/s]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_video_argument(parser)
    parser.add_argument(
        "--probe", type=Path, required=True, metavar="FILE", help="such as ek100-vitl-256.pt"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="EPIC_100_train.csv, which the numbers of the classes follow from (default: numbers)",
    )
    parser.add_argument("--verbs", type=Path, metavar="CSV", help="EPIC_100_verb_classes.csv")
    parser.add_argument("--nouns", type=Path, metavar="CSV", help="EPIC_100_noun_classes.csv")
    parser.add_argument(
        "--at",
        type=non_negative_number,
        metavar="SECONDS",
        help="end of what is seen (default: the end of the video)",
    )
    parser.add_argument(
        "--seconds",
        type=positive_number,
        default=1.0,
        help="how far ahead (default: 1, as in the published evaluation)",
    )
    parser.add_argument("--frames", type=positive_integer, default=32, help="seen (default: 32)")
    parser.add_argument(
        "--seen-rate",
        type=positive_number,
        default=8.0,
        metavar="RATE",
        help="frames/s at which they are seen (default: 8)",
    )
    parser.add_argument("--heads", type=positive_integer, default=16, help="of the probe")
    parser.add_argument("--top", type=positive_integer, default=5, help="most likely (default: 5)")
    parser.add_argument(
        "--resize",
        default="opencv",
        choices=RESIZES,
        help="see `vjepa2-ros classify`",
    )
    parser.add_argument(
        "--output", type=Path, metavar="PNG", help="picture (default: runs/anticipate-….png)"
    )
    add_encoder_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the most likely verbs, nouns and actions and draw them beside the frames.

    Returns:
        0; 2 if something given cannot be used.
    """
    from vjepa2_ros.share import model_path
    from vjepa2_ros.video.anticipation import anticipate_actions
    from vjepa2_ros.video.classification import check_fit, most_likely
    from vjepa2_ros.video.clip_encoder import load_mask_predictor
    from vjepa2_ros.video.labels import epic_labels
    from vjepa2_ros.video.pictures import draw_scores
    from vjepa2_ros.video.probe import LABELS, load_probe
    from vjepa2_ros.video.sampling import anticipation_indices

    try:
        path = picture_path(args.output, "anticipate")
        if (args.verbs or args.nouns) and not args.labels:
            raise ValueError("--verbs and --nouns name the classes of --labels: give that, too")
        probe = load_probe(args.probe, args.heads)
        if set(probe.classes) == {LABELS}:
            raise ValueError(f"{args.probe} names what is seen: use `vjepa2-ros classify`")
        names = _names(
            probe, epic_labels(args.labels, args.verbs, args.nouns) if args.labels else {}
        )
        encoder = load_encoder(args)
        check_fit(encoder, probe)
        predictor = load_mask_predictor(model_path(args.checkpoint), encoder.encoder)
        if args.frames > MAX_FRAMES or args.seconds > _LONGEST:
            raise ValueError(
                f"--frames is {MAX_FRAMES} at most, --seconds {_LONGEST:g}: the model was trained "
                "for less"
            )
        rate = args.rate or DEFAULT_RATE
        if not _SLOWEST <= args.seen_rate <= rate <= _FASTEST:
            raise ValueError(
                f"--seen-rate and --rate are from {_SLOWEST:g} to {_FASTEST:g} frames/s, and the "
                "first is the lower one"
            )
        video = open_given_video(args.video, int(args.frames * rate / args.seen_rate) + 1, rate)
        end = video.length
        if args.at is not None:
            # Beyond its end at most: the number itself may be of any size.
            end = int(min(args.at * video.rate, video.length + 1))
        if not 0 < end <= video.length:
            raise ValueError(
                f"--at {args.at:g} lies outside the video of {video.length / video.rate:.1f} s"
            )
        indices = anticipation_indices(end, video.rate, args.frames, args.seen_rate)
        found = anticipate_actions(
            encoder, predictor, probe.to(encoder.device), video.read(indices[0]), args.seconds,
            args.seen_rate, args.resize,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    console = wide_console()
    console.print(f"{video.name}, {args.seconds:g} s after {end / video.rate:.2f} s", markup=False)
    rows = {}
    for kind, scores in found.items():
        rows[kind] = most_likely(scores, names[kind], args.top)
        console.print(kind)
        for name, score in rows[kind]:
            console.print(f"{score * 100:6.2f} %  {name}", markup=False)
    draw_scores(video, indices, rows, path)
    print(f"picture in {path}")
    return 0


def _names(probe: AttentiveProbe, labels: dict[str, list[str]]) -> dict[str, list[str]]:
    """Names of the classes of each set; numbers without labels.

    Raises:
        ValueError: the labels are of another number of classes.
    """
    names = {}
    for kind, count in probe.classes.items():
        names[kind] = labels.get(kind) or [str(number) for number in range(count)]
        if len(names[kind]) != count:
            raise ValueError(
                f"the labels name {len(names[kind])} {kind}s, the probe has {count}: "
                "the annotation is of another set"
            )
    return names
