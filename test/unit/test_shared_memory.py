# SPDX-License-Identifier: Apache-2.0
"""What killed processes leave behind in the shared memory of Fast DDS."""

import fcntl
import os

from vjepa2_ros.stack import shared_memory
from vjepa2_ros.stack.shared_memory import remove_abandoned

SEGMENT = "fastdds_007e3e74351ecb65"


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_what_nobody_has_locked_is_removed_and_everything_else_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, "YOUNG", 0.0)
    left = (
        "fastdds_port7002_el", "fastdds_port7000", "sem.fastdds_port7000_mutex",
        "fastdds_port7663", "fastdds_port7663_sl", "sem.fastdds_port7663_mutex",
        SEGMENT, f"{SEGMENT}_el",
    )  # fmt: skip
    live = ("fastdds_port7001", "fastdds_port7001_sl", "sem.fastdds_port7001_mutex")
    foreign = ("fastdds_port", "fast_datasharing_01.0f", "sem.mp-123", "pulse-shm-1")
    for name in (*left, *live, *foreign):
        (tmp_path / name).write_bytes(b"x")
    with open(tmp_path / live[1], "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert remove_abandoned(tmp_path) == len(left)
        assert names(tmp_path) == {*live, *foreign}
    assert remove_abandoned(tmp_path) == len(live)
    assert names(tmp_path) == set(foreign)


def test_files_that_a_process_may_be_creating_are_left_alone(tmp_path):
    (tmp_path / f"{SEGMENT}_el").touch()
    assert remove_abandoned(tmp_path) == 0 and os.listdir(tmp_path)


def test_a_system_without_such_a_folder_has_nothing_to_remove(tmp_path):
    assert remove_abandoned(tmp_path / "absent") == 0
