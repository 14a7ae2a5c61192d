# SPDX-License-Identifier: Apache-2.0
"""What is said about the network, by what the environment says to ROS."""

from xml.etree import ElementTree

import pytest

from vjepa2_ros.stack.reach import network_report, on_this_machine

RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE"


def test_nodes_stay_on_this_machine_unless_the_user_has_decided():
    undecided = {"ROS_DOMAIN_ID": "3", RANGE: ""}
    assert on_this_machine("rmw_x", "kilted", undecided) == {RANGE: "LOCALHOST"}
    for name in (RANGE, "ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER", "ROS_LOCALHOST_ONLY"):
        assert on_this_machine("rmw_x", "kilted", {name: "something"}) == {}
        assert on_this_machine("rmw_fastrtps_cpp", "kilted", {name: "something"}) == {}


def test_with_fast_dds_they_use_the_loopback_interface_alone_and_no_shared_memory():
    found = on_this_machine("rmw_fastrtps_cpp", "kilted", {})
    assert found[RANGE] == "SYSTEM_DEFAULT"
    profile = ElementTree.parse(found["FASTDDS_DEFAULT_PROFILES_FILE"]).getroot()
    texts = {element.tag.partition("}")[2]: element.text for element in profile.iter()}
    assert texts["useBuiltinTransports"] == "false" and texts["type"] == "UDPv4"
    assert {e.text for e in profile.iter() if e.tag.endswith("address")} == {"127.0.0.1"}
    (older,) = on_this_machine("rmw_fastrtps_cpp", "jazzy", {}).keys() - {RANGE}
    assert older == "FASTRTPS_DEFAULT_PROFILES_FILE"
    own = {"FASTDDS_DEFAULT_PROFILES_FILE": "own.xml"}
    assert on_this_machine("rmw_fastrtps_cpp", "kilted", own) == {RANGE: "LOCALHOST"}


def test_without_any_setting_the_whole_network_is_named_and_every_way_to_narrow_it():
    report = network_report("rmw_x", {})
    assert "ROS domain 0, discovery range SUBNET, rmw_x, SROS 2 off" in report
    assert "on every network of this machine can stop, command" in report
    assert f"{RANGE}=LOCALHOST" in report and "vjepa2-ros security" in report
    assert "ROS_STATIC_PEERS=" in report and "ROS_DOMAIN_ID=" in report


@pytest.mark.parametrize(
    "environment, text",
    [
        ({"ROS_DOMAIN_ID": "7"}, "ROS domain 7"),
        ({RANGE: "LOCALHOST", "ROS_STATIC_PEERS": "10.0.0.2"}, "on this machine and on 10.0.0.2"),
        ({"ROS_LOCALHOST_ONLY": "1"}, "discovery range LOCALHOST"),
        ({"ROS_SECURITY_ENABLE": "true"}, "SROS 2 on, but not enforced"),
    ],
)
def test_what_is_set_is_said(environment, text):
    assert text in network_report("rmw_x", environment)


def test_where_sros_is_enforced_nothing_else_needs_to_be_narrowed():
    secured = {"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce"}
    report = network_report("rmw_x", secured)
    assert "SROS 2 enforced" in report and "\n" not in report
