# SPDX-License-Identifier: Apache-2.0
"""Files of probes in the published layout; neither the number of heads nor the eps is in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vjepa2_ros.world_model.attentive_probe import HEADS, AttentiveProbe
from vjepa2_ros.world_model.parts import assign_weights, build_part
from vjepa2_ros.world_model.published import keys_of, read_torch_file, weights_in
from vjepa2_ros.world_model.validation import CheckpointError, first_line

LABELS, VERB, NOUN, ACTION = "labels", "verb", "noun", "action"
"""Names of the sets of classes: one set, or three of anticipation."""
_LINEAR = {
    "linear": LABELS,
    "verb_classifier": VERB,
    "noun_classifier": NOUN,
    "action_classifier": ACTION,
}
_PUBLISHED, _OWN = 0, 1
# Published and own beginnings of names; the first pair that fits counts, # is a block's number.
_NAMES = (
    ("pooler.blocks.#.norm", "pooler.self_attention_layers.#.layer_norm"),
    ("pooler.blocks.#.attn.proj.", "pooler.self_attention_layers.#.self_attn.out_proj."),
    ("pooler.blocks.#.attn.", "pooler.self_attention_layers.#.self_attn."),
    ("pooler.blocks.#.", "pooler.self_attention_layers.#."),
    ("pooler.cross_attention_block.norm", "pooler.cross_attention_layer.layer_norm"),
    ("pooler.cross_attention_block.xattn.q.", "pooler.cross_attention_layer.cross_attn.q_proj."),
    ("pooler.cross_attention_block.xattn.", "pooler.cross_attention_layer.cross_attn."),
    ("pooler.cross_attention_block.", "pooler.cross_attention_layer."),
)
# Matrices that hold several projections, one below the other.
_FUSED = {".qkv.": (".q_proj.", ".k_proj.", ".v_proj."), ".kv.": (".k_proj.", ".v_proj.")}


def load_probe(path: Path, heads: int = HEADS) -> AttentiveProbe:
    """Load a probe in the published layout (`ssv2-vitl-16x2x3.pt`, `ek100-vitl-256.pt`, …).

    Args:
        path: of the file.
        heads: of each attention, which the file does not tell.

    Returns:
        The probe in evaluation mode, float32 on the CPU.

    Raises:
        CheckpointError: the file cannot be used.
    """
    content = read_torch_file(path)
    candidates = content.get("classifiers")
    if not isinstance(candidates, list) or not candidates or not isinstance(candidates[0], dict):
        raise CheckpointError(
            f"{path} is no probe: it holds {keys_of(content)}, wanted a list of classifiers"
        )
    # The evaluation trains several at once and keeps the best one.
    return build_probe(weights_in({"probe": candidates[0]}, "probe", path), str(path), heads)


def save_probe(path: Path, probe: AttentiveProbe) -> None:
    """Write a probe in the published layout, for `load_probe` and the published evaluation.

    Args:
        path: of the file.
        probe: with 16 heads, or whoever loads it has to know their number.

    Raises:
        OSError: the file cannot be written.
        ValueError: its sets of classes are not the published ones, by which they would be told.
    """
    if unknown := set(probe.classes) - set(_LINEAR.values()):
        raise ValueError(f"no published probe has the classes {', '.join(sorted(unknown))}")
    weights = {f"module.{name}": weight for name, weight in published_probe_state(probe).items()}
    with open(path, "wb") as file:  # torch reports a path that cannot be written as RuntimeError
        torch.save({"classifiers": [weights]}, file)


def build_probe(weights: Mapping[str, Tensor], source: str, heads: int = HEADS) -> AttentiveProbe:
    """A probe with weights under their published names; see `load_probe`."""
    try:
        return _built(weights, source, heads)
    except (IndexError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{source} is no probe: its weights have odd shapes ({first_line(error)})"
        ) from error


def _built(weights: Mapping[str, Tensor], source: str, heads: int) -> AttentiveProbe:
    query = weights.get("pooler.query_tokens")
    sets = [name for name in _LINEAR if f"{name}.weight" in weights]
    if query is None or query.dim() != 3 or not sets:
        raise CheckpointError(f"{source} is no probe: it lacks pooler.query_tokens or a classifier")
    blocks = {
        int(n[1]) for name in weights if (n := re.match(r"pooler\.blocks\.(\d{1,3})\.", name))
    }
    classes = {_LINEAR[name]: len(weights[f"{name}.weight"]) for name in sets}
    if not all(classes.values()):
        raise CheckpointError(f"{source} is no probe: it has no classes")
    renamed = probe_state(weights)
    probe = build_part(
        "probe",
        lambda: AttentiveProbe(query.shape[2], len(blocks), classes, heads),
        renamed,
        source,
    )
    assign_weights("probe", probe, renamed, source)
    return probe.eval()


def probe_state(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights of a probe under the names of `AttentiveProbe`, as views."""
    renamed = {}
    for name, weight in weights.items():
        head, _, rest = name.partition(".")
        if head in _LINEAR:
            renamed[f"classifiers.{_LINEAR[head]}.{rest}"] = weight
            continue
        name = _translated(name, _PUBLISHED, _OWN)
        fused = next((key for key in _FUSED if key in name), None)
        if fused is None:
            renamed[name] = weight
        else:
            for part, piece in zip(_FUSED[fused], weight.chunk(len(_FUSED[fused])), strict=False):
                renamed[name.replace(fused, part)] = piece
    return renamed


def published_probe_state(probe: AttentiveProbe) -> dict[str, Tensor]:
    """Weights of a probe under their published names, the inverse of `probe_state`."""
    state, published = probe.state_dict(), {}
    heads = {kind: name for name, kind in _LINEAR.items()}
    for name, weight in state.items():
        if name.startswith("classifiers."):
            _, kind, rest = name.split(".")
            published[f"{heads[kind]}.{rest}"] = weight
            continue
        for fused, parts in _FUSED.items():
            # A key and a value of the cross-attention, or of a self-attention with its query.
            if (fused == ".kv.") == (".cross_attn." in name) and (part := _part(name, parts)):
                pieces = [state[name.replace(part, each)] for each in parts]
                name, weight = name.replace(part, fused), torch.cat(pieces)
        published[_translated(name, _OWN, _PUBLISHED)] = weight
    return published


def _translated(name: str, source: int, target: int) -> str:
    for pair in _NAMES:
        pattern = re.escape(pair[source]).replace(r"\#", r"(\d+)")
        renamed, changed = re.subn(f"^{pattern}", pair[target].replace("#", r"\1"), name)
        if changed:
            return renamed
    return name


def _part(name: str, parts: tuple[str, ...]) -> str | None:
    return next((part for part in parts if part in name), None)
