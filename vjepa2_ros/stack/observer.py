# SPDX-License-Identifier: Apache-2.0
"""Observes a stack from outside, from before its start to after its end.

All topics are recorded, and what a report needs is kept in memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

from vjepa2_ros.evaluation.record import Progress, Record
from vjepa2_ros.execution.goal_status import TERMINAL, GoalState
from vjepa2_ros.msg import Command, Latent, PlanningStatus, RobotState, SimulatorTruth
from vjepa2_ros.ros.bag_metadata import BagMetadata
from vjepa2_ros.ros.context import init
from vjepa2_ros.ros.conversions import image_array, pose_arrays, seconds
from vjepa2_ros.ros.recorder import Recorder
from vjepa2_ros.ros.truth import truth_of
from vjepa2_ros.settings.stack import NODES
from vjepa2_ros.text import printable
from vjepa2_ros.world_model.poses import state_from_pose

# Longest time for messages that still wait at the end, and without one all are taken [s].
_LAST_MESSAGES = 3.0
_QUIET = 0.2
# Messages wait so long at most: each wait of rclpy costs time for every subscription [s].
_PERIOD = 0.05
_EMPTY_ROUNDS = 2
_DIAGNOSTICS = "/diagnostics"
_STATES = {int(state): state.name for state in GoalState}


class StackObserver:
    """Records every topic into `bag` and fills `record`, in a thread of its own.

    A context manager. Enter it before the stack is started and leave it after the stack has ended,
    so that the bag has the first and the last transition of every node.

    Args:
        namespace: of the stack.
        bag: folder of the bag; must not exist yet.

    Attributes:
        record: what was received so far, until `finish_record`.

    Raises:
        RosError: ROS cannot be started.
        OSError: when it is left: the bag could not be written.
    """

    def __init__(self, namespace: str, bag: Path) -> None:
        self.record = Record()
        self._namespace = namespace
        self._planner = f"{namespace}/planner_node"
        self._simulator = f"{namespace}/simulator_node"
        self._context = Context()
        init(context=self._context)
        self._node = rclpy.create_node("observer", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        listeners = {
            _DIAGNOSTICS: self._on_diagnostics,
            f"{namespace}/status": self._on_status,
            f"{namespace}/robot_state": self._on_robot_state,
            f"{namespace}/simulator/truth": self._on_truth,
            f"{namespace}/camera/image_raw": self._on_image,
            f"{namespace}/latent": self._on_latent,
            f"{namespace}/command": self._on_command,
        }
        managed = [
            f"{namespace}/{name}"
            for name, entry in NODES.items()
            if entry.where and entry.supervised
        ]
        topics = {
            f"{name}/transition_event": "lifecycle_msgs/msg/TransitionEvent" for name in managed
        }
        # Last: see `silent`.
        topics[_DIAGNOSTICS] = "diagnostic_msgs/msg/DiagnosticArray"
        guarded = {topic: self._while_recording(f) for topic, f in listeners.items()}
        self._heard: set[str] = set()
        self._recorder = Recorder(self._node, bag, guarded, topics)
        BagMetadata(self._node, self._recorder, namespace)
        self._recording = True
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="observer", daemon=True)
        self._thread.start()

    def __enter__(self) -> StackObserver:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        try:
            self._recorder.close()
        finally:
            self._executor.shutdown()
            self._node.destroy_node()
            self._context.try_shutdown()

    @property
    def counts(self) -> dict[str, int]:
        """Messages recorded by topic."""
        return dict(self._recorder.counts)

    def _while_recording(
        self, listener: Callable[[Any, float], None]
    ) -> Callable[[Any, float], None]:
        def guarded(message: Any, received: float) -> None:
            # Anybody may publish an image of a wrong size, or a truth about other objects.
            with suppress(ValueError):
                if self._recording:
                    listener(message, received)

        return guarded

    def silent(self, nodes: Iterable[str]) -> list[str]:
        """Those of these nodes of which no heartbeat has arrived.

        If there are none, all their transitions are recorded from now on: a node that sends to one
        subscription has discovered those that were created before it.
        """
        return [name for name in nodes if f"{self._namespace}/{name}" not in self._heard]

    def finish_record(self) -> Record:
        """Return the record as it is now; only the bag is continued."""
        self._recording = False
        return self.record

    def _spin(self) -> None:
        while not self._closing.wait(_PERIOD):
            self._take_what_waits()
        # Messages sent last of all may still be on their way.
        deadline = time.monotonic() + _LAST_MESSAGES
        while time.monotonic() < deadline:
            before = sum(self.counts.values())
            time.sleep(_QUIET)
            self._take_what_waits()
            if sum(self.counts.values()) == before:
                return

    def _take_what_waits(self) -> None:
        # A call that takes nothing may only have ended the round of the one before: rclpy looks
        # again for what has come in the meantime with the next call.
        empty = 0
        while empty < _EMPTY_ROUNDS:
            before = sum(self.counts.values())
            self._executor.spin_once(timeout_sec=0.0)
            empty = empty + 1 if sum(self.counts.values()) == before else 0

    def _on_diagnostics(self, message: DiagnosticArray, received: float) -> None:
        for status in message.status:
            self._heard.add(status.name)
            values = {entry.key: entry.value for entry in status.values}
            if status.name == self._planner and "latent_age_s" in values:
                self.record.planner_ready = True
            if status.name == self._simulator and "render_ms" in values:
                self.record.renderings.append((received, 1e-3 * float(values["render_ms"])))

    def _on_status(self, message: PlanningStatus, received: float) -> None:
        self.record.progress.append(
            Progress(
                time=received,
                goal_id=printable(message.goal_id),
                state=_STATES.get(message.state, "UNKNOWN"),
                over=message.state in TERMINAL,
                step=message.step,
                subgoal=message.subgoal,
                energy=message.energy,
                predicted_energy=message.predicted_energy,
                observation_age=message.observation_age,
                encode_seconds=message.encode_seconds,
                plan_seconds=message.plan_seconds,
                command_latency=message.command_latency,
                message=printable(message.message),
            )
        )

    def _on_robot_state(self, message: RobotState, received: float) -> None:
        position, quaternion = pose_arrays(message.pose)
        stamp = seconds(message.header.stamp)
        self.record.positions.append((stamp, position))
        state = state_from_pose(position, quaternion, message.gripper_closedness)
        self.record.states.append((stamp, state, message.commanded_closedness))
        self.record.moving = message.moving
        if message.refused_goal_id:
            self.record.refused.add(printable(message.refused_goal_id))

    def _on_truth(self, message: SimulatorTruth, received: float) -> None:
        self.record.truths.append(truth_of(message))

    def _on_image(self, message: Image, received: float) -> None:
        self.record.images.append((seconds(message.header.stamp), image_array(message)))

    def _on_latent(self, message: Latent, received: float) -> None:
        self.record.latents.append((seconds(message.header.stamp), received))

    def _on_command(self, message: Command, received: float) -> None:
        captured = seconds(message.header.stamp)
        self.record.commands.append((captured, received))
        target = state_from_pose(*pose_arrays(message.pose), message.gripper_closedness)
        self.record.targets.append((captured, target))
