# SPDX-License-Identifier: Apache-2.0
"""Tasks: what an episode shows, who teaches it, and what does not count as one."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.simulation.simulator import (
    OBJECTS,
    TRAINING_SCENES,
    Simulator,
    SimulatorConfig,
    hand_rotation,
)
from vjepa2_ros.tasks import load_task, task_names
from vjepa2_ros.tasks.library.reach import FARTHEST, NEAREST
from vjepa2_ros.tasks.outcome import LIFT, SUCCESS_DISTANCE, Cause, Outcome
from vjepa2_ros.tasks.task import (
    EpisodeError,
    TaskOptions,
    TeachingError,
    check_options,
    draw_episode,
    scene_seeds,
)
from vjepa2_ros.tasks.teacher import Teacher
from vjepa2_ros.tasks.truth import Trace, Truth
from vjepa2_ros.training.recording import scene_seed

WITH_OBJECTS = [name for name in task_names() if load_task(name).objects]


@pytest.fixture(scope="module")
def simulator():
    return Simulator()


def options_of(name, **changes):
    objects = load_task(name).objects
    return TaskOptions(**{"object": objects[0] if objects else None, **changes})


def test_each_seed_has_ten_thousand_scenes_of_its_own_and_none_of_training():
    assert scene_seeds(0, 3) == [0, 1, 2]
    assert scene_seeds(3, 50)[32] == 30_032
    assert scene_seeds(99, 10_000)[-1] == TRAINING_SCENES.start - 1
    assert scene_seeds(100, 1) == [2_000_000]
    seen = set()
    for seed in (0, 1, 98, 99, 100, 101, 199, 200, 2**31 - 1):
        scenes = set(scene_seeds(seed, 10_000))
        assert len(scenes) == 10_000 and not scenes & seen and not scenes & set(TRAINING_SCENES)
        seen |= scenes


def test_training_keeps_to_its_own_scenes_whatever_its_seed():
    assert scene_seed(0, 0) == 1_000_000 and scene_seed(0, 3999) == 1_003_999
    for seed in (0, 1, 99, 100, 2**31 - 1):
        assert scene_seed(seed, 9_999) in TRAINING_SCENES


@pytest.mark.parametrize(("seed", "episodes"), [(-1, 1), (1, 0), (1, 10_001)])
def test_a_negative_seed_and_more_episodes_than_scenes_are_refused(seed, episodes):
    with pytest.raises(ValueError, match="seed"):
        scene_seeds(seed, episodes)


def test_an_unknown_task_is_refused_with_the_names_of_all():
    with pytest.raises(ValueError, match="unknown task 'dance'.*pick_and_place"):
        load_task("dance")
    with pytest.raises(ValueError, match="no_such_module:TASK"):
        load_task("no_such_module:TASK")
    with pytest.raises(ValueError, match="'json:dumps' is no task: it has no description"):
        load_task("json:dumps")
    assert load_task("vjepa2_ros.tasks.library.reach:TASK") is load_task("reach")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("grasp", {}, "needs an object: one of cup, box, not None"),
        ("grasp", {"object": "spoon"}, "not 'spoon'"),
        ("reach", {"object": "cup"}, "has no object"),
        ("grasp", {"object": "cup", "pictures": 4}, "not 4"),
        ("grasp", {"object": "cup", "gripper": "open"}, "not 'open'"),
    ],
)
def test_options_that_do_not_fit_a_task_are_refused(name, options, said):
    with pytest.raises(EpisodeError, match=said):
        check_options(load_task(name), TaskOptions(**options))


@pytest.mark.parametrize("name", task_names())
def test_an_episode_repeats_by_its_seed_and_leaves_the_simulator_at_its_start(simulator, name):
    task, options = load_task(name), options_of(name)
    first = draw_episode(task, simulator, 21, options)
    here, objects = simulator.pose()[0], simulator.object_positions()
    draw_episode(task, simulator, 22, options)
    again = draw_episode(task, Simulator(), 21, options)
    np.testing.assert_array_equal(again.target, first.target)
    np.testing.assert_array_equal(again.start.physics, first.start.physics)
    for one, other in zip(first.subgoals, again.subgoals, strict=True):
        # The depth of two OpenGL contexts may round differently at an edge.
        assert np.abs(one.image.astype(int) - other.image).mean() < 0.01
    simulator.restore(first.start)
    np.testing.assert_allclose(simulator.pose()[0], here, atol=1e-9)
    np.testing.assert_allclose(simulator.object_positions(), objects, atol=1e-9)


def test_a_reach_starts_15_to_40_cm_from_its_goal(simulator):
    for seed in range(10):
        episode = draw_episode(load_task("reach"), simulator, seed, TaskOptions())
        distance = np.linalg.norm(episode.target - simulator.pose()[0])
        assert NEAREST - 1e-3 <= distance <= FARTHEST + 1e-3


class SolvedAtFirst:
    """Its first episode is solved where it starts, its second cannot be taught."""

    description, objects = "", ()

    def __init__(self):
        self.drawn = 0

    def draw(self, simulator, random, options):
        self.drawn += 1
        if self.drawn == 2:
            raise TeachingError("on purpose")
        return load_task("reach").draw(simulator, random, options)

    def outcome(self, episode, trace, refused):
        solved = self.drawn == 1
        return Outcome(solved, 0.0, None if solved else Cause.OUT_OF_TIME)


def test_an_episode_that_is_solved_at_its_start_or_cannot_be_taught_is_drawn_again(simulator):
    task = SolvedAtFirst()
    draw_episode(task, simulator, 1, TaskOptions())
    assert task.drawn == 3


def test_a_scene_that_allows_no_episode_is_an_error(simulator):
    task = SolvedAtFirst()
    task.outcome = lambda *_, **__: Outcome(True, 0.0)
    with pytest.raises(EpisodeError, match="scene 1 allows no episode"):
        draw_episode(task, simulator, 1, TaskOptions())


@pytest.mark.parametrize("name", WITH_OBJECTS)
@pytest.mark.parametrize("thing", OBJECTS)
def test_nothing_is_solved_by_doing_nothing(simulator, name, thing):
    task = load_task(name)
    episode = draw_episode(task, simulator, 5, TaskOptions(thing))
    truths = [Truth.of(simulator)]
    for _ in range(15):
        simulator.advance(0.1)
        truths.append(Truth.of(simulator))
    assert not task.outcome(episode, Trace(truths), refused=False).success


def test_a_workspace_too_small_for_a_reach_is_an_error_and_not_a_hang():
    box = Workspace((0.45, -0.05, 0.2), (0.5, 0.0, 0.25))
    with pytest.raises(EpisodeError, match="allows no episode"):
        draw_episode(load_task("reach"), Simulator(SimulatorConfig(box)), 0, TaskOptions())


class Observed(Simulator):
    """A simulator that keeps the truth while it is advanced."""

    def __init__(self):
        self.truths = []
        super().__init__()

    def advance(self, seconds):
        for _ in range(max(1, round(seconds / 0.1))):
            super().advance(0.1)
            self.truths.append(Truth.of(self))


@pytest.mark.parametrize("thing", OBJECTS)
@pytest.mark.parametrize("name", ["grasp", "pick_and_place", "reach_with_object"])
def test_what_the_pictures_show_is_a_success_when_it_is_done(name, thing):
    """The hand that takes the pictures does the task; what it did is judged like any other."""
    task, observed = load_task(name), Observed()
    random = np.random.default_rng(4)
    observed.reset(8)
    episode = task.draw(observed, random, TaskOptions(thing))
    observed.advance(1.2)
    assert task.outcome(episode, Trace(observed.truths), refused=False).success


def test_taught_pictures_say_what_the_gripper_does_and_the_papers_do_not(simulator):
    task = load_task("pick_and_place")
    taught = draw_episode(task, simulator, 3, TaskOptions("box"))
    assert [goal.gripper for goal in taught.subgoals] == [
        "open", "open", "close", "hold", "hold", "open",
    ]  # fmt: skip
    assert len({goal.image.tobytes() for goal in taught.subgoals}) == 5
    paper = draw_episode(task, simulator, 3, TaskOptions("box", 3, "planned"))
    assert [goal.name for goal in paper.subgoals] == ["grasped", "near the target", "placed"]
    assert [goal.steps for goal in paper.subgoals] == [12, 10, 7]
    assert {goal.gripper for goal in paper.subgoals} == {"planned"}
    single = draw_episode(load_task("pick_and_place_single"), simulator, 3, TaskOptions("box"))
    assert [goal.name for goal in single.subgoals] == ["placed"]


def test_objects_keep_apart_and_their_way_is_free(simulator):
    for seed in range(8):
        episode = draw_episode(load_task("pick_and_place"), simulator, seed, TaskOptions("cup"))
        places = simulator.object_positions()
        assert np.linalg.norm(places[0, :2] - places[1, :2]) >= 0.16
        assert 0.14 <= np.linalg.norm(places[0, :2] - episode.target[:2]) <= 0.36
        assert np.linalg.norm(places[1, :2] - episode.target[:2]) >= 0.14


def test_a_hand_that_does_not_arrive_cannot_teach(simulator):
    simulator.reset(0)
    with pytest.raises(TeachingError, match="stopped"):
        Teacher(simulator, TaskOptions("cup")).move(np.array([1.2, 0.0, 0.1]))
    with pytest.raises(TeachingError, match="do not hold the cup"):
        Teacher(simulator, TaskOptions("cup")).close()


def test_limits_of_success_are_those_that_are_documented():
    assert (SUCCESS_DISTANCE, LIFT) == (0.04, 0.03)


def test_a_box_that_lies_askew_is_taught_with_a_hand_that_is_turned_to_fit():
    simulator = Simulator(SimulatorConfig(box_yaw=0.78))
    task, options = load_task("grasp"), TaskOptions("box")
    for seed in range(3):
        episode = draw_episode(task, simulator, seed, options)
        lies = simulator.grasp_yaws()[1]
        start = Rotation.from_quat(simulator.pose()[1]) * hand_rotation(0.0).inv()
        assert start.magnitude() < 0.01, "the hand does not start turned"
        teacher = Teacher(simulator, options)
        teacher.grasp_object()
        turned = Rotation.from_quat(simulator.pose()[1]) * hand_rotation(lies).inv()
        assert turned.magnitude() < 0.05 and simulator.held()[1]
        assert episode.object == "box"
