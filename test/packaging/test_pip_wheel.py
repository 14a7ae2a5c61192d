# SPDX-License-Identifier: Apache-2.0
"""The package as pip installs it on a machine without ROS: one wheel with everything in it."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from workspace import ROOT

# It compiles the messages once more; `make setup` and the build by colcon do so in every run.
pytestmark = pytest.mark.slow
NOT_SOURCE = (".*", "__pycache__", "build", "docs", "install", "log", "models", "runs", "*.so")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: pip builds in the tree it is given, and takes up what lies there."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    # So a copy of the in-place build cannot pass for the result of this one.
    for kind in ("msg", "srv"):
        shutil.rmtree(source / "vjepa2_ros" / kind, ignore_errors=True)
    (source / "models/small").mkdir(parents=True)
    (source / "models/small/config.json").write_text("{}")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", source]
    # What is tested is what is in it, not how fast the code is.
    quick = {**os.environ, "CFLAGS": "-O0", "CXXFLAGS": "-O0"}
    result = subprocess.run(
        command, cwd=folder, env=quick, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_is_for_one_platform(wheel):
    assert not wheel.name.endswith("-any.whl")


@pytest.mark.parametrize("kind", ["msg", "srv"])
def test_the_wheel_holds_every_message_and_service(names, kind):
    generated = [name for name in names if name.startswith(f"vjepa2_ros/{kind}/_")]
    assert len(generated) == len(list((ROOT / kind).iterdir())) + 1


def test_the_wheel_holds_the_compiled_type_support(names):
    assert "vjepa2_ros/vjepa2_ros_s__rosidl_typesupport_c.so" in names
    # Here the loader finds it: ros-wheels-bootstrapper searches <environment>/lib.
    assert any(
        name.endswith(".data/data/lib/libvjepa2_ros__rosidl_typesupport_c.so") for name in names
    )


def test_the_wheel_holds_every_module_and_mesh(names):
    package = ROOT / "vjepa2_ros"
    generated = {package / "msg", package / "srv"}
    for file in package.rglob("*"):
        ours = file.suffix != ".so" and not generated & set(file.parents)
        if file.is_file() and ours and "__pycache__" not in file.parts:
            assert str(file.relative_to(ROOT)) in names


def test_the_wheel_holds_configuration_launch_files_and_models(names):
    share = next(name for name in names if name.endswith("share/vjepa2_ros/package.xml"))
    prefix = share.removesuffix("package.xml")
    wanted = {"models/small/config.json"}
    for folder in ("config", "launch"):
        wanted |= {f"{folder}/{file.name}" for file in (ROOT / folder).glob("*") if file.is_file()}
    assert {prefix + name for name in wanted} <= set(names)


def test_the_wheel_offers_the_command_line(wheel, names):
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    with zipfile.ZipFile(wheel) as archive:
        assert "vjepa2-ros = vjepa2_ros.cli.main:main" in archive.read(entry_points).decode()
