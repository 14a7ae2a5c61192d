# SPDX-License-Identifier: Apache-2.0
"""What a node really publishes and offers, and what the policy of SROS 2 allows it."""

from rclpy._rclpy_pybind11 import NodeNameNonExistentError

from vjepa2_ros.stack.security import policies

KINDS = {
    ("topics", "publish"): "publisher",
    ("topics", "subscribe"): "subscriber",
    ("services", "reply"): "service",
    ("services", "request"): "client",
}


def graph_of(node, name, namespace):
    """Kind and full name of all that the graph has of a node; nothing of one that is not found."""
    try:
        return {
            (kind, topic)
            for kind in KINDS.values()
            for topic, _ in getattr(node, f"get_{kind}_names_and_types_by_node")(name, namespace)
        }
    except NodeNameNonExistentError:
        return set()


def allowed(name, namespace):
    """The same as the policy allows it."""
    profile = next(p for p in policies(namespace).iter("profile") if p.attrib["node"] == name)
    return {
        (KINDS[group.tag, attribute], full(entry.text, name, namespace))
        for group in profile
        for attribute in group.attrib
        for entry in group
    }


def full(text, name, namespace):
    if text.startswith("~"):
        return f"{namespace}/{name}{text[1:]}"
    return text if text.startswith("/") else f"{namespace}/{text}"
