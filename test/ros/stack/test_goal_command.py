# SPDX-License-Identifier: Apache-2.0
"""Goals by hand over the running stack: from the camera, a taught file, a path; and followed."""

import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from huge_images import huge_png
from std_srvs.srv import Trigger

from stack.test_stack import camera_image, encoded
from vjepa2_ros.execution.goal_file import load_goal
from vjepa2_ros.msg import PlanningStatus
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.srv import SetGoal

DEADLINE = 180.0


@pytest.fixture(autouse=True)
def no_goal_left(stack):
    yield
    stack.call(Trigger, "cancel", Trigger.Request())
    stack.wait("robot_state", lambda state: not state.moving)


def program(*words, answers=""):
    return subprocess.run(
        [sys.executable, "-m", "vjepa2_ros.cli.main", *map(str, words)],
        input=answers, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip


def test_the_cameras_picture_is_kept_set_and_followed_to_its_end(stack, tmp_path):
    done = program(
        "goal", "--from-topic", "--save", tmp_path / "goal.png", "--steps", 2, "--wait"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "accepted" in done.stdout and "STEP_LIMIT after 2 steps" in done.stdout
    kept = cv2.cvtColor(cv2.imread(str(tmp_path / "goal.png")), cv2.COLOR_BGR2RGB)
    assert kept.shape == (256, 256, 3)
    assert np.abs(kept.astype(int) - camera_image(stack)).mean() < 10


def test_goals_are_uploaded_and_stopped_from_the_command_line(stack, tmp_path):
    image = tmp_path / "goal.png"
    assert cv2.imwrite(str(image), cv2.cvtColor(camera_image(stack), cv2.COLOR_RGB2BGR))
    huge = tmp_path / "huge.png"
    huge.write_bytes(bytes(huge_png().data))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")

    def ask(*arguments):
        done = program("goal", *arguments)
        return done.returncode, done.stdout + done.stderr

    code, said = ask(str(image), "--steps", "50")
    assert code == 0 and "accepted" in said
    code, said = ask("--stop")
    assert code == 0 and "halted" in said
    code, said = ask("--reset-fault")
    assert code == 0 and "no fault" in said
    code, said = ask(str(broken))
    assert code == 1 and f"{broken}: 7 bytes that are no JPEG, PNG or WebP" in said
    code, said = ask(str(huge))
    assert code == 1 and "refused: image 1 of 1" in said and "[IMAGE_TOO_LARGE]" in said
    code, said = ask(str(tmp_path / "absent.png"))
    assert code == 1 and "cannot read" in said
    assert ask()[0] == 2


def test_a_goal_that_is_refused_ends_with_one(stack, tmp_path):
    (tmp_path / "small.png").write_bytes(bytes(encoded(np.zeros((16, 16, 3), np.uint8)).data))
    done = program("goal", tmp_path / "small.png", "--wait")
    assert done.returncode == 1 and "IMAGE_INVALID" in done.stderr


@pytest.fixture
def waiting(stack):
    """A goal that is followed, once it is pursued: the process and the goal's id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vjepa2_ros.cli.main", "goal", "--from-topic", "--steps", "500",
         "--wait"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    goal_id = process.stdout.readline().split()[0]
    stack.wait("status", lambda s: s.goal_id == goal_id and s.step >= 1, after=0)
    yield process, goal_id
    process.kill()
    process.communicate()


def test_a_goal_that_is_cancelled_ends_the_wait_with_one(stack, waiting):
    process, _ = waiting
    assert stack.call(Trigger, "cancel", Trigger.Request()).success
    out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1 and "CANCELLED" in out


def test_ctrl_c_while_waiting_cancels_the_goal(stack, waiting):
    process, goal_id = waiting
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    stack.wait(
        "status",
        lambda s: s.goal_id == goal_id and s.state == PlanningStatus.CANCELLED,
        after=0,
    )


def test_a_taught_sequence_is_kept_in_one_file_that_goal_takes(stack, tmp_path):
    file = tmp_path / "two.goal"
    # The input ends after the third picture, which is kept.
    done = program("teach", file, answers="\nopen\n1\n\nwave\nhold\nmany\n\ndon\n\n")
    assert done.returncode == 0, done.stderr
    assert "3 sub-goal(s)" in done.stdout and "not 'wave'" in done.stdout
    assert "not 'don'" in done.stdout
    taught = [(subgoal.gripper, subgoal.steps) for subgoal in load_goal(file)]
    assert taught == [("open", 1), ("hold", 8), ("planned", 8)]
    set_ = program("goal", file)
    assert set_.returncode == 0 and "3 sub-goal(s), at most 17 steps" in set_.stdout
    goal = stack.wait("goal", lambda g: g.goal_id and g.goal_id in set_.stdout, after=0)
    assert list(goal.steps) == [1, 8, 8]
    assert list(goal.gripper) == ["open", "hold", "planned"]
    # Where the robot was goes with each picture.
    here = load_goal(file)[0].state
    assert len(here) == 7 and len(goal.states) == 3
    position = goal.states[0].pose.position
    assert [position.x, position.y, position.z] == pytest.approx(here[:3])
    again = program("teach", file, answers="done\n")
    assert again.returncode == 2 and "exists already" in again.stderr


def test_a_goal_by_a_path_is_refused_without_a_folder_for_it(stack):
    answer = stack.call(SetGoal, "set_goal", SetGoal.Request(image_paths=["/etc/passwd"]))
    assert not answer.accepted and answer.reason == Reason.IMAGE_INVALID
    assert "goal_folder" in answer.message


def test_a_picture_of_a_topic_that_nobody_publishes_is_not_waited_for_for_ever(stack):
    done = program("goal", "--from-topic", "nowhere/image")
    assert done.returncode == 1 and "no image on /vjepa2/nowhere/image" in done.stderr


def test_asking_the_stack_takes_no_seconds_of_imports():
    """A goal was once sent only after torch and transformers were there: 10 s on a laptop."""
    code = (
        "import sys; from vjepa2_ros.execution import goal_file; "
        "from vjepa2_ros.ros import goal_messages; from vjepa2_ros.stack import client; "
        "sys.exit(str({'torch', 'transformers', 'mujoco'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


@pytest.mark.parametrize(
    "words",
    [
        ["--save", "x.png", "a.png"],
        ["--from-topic", "--cancel"],
        ["a.png", "--from-topic=camera"],
        ["--wait", "--stop"],
        ["cup.goal", "--steps", "3"],
        ["--from-topic", "--save", "/etc/hostname"],
        [],
    ],
)
def test_arguments_that_do_not_go_together_are_refused(words):
    assert program("goal", *words).returncode == 2
