# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros embed`: the embedding of a video clip, and the nearest clips of a folder."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2_ros.cli.arguments import positive_integer
from vjepa2_ros.cli.clips import (
    add_clip_arguments,
    add_encoder_arguments,
    add_video_argument,
    clips_of,
    load_encoder,
    open_given_video,
)

if TYPE_CHECKING:
    from vjepa2_ros.video.classification import Clips
    from vjepa2_ros.video.clip_encoder import ClipEncoder
    from vjepa2_ros.video.index import ClipIndex

INDEX_FILE = "clips.safetensors"
# Time between two savings of an index that is being made [s].
_SAVE_PERIOD = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_video_argument(parser, optional=True)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="safetensors file with tokens [clips, N, D] and their mean, embedding [D]",
    )
    parser.add_argument(
        "--index",
        type=Path,
        metavar="DIR",
        help=f"embed every clip beneath a folder into its {INDEX_FILE}; those that are there are "
        "kept",
    )
    parser.add_argument(
        "--query",
        metavar="VIDEO",
        help="with --index: name the clips of the folder that are nearest to this one",
    )
    parser.add_argument("--top", type=positive_integer, default=5, help="nearest (default: 5)")
    add_encoder_arguments(parser)
    add_clip_arguments(parser, frames=16, step=2)


def run(args: argparse.Namespace) -> int:
    """Embed, index or search.

    Returns:
        0; 1 if clips of a folder could not be read; 2 if something given cannot be used.
    """
    from vjepa2_ros.evaluation.writable import check_folder

    try:
        if (args.video is None) == (args.index is None):
            raise ValueError("give either VIDEO or --index DIR")
        if args.query is not None and args.index is None:
            raise ValueError("--query needs --index, the folder to search")
        if args.index is not None and args.output is not None:
            raise ValueError(f"--output is for one VIDEO; the index is {args.index / INDEX_FILE}")
        if args.index is not None:
            return _search(args)
        if args.output is not None:
            check_folder(args.output.parent)
            taken = args.output.is_symlink() or args.output.exists()
            if taken and not args.output.is_file():
                raise ValueError(f"{args.output} is no file: give another --output")
        return _embed(args)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def _embed(args: argparse.Namespace) -> int:
    import torch

    from vjepa2_ros.video.classification import embedding, encode
    from vjepa2_ros.video.index import write_tensors

    clips, encoder = clips_of(args), load_encoder(args)
    video = open_given_video(args.video, (clips.frames - 1) * clips.step + 1, args.rate)
    tokens = torch.cat(list(encode(encoder, video, clips))).cpu()
    vector = embedding(tokens)
    print(f"{video.name}, {encoder.source}: tokens {list(tokens.shape)}, embedding {len(vector)}")
    if args.output is None:
        print(" ".join(f"{value:.4f}" for value in vector[:8].tolist()), "…")
        return 0
    description = {"source": encoder.source, "video": video.name, "clips": str(asdict(clips))}
    write_tensors(args.output, {"tokens": tokens, "embedding": vector}, description)
    print(f"written to {args.output}")
    return 0


def _search(args: argparse.Namespace) -> int:
    if not args.index.is_dir():
        raise ValueError(f"there is no folder {args.index}")
    clips, encoder = clips_of(args), load_encoder(args)
    index, unread = _updated(args.index, encoder, clips)
    if args.query is None:
        print(f"{len(index.names)} clips in {args.index / INDEX_FILE}")
        return 1 if unread else 0
    vector = _vector(args.query, encoder, clips, args.rate)
    for name, similarity in index.nearest(vector, args.top):
        print(f"{similarity:.3f}  {name}")
    return 1 if unread else 0


def _vector(text: str, encoder: ClipEncoder, clips: Clips, rate: float | None):
    import torch

    from vjepa2_ros.video.classification import embedding, encode

    video = open_given_video(text, (clips.frames - 1) * clips.step + 1, rate)
    return embedding(torch.cat(list(encode(encoder, video, clips)))).cpu()


def _updated(folder: Path, encoder: ClipEncoder, clips: Clips) -> tuple[ClipIndex, int]:
    """The index of a folder with all clips that are there now, and how many cannot be read.

    Raises:
        IndexFileError: the folder's file of that name is none, or was made otherwise.
        ValueError: no clip can be read.
    """
    import torch
    from tqdm import tqdm

    from vjepa2_ros.evaluation.writable import check_folder
    from vjepa2_ros.text import printable
    from vjepa2_ros.video.index import (
        ClipIndex,
        IndexFileError,
        clips_beneath,
        load_index,
        size_of,
    )

    check_folder(folder)
    file = folder / INDEX_FILE
    fingerprint = encoder.fingerprint(asdict(clips))
    known = {}
    if file.exists():
        before = load_index(file)
        if before.encoder != fingerprint or before.embeddings.shape[1] != encoder.encoder.channels:
            # Hours of work, for one option that was forgotten.
            raise IndexFileError(
                f"{file} was made by another encoder, or with other --frames, --step, --segments, "
                "--views, --resize or --size: give the same, or remove the file to make it anew"
            )
        else:
            keys = zip(before.names, before.sizes, strict=True)
            known = dict(zip(keys, before.embeddings, strict=True))
    names, sizes, vectors, unread = [], [], [], 0
    saved = time.monotonic()
    for path in tqdm(list(clips_beneath(folder)), desc="clips", unit="clip"):
        key = (str(path.relative_to(folder)), size_of(path))
        try:
            vector = known[key] if key in known else _vector(str(path), encoder, clips, None)
        except ValueError as error:
            unread += 1
            tqdm.write(f"left out: {printable(f'{key[0]}: {error}')}", file=sys.stderr)
            continue
        names.append(key[0])
        sizes.append(key[1])
        vectors.append(vector)
        if time.monotonic() > saved + _SAVE_PERIOD:
            # What was embedded is kept where this is interrupted.
            ClipIndex(fingerprint, names, sizes, torch.stack(vectors)).save(file)
            saved = time.monotonic()
    if not vectors:
        raise ValueError(f"no clip beneath {folder} can be embedded")
    index = ClipIndex(fingerprint, names, sizes, torch.stack(vectors))
    index.save(file)
    return index, unread
