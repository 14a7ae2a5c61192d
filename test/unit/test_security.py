# SPDX-License-Identifier: Apache-2.0
"""The policy of SROS 2, and what the nodes are told of it. The keys are made where `sros2` is."""

import argparse
import importlib.util

import pytest

from vjepa2_ros.cli import security as command
from vjepa2_ros.settings.stack import NODES
from vjepa2_ros.stack.security import ENABLE, enclave_arguments, policies

with_sros2 = pytest.mark.skipif(
    importlib.util.find_spec("sros2") is None,
    reason="`sros2` IS ABSENT: no keystore is made",
)
without_sros2 = pytest.mark.skipif(
    importlib.util.find_spec("sros2") is not None, reason="sros2 is installed"
)


def paths(tree):
    return {enclave.attrib["path"] for enclave in tree.iter("enclave")}


def test_every_node_and_the_client_have_an_enclave_of_their_own():
    assert paths(policies()) == {f"/vjepa2/{name}" for name in (*NODES, "client", "panel")}


def test_another_namespace_changes_enclaves_and_names_of_topics():
    tree = policies("/cell/arm")
    assert paths(tree) == {f"/cell/arm/{name}" for name in (*NODES, "client", "panel")}
    assert {profile.attrib["ns"] for profile in tree.iter("profile")} == {"/cell/arm"}
    names = [e.text for kind in ("topic", "service") for e in tree.iter(kind)]
    assert names and not any(name.startswith("/vjepa2") for name in names)


def test_only_the_planner_may_command_and_only_the_manager_may_change_states():
    def who(kind, attribute, name):
        return {
            profile.attrib["node"]
            for profile in policies().iter("profile")
            for group in profile.iter(kind)
            if group.attrib.get(attribute) == "ALLOW"
            and name in {entry.text for entry in group}
        }

    assert who("topics", "publish", "command") == {"planner_node"}
    assert who("topics", "publish", "robot_state") == {"controller_node"}
    assert who("topics", "publish", "~/heartbeat") == {"lifecycle_manager"}
    assert who("services", "request", "controller_node/change_state") == {"lifecycle_manager"}
    assert who("services", "request", "set_goal") == {"client", "panel"}


def test_a_node_is_told_its_enclave_where_security_is_on():
    on = {ENABLE: "true"}
    assert enclave_arguments("planner_node", "/a", {}) == []
    assert enclave_arguments("planner_node", "/a", on) == ["--enclave", "/a/planner_node"]
    override = {**on, "ROS_SECURITY_ENCLAVE_OVERRIDE": "/mine"}
    assert enclave_arguments("planner_node", "/a", override) == []


def run(folder):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(["--keystore", str(folder)]))


@without_sros2
def test_without_sros2_it_says_what_to_install_and_makes_nothing(tmp_path, capsys):
    assert run(tmp_path / "keys") == 1
    error = capsys.readouterr().err
    assert "the package sros2 is missing" in error and "ros-DISTRO-sros2" in error
    assert not (tmp_path / "keys").exists()


@with_sros2
def test_keys_and_permissions_of_every_node_are_made_and_kept(tmp_path, capsys):
    keys = tmp_path / "keys"
    assert run(keys) == 0
    made = {name: (keys / "enclaves/vjepa2" / name / "key.pem").read_text() for name in NODES}
    assert run(keys) == 0
    for name, key in made.items():
        folder = keys / "enclaves/vjepa2" / name
        assert (folder / "key.pem").read_text() == key and (folder / "permissions.p7s").is_file()
    permissions = (keys / "enclaves/vjepa2/encoder_node/permissions.xml").read_text()
    assert "rt/vjepa2/latent" in permissions and "rt/vjepa2/command" not in permissions
    assert (keys / "private").stat().st_mode & 0o077 == 0
    assert "ROS_SECURITY_STRATEGY=Enforce" in capsys.readouterr().out
