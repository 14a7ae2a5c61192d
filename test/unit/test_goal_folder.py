# SPDX-License-Identifier: Apache-2.0
"""Goal images by a path: nothing outside of one folder, and no file that is none."""

import os

import pytest

from vjepa2_ros.execution import goal_folder
from vjepa2_ros.execution.goal_folder import GoalPathError, read_beneath


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "goals"
    (folder / "cups").mkdir(parents=True)
    (folder / "one.png").write_bytes(b"one")
    (folder / "cups" / "two.png").write_bytes(b"two")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "goals of another").mkdir()
    (tmp_path / "goals of another" / "three.png").write_bytes(b"three")
    return folder


def test_files_beneath_the_folder_are_read_in_order(folder):
    assert read_beneath(str(folder), ["cups/two.png", "one.png"]) == [b"two", b"one"]
    assert read_beneath(str(folder), ["cups/../one.png"]) == [b"one"]
    assert read_beneath(str(folder), [str(folder / "one.png")]) == [b"one"]


def test_without_a_folder_nothing_is_read(folder):
    with pytest.raises(GoalPathError, match="set the planner's goal_folder"):
        read_beneath("", [str(folder / "one.png")])


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "cups/../../secret",
        "/etc/passwd",
        "../goals of another/three.png",
        "link",
        "in/secret",
    ],
)
def test_nothing_outside_of_the_folder_is_read(folder, path):
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "in").symlink_to(folder.parent)
    with pytest.raises(GoalPathError, match="leads out of goal_folder"):
        read_beneath(str(folder), ["one.png", path])


def test_a_link_within_the_folder_is_followed(folder):
    (folder / "link.png").symlink_to("cups/two.png")
    assert read_beneath(str(folder), ["link.png"]) == [b"two"]


def test_the_folder_itself_may_be_reached_by_a_link(folder, tmp_path):
    (tmp_path / "shortcut").symlink_to(folder)
    assert read_beneath(str(tmp_path / "shortcut"), ["one.png"]) == [b"one"]


@pytest.mark.parametrize("path", ["missing.png", "cups", "", "a\0b", "x" * 5000, "loop", "pipe"])
def test_what_is_no_regular_file_is_refused(folder, path):
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    with pytest.raises(GoalPathError):
        read_beneath(str(folder), [path])


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(GoalPathError, match="goal_folder .*nowhere cannot be used"):
        read_beneath(str(tmp_path / "nowhere"), ["one.png"])


def test_files_that_are_too_large_together_are_refused(folder, monkeypatch):
    monkeypatch.setattr(goal_folder, "MAX_BYTES", 5)
    assert read_beneath(str(folder), ["one.png"]) == [b"one"]
    with pytest.raises(GoalPathError, match="together"):
        read_beneath(str(folder), ["one.png", "cups/two.png"])
