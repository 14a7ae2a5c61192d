# SPDX-License-Identifier: Apache-2.0
"""Arguments of the commands that read video clips: the video, the encoder, which clips."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2_ros.cli.arguments import positive_integer, positive_number, seed, whole_number
from vjepa2_ros.settings.clip import PARTS, RESIZES

if TYPE_CHECKING:
    from vjepa2_ros.video.classification import Clips
    from vjepa2_ros.video.clip_encoder import ClipEncoder
    from vjepa2_ros.video.frames import Video

TOPIC = "topic:"
DEFAULT_RATE = 30.0
MAX_FRAMES = 1024
"""Most frames of a clip, and clips of a video: their tokens have to fit the memory."""
_DEVICE = "/dev/"
VIDEO_HELP = (
    "video file, folder of images, camera such as /dev/video0, or topic:NAME (the next images of a "
    "ROS topic)"
)


def add_video_argument(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """Declare the video, and the rate of one without its own."""
    parser.add_argument("video", metavar="VIDEO", nargs="?" if optional else None, help=VIDEO_HELP)
    parser.add_argument(
        "--rate",
        type=positive_number,
        help="frames/s of a folder or a camera (default: 30)",
    )


def add_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the checkpoint of the encoder and how it is computed."""
    from vjepa2_ros.settings.model import ATTENTIONS, DTYPES, ModelSettings

    parser.add_argument(
        "--checkpoint",
        default=ModelSettings().checkpoint,
        metavar="PATH",
        help="published encoder (vitl.pt, vitg-384.pt, …), folder of transformers, or a model of "
        "ours, also by its name (default: %(default)s, which was not made for video)",
    )
    parser.add_argument(
        "--part",
        default="target_encoder",
        choices=PARTS,
        help="which encoder of a published file (default: target_encoder, as in the evaluations)",
    )
    parser.add_argument(
        "--size",
        type=positive_integer,
        metavar="PX",
        help="side of the input (default: the checkpoint's; 384 for files named so, else 256)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="auto", choices=DTYPES)
    parser.add_argument("--attention", default="sdpa", choices=ATTENTIONS)
    parser.add_argument(
        "--threads", type=whole_number, default=0, help="of the CPU (default: 0, as PyTorch has it)"
    )


def add_clip_arguments(parser: argparse.ArgumentParser, frames: int, step: int) -> None:
    """Declare which frames make a clip, with the default number and step."""
    parser.add_argument(
        "--frames",
        type=positive_integer,
        default=frames,
        help="of each clip (default: %(default)s)",
    )
    parser.add_argument(
        "--step",
        type=positive_integer,
        default=step,
        help="from one frame of a clip to the next (default: %(default)s)",
    )
    parser.add_argument(
        "--segments",
        type=whole_number,
        default=0,
        metavar="N",
        help="N clips spread over the video, which repeat frames of a short one (default: 0, one "
        "clip from the first frame on)",
    )
    parser.add_argument(
        "--views", type=int, default=1, choices=(1, 3), help="squares of each frame (default: 1)"
    )
    parser.add_argument(
        "--resize",
        default="opencv",
        choices=RESIZES,
        help="opencv: as in the published evaluations; antialias: as in the published "
        "demonstration and transformers (default: opencv)",
    )
    parser.add_argument(
        "--seed",
        type=seed,
        help="with --segments: draws where in its part of the video a clip lies (default: at its "
        "start)",
    )


def clips_of(args: argparse.Namespace) -> Clips:
    """The clips that the arguments ask for; ValueError for too many frames."""
    from vjepa2_ros.video.classification import Clips

    if max(args.frames, args.segments) > MAX_FRAMES:
        raise ValueError(f"--frames and --segments are {MAX_FRAMES} at most")
    return Clips(args.frames, args.step, args.segments, args.views, args.resize, args.seed)


def load_encoder(args: argparse.Namespace) -> ClipEncoder:
    """The encoder that the arguments name.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ValueError: the device is unknown or absent, or there are too many threads.
    """
    import torch

    from vjepa2_ros.settings.declaration import parameters_of
    from vjepa2_ros.settings.model import ModelSettings
    from vjepa2_ros.share import model_path
    from vjepa2_ros.video.clip_encoder import load_clip_encoder

    most = parameters_of(ModelSettings)["threads"].maximum
    if args.threads > most:
        raise ValueError(f"--threads is {most:g} at most")
    if args.threads:
        torch.set_num_threads(args.threads)
    return load_clip_encoder(
        model_path(args.checkpoint), args.part, args.size, args.device, args.dtype, args.attention
    )


def open_given_video(text: str, frames: int, rate: float | None) -> Video:
    """The video that an argument names.

    Args:
        text: see `VIDEO_HELP`.
        frames: that a camera or a topic is read for.
        rate: of what has none of its own [frames/s]; None: 30.

    Raises:
        VideoError: it cannot be read; the text says what to do.
    """
    from vjepa2_ros.camera.sources import CameraError, DeviceSource
    from vjepa2_ros.video.frames import VideoError, open_video, record

    if text.startswith(TOPIC):
        try:
            from vjepa2_ros.stack.topic_video import record_topic
        except ModuleNotFoundError as error:
            raise VideoError(f"{text} needs ROS 2 ({error})") from error
        video: Video = record_topic(text.removeprefix(TOPIC), frames)
    elif text.startswith(_DEVICE):
        rate = rate or DEFAULT_RATE
        try:
            camera = DeviceSource(text, rate)
        except CameraError as error:
            raise VideoError(str(error)) from error
        try:
            video = record(camera, frames, text, rate)
        finally:
            camera.close()
    else:
        video = open_video(Path(text))
    video.rate = video.rate or rate or DEFAULT_RATE
    return video


def picture_path(given: Path | None, command: str) -> Path:
    """Where a command's picture goes, in a folder that can be written.

    Args:
        given: by the user; None: a new name under runs/.
        command: its name.

    Raises:
        ValueError: it is no name of a PNG file.
        OSError: nothing can be written there.
    """
    from vjepa2_ros.evaluation.writable import check_folder

    path = given or Path("runs") / f"{command}-{time.strftime('%Y%m%d-%H%M%S')}.png"
    if path.suffix.lower() != ".png" or path.is_dir():
        raise ValueError(f"--output has to name a PNG file, not {path}")
    check_folder(path.parent)
    return path
