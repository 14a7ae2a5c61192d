# SPDX-License-Identifier: Apache-2.0
"""The loop round the planner, with a real small model."""

from dataclasses import replace

import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.planning import latent_quadratic
from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.cem import CrossEntropyMethod
from vjepa2_ros.planning.objective import (
    LatentDistance,
    distance,
    magnitude,
    state_distance,
)
from vjepa2_ros.planning.planner import Plan
from vjepa2_ros.planning.receding_horizon import RecedingHorizon, make_loop
from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.settings.declaration import build
from vjepa2_ros.settings.planning import (
    ActionSettings,
    CEMSettings,
    GripperPolicy,
    LoopSettings,
    PlannerNodeSettings,
)
from vjepa2_ros.world_model.encoder import normalise
from vjepa2_ros.world_model.poses import compose, difference

PLANNER = CrossEntropyMethod(CEMSettings(samples=16, iterations=2, top_k=4))
STATE = torch.tensor([0.5, 0.0, 0.3, 3.1, 0.0, 0.1, 0.2])


@pytest.fixture(scope="module")
def model():
    return small_world_model()


def latents(count, seed=0):
    return torch.nn.functional.layer_norm(
        torch.randn(count, 16, 48, generator=torch.Generator().manual_seed(seed)), (48,)
    )


FREE = ActionSettings(gripper=GripperPolicy("sampled"))


def loop(
    model, goals, steps=(), action=FREE, workspace=None, gripper=(), planner=PLANNER, **settings
):
    settings = LoopSettings(**{"patience": 0, "offset_free": False, **settings})
    return RecedingHorizon(planner, model, goals, action, settings, workspace, steps, gripper)


def test_a_step_says_where_to_go_and_what_it_expects(model):
    goal, now = latents(2)
    step = loop(model, goal[None], [5]).step(now, STATE)
    torch.testing.assert_close(step.target_state, compose(STATE, step.action))
    assert step.energy == pytest.approx(float(distance(now, goal)))
    objective = LatentDistance(model, now, STATE, goal)
    assert step.predicted_energy == pytest.approx(
        float(objective(step.action[None, None])[0]), abs=1e-6
    )
    assert (step.subgoal, step.step, step.finished) == (0, 1, None)
    assert step.plan_seconds > 0


def test_subgoals_follow_each_other_after_their_steps_and_end_with_the_last(model):
    running = loop(model, latents(3), [2, 1, 3])
    steps = [running.step(latents(1, seed)[0], STATE) for seed in range(6)]
    assert [step.subgoal for step in steps] == [0, 0, 1, 2, 2, 2]
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step.finished for step in steps] == [None] * 5 + ["step_limit"]
    with pytest.raises(RuntimeError, match="finished"):
        running.step(latents(1)[0], STATE)


def test_it_stops_and_holds_where_no_improvement_is_expected(model):
    goal = latents(1)
    running = loop(model, goal, [10], patience=3)
    steps = [
        running.step(goal[0], STATE) for _ in range(3)
    ]  # at the goal, every predicted step leads away
    assert [step.finished for step in steps] == [None, None, "reached"]
    assert torch.equal(steps[-1].target_state[:6], STATE[:6]) and (steps[-1].action == 0).all()
    assert steps[-1].target_state[6] == steps[-2].target_state[6]
    assert running.finished == "reached"


def test_an_improvement_that_is_predicted_and_comes_resets_the_patience(model):
    goal = latents(1)[0]
    near, nearer = (goal + share * latents(1, 5)[0] for share in (0.5, 0.1))
    # Steps that lead to the goal by what is predicted, whatever is seen.
    running = loop(model, goal[None], [10], patience=2, planner=Hopeful())
    ends = [running.step(seen, STATE).finished for seen in (near, near, nearer, near, nearer)]
    assert ends == [None, None, None, None, "reached"], "the energy did not fall twice in a row"


def test_where_it_would_hold_still_it_goes_on_through_higher_energies(model):
    """As to an object that is to be lifted, and lies farther from the picture than the hand."""
    goal = latents(1)[0]
    near, nearer = (goal + share * latents(1, 5)[0] for share in (0.5, 0.1))
    running = loop(model, goal[None], [4], patience=2, hold_unless_better=True, planner=Hopeful())
    ends = [running.step(seen, STATE).finished for seen in (nearer, near, near, near)]
    assert ends == [None, None, None, "step_limit"]


@pytest.mark.parametrize(
    ("actions", "energy", "said"),
    [
        (torch.full((1, 7), 0.05), float("nan"), "not finite: energy nan"),
        (torch.full((1, 7), 0.05), float("-inf"), "not finite: energy -inf"),
        (torch.full((1, 7), float("nan")), 0.0, "not finite: energy 0"),
        (torch.full((3, 7), 0.05), 0.0, r"shape \[3, 7\], wanted \[1, 7\]"),
    ],
)
def test_what_is_no_plan_is_refused_and_moves_nothing(model, actions, energy, said):
    class Broken(Hopeful):
        def plan(self, objective, space, generator, previous=None):
            return Plan(actions, energy, 1)

    running = loop(model, latents(1), [5], planner=Broken())
    with pytest.raises(ValueError, match=said):
        running.step(latents(1, 1)[0], STATE)


class Hopeful:
    """A planner that predicts to reach the goal."""

    evaluations = 1

    def plan(self, objective, space, generator, previous=None):
        return Plan(torch.zeros(1, 7), 0.0, 1)


def test_without_an_action_nothing_is_predicted_to_change_although_the_model_says_so(model):
    seen, still, asked = latents(1, 3)[0], torch.zeros(1, 1, 7), []
    drift = distance(model.rollout(seen, STATE, still)[0], seen)
    assert float(drift) > 0.1, "an untrained model predicts anything"

    class Still(Hopeful):
        def plan(self, objective, space, generator, previous=None):
            asked.append(float(objective(still)[0]))
            return super().plan(objective, space, generator, previous)

    running = loop(model, latents(1), [5], offset_free=True, planner=Still())
    step = running.step(seen, STATE)
    assert asked == [pytest.approx(step.energy, abs=1e-5)]
    assert step.evaluations == 2


def test_the_loop_does_not_stop_early_before_the_last_subgoal(model):
    goal = latents(1)
    running = loop(model, goal.repeat(2, 1, 1), [4, 4], patience=1)
    assert [running.step(goal[0], STATE).finished for _ in range(5)] == [None] * 4 + ["reached"]


def test_the_same_seed_gives_the_same_steps(model):
    goals, now = latents(1), latents(1, seed=1)[0]
    first, again, other = (loop(model, goals, [3], seed=seed) for seed in (7, 7, 8))
    assert torch.equal(first.step(now, STATE).action, again.step(now, STATE).action)
    assert not torch.equal(first.step(now, STATE).action, other.step(now, STATE).action)


@pytest.mark.parametrize(
    ("latent", "state", "complaint"),
    [
        (torch.zeros(15, 48), STATE, r"latent has shape \[15, 48\]"),
        (torch.full((16, 48), float("nan")), STATE, "latent holds values that are not finite"),
        (torch.zeros(16, 48), STATE[:6], r"state has shape \[6\]"),
        (
            torch.zeros(16, 48),
            torch.full((7,), float("inf")),
            "state holds values that are not finite",
        ),
    ],
)
def test_a_bad_observation_is_refused_and_not_counted(model, latent, state, complaint):
    running = loop(model, latents(1), [1])
    with pytest.raises(ValueError, match=complaint):
        running.step(latent, state)
    assert running.step(latents(1)[0], STATE).step == 1


def test_goals_that_do_not_fit_are_refused(model):
    with pytest.raises(ValueError, match=r"wanted \[G, 16, 48\]"):
        loop(model, torch.zeros(1, 9, 48), [3])
    with pytest.raises(ValueError, match="not finite"):
        loop(model, torch.full((1, 16, 48), float("nan")), [3])
    with pytest.raises(ValueError, match="steps must be a number of at least 1 for each of 2"):
        loop(model, latents(2), [3])


def test_a_horizon_beyond_the_models_frames_is_refused_at_once(model):
    with pytest.raises(ValueError, match="horizon 9 are together more than the model's 8 frames"):
        loop(model, latents(1), [3], action=ActionSettings(horizon=9))


def test_what_is_left_of_a_plan_starts_the_next_search_of_the_same_subgoal(model):
    given = []

    class Recorder:
        evaluations = 1

        def plan(self, objective, space, generator, previous=None):
            given.append(previous)
            actions = torch.arange(14.0).reshape(2, 7) / 1000
            return Plan(actions, float(objective(actions[None])[0]), 1)

    action = ActionSettings(horizon=2)
    running = loop(model, latents(2), [2, 2], action=action, planner=Recorder())
    for seed in range(4):
        running.step(latents(1, seed)[0], STATE)
    assert given[0] is None and given[2] is None, "nothing is carried over to another sub-goal"
    for previous in (given[1], given[3]):
        torch.testing.assert_close(previous[0], torch.arange(7.0, 14.0) / 1000)
        assert (previous[1] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"steps": [3, 0]}, "at least 1 for each of 2"),
        ({"gripper": ["shut", "open"]}, "planned, open, hold, close, got shut"),
        ({"gripper": ["open"]}, "scripted for 1 sub-goals of 2"),
        (
            {
                "gripper": ["open", "hold"],
                "action": ActionSettings(
                    fixed_axes="x=0, y=0, z=0", gripper=GripperPolicy("sampled")
                ),
            },
            "nothing to search",
        ),
        ({"context": 9}, "more than the model's 8 frames"),
    ],
)
def test_what_does_not_fit_the_goals_or_the_model_is_refused(model, arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        loop(model, latents(2), **arguments)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"patience": -1}, "patience"),
        ({"context": 0}, "context"),
        ({"memory_budget": -1.0}, "memory_budget"),
        ({"min_improvement": 1.0}, "min_improvement"),
        ({"cost": "l3"}, "cost"),
        ({"fixed_axes": "gripper=0"}, "gripper.mode"),
        ({"fixed_axes": "x=0, y=0, z=0"}, "nothing is left to search"),
        ({"gripper.close_from": 1}, "never close"),
        ({"gripper.mode": "sampled", "gripper.max_change": 0.1}, "never move"),
    ],
)
def test_invalid_settings_are_refused(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        build(PlannerNodeSettings, given)


def test_the_loop_of_the_planner_node_has_its_settings(model):
    settings = build(
        PlannerNodeSettings, {"steps_per_subgoal": 4, "context": 2, "workspace.lower": [0.4, 0, 0]}
    )
    running = make_loop(settings, PLANNER, model, latents(2), gripper=["open", "planned"])
    assert running.steps == (4, 4) and running.loop.context == 2
    assert running.workspace.lower == (0.4, 0.0, 0.0) and running.gripper == ("open", "planned")


def test_past_frames_and_what_led_from_them_are_part_of_what_is_predicted(model):
    asked = []

    class Recorder:
        evaluations = 1

        def plan(self, objective, space, generator, previous=None):
            asked.append(objective)
            return Plan(torch.zeros(1, 7), float(objective(torch.zeros(1, 1, 7))[0]), 1)

    running = loop(model, latents(1, 9), [4], context=3, planner=Recorder())
    states = STATE + 0.01 * torch.arange(4)[:, None]
    seen = latents(4)
    for latent, state in zip(seen, states, strict=True):
        running.step(latent, state)
    assert [o.past.frames if o.past else 0 for o in asked] == [0, 1, 2, 2]
    action = 0.02 * torch.ones(1, 1, 7)
    actions = torch.cat([difference(states[1:3], states[2:]), action[0]])
    with torch.no_grad():
        whole = model.predictor(seen[1:].flatten(0, 1)[None], actions[None], states[None, 1:])
    expected = distance(normalise(whole[:, -16:]), latents(1, 9)[0])
    torch.testing.assert_close(asked[-1](action), expected)


def test_a_plan_for_a_robot_under_way_starts_where_it_will_be(model):
    goal, now = latents(2)
    ahead = STATE + torch.tensor([0.02, -0.01, 0.0, 0.0, 0.0, 0.0, 0.0])
    step = loop(model, goal[None], [5]).step(now, STATE, ahead)
    torch.testing.assert_close(step.target_state, compose(ahead, step.action))
    assert step.energy == pytest.approx(float(distance(now, goal)))
    way = difference(STATE, ahead)
    predicted = model.rollout(now, STATE, torch.stack([way, step.action])[None])
    assert step.predicted_energy == pytest.approx(float(distance(predicted, goal)[0]), abs=1e-5)


def test_no_target_is_planned_outside_the_workspace(model):
    corner = STATE[:3] + torch.tensor([0.01, 0.01, 0.01])
    workspace = Workspace((0.3, -0.3, 0.0), tuple(corner.tolist()))
    for seed in range(5):
        running = loop(model, latents(1, seed), [5], workspace=workspace, seed=seed)
        step = running.step(latents(1, 7)[0], STATE)
        assert (step.target_state[:3] <= corner + 1e-6).all()
        predicted = model.rollout(latents(1, 7)[0], STATE, step.action[None, None])
        energy = float(distance(predicted, latents(1, seed)[0])[0])
        assert step.predicted_energy == pytest.approx(energy, abs=1e-5)


def test_a_sequence_of_actions_is_cut_where_it_would_leave_the_workspace():
    def cut(*position):
        box = Workspace((0.3, -0.3, 0.0), (0.57, 0.3, 0.4))
        point = torch.zeros(1, 8)
        point[0, [0, 4]] = 0.05 / 0.075
        space = ActionSpace(horizon=2, workspace=box, start=torch.tensor(position))
        return space.from_unit(point)[0, :, 0].tolist()

    assert cut(0.5, 0.0, 0.3) == pytest.approx([0.05, 0.02])
    # From outside it leads towards the box, by no more than an action may.
    assert cut(0.8, 0.0, 0.3) == pytest.approx([-0.075, -0.075])


def test_no_target_leaves_the_workspace_whatever_the_planner_does(model):
    class Careless:
        evaluations = 1

        def plan(self, objective, space, generator, previous=None):
            actions = torch.zeros(1, 7)
            actions[0, :3] = 0.075
            return Plan(actions, float(objective(actions[None])[0]), 1)

    corner = STATE[:3] + 0.01
    workspace = Workspace((0.3, -0.3, 0.0), tuple(corner.tolist()))
    running = loop(model, latents(1), [5], workspace=workspace, planner=Careless())
    step = running.step(latents(1, 7)[0], STATE)
    torch.testing.assert_close(step.target_state[:3], corner)
    predicted = model.rollout(latents(1, 7)[0], STATE, step.action[None, None])
    energy = float(distance(predicted, latents(1)[0])[0])
    assert step.predicted_energy == pytest.approx(energy, abs=1e-5)


def closed(closedness):
    state = STATE.clone()
    state[6] = closedness
    return state


@pytest.mark.parametrize(
    ("scripted", "closedness", "change"),
    [("open", 0.75, -0.75), ("hold", 0.75, 0.0), ("close", 0.875, 0.125), ("close", 0.0, 1.0)],
)
@pytest.mark.parametrize("horizon", [1, 2])
def test_a_scripted_gripper_does_what_the_script_says_whatever_is_planned(
    model, scripted, closedness, change, horizon
):
    policy = GripperPolicy("enumerated", max_change=0.5)
    action = ActionSettings(horizon=horizon, gripper=policy)
    asked = []

    class Recording(CrossEntropyMethod):
        def plan(self, objective, space, generator, previous=None):
            plan = super().plan(objective, space, generator)
            asked.append(plan.actions)
            return plan

    planner = Recording(PLANNER.settings)
    running = loop(
        model, latents(2), [1, 1], action=action, gripper=[scripted, "planned"], planner=planner
    )
    step = running.step(latents(1, 7)[0], closed(closedness))
    assert step.action[6] == change and step.target_state[6] == closedness + change
    assert (asked[0][1:, 6] == 0).all(), "once is enough"
    assert step.action[:3].abs().max() > 0
    step = running.step(latents(1, 7)[0], closed(closedness))
    assert step.action[6] in (-0.5, 0.0, 0.5), "the second sub-goal is not scripted"


@pytest.mark.parametrize(
    ("mode", "closedness", "change"), [("hold", 0.5, 0.0), ("open", 0.5, -0.5), ("close", 0.5, 0.5)]
)
def test_the_policy_decides_where_the_goal_does_not(model, mode, closedness, change):
    action = ActionSettings(gripper=GripperPolicy(mode))
    step = loop(model, latents(1), [2], action=action).step(latents(1, 7)[0], closed(closedness))
    assert step.action[6] == change


class Evaluating(CrossEntropyMethod):
    """Keeps the action sequences that it evaluates."""

    def __init__(self, settings):
        super().__init__(settings)
        self.asked = []

    def plan(self, objective, space, generator, previous=None):
        def recorded(actions):
            self.asked.append(actions)
            return objective(actions)

        return super().plan(recorded, space, generator)


def test_how_far_fingers_close_round_an_object_is_searched_and_full_closing_is_commanded(model):
    planner = Evaluating(PLANNER.settings)
    running = loop(model, latents(1), [1], gripper=["close"], planner=planner)
    step = running.step(latents(1, 7)[0], closed(0.5))
    assert step.action[6] == 0.5 and step.target_state[6] == 1.0
    changes = torch.cat(planner.asked)[:, 0, 6]
    assert changes.min() >= 0.0 and changes.max() <= 0.5 and len(changes.unique()) > 10


def test_a_grip_is_not_loosened_to_what_is_measured_round_an_object(model):
    running = loop(model, latents(2), [1, 2], gripper=["close", "hold"])
    now = latents(1, 7)[0]
    targets = [running.step(now, closed(c)).target_state[6] for c in (0.0, 0.625, 0.625)]
    assert targets == [1.0, 1.0, 1.0], "the object keeps the fingers at 0.625"


def test_an_object_that_was_held_before_the_goal_is_held_on(model):
    running = loop(model, latents(1), [2], gripper=["hold"])
    now = latents(1, 7)[0]
    targets = [
        running.step(now, closed(0.625), commanded_closedness=1.0).target_state[6]
        for _ in range(2)
    ]
    assert targets == [1.0, 1.0]


def test_a_model_of_commanded_closedness_is_told_to_close_and_does_not_search_how_far():
    model = small_world_model(commanded_gripper=True)
    planner = Evaluating(PLANNER.settings)
    running = loop(model, latents(1), [1], gripper=["close"], planner=planner)
    step = running.step(latents(1, 7)[0], closed(0.25))
    assert step.action[6] == 0.75 and step.target_state[6] == 1.0
    assert (torch.cat(planner.asked)[:, 0, 6] == 0.75).all()


def test_a_planned_gripper_neither_opens_nor_closes_beyond_its_stroke():
    model = small_world_model(commanded_gripper=True)
    action = ActionSettings(horizon=3, gripper=GripperPolicy("enumerated", max_change=1.0))
    space = ActionSpace.at(closed(1.0), action, commanded_gripper=True)
    changes = space.from_unit(torch.tensor([[0.0, 0, 0, 1, 0, 0, 0, -1, 0, 0, 0, -1]]))[0, :, 6]
    assert changes.tolist() == [0.0, -1.0, 0.0]
    step = loop(model, latents(1), [1], action=action).step(latents(1, 7)[0], closed(1.0))
    assert step.target_state[6] in (0.0, 1.0)


def test_a_subgoal_is_not_reached_before_its_scripted_gripper_has_moved(model):
    goal = latents(1)
    running = loop(model, goal, [5], gripper=["close"], patience=1)
    first = running.step(goal[0], STATE)  # at the goal: no improvement is predicted
    assert first.finished is None and first.target_state[6] == 1.0
    assert running.step(goal[0], closed(1.0)).finished == "reached"


@pytest.mark.parametrize("cost", ["l1", "l2"])
@pytest.mark.parametrize("offset", [False, True])
def test_a_path_weight_counts_the_mean_energy_of_all_steps_beside_that_of_the_last(
    model, cost, offset
):
    latent, goal = latents(2)
    actions = 0.1 * torch.randn(5, 3, 7, generator=torch.Generator().manual_seed(0))
    error = 0.1 * torch.randn(3, *latent.shape) if offset else None
    objective = LatentDistance(
        model, latent, STATE, goal, cost, offset=error, path_weight=0.5
    )
    steps = model.rollout(latent, STATE, actions, every_step=True)
    wanted = goal if error is None else goal + error
    energies = magnitude((steps - wanted).flatten(2), cost)
    expected = (energies[:, -1] + 0.5 * energies.mean(dim=1)) / 1.5
    torch.testing.assert_close(objective(actions), expected, atol=1e-5, rtol=1e-5)


def test_with_a_path_weight_holding_still_costs_the_present_energy(model):
    """What the model predicts to change at rest is subtracted from every step."""


    class Still(Hopeful):
        def plan(self, objective, space, generator, previous=None):
            still = torch.zeros(1, space.horizon, 7)
            return Plan(still[0], float(objective(still)[0]), 1)

    action = replace(FREE, horizon=3)
    running = loop(
        model, latents(1), [5], action, planner=Still(), path_weight=1.0, offset_free=True
    )
    step = running.step(latents(1, 7)[0], STATE)
    assert step.predicted_energy == pytest.approx(step.energy, rel=1e-4)


def test_a_planned_turn_is_added_to_the_rotation_at_the_start(model):
    """What a contact turns the hand by is not taken over."""

    class Turning(Hopeful):
        def plan(self, objective, space, generator, previous=None):
            actions = torch.zeros(1, 7)
            actions[0, 5] = 0.2
            return Plan(actions, 0.0, 1)

    running = loop(model, latents(1), [5], replace(FREE, max_yaw=0.3), planner=Turning())
    down = STATE.clone()
    down[3:6] = torch.tensor([torch.pi - 1e-3, 0.0, 0.1])
    pushed = down.clone()
    pushed[5] = 0.25
    first, second = (running.step(latents(1, 7)[0], state) for state in (down, pushed))
    assert float(first.target_state[5]) == pytest.approx(0.3, abs=1e-4)
    assert float(second.target_state[5]) == pytest.approx(0.5, abs=1e-4)
    torch.testing.assert_close(second.target_state[3:5], down[3:5], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("commanded", "gripper", "refused"),
    [
        (False, [], True),
        (False, ["open", "planned"], True),
        (False, ["open", "close"], False),
        (True, [], False),
    ],
)
def test_skeletons_that_open_the_gripper_need_a_model_that_is_told_what_it_was_told(
    commanded, gripper, refused
):
    model = small_world_model(commanded_gripper=commanded)
    values = {"planner": "skeletons", "gripper.mode": "enumerated", "horizon": 3}
    settings = build(PlannerNodeSettings, values)
    if refused:
        with pytest.raises(ValueError, match="small do not say: choose another search"):
            make_loop(settings, PLANNER, model, latents(2), gripper=gripper)
    else:
        make_loop(settings, PLANNER, model, latents(2), gripper=gripper)


def test_skeletons_of_one_action_need_a_gripper_that_somebody_tells():
    model = small_world_model(commanded_gripper=True)
    settings = build(PlannerNodeSettings, {"planner": "skeletons", "gripper.mode": "enumerated"})
    with pytest.raises(ValueError, match="raise horizon to 2 or more"):
        make_loop(settings, PLANNER, model, latents(1))
    make_loop(settings, PLANNER, model, latents(1), gripper=["close"])


# The state of the robot in the goal image


@pytest.mark.parametrize("cost", ["l1", "l2"])
@pytest.mark.parametrize("options", [{}, {"path_weight": 0.5}])
def test_a_state_weight_counts_how_far_the_robot_ends_from_where_the_goal_shows_it(
    model, cost, options
):
    now, goal = latents(2)
    actions = 0.05 * torch.randn(6, 2, 7, generator=torch.Generator().manual_seed(2))
    there = STATE + torch.tensor([0.1, -0.05, 0.02, 0.0, 0.1, 0.3, 0.5])
    plain = LatentDistance(model, now, STATE, goal, cost, **options)
    both = LatentDistance(
        model, now, STATE, goal, cost, goal_state=there, state_weight=0.7, **options
    )
    ends = compose(compose(STATE.expand(6, 7), actions[:, 0]), actions[:, 1])
    wanted = plain(actions) + 0.7 * state_distance(ends, there, cost)
    torch.testing.assert_close(both(actions), wanted)


def test_angles_of_states_are_compared_the_short_way_round():
    here, there = torch.zeros(7), torch.zeros(7)
    here[3], there[3] = torch.pi - 0.01, -torch.pi + 0.01
    assert float(state_distance(here, there)) == pytest.approx(0.02 / 7, rel=1e-4)


def test_the_energy_of_a_step_counts_the_state_as_its_plan_does(model):
    goal = latents(1)
    there = STATE + torch.tensor([0.1, 0, 0, 0, 0, 0, 0.0])
    settings = LoopSettings(patience=0, offset_free=False, state_weight=2.0)
    make = lambda: RecedingHorizon(  # noqa: E731
        PLANNER, model, goal, FREE, settings, None, [5], states=there[None]
    )
    assert make().step(goal[0], STATE).energy == pytest.approx(2.0 * 0.1 / 7, rel=1e-4)
    assert make().step(goal[0], there).energy == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (None, "give the goal its states, or set state_weight to 0"),
        (torch.zeros(2, 7), r"finite numbers \[1, 7\]"),
        (torch.full((1, 7), float("nan")), "finite numbers"),
    ],
)
def test_a_state_weight_needs_a_state_for_each_picture(model, states, said):
    with pytest.raises(ValueError, match=said):
        RecedingHorizon(
            PLANNER, model, latents(1), FREE, LoopSettings(state_weight=1.0), states=states
        )


@pytest.mark.parametrize("cost", ["l1", "l2"])
def test_the_part_of_a_large_latent_that_a_search_fits_has_the_whole_state(
    model, cost, monkeypatch
):
    """At random, one or two of the seven components were left, and counted four times."""
    monkeypatch.setattr(latent_quadratic, "_COMPONENTS", 400)
    now, goal = latents(2)
    actions = torch.zeros(5, 1, 7)
    actions[1:, 0, :3] = 0.2 * torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    there = STATE + torch.tensor([0.1, -0.05, 0.02, 0.0, 0.1, 0.3, 0.5])
    both = LatentDistance(model, now, STATE, goal, cost, goal_state=there, state_weight=50.0)
    recorded = latent_quadratic._Recorded(both)
    recorded(actions)
    predicted = torch.from_numpy(recorded.predict(torch.eye(5).double().numpy()))
    plain = LatentDistance(model, now, STATE, goal, cost)
    states = compose(STATE.expand(5, 7), actions[:, 0])
    wanted = 50.0 * state_distance(states, there, cost)
    # What is left is the latent's part, of which a sample is taken.
    torch.testing.assert_close(
        predicted.float() - wanted, plain(actions), atol=0.15 * float(plain(actions).max()), rtol=0
    )


def test_a_model_that_is_told_what_the_gripper_was_told_compares_no_closedness():
    """A hand that was told to close round a cup is measured a quarter closed: it would let go."""
    model = small_world_model(commanded_gripper=True)
    goal = latents(1)
    measured, told = STATE.clone(), STATE.clone()
    measured[6], told[6] = 0.3, 1.0
    settings = LoopSettings(patience=0, offset_free=False, state_weight=2.0)
    running = RecedingHorizon(
        PLANNER, model, goal, FREE, settings, None, [5], states=measured[None]
    )
    assert running.step(goal[0], told).energy == pytest.approx(0.0, abs=1e-6)
    assert running.objective.state_components == 6
