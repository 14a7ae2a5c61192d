# SPDX-License-Identifier: Apache-2.0
"""How the stack is started: with plain programs in the place of the nodes."""

import sys

import pytest

from vjepa2_ros.stack.process_group import ProcessGroup, ProcessGroupError
from vjepa2_ros.stack.start import READY, SIMULATION, start_stack

PATIENT = "import time; time.sleep(1000)"


class Recorder(ProcessGroup):
    """Writes down the command of each node and starts a plain program in its place."""

    def __init__(self, manager):
        super().__init__()
        self.manager, self.commands = manager, {}

    def start(self, name, command):
        self.commands[name] = command
        code = self.manager if name == "lifecycle_manager" else PATIENT
        return super().start(name, [sys.executable, "-c", code])

    def wait_for_line(self, name, text, timeout=None, stop=None):
        assert timeout is None, "the deadlines are the lifecycle manager's"
        return super().wait_for_line(name, text, timeout, stop)


def test_each_process_gets_its_own_parameter_file_also_the_lifecycle_manager(tmp_path):
    config = {name: tmp_path / f"{name}.yaml" for name in ("planner_node", "lifecycle_manager")}
    with Recorder(f"print({READY!r}, flush=True); {PATIENT}") as group:
        start_stack(group, config=config)
    assert list(group.commands) == [*SIMULATION, "lifecycle_manager"]
    for name, path in config.items():
        assert str(path) in group.commands[name]
    assert not any(str(tmp_path) in word for word in group.commands["encoder_node"])


def test_a_lifecycle_manager_that_gives_up_ends_the_wait_with_its_words():
    with Recorder("print('encoder_node did not configure'); raise SystemExit(1)") as group:
        with pytest.raises(ProcessGroupError, match="exit code 1(.|\n)*encoder_node did not"):
            start_stack(group)
