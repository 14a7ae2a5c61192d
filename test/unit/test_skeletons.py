# SPDX-License-Identifier: Apache-2.0
"""Plan skeletons: ways with a change of the gripper before, in or after them."""

import pytest
import torch

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.planners import make_planner_named
from vjepa2_ros.settings.planning import GripperPolicy

BOUND = 0.075


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def space(horizon=3, closedness=0.0, **options):
    return ActionSpace(
        horizon,
        BOUND,
        GripperPolicy("enumerated", max_change=1.0, threshold=0.5),
        closedness=closedness,
        **options,
    )


class Tabletop:
    """A hand at the origin and an object; fingers that close at it carry it along.

    The latent holds the hand, the object and the closedness at the end of a sequence, and how far
    the hand was from its goal on the way.
    """

    def __init__(self, thing, goal_hand, goal_thing, goal_closedness, closedness=0.0):
        self.thing = torch.tensor(thing)
        self.goal = torch.tensor([*goal_hand, *goal_thing, 0.02 * goal_closedness, 0.0])
        self.closedness = closedness
        self.asked = []

    def __call__(self, actions):
        return self.energies(self.differences(actions))

    def differences(self, actions):
        self.asked.append(actions.clone())
        ends = []
        for sequence in actions:
            hand, thing, closed = torch.zeros(3), self.thing.clone(), self.closedness
            late = 0.0
            for action in sequence:
                near = float((hand - thing).norm()) < 0.02
                if closed > 0.5 and near:
                    thing = thing + action[:3]
                hand = hand + action[:3]
                late += 0.1 * float((hand - self.goal[:3]).norm())
                closed = min(max(closed + float(action[6]), 0.0), 1.0)
            ends.append(torch.cat([hand, thing, torch.tensor([0.02 * closed, late])]))
        return torch.stack(ends) - self.goal

    def energies(self, differences):
        return differences.norm(dim=-1)


def plan(objective, where, evaluations=128, previous=None, seed=0):
    return make_planner_named("skeletons", evaluations).plan(
        objective, where, seeded(seed), previous
    )


def test_an_action_moves_the_hand_or_the_gripper_and_never_both():
    objective = Tabletop((0.0, 0.0, -0.06), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0)
    plan(objective, space())
    actions = torch.cat(objective.asked)
    moving, gripping = actions[..., :3].abs().sum(-1) > 0, actions[..., 6] != 0
    assert gripping.any() and not (moving & gripping).any()
    assert (gripping.sum(1) <= 1).all()
    assert actions[..., :3].abs().max() <= BOUND + 1e-6


def test_what_lies_under_the_hand_is_fetched_by_going_down_closing_and_coming_back():
    objective = Tabletop((0.0, 0.0, -0.06), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0)
    found = plan(objective, space())
    down, closing, up = found.actions
    assert down[2] == pytest.approx(-0.06, abs=0.02) and up[2] == pytest.approx(0.06, abs=0.02)
    assert closing[6] == 1.0 and down[6] == up[6] == 0.0
    assert found.energy < 0.03


def test_fingers_that_have_closed_on_nothing_open_and_grasp_again():
    objective = Tabletop((0.0, 0.0, -0.06), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0, closedness=1.0)
    found = plan(objective, space(horizon=5, closedness=1.0))
    assert found.actions[:, 6].tolist()[:3] == [-1.0, 0.0, 1.0]
    assert found.actions[1, 2] == pytest.approx(-0.06, abs=0.02) and found.energy < 0.03


def test_what_is_held_is_released_where_it_shall_stand():
    objective = Tabletop((0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.1, 0.0, 0.0), 0.0, closedness=1.0)
    found = plan(objective, space(closedness=1.0))
    assert found.actions[:, 6].tolist() == [0.0, 0.0, -1.0]
    assert found.actions[:, 0].sum() == pytest.approx(0.1, abs=0.02)


def test_the_hand_goes_as_fast_as_it_may_and_waits_at_the_end():
    objective = Tabletop((0.3, 0.3, 0.0), (0.1, 0.0, 0.0), (0.3, 0.3, 0.0), 0.0)
    steps = plan(objective, space()).actions[:, 0].tolist()
    assert steps[0] == pytest.approx(BOUND) and steps[2] == pytest.approx(0.0, abs=0.01)
    assert sum(steps) == pytest.approx(0.1, abs=0.02)


def test_a_gripper_that_the_goal_scripts_does_not_change():
    objective = Tabletop((0.0, 0.0, -0.06), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0)
    plan(objective, space(fixed_axes={"gripper": [1.0, 0.0, 0.0]}))
    actions = torch.cat(objective.asked)
    assert (actions[..., 6] == torch.tensor([1.0, 0.0, 0.0])).all()


def test_no_plan_is_worse_than_the_rest_of_the_last_one():
    objective = Tabletop((0.0, 0.0, -0.06), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0)
    rest = torch.zeros(3, 7)
    rest[0, 2], rest[1, 6], rest[2, 2] = -0.06, 1.0, 0.06
    found = plan(objective, space(), evaluations=64, previous=rest)
    assert torch.equal(objective.asked[0][0], rest)
    assert found.energy <= float(objective(rest[None])[0]) + 1e-6


@pytest.mark.parametrize(("horizon", "evaluations"), [(3, 64), (3, 200), (6, 128)])
def test_the_budget_is_kept(horizon, evaluations):
    objective = Tabletop((0.2, 0.0, 0.0), (0.1, 0.0, 0.0), (0.2, 0.0, 0.0), 0.0)
    found = plan(objective, space(horizon), evaluations, previous=torch.zeros(horizon, 7))
    asked = sum(len(actions) for actions in objective.asked)
    assert found.evaluations == asked <= evaluations + 1


def test_a_seed_decides_the_plan():
    objective = Tabletop((0.0, 0.0, -0.06), (0.05, 0.02, 0.0), (0.0, 0.0, 0.0), 1.0)
    first, again, other = (plan(objective, space(), seed=seed).actions for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_hand_that_may_turn_turns_on_its_way_within_its_limit():
    class Turned(Tabletop):
        def differences(self, actions):
            yaw = 0.1 * (actions[..., 5].sum(1) - 0.9)
            return torch.cat([super().differences(actions), yaw[:, None]], dim=1)

    objective = Turned((0.3, 0.3, 0.0), (0.1, 0.0, 0.0), (0.3, 0.3, 0.0), 0.0)
    found = plan(objective, space(max_yaw=0.3, yaw=0.2, yaw_limit=0.8), evaluations=200)
    assert found.actions[:, 5].sum() == pytest.approx(0.6, abs=0.1)
    actions = torch.cat(objective.asked)
    assert actions[..., 5].abs().max() <= 0.3 + 1e-6
    assert 0.2 + actions[..., 5].cumsum(1).max() <= 0.8 + 1e-6


def test_a_plan_begins_with_what_it_does_and_not_with_waiting():
    class LateGrip:
        """Falls with a change of the gripper, and a little more the later that comes."""

        def differences(self, actions):
            late = torch.arange(1.0, actions.shape[1] + 1)
            return 2.0 - (actions[..., 6] * late).sum(1, keepdim=True) / len(late)

        def energies(self, differences):
            return differences.square().mean(-1)

        def __call__(self, actions):
            return self.energies(self.differences(actions))

    where = space(fixed_axes={"x": 0.0, "y": 0.0, "z": 0.0})
    found = plan(LateGrip(), where)
    assert found.actions[:, 6].tolist() == [1.0, 0.0, 0.0]
    assert found.energy == pytest.approx(float(LateGrip()(found.actions[None])))


class Pushed(Tabletop):
    """An object that comes along with a hand, low and within 3 cm, that moves towards it.

    The latent holds the hand and the object at the end of a sequence.
    """

    def __init__(self, thing, goal_hand, goal_thing):
        self.thing = torch.tensor(thing)
        self.goal = torch.tensor([*goal_hand, *goal_thing])

    def differences(self, actions):
        ends = []
        for sequence in actions:
            hand, thing = torch.zeros(3), self.thing.clone()
            for action in sequence.repeat_interleave(10, 0) / 10:
                hand = hand + action[:3]
                gap = thing - hand[:2]
                if hand[2] < -0.05 and gap.norm() < 0.03 and gap @ action[:2] > 0:
                    thing = thing + action[:2]
            ends.append(torch.cat([hand, thing]))
        return torch.stack(ends) - self.goal


@pytest.mark.parametrize("direction", [(1.0, 0.0), (0.0, -1.0), (-0.7, 0.7)])
def test_the_hand_goes_behind_an_object_to_push_it_to_its_place(direction):
    direction = torch.tensor(direction) / torch.tensor(direction).norm()
    thing = torch.tensor([0.03, 0.02])
    place = thing + 0.11 * direction
    hand = [*(place - 0.03 * direction).tolist(), -0.1]
    objective = Pushed(thing.tolist(), hand, place.tolist())
    found = plan(objective, space(horizon=6, fixed_axes={"gripper": [0.0] * 6}), evaluations=192)
    left = objective.differences(found.actions[None])[0]
    assert left[3:].norm() < 0.03 and left[:3].norm() < 0.03
    direct = torch.zeros(1, 6, 7)
    direct[0, :, :3] = torch.tensor(hand) / 6
    assert objective.differences(direct)[0, 3:].norm() > 0.05, "the straight way would do"


class Fragile(Tabletop):
    """An object that is overturned by a hand which does not come from above it."""

    def differences(self, actions):
        falls = []
        for sequence in actions:
            places = torch.cat([torch.zeros(1, 3), sequence[:, :3].cumsum(0)]) - self.thing
            there = places.norm(dim=1) < 0.03
            above = (places[:, :2].norm(dim=1) < 0.03) & (places[:, 2] > 0.03)
            falls.append(bool((there[1:] & ~there[:-1] & ~above[:-1]).any()))
        return torch.cat([super().differences(actions), 0.02 * torch.tensor(falls)[:, None]], dim=1)


def test_the_hand_goes_over_an_object_and_down_where_a_straight_way_overturns_it():
    thing = (0.07, 0.04, -0.02)
    objective = Fragile(thing, thing, thing, goal_closedness=1.0)
    found = plan(objective, space())
    assert objective.differences(found.actions[None])[0, -1] == 0.0
    assert found.actions[0, 2] > 0.0 > found.actions[1, 2] and found.actions[2, 6] == 1.0
    straight = torch.zeros(1, 3, 7)
    straight[0, 0, :3], straight[0, 1, 6] = torch.tensor(thing), 1.0
    assert objective.differences(straight)[0, -1] > 0.0, "the straight way would do"


def test_fingers_close_where_they_are_told_to_and_not_on_the_way():
    """Closing early brings the closedness of the goal a little nearer, and nothing else."""
    far = (0.6, 0.0, 0.0)
    objective = Tabletop(far, far, far, goal_closedness=1.0)
    now, later = torch.zeros(1, 3, 7), torch.zeros(1, 3, 7)
    now[0, 0, 6] = 1.0
    now[0, 1:, 0] = later[0, :, 0] = BOUND
    found = plan(objective, space())
    assert (found.actions[:, 6] == 0.0).all() and (found.actions[:, 0] > 0.9 * BOUND).all()


class Wide(Tabletop):
    """Fingers take the object wherever within 3 cm they close, by what is said best at the edge."""

    def differences(self, actions):
        self.asked.append(actions.clone())
        ends = []
        for sequence in actions:
            hand, thing, better = torch.zeros(3), self.thing.clone(), 0.02
            for action in sequence:
                beside = hand - self.thing
                if action[6] > 0.5 and float(beside[:2].norm()) < 0.03 and hand[2] < -0.05:
                    thing, better = None, 0.02 - 0.03 * float(beside[0])
                hand = hand + action[:3]
            end = hand if thing is None else thing
            ends.append(torch.cat([hand, end, torch.tensor([better, 0.0])]))
        return torch.stack(ends) - self.goal


def test_the_gripper_closes_amid_the_places_that_do_and_not_at_their_best_edge():
    objective = Wide((0.0, 0.0, -0.06), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0)
    sideways = []
    for seed in range(8):
        found = plan(objective, space(4), seed=seed)
        first, second = found.actions[:2]
        closing = second if second[6] else found.actions[2]
        down = found.actions[: 1 if second[6] else 2].sum(0)
        assert closing[6] == 1.0
        sideways.append(float(down[:2].norm()))
    assert max(sideways) < 0.02, "it closed at the edge"


def test_a_change_of_the_gripper_at_a_place_that_is_better_than_all_round_it_stays_there():
    objective = Tabletop((0.0, 0.0, -0.06), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0)
    found = plan(objective, space(4))
    assert found.actions[0, :2].abs().max() < 0.01
