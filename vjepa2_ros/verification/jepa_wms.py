# SPDX-License-Identifier: Apache-2.0
"""Golden cases of the predictors of jepa-wms, and of what it plans with."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vjepa2_ros.planning.cem import search
from vjepa2_ros.planning.objective import LatentDistance, distance, state_distance
from vjepa2_ros.verification.golden import Case, GoldenError, GoldenSet, compare
from vjepa2_ros.verification.video import synthetic_video
from vjepa2_ros.world_model.encoder import Encoder, encoder_config
from vjepa2_ros.world_model.poses import compose
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor, PredictorConfig
from vjepa2_ros.world_model.preprocessing import NOTEBOOK_ASPECT, preprocess
from vjepa2_ros.world_model.published import predictor_weights
from vjepa2_ros.world_model.world_model import WorldModel

WINDOW = 2
"""Latents that a prediction of a plan attends to there."""
_ENERGY = 5e-6


def jepa_wms_models(golden: GoldenSet) -> list[str]:
    """Names of the models whose cases `jepa_wms_cases` runs."""
    return [
        name
        for name, model in golden.meta["models"].items()
        if model["kwargs"].get("action_conditioning") == "token" or _is_modulated(model)
    ]


def jepa_wms_cases(golden: GoldenSet) -> list[Case]:
    """Predictions, plans and frames of these predictors."""
    cases = []
    names = jepa_wms_models(golden)
    checks = [(name, _predictions) for name in names]
    checks += [(name, _plan) for name in names if golden.keys(f"wm_plan/{_short(name)}/")]
    if "wm_cem/draws" in golden:
        checks.append((golden.meta["wm_cem"]["model"], _search_cases))
    for name, check in checks:
        try:
            cases += check(golden, name)
        except (GoldenError, KeyError, ValueError, RuntimeError) as error:
            cases.append(Case(name, "case", False, message=str(error)))
    if "wm_preproc/out" in golden:
        frames = synthetic_video(golden.meta["wm_preproc"]["input"])
        expected = golden.tensor("wm_preproc/out")
        actual = preprocess(frames, expected.shape[-1], NOTEBOOK_ASPECT)
        cases.append(compare("wm_preproc", "out", actual, expected, 1e-5))
    return cases


def _is_modulated(model: dict) -> bool:
    """Whether actions modulate a described predictor."""
    return any(".adaLN_modulation." in key for key in model["keys"])


def _short(name: str) -> str:
    """Name of a model in the plans of the set: "noprop" of "wm_noprop"."""
    return name.removeprefix("wm_")


def _build(golden: GoldenSet, name: str, window: int = 0) -> ActionConditionedPredictor:
    given = golden.meta["models"][name]["kwargs"]
    config = PredictorConfig(
        image_size=(given["img_size"], given["img_size"]),
        use_states=bool(given["proprio_tokens"]),
        window=window,
        modulated=_is_modulated(golden.meta["models"][name]),
        **{
            key: given[key]
            for key in (
                "patch_size",
                "embed_dim",
                "predictor_embed_dim",
                "depth",
                "num_heads",
                "num_frames",
                "tubelet_size",
            )
        },  # fmt: skip
    )
    predictor = ActionConditionedPredictor(config)
    predictor.load_state_dict(predictor_weights(golden.weights(name)))
    return predictor.to(golden.device).eval()


@torch.no_grad()
def _predictions(golden: GoldenSet, name: str) -> list[Case]:
    """Predictions of latents, actions and states that the models share."""
    predictor, tolerance = _build(golden, name), golden.tolerance("feature")
    cases = []
    for group, names in golden.groups(f"{name}/").items():
        case = f"{name}/{group}"
        inputs = _inputs(golden, case if f"{case}/z" in golden else f"wm/{group}")
        found: dict[str, Tensor] = {}

        def keep(what: str, found=found):
            return lambda _, __, output: found.update({what: output})

        hooks = [
            predictor.predictor_blocks[0].register_forward_hook(keep("block0_out")),
            predictor.predictor_blocks[-1].register_forward_hook(keep("last")),
        ]
        found["out"] = predictor(*inputs)
        for hook in hooks:
            hook.remove()
        frames = inputs[1].shape[1]
        states = found["last"].unflatten(1, (frames, -1))[:, :, 1:2]
        found["proprio_features"] = predictor.predictor_norm(states)
        for what in names:
            if what not in ("z", "actions"):
                expected = golden.tensor(f"{case}/{what}")
                cases.append(
                    compare(case, what, found[what].reshape(expected.shape), expected, tolerance)
                )
    return cases


def _inputs(golden: GoldenSet, group: str) -> list[Tensor]:
    """Latents [B, T*N, D], actions and states [B, T, 7] of a group; no states: zeros."""
    latents = golden.model_input(f"{group}/z")
    if latents.dim() == 6:  # B, T, views, rows, columns, D
        latents = latents.flatten(1, 4)
    actions = golden.model_input(f"{group}/actions")
    states = f"{group}/states"
    return [
        latents,
        actions,
        golden.model_input(states) if states in golden else torch.zeros_like(actions),
    ]


@torch.no_grad()
def _plan(golden: GoldenSet, name: str) -> list[Case]:
    """Latents and costs of action sequences, each step from the last two latents alone."""
    case = f"wm_plan/{_short(name)}"
    model = _planning_model(_build(golden, name, WINDOW))
    actions = golden.model_input("wm_plan/actions").transpose(0, 1)
    latent = golden.model_input("wm_plan/z0").flatten(0, 4)
    goal = golden.model_input("wm_plan/goal").flatten(0, 4)
    state, goal_state = (
        golden.model_input(f"wm_plan/{key}").flatten(0, 1) for key in ("pose0", "goal_pose")
    )
    predicted = model.rollout(latent, state[0], actions, every_step=True)
    latents = torch.cat([latent.expand(len(actions), 1, -1, -1), predicted], dim=1)
    states = state.expand(len(actions), 1, -1)
    for step in range(actions.shape[1]):
        new = compose(states[:, -1:], actions[:, step : step + 1])
        states = torch.cat([states, new], dim=1)
    cases = []
    shape = golden.meta["arrays"][f"{case}/step1"]["shape"]
    for step in (1, actions.shape[1]):
        key = f"{case}/step{step}"
        found = latents[:, step].reshape(shape)
        cases.append(
            compare(case, f"step{step}", found, golden.tensor(key), golden.tolerance("feature"))
        )
    if f"{case}/poses" in golden:
        expected = golden.tensor(f"{case}/poses").transpose(0, 1)
        cases.append(compare(case, "poses", states, expected, golden.tolerance("pose")))
    for key in golden.keys(f"{case}/cost_"):
        words = key.rpartition("/")[2].split("_")
        cost = words[1]
        weight = float(next((w.removeprefix("alpha") for w in words if w.startswith("alpha")), 0.0))
        energies = _energies(latents, goal, cost)
        if weight:
            energies = energies + weight * state_distance(states, goal_state[0], cost)
        # Of all latents, the present one included, or of the last one.
        total = energies.sum(1) if words[-1] == "sum" else energies[:, -1]
        tolerance = 4 * _ENERGY if words[-1] == "sum" else _ENERGY
        cases.append(compare(case, "_".join(words), total, golden.tensor(key), tolerance))
    return cases


def _planning_model(predictor: ActionConditionedPredictor) -> WorldModel:
    """A world model with an encoder that is not used: the set has the latents."""
    config = predictor.config
    fields = {
        "crop_size": config.image_size[0],
        "patch_size": config.patch_size,
        "tubelet_size": 2,
        "hidden_size": config.embed_dim,
        "num_hidden_layers": 1,
        "num_attention_heads": config.num_heads,
        "mlp_ratio": 1.0,
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
        "qkv_bias": True,
    }
    encoder = Encoder(encoder_config(fields)).to(predictor.predictor_proj.weight.device)
    return WorldModel(encoder, predictor, NOTEBOOK_ASPECT)


def _energies(latents: Tensor, goal: Tensor, cost: str) -> Tensor:
    """Energies [...] of latents [..., N, D] under the costs of jepa-wms, "cos" among them.

    The latter is no cost of this package: it ranks as "l2" does, because the patches of
    layer-normed latents all have the length sqrt(D), up to the eps of the layer norm, so that the
    negative mean cosine is half the mean squared difference less one.
    """
    if cost == "cos":
        return -F.cosine_similarity(latents, goal, dim=-1).mean(-1)
    return distance(latents, goal, cost)


def _search_cases(golden: GoldenSet, name: str) -> list[Case]:
    """The cross-entropy method of jepa-wms, over all seven axes."""
    described = golden.meta["wm_cem"]
    draws = golden.tensor("wm_cem/draws")
    model = _planning_model(_build(golden, name, WINDOW))
    latent, goal = (golden.model_input(f"wm_plan/{key}").flatten(0, 4) for key in ("z0", "goal"))
    state = golden.model_input("wm_plan/pose0").flatten()
    objective = LatentDistance(model, latent, state, goal, "l2")
    bounds = torch.empty(draws.shape[-1])
    for bound, axes in zip(described["max_norms"], described["max_norm_dims"], strict=True):
        bounds[axes] = bound
    start = torch.zeros(described["horizon"], len(bounds))
    found = search(
        objective,
        lambda candidates: candidates.clamp(-bounds, bounds),
        start,
        torch.full_like(start, described["var_scale"]),
        draws,
        described["elites"],
        keep_mean=described["momentum"],
        keep_std=described["momentum"],
        mean_sample=True,
    )
    results = {"costs": found.energies, "means": found.mean[1:], "actions": found.mean[-1]}
    tolerances = {"costs": _ENERGY, "means": 1e-6, "actions": 1e-6}
    return [
        compare("wm_cem", what, value, golden.tensor(f"wm_cem/{what}"), tolerances[what])
        for what, value in results.items()
    ]
