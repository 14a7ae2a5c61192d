# SPDX-License-Identifier: Apache-2.0
"""What holds for every planner, on objectives with a known minimum."""

import math

import numpy as np
import pytest
import torch

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.planners import PLANNERS, make_planner, make_planner_named
from vjepa2_ros.planning.quadratic import fit, minimum
from vjepa2_ros.planning.search import Search
from vjepa2_ros.settings.planning import (
    CustomSearchSettings,
    GripperPolicy,
    SearchSettings,
    search_names,
)

# Those that search all axes at once; of skeletons there are tests in test_skeletons.py.
NAMES = [name for name in search_names() if name != "skeletons"]
FEW = pytest.mark.parametrize("name", [name for name in NAMES if name != "cem"])
ALL = pytest.mark.parametrize("name", NAMES)


class Cone:
    """Distance of the sum of a sequence's x, y, z, gripper to a target: the shape of latents'."""

    def __init__(self, *target):
        self.target, self.asked = torch.tensor(target), []

    def __call__(self, actions):
        return self.energies(self.differences(actions))

    def differences(self, actions):
        self.asked.append(actions.clone())
        offset = actions[..., [0, 1, 2, 6]].sum(1) - self.target
        return offset * torch.tensor([10.0, 10.0, 10.0, 1.0])

    def energies(self, differences):
        return 0.1 + differences.norm(dim=-1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@ALL
@pytest.mark.parametrize("evaluations", [16, 64, 200, 1000])
def test_no_planner_asks_for_more_than_it_was_given(name, evaluations):
    objective = Cone(0.03, -0.05, 0.01, 0.5)
    planner = make_planner_named(name, evaluations)
    plan = planner.plan(objective, ActionSpace(), seeded())
    asked = sum(len(actions) for actions in objective.asked)
    # The plan itself may differ from every candidate: by its gripper, or as a mean.
    assert plan.evaluations == asked <= evaluations + 1
    assert 0.75 * evaluations <= planner.evaluations <= evaluations


@ALL
def test_the_energy_of_a_plan_is_that_of_its_actions(name):
    objective = Cone(0.03, -0.05, 0.01, 0.1)
    plan = make_planner_named(name, 64).plan(objective, ActionSpace(), seeded())
    assert plan.energy == pytest.approx(float(objective(plan.actions[None])[0]), abs=1e-6)
    assert plan.actions.shape == (1, 7) and (plan.actions[:, 3:6] == 0).all()
    assert plan.actions[0, 6] == 0, "a change of the gripper below the threshold is none"


@ALL
def test_two_hundred_evaluations_come_near_the_minimum(name):
    tolerance = {"cem": 0.03, "mppi": 0.03, "cma_es": 0.02, "icem": 0.01}
    for seed, target in enumerate([(0.03, -0.05, 0.01, 0.5), (-0.06, 0.0, 0.02, -0.6)]):
        plan = make_planner_named(name, 200).plan(Cone(*target), ActionSpace(), seeded(seed))
        assert (plan.actions[0, :3] - torch.tensor(target[:3])).norm() < tolerance.get(name, 0.005)


@ALL
def test_a_minimum_out_of_reach_is_approached_up_to_the_bounds(name):
    plan = make_planner_named(name, 400).plan(Cone(0.5, -0.5, 0.5, 0.0), ActionSpace(), seeded())
    expected = torch.tensor([0.075, -0.075, 0.075])
    torch.testing.assert_close(plan.actions[0, :3], expected, atol=0.025, rtol=0)
    assert plan.actions.abs().max() <= 0.75


@ALL
def test_fixed_axes_are_never_left(name):
    objective = Cone(0.03, -0.05, 0.05, 0.6)
    space = ActionSpace(fixed_axes={"gripper": 0.0, "z": -0.02})
    plan = make_planner_named(name, 64).plan(objective, space, seeded())
    for actions in [*objective.asked, plan.actions[None]]:
        assert (actions[..., 6] == 0).all() and (actions[..., 2] == -0.02).all()


@ALL
def test_a_seed_decides_the_plan(name):
    planner, objective = make_planner_named(name, 64), Cone(0.03, -0.05, 0.01, 0.5)
    first, again, other = (
        planner.plan(objective, ActionSpace(), seeded(seed)).actions for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@FEW
def test_the_rest_of_the_last_plan_is_asked_about_first(name):
    objective = Cone(0.1, 0.0, 0.0, 0.0)
    previous = torch.zeros(2, 7)
    previous[:, 0] = 0.05
    space = ActionSpace(horizon=2)
    make_planner_named(name, 64).plan(objective, space, seeded(), previous)
    distance = (objective.asked[0] - previous).abs().flatten(1).max(1).values
    assert distance.min() < 1e-6


@FEW
def test_several_actions_share_the_way(name):
    plan = make_planner_named(name, 400).plan(
        Cone(0.12, 0.0, 0.0, 0.0), ActionSpace(horizon=2), seeded()
    )
    assert plan.actions.shape == (2, 7)
    assert plan.actions[:, 0].sum() == pytest.approx(0.12, abs=0.04)


@ALL
def test_energies_that_are_not_finite_give_no_plan(name):
    with pytest.raises(ValueError, match="not finite"):
        make_planner_named(name, 64).plan(Cone(0.0, 0.0, 0.0, math.nan), ActionSpace(), seeded())


@ALL
@pytest.mark.parametrize("wanted", [-0.6, 0.1, 0.6])
def test_an_enumerated_gripper_opens_holds_or_closes(name, wanted):
    objective = Cone(0.03, -0.05, 0.05, wanted)
    space = ActionSpace(gripper=GripperPolicy("enumerated"))
    plan = make_planner_named(name, 200).plan(objective, space, seeded())
    choices = {-0.75, 0.0, 0.75}
    for actions in [*objective.asked, plan.actions[None]]:
        assert set(actions[..., 6].flatten().tolist()) <= choices
    assert plan.actions[0, 6] == min(choices, key=lambda choice: abs(choice - wanted))


def test_a_surrogate_of_latents_needs_few_evaluations_where_energies_have_edges():
    class Manhattan(Cone):
        def energies(self, differences):
            return differences.abs().sum(-1)

    target = (0.03, -0.05, 0.01, 0.5)
    missed = {
        name: float(
            (
                make_planner_named(name, 32)
                .plan(Manhattan(*target), ActionSpace(), seeded())
                .actions[0]
                - torch.tensor([*target[:3], 0, 0, 0, target[3]])
            )[:3].norm()
        )
        for name in ("latent_quadratic", "quadratic")
    }
    assert missed["latent_quadratic"] < 0.002 < missed["quadratic"]


def test_a_part_of_a_large_latent_is_enough_for_the_surrogate():
    directions = torch.randn(4, 40_000, generator=torch.Generator().manual_seed(0))

    class Wide(Cone):
        def differences(self, actions):
            return super().differences(actions) @ directions

        def energies(self, differences):
            return differences.abs().mean(-1)

    target = (0.03, -0.05, 0.01, 0.5)
    plan = make_planner_named("latent_quadratic", 48).plan(Wide(*target), ActionSpace(), seeded())
    assert (plan.actions[0, :3] - torch.tensor(target[:3])).norm() < 0.003
    exact = float(Wide(*target)(plan.actions[None])[0])
    assert plan.energy == pytest.approx(exact), "what is returned was judged by all of it"


def test_the_surrogate_of_latents_stops_where_more_teaches_it_nothing():
    objective = Cone(0.03, -0.05, 0.01, 0.5)
    plan = make_planner_named("latent_quadratic", 8000).plan(objective, ActionSpace(), seeded())
    assert plan.evaluations <= 9 * 8 * 15 + 1


@pytest.mark.parametrize("name", [name for name in search_names() if name != "cem"])
def test_too_few_evaluations_are_refused(name):
    with pytest.raises(ValueError, match="evaluations is 2, but must be from"):
        make_planner_named(name, 2)


def test_a_planner_from_outside_is_found_by_module_and_class():
    name = f"{__name__}:Outside"
    settings = SearchSettings(planner=name, custom=CustomSearchSettings(evaluations=32))
    for planner in (make_planner(settings), make_planner_named(name, 32)):
        assert isinstance(planner, Outside) and planner.evaluations == 32


class Outside:
    """A planner that belongs to somebody else."""

    def __init__(self, evaluations):
        self.evaluations = evaluations


def test_every_search_has_its_settings_and_its_planner():
    settings = SearchSettings()
    assert {type(getattr(settings, name)) for name in search_names()} == set(PLANNERS)
    for name in search_names():
        planner = make_planner(SearchSettings(planner=name))
        assert type(planner) is PLANNERS[type(getattr(settings, name))]
        assert planner.evaluations == getattr(settings, name).evaluations


@pytest.mark.filterwarnings("error")
def test_sobol_points_drawn_in_parts_are_those_drawn_at_once():
    def search():
        return Search(Cone(0.0, 0.0, 0.0, 0.0), ActionSpace(), seeded())

    parts, whole = search(), search()
    drawn = [parts.spread(count) for count in (1, 5, 0, 7)]
    assert (np.vstack(drawn) == whole.spread(13)).all()


@pytest.mark.parametrize("name", ["best", "no.such.module:Planner", "math:Planner", ""])
def test_a_planner_that_is_none_is_refused_with_the_names_of_those_that_are(name):
    with pytest.raises(ValueError, match="use latent_quadratic, quadratic|cannot be used"):
        make_planner_named(name, 64)


def test_the_surrogate_fits_a_quadratic_exactly_and_finds_its_minimum_in_a_box():
    generator = torch.Generator().manual_seed(0)
    points = (2 * torch.rand(40, 3, generator=generator) - 1).double().numpy()
    target = torch.tensor([0.3, -0.2, 0.9]).double().numpy()
    values = ((points - target) ** 2 @ [1.0, 2.0, 0.5]) + 3.0
    gradient, matrix = fit(points, values, radius=10.0)
    assert matrix.diagonal() == pytest.approx([1.0, 2.0, 0.5], abs=1e-3)
    found = minimum(gradient, matrix, -torch.ones(3).numpy(), 0.5 * torch.ones(3).numpy())
    assert found == pytest.approx([0.3, -0.2, 0.5], abs=1e-2)


def test_a_surrogate_that_bends_down_is_left_at_the_better_end():
    found = minimum(np.array([0.1, -0.1]), -np.eye(2), -np.ones(2), np.ones(2))
    assert found.tolist() == [-1.0, 1.0]


@ALL
def test_the_yaw_is_searched_where_it_is_asked_for(name):
    class Turned(Cone):
        def differences(self, actions):
            turn = actions[..., 5].sum(1, keepdim=True) - 0.2
            return torch.cat([super().differences(actions), 3.0 * turn], dim=1)

    objective = Turned(0.03, -0.05, 0.01, 0.0)
    still = make_planner_named(name, 64).plan(objective, ActionSpace(), seeded())
    assert still.actions[0, 5] == 0
    space = ActionSpace(max_yaw=0.3, yaw=0.7)
    plan = make_planner_named(name, 400).plan(objective, space, seeded())
    # Beyond 0.8 rad the hand does not turn.
    assert plan.actions[0, 5] == pytest.approx(0.1, abs=0.05)
    asked = torch.cat([actions[..., 5] for actions in objective.asked])
    assert asked.max() <= 0.1 + 1e-6 and asked.min() >= -0.3
