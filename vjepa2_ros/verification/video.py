# SPDX-License-Identifier: Apache-2.0
"""Golden cases of video clips: sampling, preprocessing, long clips, probes, anticipation."""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.verification.golden import Case, GoldenError, GoldenSet, Values, compare, exactly
from vjepa2_ros.verification.models import build_encoder
from vjepa2_ros.video.classification import Clips, classify, encode
from vjepa2_ros.video.clip_encoder import ClipEncoder, mask_predictor_config
from vjepa2_ros.video.frames import FramesInMemory
from vjepa2_ros.video.labels import epic_actions
from vjepa2_ros.video.mask_predictor import MaskPredictor, anticipate, mask_predictor_state
from vjepa2_ros.video.preprocessing import preprocess_video
from vjepa2_ros.video.probe import ACTION, LABELS, build_probe
from vjepa2_ros.video.sampling import anticipation_indices, segment_indices
from vjepa2_ros.video.scores import accuracy, class_mean_recall
from vjepa2_ros.world_model.attentive_probe import AttentiveProbe
from vjepa2_ros.world_model.published import PublishedGeometry

Check: TypeAlias = Callable[[GoldenSet], list[Case]]

_CLIP_ENCODER, _REAL_ENCODER, _MASK_PREDICTOR = "enc_clip", "enc_real", "mask_pred"
_EPIC_PROBE, _LABEL_PROBE = "probe_ek100", "probe_ssv2"
_PROBABILITY = 1e-5
# (start, stop) of the actions whose clips a set samples, by frames; it names them in a sentence.
_EPIC_ACTIONS = re.compile(r"\((\d+),(\d+)\)")
_SYNTHETIC = re.compile(r"synthetic_video\(T?=?(\d+), ?H?=?(\d+), ?W?=?(\d+), ?s=(\d+)\)")


def video_models(golden: GoldenSet) -> list[str]:
    """Names of the models whose cases `video_cases` runs: probes, mask predictors, and the encoder
    of the clip of the published size."""
    return [
        name
        for name, model in golden.meta["models"].items()
        if {"pooler.query_tokens", "mask_tokens.0"} & set(model["keys"])
        or (name == _REAL_ENCODER and "clip_real" in golden.meta)
    ]


def video_cases(golden: GoldenSet) -> list[Case]:
    """Every case of the set that is about video clips."""
    checks: dict[str, Check] = {
        "clip_sampling": _sampling,
        "ek100_sampling": _epic_sampling,
        "ek100_labels": _epic_labels,
        "ek100_metric": _epic_metric,
        "video_preproc": _preprocessing,
        "enc_masked": _masked,
        "clip_real": _real_clip,
        "mask_pred": _mask_predictor,
        "anticipation": _anticipation,
        "probe_ek100": _epic_probe,
        "ssv2_e2e": _end_to_end,
    }
    checks |= {
        name: partial(_probe, name=name)
        for name, model in golden.meta["models"].items()
        if "pooler.query_tokens" in model["keys"] and name != _EPIC_PROBE
    }
    cases = []
    for name, check in checks.items():
        if not golden.keys(f"{name}/"):
            continue
        try:
            cases += check(golden)
        except (GoldenError, KeyError, ValueError, RuntimeError, TypeError) as error:
            cases.append(Case(name, "case", False, message=str(error)))
    return cases


def synthetic_video(text: str) -> np.ndarray:
    """The video uint8 RGB [T, H, W, 3] that a text of the set names by its formula.

    Raises:
        GoldenError: the text names none.
    """
    found = _SYNTHETIC.search(text)
    if not found:
        raise GoldenError(f"no synthetic video in {text!r}")
    frames, height, width, seed = map(int, found.groups())
    t, y, x, c = np.ogrid[:frames, :height, :width, :3]
    wave = (x * (3 + c) + y * (5 + 2 * c) + t * (11 + 4 * c) + x * y // (16 + c) + 29 * seed) % 511
    return np.where(wave < 256, wave, 510 - wave).astype(np.uint8)


def _sampling(golden: GoldenSet) -> list[Case]:
    cases = []
    for name, given in golden.meta["clip_sampling"]["cases"].items():
        if f"clip_sampling/{name}/indices" not in golden:
            continue  # that of a case which is compared as a whole
        rate = math.ceil(given["video_fps"])
        if "frame_step" in given:
            step = given["frame_step"]
        elif "fps" in given:
            step = rate // given["fps"]
        else:
            step = int(given["duration"] * rate / given["frames_per_clip"])
        seed = given["numpy_seed"] if given["random_clip_sampling"] else None
        actual = segment_indices(
            given["video_length"],
            given["frames_per_clip"],
            step,
            given["num_clips"],
            None if seed is None else np.random.RandomState(seed),
            given["allow_clip_overlap"],
        )
        expected = golden.array(f"clip_sampling/{name}/indices")
        cases.append(compare(f"clip_sampling/{name}", "indices", actual, expected, 0.0))
    return cases


def _epic_sampling(golden: GoldenSet) -> list[Case]:
    cases = []
    for name, given in golden.meta["ek100_sampling"]["cases"].items():
        key = f"ek100_sampling/{name}/indices"
        text = golden.meta["arrays"][key]["desc"]
        point = given["anticipation_point"]
        ahead = int(given["anticipation_time_sec"] * given["video_fps"])
        actual = [
            anticipation_indices(
                int(start) * point + (1 - point) * int(stop) - ahead,
                given["video_fps"],
                given["frames_per_clip"],
                given["fps"],
            )[0]
            for start, stop in _EPIC_ACTIONS.findall(text)
        ]
        cases.append(
            compare(f"ek100_sampling/{name}", "indices", np.array(actual), golden.array(key), 0.0)
        )
    return cases


def _epic_labels(golden: GoldenSet) -> list[Case]:
    pairs = [(int(verb), int(noun)) for verb, noun in golden.array("ek100_labels/train_pairs")]
    actual = {
        "actions": np.array(epic_actions(pairs)),
        "verbs": np.array(sorted({verb for verb, _ in pairs})),
        "nouns": np.array(sorted({noun for _, noun in pairs})),
    }
    return [
        compare("ek100_labels", name, values, golden.array(f"ek100_labels/{name}"), 0.0)
        for name, values in actual.items()
    ]


def _epic_metric(golden: GoldenSet) -> list[Case]:
    logits, labels = golden.tensor("ek100_metric/logits"), golden.tensor("ek100_metric/labels")
    actual = {
        "recall_at_5": 100 * class_mean_recall(logits, labels, 5),
        "accuracy_at_5": 100 * accuracy(logits, labels, 5),
    }
    return [
        compare("ek100_metric", name, np.array([value]), golden.array(f"ek100_metric/{name}"), 1e-4)
        for name, value in actual.items()
    ]


def _preprocessing(golden: GoldenSet) -> list[Case]:
    """Transformed frames by both resizes, and grey levels of large frames."""
    cases = []
    for group, names in golden.groups("video_preproc/").items():
        case = f"video_preproc/{group}"
        if "in" not in names:
            cases.append(_grey_levels(golden, case))
            continue
        frames = golden.array(f"{case}/in")
        for name, resize in (("out", "opencv"), ("out_tensor", "antialias")):
            if name not in names:
                continue
            expected = golden.tensor(f"{case}/{name}")
            views = 3 if expected.dim() == 5 else 1
            actual = preprocess_video(frames, expected.shape[-1], resize, views).transpose(1, 2)
            actual = actual if views == 3 else actual[0]
            cases.append(compare(case, name, actual, expected, _PROBABILITY))
    return cases


def _grey_levels(golden: GoldenSet, case: str) -> Case:
    text = golden.meta["arrays"][f"{case}/out_u8"]["desc"]
    expected = golden.array(f"{case}/out_u8")
    size = expected.shape[2]
    levels = _levels(preprocess_video(synthetic_video(text), size)[0])
    # Of tall pictures every third row is stored.
    rows = slice(None, None, 3) if "third row" in text else slice(None)
    return compare(case, "out_u8", levels[:, rows], expected, 0.0)


def _levels(pixels: Tensor) -> np.ndarray:
    """Grey levels uint8 [..., H, W, 3] of normalised pixels [..., 3, H, W]."""
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    return ((pixels * std + mean) * 255).round().byte().movedim(-3, -1).numpy()


def _clip_encoder(golden: GoldenSet, name: str = _CLIP_ENCODER) -> ClipEncoder:
    return ClipEncoder(build_encoder(golden, name), name, golden.device, torch.float32)


@torch.no_grad()
def _masked(golden: GoldenSet) -> list[Case]:
    """Encoder of the kept tokens alone."""
    cases = []
    for group in golden.groups("enc_masked/"):
        network = build_encoder(golden, _CLIP_ENCODER).model.encoder
        mask = golden.model_input(f"enc_masked/{group}/mask")
        tokens = network.embeddings(golden.model_input(f"enc_clip/{group}/x").transpose(1, 2))
        tokens = tokens.gather(1, mask[..., None].expand(-1, -1, tokens.shape[-1]))
        for layer in network.layer:
            tokens = layer(tokens, position_mask=mask)[0]
        expected = golden.tensor(f"enc_masked/{group}/out")
        cases.append(
            compare(
                f"enc_masked/{group}",
                "out",
                network.layernorm(tokens),
                expected,
                golden.tolerance("feature"),
            )
        )
    return cases


def _real_clip(golden: GoldenSet) -> list[Case]:
    """A clip of 64 frames of the published size."""
    encoder = _clip_encoder(golden, _REAL_ENCODER)
    frames = synthetic_video(golden.meta["clip_real"]["input"])
    # Frames of the right size: neither resized nor cropped, which no view of the evaluation does.
    pixels = torch.from_numpy(frames).movedim(-1, 1).float() / 255.0
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    clip = (pixels - mean[:, None, None]) / std[:, None, None]
    tokens = encoder.tokens(clip[None])[0].cpu()
    index = golden.tensor("clip_real/token_index")
    actual = {
        "out_tokens": (tokens[index], golden.tolerance("feature")),
        "out_norms": (tokens.norm(dim=1), 1e-3),
        "out_mean": (tokens.mean(dim=0), _PROBABILITY),
    }
    return [
        compare("clip_real", name, value, golden.tensor(f"clip_real/{name}"), tolerance)
        for name, (value, tolerance) in actual.items()
    ]


def _build_probe(golden: GoldenSet, name: str) -> AttentiveProbe:
    heads = golden.meta["models"][name]["kwargs"]["num_heads"]
    return build_probe(golden.weights(name), name, heads).to(golden.device)


@torch.no_grad()
def _probe(golden: GoldenSet, name: str) -> list[Case]:
    """Scores of a probe, with what goes through it."""
    cases = []
    probe, tolerance = _build_probe(golden, name), golden.tolerance("feature")
    for group, names in golden.groups(f"{name}/").items():
        case = f"{name}/{group}"
        if group == "clip":
            tokens = golden.model_input("enc_clip/t8/x").transpose(1, 2)
            tokens = _clip_encoder(golden).tokens(tokens)
        else:
            # The same weights with other heads get the same tokens.
            source = case if "tokens" in names else f"{_LABEL_PROBE}/{group}"
            tokens = golden.model_input(f"{source}/tokens")
        hidden = tokens
        for layer in probe.pooler.self_attention_layers:
            hidden = layer(hidden, attention_mask=None)[0]
        logits = probe(tokens)[LABELS].cpu()
        actual = {"logits": logits, "pooled": probe.pooler(tokens)[:, None], "blocks_out": hidden}
        for what, value in actual.items():
            if what in names:
                expected = golden.tensor(f"{case}/{what}")
                cases.append(compare(case, what, value[: len(expected)], expected, tolerance))
        if "top5" in names:
            cases += _top_five(golden, case, logits)
    return cases


def _top_five(golden: GoldenSet, case: str, logits: Tensor) -> list[Case]:
    """The best five, and their shares among all classes and among themselves."""
    best = logits.topk(5, dim=1)
    actual = {
        "top5": (best.indices, 0.0),
        "top5_probs": (logits.softmax(1).gather(1, best.indices), _PROBABILITY),
        "top5_demo_percent": (100 * best.values.softmax(1), 1e-3),
    }
    return [
        compare(case, what, value, golden.tensor(f"{case}/{what}"), tolerance)
        for what, (value, tolerance) in actual.items()
    ]


def _end_to_end(golden: GoldenSet) -> list[Case]:
    """A video to probabilities: two segments, three views."""
    given = golden.meta["ssv2_e2e"]
    video = FramesInMemory(synthetic_video(given["video"]), "synthetic")
    clips = Clips(
        given["frames_per_clip"],
        given["frame_step"],
        given["num_segments"],
        given["num_views_per_segment"],
        seed=given["numpy_seed_before_sampling"],
    )
    encoder, probe = _clip_encoder(golden), _build_probe(golden, _LABEL_PROBE)
    indices = clips.indices(video.length)
    views = preprocess_video(video.read(indices.reshape(-1)), given["resolution"], views=3)
    levels = _levels(views.unflatten(1, indices.shape)).swapaxes(0, 1)
    tokens = [view.flatten(0, 1)[None] for view in encode(encoder, video, clips)]
    with torch.no_grad():
        logits = torch.stack([probe(view)[LABELS].cpu() for view in tokens])
    probabilities = classify(encoder, probe, video, clips)[LABELS].cpu()[None]
    actual: dict[str, tuple[Values, float]] = {
        "indices": (indices, 0.0),
        "views_u8": (levels, 0.0),
        "features_view0": (tokens[0], golden.tolerance("feature")),
        "logits": (logits, golden.tolerance("feature")),
        "probs": (probabilities, _PROBABILITY),
        "top5": (probabilities.topk(5, dim=1).indices, 0.0),
    }
    return [
        compare("ssv2_e2e", name, value, golden.array(f"ssv2_e2e/{name}"), tolerance)
        for name, (value, tolerance) in actual.items()
    ]


def _build_mask_predictor(golden: GoldenSet) -> MaskPredictor:
    described = golden.meta["models"][_MASK_PREDICTOR]["kwargs"]
    weights = golden.weights(_MASK_PREDICTOR)
    geometry = PublishedGeometry(
        predictor_head_dim=described["predictor_embed_dim"] // described["num_heads"]
    )
    encoder = build_encoder(golden, _CLIP_ENCODER)
    predictor = MaskPredictor(mask_predictor_config(weights, encoder.config, geometry))
    predictor.load_state_dict(mask_predictor_state(weights))
    return predictor.to(golden.device).eval()


@torch.no_grad()
def _mask_predictor(golden: GoldenSet) -> list[Case]:
    predictor, tolerance = _build_mask_predictor(golden), golden.tolerance("feature")
    cases = []
    for group, names in golden.groups("mask_pred/").items():
        case = f"mask_pred/{group}"
        if "out" not in names:
            continue  # tokens that the others share
        if "context" in names:
            context, target = (
                golden.model_input(f"{case}/{name}") for name in ("context", "target")
            )
            tokens = golden.model_input("mask_pred/all/z")
            tokens = tokens.gather(1, context[..., None].expand(-1, -1, tokens.shape[-1]))
        else:
            tokens = golden.model_input("enc_clip/t8/out")
            context = target = torch.arange(tokens.shape[1]).expand(len(tokens), -1)
        number = re.fullmatch(r"mask(\d+)", group)
        first: list[Tensor] = []
        hook = predictor.predictor.layer[0].register_forward_hook(
            lambda _, inputs, output, first=first: first.append(output[0])
        )
        found = predictor(tokens, context, target, int(number[1]) if number else 1)
        hook.remove()
        cases.append(compare(case, "out", found, golden.tensor(f"{case}/out"), tolerance))
        if "block0_out" in names:
            expected = golden.tensor(f"{case}/block0_out")
            cases.append(compare(case, "block0_out", first[0], expected, tolerance))
    return cases


@torch.no_grad()
def _anticipation(golden: GoldenSet) -> list[Case]:
    encoder, predictor = _clip_encoder(golden), _build_mask_predictor(golden)
    tokens = encoder.tokens(golden.model_input("enc_clip/t8/x").transpose(1, 2))
    network = encoder.encoder
    patches, tubelet = network.rows * network.columns, network.config.tubelet_size
    # The set's clip has 8 frames per second.
    steps = (golden.tensor("anticipation/times") * 8 / tubelet).long()
    cases = []
    for name, given in golden.meta["anticipation"]["cases"].items():
        new = anticipate(
            predictor, tokens, steps, patches, given["num_output_frames"] // tubelet,
            given["num_steps"],
        )  # fmt: skip
        actual = new if given.get("no_encoder") else torch.cat([tokens, new], dim=1)
        case = f"anticipation/{name}"
        expected = golden.tensor(f"{case}/out")
        cases.append(compare(case, "out", actual, expected, golden.tolerance("feature")))
        if f"{case}/target" in golden:
            target = tokens.shape[1] + patches * steps[:, None] + torch.arange(patches)
            cases.append(compare(case, "target", target, golden.tensor(f"{case}/target"), 0.0))
    return cases


@torch.no_grad()
def _epic_probe(golden: GoldenSet) -> list[Case]:
    probe, cases = _build_probe(golden, _EPIC_PROBE), []
    for group, names in golden.groups(f"{_EPIC_PROBE}/").items():
        case = f"{_EPIC_PROBE}/{group}"
        scores = probe(golden.model_input(f"anticipation/{group}/out"))
        for name in names:
            expected = golden.tensor(f"{case}/{name}")
            if name == "action_top5":
                best = scores[ACTION].cpu().topk(5, dim=1).indices
                wrong = [str(row) for row in range(len(best)) if not best[row].equal(expected[row])]
                cases.append(exactly(case, name, wrong))
            else:
                tolerance = golden.tolerance("feature")
                cases.append(compare(case, name, scores[name], expected, tolerance))
    return cases
