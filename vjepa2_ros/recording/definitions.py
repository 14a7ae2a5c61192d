# SPDX-License-Identifier: Apache-2.0
"""Message types for bags, with their definitions as they were written, comments included.

A definition without comments leaves the reader of a bag without units and frames.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vjepa2_ros.share import share_directory

_SEPARATOR = "=" * 80 + "\n"


def typestore() -> Typestore:
    """Message types of ROS 2 and of this package, to write and to read bags with."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for path in sorted((share_directory() / "msg").glob("*.msg")):
        store.register(get_types_from_msg(path.read_text(), f"vjepa2_ros/msg/{path.stem}"))
    return store


def definition(store: Typestore, type_name: str) -> str:
    """Definition of a message and of all messages in it, as MCAP's encoding `ros2msg` has it.

    Args:
        store: knows the type.
        type_name: such as `vjepa2_ros/msg/Goal`.
    """
    generated, _ = store.generate_msgdef(type_name, ros_version=2)
    first, *others = generated.split(_SEPARATOR)
    parts = [_original(store, type_name) or first]
    for other in others:
        header, body = other.split("\n", 1)
        package, name = header.removeprefix("MSG: ").split("/")
        parts.append(f"{header}\n{_original(store, f'{package}/msg/{name}') or body}")
    return _SEPARATOR.join(part if part.endswith("\n") else part + "\n" for part in parts)


def _original(store: Typestore, type_name: str) -> str:
    """Text of the installed .msg file; empty if there is none, or another version of it."""
    package, _, name = type_name.split("/")
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    folders = [Path(prefix, "share", package) for prefix in prefixes if prefix]
    if package == "vjepa2_ros":
        folders.insert(0, share_directory())
    for folder in folders:
        path = folder / "msg" / f"{name}.msg"
        if not path.is_file():
            continue
        text = path.read_text()
        parsed = get_types_from_msg(text, type_name)[type_name]
        return text if parsed == store.fielddefs[type_name] else ""
    return ""
