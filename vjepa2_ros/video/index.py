# SPDX-License-Identifier: Apache-2.0
"""Embeddings of many clips in one file, and the nearest ones to a clip."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vjepa2_ros.camera.sources import IMAGE_SUFFIXES
from vjepa2_ros.world_model.validation import first_line

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
_FORMAT = "vjepa2_ros clip index 1"


class IndexFileError(ValueError):
    """A file is no index, or of another encoder; the text says what to do."""


@dataclass
class ClipIndex:
    """Embeddings by the names of their clips.

    Attributes:
        encoder: fingerprint of the encoder and of how clips are taken: others cannot be compared.
        names: of the clips.
        sizes: of their files [bytes], so that one that has changed is encoded anew.
        embeddings: [n, D] float32.
    """

    encoder: str
    names: list[str]
    sizes: list[int]
    embeddings: Tensor

    def nearest(self, embedding: Tensor, count: int) -> list[tuple[str, float]]:
        """Names of the clips of the most similar embeddings.

        Args:
            embedding: [D].
            count: of the names.

        Returns:
            (name, cosine similarity), the most similar first.
        """
        similar = torch.cosine_similarity(self.embeddings, embedding[None].cpu(), dim=1)
        best = similar.topk(min(count, len(self.names)))
        return [
            (self.names[number], value)
            for value, number in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def save(self, path: Path) -> None:
        """Write the index; OSError if it cannot be written."""
        description = {"encoder": self.encoder, "names": self.names, "sizes": self.sizes}
        metadata = {"format": _FORMAT, "clips": json.dumps(description)}
        write_tensors(path, {"embeddings": self.embeddings}, metadata)


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file whole or not at all.

    Raises:
        OSError: it cannot be written, or there is something else than a file.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file: it is not replaced")
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, partial, metadata)
        partial.replace(path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {first_line(error)}") from error
    finally:
        partial.unlink(missing_ok=True)


def load_index(path: Path) -> ClipIndex:
    """Read an index; IndexFileError if the file is none."""
    if not path.is_file():
        raise IndexFileError(f"{path} is no file: remove it, and the index is made anew")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise IndexFileError(f"{path} is no index of clips")
            clips = json.loads(metadata["clips"])
            index = ClipIndex(**clips, embeddings=file.get_tensor("embeddings"))
    except IndexFileError:
        raise
    except Exception as error:  # noqa: BLE001 - hostile headers and JSON raise anything at all
        raise IndexFileError(f"{path} is no index of clips: {first_line(error)}") from error
    lists = isinstance(index.names, list) and isinstance(index.sizes, list)
    if (
        not lists
        or not all(isinstance(name, str) for name in index.names)
        or not all(isinstance(size, int) for size in index.sizes)
        or index.embeddings.dim() != 2
        or not (len(index.embeddings) == len(index.names) == len(index.sizes))
        or not index.embeddings.isfinite().all()
    ):
        raise IndexFileError(f"{path} is damaged: remove it, and it is made anew")
    return index


def clips_beneath(folder: Path) -> Iterator[Path]:
    """Video files, and folders of images, beneath a folder, in the order of their names."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
            yield path
        elif path.is_dir() and any(f.suffix.lower() in IMAGE_SUFFIXES for f in path.iterdir()):
            yield path


def size_of(path: Path) -> int:
    """Bytes of a clip: of the file, or of all files of a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    return path.stat().st_size
