# SPDX-License-Identifier: Apache-2.0
"""The layout of the published `vjepa2-ac-vitg.pt`: names, extras, and geometry from shapes.

The file is a torch.save of {"encoder": ..., "predictor": ..., and training state}. Keys
carry prefixes of the training wrappers, each attention has one fused qkv matrix, and there may be
position embeddings that are not used.
"""

import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.text import printable
from vjepa2_ros.world_model.predictor import EXTRINSICS_DIM, PredictorConfig
from vjepa2_ros.world_model.preprocessing import NOTEBOOK_ASPECT, TRAINING_ASPECT
from vjepa2_ros.world_model.validation import (
    MAX_COUNT,
    MAX_IMAGE_SIDE,
    CheckpointError,
    check_count,
    check_positive,
    first_line,
    read_json_object,
)

_PREFIX = re.compile(r"^(module\.|backbone\.)+")
_UNUSED = {"pos_embed", "predictor_pos_embed"}
_ENCODER_ELSEWHERE = "; if its encoder is in another file, name that as encoder_file in {}"
# Training stores a loss beside the weights, which may be a numpy scalar, pickled by numpy 1 or 2.
_NUMPY_SCALAR = np.float64(0.0).__reduce__()[0]
_HARMLESS = [
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (_NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    type(np.dtype(np.float32)),
    type(np.dtype(np.float64)),
]


@dataclass(frozen=True)
class PublishedGeometry:
    """What the shapes of the weights do not tell; the defaults are the published model's.

    A JSON object of the same fields beside the checkpoint (`model.pt`, `model.json`) replaces them
    for a model of another size.

    Attributes:
        image_size: side of the square input [px].
        encoder_head_dim, predictor_head_dim: channels of an attention head.
        num_frames: video frames that the predictor was built for.
        crop_aspect: width / height of the central crop, see `preprocessing`.
        encoder_file: for a predictor without an encoder in its file, as those of jepa-wms: file of
            the encoder, relative to this one. The crop is then a square unless another is given.
        encoder_part: of that file, "encoder" or "target_encoder".
        window: latents that a prediction attends to, see `PredictorConfig`.

    Raises:
        ValueError: a value is invalid.
    """

    image_size: int = 256
    encoder_head_dim: int = 64
    predictor_head_dim: int = 64
    num_frames: int = 64
    crop_aspect: float = TRAINING_ASPECT
    encoder_file: str = ""
    encoder_part: str = "encoder"
    window: int = 0

    def __post_init__(self) -> None:
        check_count("image_size", self.image_size, MAX_IMAGE_SIDE)
        for name in ("encoder_head_dim", "predictor_head_dim", "num_frames"):
            check_count(name, getattr(self, name))
        check_positive("crop_aspect", self.crop_aspect)
        for name in ("encoder_file", "encoder_part"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a text, not {getattr(self, name)!r:.99}")
        if self.window != 0:
            check_count("window", self.window)

    @classmethod
    def beside(cls, checkpoint: Path) -> "PublishedGeometry":
        """The geometry in the JSON file beside a checkpoint, or the default without such a file.

        Raises:
            CheckpointError: the file cannot be used.
        """
        path = checkpoint.with_suffix(".json")
        if not path.exists():
            return cls()
        try:
            given = read_json_object(path)
            if "encoder_file" in given:
                given.setdefault("crop_aspect", NOTEBOOK_ASPECT)
            return cls(**given)
        except CheckpointError:
            raise
        except (TypeError, ValueError) as error:
            fields = ", ".join(cls.__dataclass_fields__)
            raise CheckpointError(
                f"{path} must be a JSON object with some of the fields {fields}: {error}"
            ) from error


def read_published(
    path: Path, geometry: PublishedGeometry
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Read encoder and predictor weights; the tensors stay on disk until they are used.

    Args:
        path: of the file.
        geometry: may name the file of the encoder.

    Returns:
        Weights of encoder and predictor under their reference names, without prefixes.

    Raises:
        CheckpointError: the file is not a checkpoint of that layout.
    """
    content = read_torch_file(path)
    if geometry.encoder_file:
        file = path.parent / Path(geometry.encoder_file).expanduser()
        if not file.is_file():
            raise CheckpointError(f"{path} wants its encoder in {file}, which is not there")
        content = content | {"encoder": read_torch_file(file).get(geometry.encoder_part)}
    missing = [part for part in ("encoder", "predictor") if not isinstance(content.get(part), dict)]
    if missing:
        raise CheckpointError(
            f"{path} lacks {' and '.join(missing)};"
            f" it holds {keys_of(content)}"
            + (_ENCODER_ELSEWHERE.format(path.with_suffix(".json")) if "encoder" in missing else "")
        )
    encoder, predictor = (weights_in(content, part, path) for part in ("encoder", "predictor"))
    if "action_encoder.weight" not in predictor:
        raise CheckpointError(
            f"{path} holds a predictor without action_encoder: a V-JEPA 2 pre-training checkpoint,"
            " not an action-conditioned one; use vjepa2-ac-vitg.pt"
        )
    return encoder, predictor_weights(predictor)


def predictor_weights(predictor: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a predictor under the names of `ActionConditionedPredictor`.

    Those of jepa-wms call the state's encoder `proprio_encoder`, or have none.
    """
    renamed = {
        re.sub(r"^proprio_encoder\.", "state_encoder.", name): weight
        for name, weight in predictor.items()
    }
    has_extrinsics = any(name.startswith("extrinsics_encoder.") for name in renamed)
    if "state_encoder.weight" in renamed and not has_extrinsics:
        # Left out by jepa-wms, and never used.
        width = len(renamed["state_encoder.weight"])
        renamed["extrinsics_encoder.weight"] = torch.zeros(width, EXTRINSICS_DIM)
        renamed["extrinsics_encoder.bias"] = torch.zeros(width)
    if not _has_states(renamed):
        renamed = {n: w for n, w in renamed.items() if not n.startswith("extrinsics_encoder.")}
    return renamed


def _has_states(predictor: dict[str, Tensor]) -> bool:
    return any(name.startswith("state_encoder.") for name in predictor)


def _is_modulated(predictor: dict[str, Tensor]) -> bool:
    return any(".adaLN_modulation." in name for name in predictor)


def read_torch_file(path: Path) -> dict:
    """Read a file of torch.save that holds weights alone, mapped: tensors stay on disk until used.

    Returns:
        Its dictionary.

    Raises:
        CheckpointError: it is no such file.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, wanted a file of torch.save")
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    if path.stat().st_size and not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path} cannot be read as a PyTorch checkpoint: it is truncated, of a PyTorch before "
            "1.6, or something else; fetch it again and compare its size"
        )
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a file of weights alone ({first_line(error)});"
            " save its 'encoder' and 'predictor' with torch.save and load that"
        ) from error
    except Exception as error:  # damaged pickles raise anything at all
        raise CheckpointError(
            f"{path} cannot be read as a PyTorch checkpoint: it is truncated or something else"
            f" ({first_line(error)}); fetch it again and compare its size"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, wanted a dictionary of weights"
        )
    return content


def keys_of(content: dict) -> str:
    """What a file holds, for messages: the keys of its dictionary."""
    return printable(", ".join(map(str, content)))[:200] or "nothing"


def weights_in(content: dict, part: str, path: Path) -> dict[str, Tensor]:
    """Weights of one part of a file, under their reference names, without prefixes.

    Args:
        content: of the file, see `read_torch_file`.
        part: its key, such as "encoder".
        path: of the file, for messages.

    Raises:
        CheckpointError: the part is absent, or holds something else than dense tensors.
    """
    if not isinstance(content.get(part), dict):
        raise CheckpointError(f"{path} lacks {part}; it holds {keys_of(content)}")
    cleaned = {}
    for name, value in content[part].items():
        if not (isinstance(name, str) and _is_dense_tensor(value)):
            raise CheckpointError(
                f"{path}: the {part}'s entry {name!r:.99} holds a {type(value).__name__}, wanted"
                " names of weights with dense tensors"
            )
        short = _PREFIX.sub("", name)
        if short in cleaned:
            raise CheckpointError(f"{path}: the {part} holds {short} twice")
        if short not in _UNUSED:
            cleaned[short] = value
    return cleaned


def _is_dense_tensor(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def infer_encoder_fields(state: dict[str, Tensor], geometry: PublishedGeometry) -> dict:
    """Encoder configuration fields from the shapes of its weights.

    Args:
        state: weights under their reference names.
        geometry: what the shapes do not tell.

    Raises:
        CheckpointError: the weights are incomplete or contradict the geometry.
    """
    width, _, tubelet, patch, _ = _shape(state, "encoder", "patch_embed.proj.weight", 5)
    return {
        "crop_size": geometry.image_size,
        "patch_size": patch,
        "tubelet_size": tubelet,
        "hidden_size": width,
        "num_hidden_layers": _depth(state, "encoder", "blocks"),
        "num_attention_heads": _heads("encoder", width, head_dim_of(width, geometry)),
        "mlp_ratio": _mlp_ratio(width, _shape(state, "encoder", "blocks.0.mlp.fc1.weight", 2)[0]),
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
        "qkv_bias": "blocks.0.attn.qkv.bias" in state,
    }


def head_dim_of(width: int, geometry: PublishedGeometry) -> int:
    """Channels of an encoder's attention head: ViT-H has 80, unless the geometry says another."""
    is_default = geometry.encoder_head_dim == PublishedGeometry.encoder_head_dim
    return 80 if width == 1280 and is_default else geometry.encoder_head_dim


def infer_predictor_config(
    state: dict[str, Tensor], encoder: dict, geometry: PublishedGeometry
) -> PredictorConfig:
    """Predictor configuration from the shapes of its weights.

    Args:
        state: weights under their reference names.
        encoder: fields of the encoder's configuration.
        geometry: what the shapes do not tell.

    Raises:
        CheckpointError: the weights are incomplete or contradict the geometry.
        ValueError: the shapes give no valid configuration.
    """
    width, channels = _shape(state, "predictor", "predictor_embed.weight", 2)
    return PredictorConfig(
        image_size=(geometry.image_size, geometry.image_size),
        patch_size=encoder["patch_size"],
        embed_dim=channels,
        predictor_embed_dim=width,
        depth=_depth(state, "predictor", "predictor_blocks"),
        num_heads=_heads("predictor", width, geometry.predictor_head_dim),
        num_frames=geometry.num_frames,
        tubelet_size=encoder["tubelet_size"],
        mlp_ratio=_mlp_ratio(
            width, _shape(state, "predictor", "predictor_blocks.0.mlp.fc1.weight", 2)[0]
        ),
        use_states=_has_states(state),
        window=geometry.window,
        modulated=_is_modulated(state),
    )


def _shape(state: dict[str, Tensor], part: str, name: str, dimensions: int) -> torch.Size:
    if name not in state:
        raise CheckpointError(
            f"the {part} lacks {name}: not a V-JEPA 2-AC checkpoint, or an incomplete one"
        )
    shape = state[name].shape
    if len(shape) != dimensions or not all(0 < size <= MAX_COUNT for size in shape):
        raise CheckpointError(
            f"the {part}'s {name} has shape {list(shape)}, wanted {dimensions} dimensions of 1 to"
            f" {MAX_COUNT}"
        )
    return shape


def _depth(state: dict[str, Tensor], part: str, blocks: str) -> int:
    pattern = re.compile(rf"{blocks}\.([0-9]{{1,5}})\.")
    numbers = {int(match[1]) for name in state if (match := pattern.match(name))}
    absent = sorted(set(range(max(numbers, default=-1) + 1)) - numbers)
    if absent or not numbers:
        raise CheckpointError(
            f"the {part} lacks {blocks} {absent[:6] or ''}: an incomplete checkpoint"
        )
    return len(numbers)


def _heads(part: str, width: int, head_dim: int) -> int:
    if width % head_dim:
        raise CheckpointError(
            f"the {part}'s width {width} is no multiple of the head size {head_dim};"
            f" give {part}_head_dim in a JSON file beside the checkpoint"
        )
    return width // head_dim


def _mlp_ratio(width: int, hidden: int) -> float:
    """A ratio for which int(width * ratio) is the hidden width despite rounding."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width


def transformers_names(name: str) -> list[str]:
    """Names in `VJEPA2Model` of an encoder weight: three, in this order, for a fused qkv."""
    name = re.sub(r"^patch_embed\.", "embeddings.patch_embeddings.", name)
    name = re.sub(r"^norm\.", "layernorm.", name)
    name = re.sub(r"^blocks\.(\d+)\.", r"layer.\1.", name).replace(".attn.", ".attention.")
    parts = ("query", "key", "value") if ".qkv." in name else ("",)
    return ["encoder." + name.replace(".qkv.", f".{part}.") for part in parts]


def transformers_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Encoder weights under the names of `VJEPA2Model`, as views of the given tensors.

    Raises:
        CheckpointError: a fused qkv does not consist of three equal parts.
    """
    renamed = {}
    for name, weight in state.items():
        names = transformers_names(name)
        if len(names) == 3 and (weight.dim() == 0 or len(weight) % 3 or not len(weight)):
            raise CheckpointError(
                f"the encoder's {name} has shape {list(weight.shape)}, wanted three equal parts"
            )
        renamed.update(zip(names, weight.chunk(len(names)), strict=True))
    return renamed
