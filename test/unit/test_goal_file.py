# SPDX-License-Identifier: Apache-2.0
"""A taught goal in one file, and files that are none."""

import io
import json
import zipfile

import pytest

from vjepa2_ros.execution import goal_file
from vjepa2_ros.execution.goal_file import GoalFileError, TaughtSubgoal, load_goal, save_goal

TAUGHT = [TaughtSubgoal(b"first picture", 5, "open"), TaughtSubgoal(b"second", 8)]


def archive(path, index, **members):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("goal.json", index if isinstance(index, str) else json.dumps(index))
        for name, data in members.items():
            file.writestr(name, data)
    return path


def subgoals(*entries):
    return {"format": goal_file.FORMAT, "subgoals": list(entries)}


def test_what_was_taught_comes_back(tmp_path):
    save_goal(tmp_path / "cup.goal", TAUGHT)
    assert load_goal(tmp_path / "cup.goal") == TAUGHT


def test_where_the_robot_was_comes_back_where_it_was_known(tmp_path):
    state = (0.5, 0.1, 0.2, 3.1, 0.0, 0.2, 0.4)
    taught = [TaughtSubgoal(b"first", 5, "open", state), TaughtSubgoal(b"second", 8)]
    save_goal(tmp_path / "cup.goal", taught)
    assert load_goal(tmp_path / "cup.goal") == taught


@pytest.mark.parametrize(
    "state",
    [
        "[1, 2, 3]",
        "[1, 2, 3, 4, 5, 6, NaN]",
        "[1e300, 2, 3, 4, 5, 6, 0]",
        '"here"',
        "[1, 2, 3, 4, 5, 6, true]",
    ],
)
def test_a_state_that_is_none_is_named(tmp_path, state):
    entry = f'{{"image": "1.png", "steps": 1, "gripper": "open", "state": {state}}}'
    index = f'{{"format": "{goal_file.FORMAT}", "subgoals": [{entry}]}}'
    path = archive(tmp_path / "x.goal", index, **{"1.png": b"picture"})
    with pytest.raises(GoalFileError, match="sub-goal 1 has a state that is not 7 numbers"):
        load_goal(path)


def test_a_file_that_is_there_already_is_kept(tmp_path):
    (tmp_path / "cup.goal").write_text("dear")
    with pytest.raises(FileExistsError):
        save_goal(tmp_path / "cup.goal", TAUGHT)
    assert (tmp_path / "cup.goal").read_text() == "dear"


@pytest.mark.parametrize(
    "index, text",
    [
        ("no JSON", "is no taught goal"),
        ("[]", "not of the format"),
        ({"format": "another", "subgoals": []}, "not of the format"),
        (subgoals(), "not of the format"),
        (subgoals("a"), "sub-goal 1 has no image"),
        (subgoals({"image": "1.png", "steps": 3}), "sub-goal 1 has no image"),
        (subgoals({"image": "1.png", "steps": True, "gripper": "open"}), "has no image"),
        (subgoals({"image": "1.png", "steps": 0, "gripper": "open"}), "0 steps"),
        (subgoals({"image": "1.png", "steps": 3, "gripper": "wave"}), "'wave'"),
        (subgoals({"image": "2.png", "steps": 3, "gripper": "open"}), "has no '2.png'"),
        (subgoals({"image": "a\x1b[2J", "steps": 3, "gripper": "open"}), r"has no 'a\\x1b\[2J'"),
        (subgoals({"image": "1.png", "steps": 10**30, "gripper": "open"}), "use 1 to 10000"),
        (subgoals(*[{"image": "1.png", "steps": 3, "gripper": "open"}] * 1001), "1001 sub-goals"),
    ],
)
def test_what_is_no_taught_goal_is_named(tmp_path, index, text):
    path = archive(tmp_path / "x.goal", index, **{"1.png": b"picture"})
    with pytest.raises(GoalFileError, match=text):
        load_goal(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_archive_is_named(tmp_path, content):
    (tmp_path / "x.goal").write_bytes(content)
    with pytest.raises(GoalFileError, match="x.goal is no taught goal"):
        load_goal(tmp_path / "x.goal")


def test_no_more_is_unpacked_than_is_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(goal_file, "MAX_BYTES", 1000)
    path = tmp_path / "x.goal"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        entry = {"image": "1.png", "steps": 3, "gripper": "open"}
        file.writestr("goal.json", json.dumps(subgoals(entry, entry)))
        file.writestr("1.png", b"0" * 600)
    with pytest.raises(GoalFileError, match="'1.png' is too large"):
        load_goal(path)


def test_what_cannot_be_written_whole_leaves_no_file(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def getbuffer(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("vjepa2_ros.execution.goal_file.io.BytesIO", Full)
    with pytest.raises(OSError, match="No space left"):
        save_goal(tmp_path / "a.goal", [TaughtSubgoal(b"x", 1, "hold")])
    assert list(tmp_path.iterdir()) == []
