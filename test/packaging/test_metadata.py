# SPDX-License-Identifier: Apache-2.0
"""package.xml, setup.py and setup.cfg, the requirements and the sources say the same."""

import ast
import configparser
import re
import subprocess
import sys

import pytest
from workspace import ROOT

catkin_package = pytest.importorskip(
    "catkin_pkg.package", reason="catkin_pkg validates package.xml"
)

# Packages whose Python name differs from the one on PyPI.
PYPI_NAMES = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "franky": "franky-control",
    "franky_sim": "franky-sim",
    "yaml": "pyyaml",
}
ROS_TOOLS = {"ament_index_python", "launch", "launch_ros", "rclpy", "sros2"}


@pytest.fixture(scope="module")
def manifest():
    return catkin_package.parse_package(str(ROOT / "package.xml"))


@pytest.fixture(scope="module")
def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def entry_points(setup_cfg) -> dict[str, str]:
    groups = setup_cfg["options.entry_points"].values()
    lines = [line for group in groups for line in group.strip().splitlines()]
    return dict(re.split(r"\s*=\s*", line.strip()) for line in lines)


def sources(pattern: str) -> list:
    """Files of ours: without those that the message generator put beside them."""
    generated = {ROOT / "vjepa2_ros" / kind for kind in ("msg", "srv")}
    return [
        file
        for file in ROOT.glob(pattern)
        if file.is_file() and not generated & set(file.parents) and "__pycache__" not in file.parts
    ]


def imported_packages(folder: str) -> set[str]:
    names = set()
    for file in sources(f"{folder}/**/*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    return names


def is_ros(name: str) -> bool:
    return name in ROS_TOOLS or name.endswith(("_msgs", "_interfaces", "_srvs"))


def test_the_manifest_is_valid_without_a_warning(manifest):
    warnings = []
    manifest.validate(warnings=warnings)
    assert warnings == []
    assert manifest.package_format == 3
    assert manifest.get_build_type() == "ament_cmake"
    assert manifest.licenses == ["Apache-2.0"]


def test_setup_py_takes_the_version_and_the_name_from_the_manifest(manifest):
    command = [sys.executable, "setup.py", "--quiet", "--name", "--version"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.split()[-2:] == [manifest.name, manifest.version]


def test_the_version_stands_in_one_file_alone(manifest, setup_cfg):
    assert "version" not in setup_cfg["metadata"]
    assert not re.search(r"project\(.*VERSION", (ROOT / "CMakeLists.txt").read_text())


def test_description_and_licence_agree(manifest, setup_cfg):
    assert setup_cfg["metadata"]["description"] == manifest.description
    assert setup_cfg["metadata"]["license"] == manifest.licenses[0]
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_every_entry_point_names_a_function_that_exists(setup_cfg):
    for name, target in entry_points(setup_cfg).items():
        module, function = target.split(":")
        file = ROOT / (module.replace(".", "/") + ".py")
        assert file.is_file(), f"{name}: {file} is missing"
        defined = {node.name for node in ast.parse(file.read_text()).body if hasattr(node, "name")}
        assert function in defined, f"{name}: {module} has no {function}()"


def test_every_node_is_an_entry_point(setup_cfg):
    nodes = {file.stem for file in (ROOT / "vjepa2_ros/nodes").glob("*_node.py")}
    assert nodes <= set(entry_points(setup_cfg))


def test_every_ros_package_imported_is_declared_in_the_manifest(manifest):
    imported = imported_packages("vjepa2_ros") | imported_packages("launch")
    used = {name for name in imported if is_ros(name)}
    declared = {dependency.name for dependency in manifest.exec_depends}
    assert used - declared == set()


def test_every_ros_package_in_the_manifest_is_used(manifest):
    imported = imported_packages("vjepa2_ros") | imported_packages("launch")
    interfaces = "".join(
        file.read_text() for kind in ("msg", "srv") for file in (ROOT / kind).iterdir()
    )
    # Every generated service carries the messages of service introspection.
    used = imported | set(re.findall(r"^(\w+)/", interfaces, re.MULTILINE)) | {"service_msgs"}
    declared = {dependency.name for dependency in manifest.exec_depends}
    assert {name for name in declared if is_ros(name)} - used == set()


def test_every_library_imported_is_required_from_pip():
    known = set(sys.stdlib_module_names) | {"vjepa2_ros", "torch"}
    imported = imported_packages("vjepa2_ros") - known
    used = {PYPI_NAMES.get(name, name) for name in imported if not is_ros(name)}
    # Who drives a real arm needs no simulated one, whose server says what to install.
    lines = [
        line
        for name in ("requirements.in", "requirements-dev.in")
        for line in (ROOT / name).read_text().splitlines()
    ]
    required = {line.partition(";")[0].lower() for line in lines}
    assert used - required == set()


@pytest.mark.parametrize("name", ["requirements", "requirements-ros"])
def test_every_requirement_is_pinned(name):
    lock = (ROOT / f"{name}.txt").read_text().splitlines()
    pins = [line for line in lock if not line.startswith("#")]
    assert all(re.match(r"[a-z0-9._-]+==\S+( ; .+)?$", line) for line in pins)
    pinned = {re.match(r"[a-z0-9._-]+", line)[0] for line in pins}
    wanted = [line.lower() for line in (ROOT / f"{name}.in").read_text().splitlines()]
    direct = {re.match(r"[a-z0-9._-]+", line)[0] for line in wanted if re.match(r"\w", line)}
    assert direct - pinned == set(), "run scripts/lock-requirements"


def test_every_source_file_states_its_licence():
    patterns = ("vjepa2_ros/**/*.py", "launch/*.py", "test/**/*.py", "scripts/*", "cmake/*")
    missing = [
        str(file.relative_to(ROOT))
        for pattern in patterns
        for file in sources(pattern)
        if "SPDX-License-Identifier: Apache-2.0" not in file.read_text()[:200]
    ]
    assert missing == []
