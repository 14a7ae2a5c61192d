# SPDX-License-Identifier: Apache-2.0
"""The optimiser on objectives with a known minimum; reference traces are in test_verify.py."""

import pytest
import torch

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.cem import CrossEntropyMethod
from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.settings.planning import CEMSettings, GripperPolicy

SPACE = ActionSpace()


def towards(*target):
    """Squared distance of the sum of a sequence's x, y, z, gripper to a target."""
    wanted = torch.tensor(target)
    return lambda actions: (actions[..., [0, 1, 2, 6]].sum(1) - wanted).square().sum(-1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_defaults_are_those_of_the_paper():
    config = CEMSettings()
    assert (config.samples, config.iterations, config.top_k) == (800, 10, 10)
    assert (SPACE.horizon, SPACE.max_translation) == (1, 0.075)
    assert (SPACE.gripper.max_change, SPACE.gripper.threshold) == (0.75, 0.25)
    assert config.momentum_mean == config.momentum_std == 0


def test_it_finds_the_minimum_of_a_quadratic():
    plan = CrossEntropyMethod().plan(towards(0.03, -0.05, 0.01, 0.5), SPACE, seeded())
    torch.testing.assert_close(
        plan.actions, torch.tensor([[0.03, -0.05, 0.01, 0, 0, 0, 0.5]]), atol=1e-3, rtol=0
    )


def test_a_minimum_out_of_reach_is_approached_up_to_the_bound_of_each_axis():
    plan = CrossEntropyMethod().plan(towards(0.5, -0.5, 0.02, 2.0), SPACE, seeded())
    assert plan.actions[0, [0, 1, 6]].tolist() == pytest.approx([0.075, -0.075, 0.75], abs=1e-3)
    assert plan.actions.abs().max() <= 0.75


def test_several_actions_share_the_way():
    planner = CrossEntropyMethod(CEMSettings(iterations=20))
    plan = planner.plan(towards(0.12, 0.0, 0.0, 0.0), ActionSpace(horizon=2), seeded())
    assert plan.actions.shape == (2, 7)
    assert plan.actions[:, 0].sum() == pytest.approx(0.12, abs=5e-3)
    assert (plan.actions[:, 3:6] == 0).all()


def test_a_small_change_of_the_gripper_is_dropped_and_the_energy_is_that_of_the_plan():
    objective = towards(0.01, 0.0, 0.0, 0.2)
    plan = CrossEntropyMethod().plan(objective, SPACE, seeded())
    assert plan.actions[0, 6] == 0
    assert plan.energy == pytest.approx(float(objective(plan.actions[None])[0]))
    assert plan.energy == pytest.approx(0.04, abs=1e-3)


def test_the_mean_so_far_is_the_first_candidate_where_it_is_asked_for():
    settings = CEMSettings(samples=16, iterations=3, top_k=4, mean_sample=True, initial_std=0.02)
    plan = CrossEntropyMethod(settings).plan(
        towards(0.03, -0.05, 0.01, 0.5), SPACE, seeded(), trace=True
    )
    trace = plan.trace
    assert torch.equal(SPACE.searched(trace.actions[:, 0]), trace.mean[:-1])
    assert (trace.std[0] == 0.02).all()


def test_fixed_axes_keep_their_value():
    space = ActionSpace(fixed_axes={"gripper": 0.0, "z": -0.02}, horizon=2)
    plan = CrossEntropyMethod().plan(towards(0.05, 0.0, 0.05, 1.0), space, seeded(), trace=True)
    assert (plan.trace.actions[..., 6] == 0).all()
    assert plan.trace.actions[..., 2].unique().tolist() == pytest.approx([-0.02])
    assert plan.actions[:, 2].tolist() == pytest.approx([-0.02, -0.02])


def test_the_gripper_closes_from_the_given_action_on():
    space = ActionSpace(horizon=3, gripper=GripperPolicy("sampled", close_from=1))
    planner = CrossEntropyMethod(CEMSettings(iterations=3))
    plan = planner.plan(towards(0.0, 0.0, 0.0, 0.0), space, seeded(), trace=True)
    assert (plan.trace.actions[:, :, 1:, 6] == 1).all()
    assert plan.trace.actions[:, :, 0, 6].abs().max() <= 0.75
    assert plan.actions[1:, 6].tolist() == pytest.approx([1.0, 1.0])


def test_the_same_seed_or_draws_give_the_same_plan():
    planner, space = CrossEntropyMethod(CEMSettings(samples=32)), ActionSpace(horizon=2)
    objective = towards(0.01, 0.02, 0.03, 0.4)
    first = planner.plan(objective, space, seeded(), trace=True)
    assert torch.equal(planner.plan(objective, space, seeded()).actions, first.actions)
    replayed = planner.plan(objective, space, draws=first.trace.draws)
    assert torch.equal(replayed.actions, first.actions)
    assert not torch.equal(planner.plan(objective, space, seeded(1)).actions, first.actions)


def test_momentum_keeps_its_share_of_the_old_distribution():
    config = CEMSettings(
        samples=16, iterations=1, momentum_mean=0.25, momentum_std=0.9, momentum_std_gripper=0.5
    )
    planner = CrossEntropyMethod(config)
    trace = planner.plan(towards(0.01, 0.0, 0.0, 0.5), SPACE, seeded(), trace=True).trace
    elites = trace.actions[0][trace.elites[0]][..., [0, 1, 2, 6]]
    torch.testing.assert_close(trace.mean[1][:, :3], 0.75 * elites.mean(0)[:, :3])
    torch.testing.assert_close(trace.mean[1][:, 3], elites.mean(0)[:, 3])
    torch.testing.assert_close(trace.std[1][:, :3], 0.1 * elites.std(0)[:, :3] + 0.9 * 0.075)
    torch.testing.assert_close(trace.std[1][:, 3], 0.5 * elites.std(0)[:, 3] + 0.5)


def test_the_trace_is_left_out_unless_asked_for():
    planner = CrossEntropyMethod(CEMSettings(samples=16))
    assert planner.plan(towards(0.0, 0.0, 0.0, 0.0), SPACE, seeded()).trace is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_energies_that_are_not_finite_give_no_plan(value):
    def objective(actions):
        energies = torch.zeros(len(actions))
        energies[3] = value
        return energies

    with pytest.raises(ValueError, match="1 of 16 energies are not finite"):
        CrossEntropyMethod(CEMSettings(samples=16)).plan(objective, SPACE, seeded())


def test_draws_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"wanted \[10, 1, 800, 4\]"):
        CrossEntropyMethod().plan(towards(0.0, 0.0, 0.0, 0.0), SPACE, draws=torch.zeros(10, 800, 4))


@pytest.mark.parametrize(
    "setting",
    [
        {"samples": 9},
        {"samples": 0, "top_k": 2},
        {"top_k": 1},
        {"iterations": 0},
        {"momentum_mean": 1.0},
        {"momentum_std_gripper": -0.1},
    ],
)
def test_invalid_settings_are_refused_by_name(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        CEMSettings(**setting)


@pytest.mark.parametrize(
    "setting",
    [
        {"horizon": 0},
        {"max_translation": 0.0},
        {"max_translation": float("nan")},
        {"gripper": GripperPolicy("hold")},
        {"workspace": Workspace()},
        {"fixed_axes": {"roll": 0.0}},
        {"fixed_axes": {"x": float("nan")}},
        {"fixed_axes": {"x": 0.0, "y": 0.0, "z": 0.0, "gripper": 0.0}},
    ],
)
def test_invalid_spaces_are_refused_by_name(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        ActionSpace(**setting)
