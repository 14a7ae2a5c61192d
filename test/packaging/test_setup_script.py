# SPDX-License-Identifier: Apache-2.0
"""scripts/setup repeats what failed and nothing else.

The real set-up takes minutes and the network, so a Python stands in for the real one that only
writes down what it is asked and fails where it is told to.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from workspace import ROOT

PYTHON = """#!/bin/sh
# Fails when its arguments hold the words in the file `fails`.
cd "{folder}"
echo "$*" >>calls
case "$*" in *"$(cat fails)"*) exit 1 ;; esac
case "$*" in
  *--version) echo Python 3.11.0 ;;
  *missing-packages) cat missing ;;
  "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *--editable*) mkdir -p vjepa2_ros/msg && touch vjepa2_ros/msg/__init__.py ;;
esac
"""


class Tree:
    """A source tree in which scripts/setup can run."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("scripts", "msg", "srv", "cmake"):
            shutil.copytree(ROOT / name, folder / name)
        for file in [*ROOT.glob("requirements*.txt"), ROOT / "setup.py", ROOT / "setup.cfg"]:
            shutil.copy(file, folder)
        for name in ("CMakeLists.txt", "package.xml"):
            shutil.copy(ROOT / name, folder)
        (folder / "tools").mkdir()
        self.tool("python3", PYTHON.format(folder=folder))
        self.tool("cmake", "#!/bin/sh\n")
        self.write("missing", "")
        self.fail_at("nothing")

    def tool(self, name: str, text: str):
        file = self.folder / "tools" / name
        file.write_text(text)
        file.chmod(0o755)

    def write(self, name: str, text: str):
        (self.folder / name).write_text(text)

    def fail_at(self, words: str):
        self.write("fails", words)

    def set_up(self, **variables: str) -> tuple[int, str, list[str]]:
        """Exit status, what was said, and the installations and builds that were started."""
        self.write("calls", "")
        kept = {name: value for name, value in os.environ.items() if name != "ROS_DISTRO"}
        environment = {**kept, **variables}
        environment["PATH"] = f"{self.folder}/tools:{os.environ['PATH']}"
        environment.pop("PYTHON", None)
        result = subprocess.run(
            [self.folder / "scripts/setup"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        calls = (self.folder / "calls").read_text().splitlines()
        work = [call for call in calls if call.startswith("-m") and "--version" not in call]
        return result.returncode, result.stdout, work


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def test_a_second_run_does_nothing(tree):
    status, said, work = tree.set_up()
    assert status == 0, said
    assert work
    assert tree.set_up() == (0, "", [])


@pytest.mark.parametrize("step", ["-m venv", "requirements.txt", "torch", "--editable"])
def test_a_step_that_failed_is_done_again_and_those_before_it_are_not(tree, step):
    tree.fail_at(step)
    status, _, failed = tree.set_up()
    assert status != 0
    assert step in failed[-1]
    tree.fail_at("nothing")
    status, _, work = tree.set_up()
    assert status == 0
    first = next(call for call in failed if step in call)
    assert first in work
    assert ("-m venv" in work[0]) == (step == "-m venv")
    assert tree.set_up()[2] == []


def test_a_changed_message_is_built_and_nothing_installed(tree):
    tree.set_up()
    tree.write("msg/Command.msg", "uint8 x\n")
    status, _, (build,) = tree.set_up()
    assert status == 0
    assert "--editable" in build


def test_a_changed_requirement_is_installed(tree):
    tree.set_up()
    tree.write("requirements.txt", "numpy==1.0\n")
    assert any("requirements.txt" in call for call in tree.set_up()[2])


def test_a_tree_that_was_moved_gets_a_new_environment(tree):
    tree.set_up()
    moved = tree.folder.with_name("moved")
    tree.folder.rename(moved)
    tree.folder = moved
    tree.tool("python3", PYTHON.format(folder=moved))
    assert "-m venv" in tree.set_up()[2][0]


def test_interfaces_that_were_deleted_are_built_again(tree):
    tree.set_up()
    shutil.rmtree(tree.folder / "vjepa2_ros/msg")
    assert any("--editable" in call for call in tree.set_up()[2])


def test_torch_of_the_users_choice_is_installed_with_its_options(tree):
    work = tree.set_up(TORCH="torch==9.9 --index-url https://example.org")[2]
    assert "-m pip install torch==9.9 --index-url https://example.org" in work
    assert not any("+cpu" in call for call in work)


def test_a_sourced_ros_is_used_and_not_installed(tree):
    status, said, work = tree.set_up(ROS_DISTRO="kilted")
    assert status == 0
    assert "ROS 2 kilted is sourced" in said
    assert "--system-site-packages" in work[0]
    assert not any("requirements-ros.txt" in call for call in work)


def test_without_the_right_to_install_it_prints_the_line_to_run_and_stops(tree):
    tree.write("missing", "libegl1\ncmake\n")
    tree.tool("id", "#!/bin/sh\necho 1000\n")
    tree.tool("sudo", "#!/bin/sh\nexit 1\n")
    tree.tool("apt-get", "#!/bin/sh\ntouch apt-get-was-run\n")
    status, said, work = tree.set_up()
    assert status != 0
    assert "sudo apt-get update && sudo apt-get install --yes" in said
    assert said.rstrip().endswith("libegl1 cmake")
    assert work == []
    assert not (tree.folder / "apt-get-was-run").exists()


def test_with_sudo_it_installs_what_is_missing(tree):
    tree.write("missing", "libegl1\n")
    tree.tool("id", "#!/bin/sh\necho 1000\n")
    tree.tool("sudo", '#!/bin/sh\n[ "$1" = -n ] && shift\nexec "$@"\n')
    tree.tool("apt-get", f'#!/bin/sh\necho "$*" >>{tree.folder}/apt; : >{tree.folder}/missing\n')
    assert tree.set_up()[0] == 0
    assert "install --yes --no-install-recommends libegl1" in (tree.folder / "apt").read_text()
