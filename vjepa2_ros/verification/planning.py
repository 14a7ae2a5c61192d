# SPDX-License-Identifier: Apache-2.0
"""Golden cases of planning: latents of real frames, energies of given actions, search traces."""

import re
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import AXES, ActionSpace
from vjepa2_ros.planning.cem import CrossEntropyMethod
from vjepa2_ros.planning.objective import LatentDistance, distance
from vjepa2_ros.planning.planner import Plan
from vjepa2_ros.settings.planning import CEMSettings, GripperPolicy
from vjepa2_ros.verification.golden import Case, GoldenError, GoldenSet, compare, exactly
from vjepa2_ros.verification.models import build_encoder, build_predictor, is_encoder, is_predictor
from vjepa2_ros.world_model.poses import compose
from vjepa2_ros.world_model.preprocessing import NOTEBOOK_ASPECT
from vjepa2_ros.world_model.world_model import WorldModel

Check: TypeAlias = Callable[[GoldenSet, WorldModel], list[Case]]

# The reference's argument names; "verbose" changes nothing, "axis" is translated below.
_SPACE_ARGUMENTS = {"rollout": "horizon", "maxnorm": "max_translation"}
_CEM_ARGUMENTS = {
    "samples": "samples",
    "topk": "top_k",
    "cem_steps": "iterations",
    "momentum_mean": "momentum_mean",
    "momentum_mean_gripper": "momentum_mean_gripper",
    "momentum_std": "momentum_std",
    "momentum_std_gripper": "momentum_std_gripper",
}


def planning_cases(golden: GoldenSet) -> list[Case]:
    """Every case under plan/."""
    if not golden.keys("plan/"):
        return []
    try:
        model = planning_model(golden)
    except (GoldenError, KeyError, ValueError, RuntimeError) as error:
        return [Case("plan", "models", False, message=str(error))]
    cases = []
    checks: list[Check] = [_latents, _landscape, _tables]
    checks += [partial(_cem_cases, name=name) for name in golden.meta.get("cem", {})]
    for check in checks:
        try:
            cases += check(golden, model)
        except (GoldenError, KeyError, ValueError, RuntimeError) as error:
            cases.append(Case("plan", "case", False, message=str(error)))
    return cases


def planning_model(golden: GoldenSet) -> WorldModel:
    """The world model that the plan/ arrays were made with.

    Returns:
        Encoder and predictor that fit the plan/ latents; of several, those noted for planning.

    Raises:
        GoldenError: none fits, or several do.
    """
    patches, channels = golden.tensor("plan/z_context").shape[-2:]

    def choose(kind) -> str:
        fitting = [
            name
            for name, model in golden.meta["models"].items()
            if kind(model)
            and model["kwargs"]["embed_dim"] == channels
            and _patches(model["kwargs"]) == patches
        ]
        named = [
            name for name in fitting if "planning" in golden.meta["models"][name].get("note", "")
        ]
        if len(named or fitting) != 1:
            raise GoldenError(
                f"which model do the plan/ arrays belong to? candidates: {named or fitting}"
            )
        return (named or fitting)[0]

    encoder, predictor = (
        build_encoder(golden, choose(is_encoder)),
        build_predictor(golden, choose(is_predictor)),
    )
    return WorldModel(encoder, predictor, NOTEBOOK_ASPECT)


def _patches(options: dict) -> int:
    return (options["img_size"][0] // options["patch_size"]) * (
        options["img_size"][1] // options["patch_size"]
    )


def _latents(golden: GoldenSet, model: WorldModel) -> list[Case]:
    """Representations of the recorded frames, from their pixels."""
    tolerance = golden.tolerance("feature")
    clip = _recorded_clip(golden, model.encoder.size)
    frames = golden.model_input(f"{clip}/out").transpose(0, 1)
    images = golden.array(f"{clip}/in" if f"{clip}/in" in golden else _shared_images(golden, clip))
    with torch.no_grad():
        raw = model.encoder.features(
            frames.unsqueeze(1).repeat(1, model.encoder.config.tubelet_size, 1, 1, 1)
        )
    latents = torch.stack([model.encode(image) for image in images])
    context = golden.tensor("pose/franka_states")[:, :1] if "pose/franka_states" in golden else None
    actual = {
        "h_raw": raw.flatten(0, 1).unsqueeze(0),
        "h": latents.flatten(0, 1).unsqueeze(0),
        "z_context": latents[:1],
        "z_goal": latents[-1:],
    }
    cases = [
        compare("plan", name, value, golden.tensor(f"plan/{name}"), tolerance)
        for name, value in actual.items()
        if f"plan/{name}" in golden
    ]
    if context is not None:
        cases.append(
            compare("plan", "pose", context, golden.tensor("plan/pose"), golden.tolerance("pose"))
        )
    if "plan/z_goal_reach" in golden:
        reached = model.rollout(*_start(golden), golden.tensor("plan/reach_action"))
        cases.append(
            compare("plan", "z_goal_reach", reached, golden.tensor("plan/z_goal_reach"), tolerance)
        )
    return cases


def _recorded_clip(golden: GoldenSet, size: int) -> str:
    """Group of the clip of several frames that was transformed to the encoder's size."""
    clips = [
        key.removesuffix("/out")
        for key in golden.keys("preproc/")
        if re.fullmatch(rf"preproc/\D\w*_{size}/out", key)
    ]
    if len(clips) != 1:
        raise GoldenError(f"no single recorded clip of {size} px under preproc/: {clips}")
    return clips[0]


def _shared_images(golden: GoldenSet, clip: str) -> str:
    """Key of the images of a clip that is stored in several sizes."""
    name = clip.rpartition("_")[0]
    found = [key for key in golden.keys(f"{name}_") if key.endswith("/in")]
    if len(found) != 1:
        raise GoldenError(f"array {clip}/in is missing")
    return found[0]


def _start(golden: GoldenSet) -> tuple[Tensor, Tensor]:
    """Latent [N, D] and state [7] that planning starts from."""
    return golden.tensor("plan/z_context")[0], golden.tensor("plan/pose")[0, 0]


def _landscape(golden: GoldenSet, model: WorldModel) -> list[Case]:
    """Energies of a grid of single actions."""
    if "plan/landscape_energy" not in golden:
        return []
    objective = LatentDistance(model, *_start(golden), golden.tensor("plan/z_goal")[0])
    actions = golden.tensor("plan/landscape_actions").unsqueeze(1)
    expected = golden.tensor("plan/landscape_energy")
    return [
        compare(
            "plan", "landscape_energy", objective(actions), expected, golden.tolerance("energy")
        )
    ]


def _tables(golden: GoldenSet, model: WorldModel) -> list[Case]:
    """Poses, latents and energies of given action sequences, step by step."""
    if not golden.keys("plan/table/"):
        return []
    case = "plan/table"
    latent, state = _start(golden)
    goal = golden.model_input("plan/z_goal")[0]
    actions = golden.tensor(f"{case}/actions")
    states = [state.expand(len(actions), -1)]
    for step in range(actions.shape[1]):
        states.append(compose(states[-1], actions[:, step]))
    cases = []
    if f"{case}/poses" in golden:
        expected = golden.tensor(f"{case}/poses")
        cases.append(
            compare(case, "poses", torch.stack(states, dim=1), expected, golden.tolerance("pose"))
        )
    for step in range(1, actions.shape[1] + 1):
        predicted = model.rollout(latent, state, actions[:, :step], chunk=64)
        if f"{case}/rep_step{step}" in golden:
            expected = golden.tensor(f"{case}/rep_step{step}")
            part = predicted[: len(expected)]
            cases.append(
                compare(case, f"rep_step{step}", part, expected, golden.tolerance("feature"))
            )
        if f"{case}/energy_step{step}" in golden:
            expected = golden.tensor(f"{case}/energy_step{step}")
            energies = distance(predicted, goal)
            cases.append(
                compare(case, f"energy_step{step}", energies, expected, golden.tolerance("energy"))
            )
    return cases


def described_search(described: dict) -> tuple[CEMSettings, ActionSpace]:
    """Settings of this package for a described search.

    Raises:
        GoldenError: the search has arguments that this package does not have.
    """
    arguments = dict(described["mpc_args"])
    arguments.pop("verbose", None)
    fixed = {AXES[int(axis)]: value for axis, value in arguments.pop("axis", {}).items()}
    unknown = sorted(set(arguments) - set(_CEM_ARGUMENTS) - set(_SPACE_ARGUMENTS))
    if unknown:
        raise GoldenError(f"not covered: arguments {', '.join(unknown)}")

    def ours(names: dict[str, str]) -> dict:
        return {names[name]: value for name, value in arguments.items() if name in names}

    close = described.get("close_gripper")
    space = ActionSpace(
        **ours(_SPACE_ARGUMENTS),
        fixed_axes=fixed,
        gripper=GripperPolicy(mode="sampled", close_from=-1 if close is None else close),
    )
    return CEMSettings(**ours(_CEM_ARGUMENTS)), space


def _cem_cases(golden: GoldenSet, model: WorldModel, name: str) -> list[Case]:
    """One search twice: with the recorded draws, and with our own of the same seed."""
    described = golden.meta["cem"][name]
    case = f"plan/{name}"
    try:
        config, space = described_search(described)
        planner = CrossEntropyMethod(config)
        goal_name = re.search(r"goal = (plan/\w+)", described.get("desc", ""))
        goal = golden.tensor(goal_name[1] if goal_name else "plan/z_goal")[0]
        objective = LatentDistance(model, *_start(golden), goal)
        seeded = torch.Generator().manual_seed(described["torch_seed"])
        draws = golden.tensor(f"{case}/draws")
        plans = {
            "draws": planner.plan(objective, space, draws=draws, trace=True),
            "seed": planner.plan(objective, space, seeded, trace=True),
        }
        return [
            row
            for given, plan in plans.items()
            for row in _compare_plan(golden, f"{case} {given}", case, plan)
        ]
    except (GoldenError, KeyError, IndexError, ValueError) as error:
        return [Case(case, "search", False, message=str(error))]


def _compare_plan(golden: GoldenSet, case: str, arrays: str, plan: Plan) -> list[Case]:
    """Compare everything that happened in a search with the arrays below `arrays`."""
    trace = plan.trace
    wanted_elites = golden.tensor(f"{arrays}/elite_idx").long()
    # The order inside the elites may flip by rounding: compare them as sets.
    wrong = [
        f"iteration {number}"
        for number, (ours, theirs) in enumerate(zip(trace.elites, wanted_elites, strict=True))
        if set(ours.tolist()) != set(theirs.tolist())
    ]
    elite_actions = torch.stack(
        [a[i.sort().values] for a, i in zip(trace.actions, trace.elites, strict=True)]
    )
    wanted_order = wanted_elites.argsort(dim=1)[..., None, None]
    wanted_elite_actions = golden.tensor(f"{arrays}/elite_actions").take_along_dim(
        wanted_order, dim=1
    )
    distribution = golden.tolerance("distribution")
    return [
        compare(case, "draws", trace.draws, golden.tensor(f"{arrays}/draws"), distribution),
        compare(case, "actions", trace.actions, golden.tensor(f"{arrays}/actions"), distribution),
        compare(
            case,
            "energies",
            trace.energies,
            golden.tensor(f"{arrays}/energies"),
            golden.tolerance("energy"),
        ),
        exactly(case, "elite_idx (sets)", wrong),
        compare(case, "elite_actions", elite_actions, wanted_elite_actions, distribution),
        compare(case, "mean", trace.mean, golden.tensor(f"{arrays}/mean"), distribution),
        compare(case, "std", trace.std, golden.tensor(f"{arrays}/std"), distribution),
        compare(
            case,
            "final_action",
            plan.actions,
            golden.tensor(f"{arrays}/final_action"),
            distribution,
        ),
    ]
