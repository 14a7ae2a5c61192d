# SPDX-License-Identifier: Apache-2.0
"""pip's way to the same package that colcon builds: CMakeLists.txt does the work.

Messages and services are generated and compiled against the ROS 2 that is sourced or,
where none is, against the ROS packages from PyPI (requirements-ros.txt).
"""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from setuptools import Command, Distribution, setup
from setuptools.command.build import build

PACKAGE = "vjepa2_ros"
ROOT = Path(__file__).resolve().parent


def package_version() -> str:
    return ElementTree.parse(ROOT / "package.xml").findtext("version")


def ros_is_sourced() -> bool:
    return "ROS_DISTRO" in os.environ


def requirements(file: str, pattern: str) -> list[str]:
    lines = (ROOT / file).read_text().splitlines()
    return [line for line in lines if re.match(pattern, line)]


def ros_requirements() -> list[str]:
    """The ROS packages that the compiled interfaces belong to, where they are on PyPI."""
    return [] if ros_is_sourced() else requirements("requirements-ros.txt", "ros-")


def build_requirements() -> list[str]:
    """What pip brings into the environment it builds in: ROS itself where none is sourced."""
    if ros_is_sourced():
        return []
    return [
        *requirements("requirements-ros.txt", "ros-|catkin-pkg"),
        *requirements("requirements.txt", "numpy"),
    ]


def ros_environment() -> dict[str, str]:
    """Environment in which CMake finds ROS: as it is when sourced, else of the PyPI packages."""
    if ros_is_sourced():
        return dict(os.environ)
    ament_package = find_spec("ament_package")
    if ament_package is None:
        raise SystemExit(
            "No ROS 2 to build the messages against. Source one "
            "(source /opt/ros/<distribution>/setup.bash), or install the one from PyPI: "
            "pip install -r requirements-ros.txt"
        )
    # <prefix>/lib/python3.x/site-packages/ament_package/__init__.py
    prefix = str(Path(ament_package.origin).parents[4])
    return {**os.environ, "AMENT_PREFIX_PATH": prefix, "CMAKE_PREFIX_PATH": prefix}


class BuildInterfaces(Command):
    """Runs CMake and hands its result to pip, or to the source tree for an editable install."""

    description = "generate and compile messages and services with CMake"
    user_options = []
    editable_mode = False

    def initialize_options(self):
        self.build_lib = None
        self.build_temp = None

    def finalize_options(self):
        self.set_undefined_options(
            "build", ("build_lib", "build_lib"), ("build_temp", "build_temp")
        )

    def run(self):
        prefix = Path(self.build_temp).resolve() / "prefix"
        self._cmake(prefix)
        (generated,) = prefix.glob(f"**/{PACKAGE}/msg/__init__.py")
        package = generated.parent.parent
        if self.editable_mode:
            self._copy_interfaces(package, ROOT / PACKAGE)
            # The loader looks for the type support here: ros-wheels-bootstrapper, or the
            # Makefile where a ROS is sourced, puts this folder on LD_LIBRARY_PATH. pip itself
            # installs no data for editable installs.
            for library in (prefix / "lib").glob("*.so"):
                # A library in use must not be overwritten in place, so replace the file.
                target = Path(sys.prefix, "lib", library.name)
                target.unlink(missing_ok=True)
                shutil.copy2(library, target)
        else:
            self._copy_interfaces(package, Path(self.build_lib, PACKAGE))
            self._register_data(prefix)

    def _cmake(self, prefix: Path) -> None:
        build_folder = Path(self.build_temp).resolve() / "cmake"
        environment = ros_environment()
        try:
            subprocess.run(
                [
                    "cmake",
                    *("-S", ROOT, "-B", build_folder),
                    f"-DCMAKE_INSTALL_PREFIX={prefix}",
                    f"-DPython3_EXECUTABLE={sys.executable}",
                    "-DBUILD_TESTING=OFF",
                ],
                env=environment,
                check=True,
            )
            subprocess.run(
                ["cmake", "--build", build_folder, "--target", "install", "--parallel", "2"],
                env=environment,
                check=True,
            )
        except FileNotFoundError:
            raise SystemExit("cmake is missing: sudo apt-get install cmake g++") from None

    @staticmethod
    def _copy_interfaces(package: Path, target: Path) -> None:
        for kind in ("msg", "srv"):
            shutil.rmtree(target / kind, ignore_errors=True)
            shutil.copytree(
                package / kind,
                target / kind,
                ignore=shutil.ignore_patterns("*.c", "__pycache__"),
            )
        for old in target.glob(f"{PACKAGE}_s__*.so"):
            old.unlink()
        for extension in package.glob("*.so"):
            shutil.copy2(extension, target)

    def _register_data(self, prefix: Path) -> None:
        """Type support into <environment>/lib, configuration and models into share."""
        files = [
            *(prefix / "lib").glob("*.so"),
            *(
                file
                for file in (prefix / "share").rglob("*")
                if file.is_file() and not {"cmake", "environment"} & set(file.parts)
            ),
        ]
        for file in files:
            folder = file.parent.relative_to(prefix)
            self.distribution.data_files.append((str(folder), [str(file)]))

    def get_source_files(self) -> list[str]:
        sources = [ROOT / "CMakeLists.txt", ROOT / "package.xml"]
        for pattern in ("cmake/*.*", "msg/*.msg", "srv/*.srv"):
            sources += ROOT.glob(pattern)
        return [str(source.relative_to(ROOT)) for source in sources]

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class Build(build):
    sub_commands = [*build.sub_commands, ("build_interfaces", None)]


class BinaryDistribution(Distribution):
    """Compiled, although no extension is named: the wheel is for one platform only."""

    def has_ext_modules(self):
        return True


setup(
    version=package_version(),
    install_requires=[
        *requirements("requirements.in", r"\w"),
        # Any build of it: the pinned one is for the CPU and would replace one for a GPU.
        "torch",
        *ros_requirements(),
    ],
    setup_requires=build_requirements(),
    data_files=[("share/" + PACKAGE, ["package.xml"])],
    cmdclass={"build": Build, "build_interfaces": BuildInterfaces},
    distclass=BinaryDistribution,
)
