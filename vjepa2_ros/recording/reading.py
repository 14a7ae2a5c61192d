# SPDX-License-Identifier: Apache-2.0
"""What a planner was given and what it commanded, read out of a bag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection

from vjepa2_ros import plain_yaml
from vjepa2_ros.recording.messages import (
    image_pixels,
    motion_command,
    robot_state,
    seconds,
    tool_states,
)
from vjepa2_ros.robot.driver import RobotState
from vjepa2_ros.robot.safety import MotionCommand

_COMMAND = "vjepa2_ros/msg/Command"


class BagError(ValueError):
    """A bag cannot be read, or holds nothing to replay; the text says why."""


@dataclass(frozen=True)
class RecordedGoal:
    """A goal as it was set.

    Attributes:
        goal_id: its name in commands.
        images: contents of the image files, one for each sub-goal.
        steps: to spend on each.
        gripper: what the gripper did towards each.
        states: of the robot in each image [G, 7]; None where the goal did not say them.
    """

    goal_id: str
    images: tuple[bytes, ...]
    steps: tuple[int, ...]
    gripper: tuple[str, ...]
    states: np.ndarray | None = None


@dataclass(frozen=True)
class RecordedCommand:
    """A command and when it was received.

    Attributes:
        command: as it was sent.
        received: [s, the recorder's clock].
    """

    command: MotionCommand
    received: float


@dataclass
class Recording:
    """What a bag holds of one stack.

    Attributes:
        namespace: of the stack.
        goals: in the order in which they were set.
        commands: in the order in which they were received.
        states: of the robot by their stamps, ascending.
        frame: base frame of the states; empty without one.
        joint_names: of the arm; empty where it gave no joints.
        images: uint8 RGB [H, W, 3] by the stamp of their capture; those that commands come from.
        metadata: what the recorder wrote beside the messages.
    """

    namespace: str
    goals: list[RecordedGoal] = field(default_factory=list)
    commands: list[RecordedCommand] = field(default_factory=list)
    states: list[RobotState] = field(default_factory=list)
    frame: str = ""
    joint_names: tuple[str, ...] = ()
    images: dict[float, np.ndarray] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def parameters(self) -> dict[str, dict[str, Any]]:
        """Parameters of the nodes when the bag was recorded; empty for one without them."""
        try:
            found = plain_yaml.load(self.metadata.get("parameters", ""))
        except ValueError:
            return {}
        if not isinstance(found, dict):
            return {}
        return {str(node): values for node, values in found.items() if isinstance(values, dict)}

    def commands_of(self, goal: RecordedGoal) -> list[RecordedCommand]:
        """The commands of a goal whose images were recorded."""
        return [
            recorded
            for recorded in self.commands
            if recorded.command.goal_id == goal.goal_id
            and recorded.command.observation_stamp in self.images
        ]

    def state_at(self, stamp: float, tolerance: float) -> RobotState | None:
        """The state measured nearest to a time, None if it is farther off than the tolerance."""
        stamps = [state.stamp for state in self.states]
        index = int(np.searchsorted(stamps, stamp))
        near = self.states[max(0, index - 1) : index + 1]
        best = min(near, key=lambda state: abs(state.stamp - stamp), default=None)
        return best if best is not None and abs(best.stamp - stamp) <= tolerance else None


def read_bag(path: Path) -> Recording:
    """Read a bag of `vjepa2-ros` or of `ros2 bag record`.

    Args:
        path: folder of the bag.

    Raises:
        BagError: it cannot be read, holds the commands of no stack or of several, or no goal.
        OSError: it cannot be read.
    """
    with _opened(path) as reader:
        recording = Recording(_namespace(reader, path), metadata=_metadata(path))
        for topic, take in (("goal", _take_goal), ("command", _take_command)):
            for received, message in _messages(reader, recording.namespace, topic):
                take(recording, received, message)
        for _, message in _messages(reader, recording.namespace, "robot_state"):
            recording.frame = recording.frame or message.header.frame_id
            recording.states.append(robot_state(message))
        for _, message in _messages(reader, recording.namespace, "joint_states"):
            recording.joint_names = tuple(message.name)
            break
        wanted = {recorded.command.observation_stamp for recorded in recording.commands}
        for topic in ("camera/image_raw", "camera/image_raw/compressed"):
            for _, message in _messages(reader, recording.namespace, topic):
                stamp = seconds(message.header.stamp)
                if stamp in wanted and stamp not in recording.images:
                    recording.images[stamp] = image_pixels(message)
    recording.states.sort(key=lambda state: state.stamp)
    if not recording.goals:
        raise BagError(f"{path} holds no goal: record the topic goal, too")
    if not any(recording.commands_of(goal) for goal in recording.goals):
        raise BagError(
            f"{path} holds no command of a goal with the image it was planned from: record goal, "
            "command and the camera's images"
        )
    return recording


def namespace_of_bag(path: Path) -> tuple[str, bool]:
    """Namespace of the stack in a bag, and whether that was the simulated one.

    Raises:
        BagError: it cannot be read, or holds the commands of no stack or of several.
    """
    with _opened(path) as reader:
        namespace = _namespace(reader, path)
        truth = f"{namespace}/simulator/truth"
        return namespace, any(connection.topic == truth for connection in reader.connections)


@contextmanager
def _opened(path: Path) -> Iterator[AnyReader]:
    if not path.exists():
        raise BagError(f"there is no bag {path}")
    if path.is_dir() and any(path.glob("*.mcap")) and not (path / "metadata.yaml").exists():
        raise BagError(
            f"{path} was cut off while it was recorded, it has no metadata.yaml: `mcap recover` and"
            " `ros2 bag reindex` repair it"
        )
    try:
        with AnyReader([path]) as reader:
            yield reader
    except BagError:
        raise
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            raise
        raise BagError(f"{path} cannot be read as a bag: {error}") from error
    except Exception as error:  # noqa: BLE001 - a broken bag makes rosbags raise a dozen kinds
        raise BagError(f"{path} cannot be read as a bag: {error}") from error


def _namespace(reader: AnyReader, path: Path) -> str:
    found = {
        connection.topic.removesuffix("/command")
        for connection in reader.connections
        if connection.msgtype == _COMMAND and connection.topic.endswith("/command")
    }
    if len(found) != 1:
        names = ", ".join(sorted(found)) or "none"
        raise BagError(f"{path} holds the commands of {len(found)} stacks ({names}), not of one")
    return found.pop()


def _metadata(path: Path) -> dict[str, str]:
    """The recorder's own entries of metadata.yaml; none of a bag without."""
    file = path / "metadata.yaml" if path.is_dir() else path.with_name("metadata.yaml")
    try:
        content = plain_yaml.load(file.read_text())
        entries = content["rosbag2_bagfile_information"].get("custom_data") or {}
        return {str(key): str(value) for key, value in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _messages(reader: AnyReader, namespace: str, topic: str) -> Iterator[tuple[float, Any]]:
    """Times of receipt [s] and messages of a topic."""
    name = f"{namespace}/{topic}"
    connections: list[Connection] = [c for c in reader.connections if c.topic == name]
    if not connections:
        return
    for connection, received, data in reader.messages(connections):
        yield received * 1e-9, reader.deserialize(data, connection.msgtype)


def _take_goal(recording: Recording, _: float, message: Any) -> None:
    if not message.goal_id:
        return
    recording.goals.append(
        RecordedGoal(
            message.goal_id,
            tuple(bytes(image.data) for image in message.images),
            tuple(int(steps) for steps in message.steps),
            tuple(message.gripper),
            # Absent in bags of before.
            tool_states(getattr(message, "states", ())),
        )
    )


def _take_command(recording: Recording, received: float, message: Any) -> None:
    recording.commands.append(RecordedCommand(motion_command(message), received))
