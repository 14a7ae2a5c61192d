# SPDX-License-Identifier: Apache-2.0
"""The simulated robot cell as a node: an arm and a camera, in real time.

It stands in for the hardware: states and targets of an arm on `simulator/state` and
`simulator/target`, and the images of a camera. What is true in it, which no hardware tells, is on
`simulator/truth`. With `franka_server` the arm is driven over the Franka control interface instead
of `simulator/target`.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
from sensor_msgs.msg import CameraInfo

from vjepa2_ros.msg import RobotState, SimulatorTarget, SimulatorTruth
from vjepa2_ros.robot.driver import QUATERNION_TOLERANCE
from vjepa2_ros.ros.awaiting_node import Refused
from vjepa2_ros.ros.conversions import (
    camera_info,
    pose_arrays,
    robot_state_message,
)
from vjepa2_ros.ros.image_transport import ImagePublisher
from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.qos import LATEST, STREAM, TARGET
from vjepa2_ros.ros.runner import run
from vjepa2_ros.settings.simulator import SimulatorNodeSettings
from vjepa2_ros.simulation import SimulatorError
from vjepa2_ros.simulation.faults import (
    CAMERA_FAULTS,
    ROBOT_FAULTS,
    STATE_FAULTS,
    FaultError,
    Faults,
    FaultyCamera,
    FaultyStates,
)
from vjepa2_ros.simulation.schedule import falls_on
from vjepa2_ros.srv import InjectFault

if TYPE_CHECKING:
    from vjepa2_ros.simulation.franka_cell import FrankaCell
    from vjepa2_ros.simulation.simulator import Simulator


def target_problem(target: SimulatorTarget, base_frame: str) -> str:
    """Why the arm cannot move to a target, in words; empty if it can."""
    position, quaternion = pose_arrays(target.pose)
    if not np.isfinite([*position, *quaternion, target.gripper_closedness]).all():
        return "it holds a number that is not finite"
    length = float(np.linalg.norm(quaternion))
    if abs(length - 1.0) > QUATERNION_TOLERANCE:
        return f"its quaternion has length {length:.4f} instead of 1"
    if target.header.frame_id != base_frame:
        return f"it is in frame {target.header.frame_id!r}, the robot's base is {base_frame!r}"
    return ""


class SimulatorNode(ManagedNode):
    """Steps and renders in its own thread; the executor only takes targets."""

    NAME = "simulator_node"
    SETTINGS = SimulatorNodeSettings

    _thread: threading.Thread | None = None

    def configure(self) -> None:
        self._target: SimulatorTarget | None = None
        self._states = self.advertise(RobotState, "simulator/state", STREAM)
        self._truths = self.advertise(SimulatorTruth, "simulator/truth", STREAM)
        self._images = ImagePublisher(self, self.settings.transport)
        self._infos = self.advertise(CameraInfo, "camera/camera_info", LATEST)
        if not self.settings.franka_server:
            self.subscribe(SimulatorTarget, "simulator/target", self._on_target, TARGET)
        self.serve(InjectFault, "simulator/inject_fault", self._on_inject_fault)
        self._heard = time.monotonic()
        self._started = threading.Event()
        self._closed = threading.Event()
        self._running = threading.Event()
        self._problem: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="simulation", daemon=True)
        self._thread.start()
        if not self._started.wait(60.0):
            raise RuntimeError("the simulation did not start within 60 s")
        if self._problem is not None:
            raise self._problem

    def activate(self) -> None:
        self._running.set()

    def deactivate(self) -> None:
        self._running.clear()

    def cleanup(self) -> None:
        if self._thread is not None:
            self._closed.set()
            self._running.set()
            self._thread.join(10.0)
            self._thread = None

    def _on_target(self, message: SimulatorTarget) -> None:
        self._heard = time.monotonic()
        if message.mode == SimulatorTarget.ALIVE:
            return
        # Anybody may publish here, and a target that is not finite would end the simulation. A
        # hold is taken from everybody: its pose is not used.
        if message.mode == SimulatorTarget.MOVE:
            if problem := target_problem(message, self.settings.base.base_frame):
                self.log_throttled(f"refused a target: {problem}", "refused targets")
                return
        self._target = message

    def _on_inject_fault(
        self, request: InjectFault.Request, response: InjectFault.Response
    ) -> InjectFault.Response:
        try:
            response.message = self._faults.inject(
                request.fault, request.active, request.duration, time.monotonic()
            )
        except FaultError as error:
            raise Refused(str(error)) from error
        response.success = True
        return response

    def _run(self) -> None:
        # All of MuJoCo is used in this thread, since a rendering context belongs to one.
        try:
            simulator = self._cell_at_start()
            simulator.render(self.settings.image_size)
            cell = self._serve_franka(simulator)
            if cell is None:
                self._faults = Faults((*CAMERA_FAULTS, *STATE_FAULTS))
            else:
                robot_faults = (*STATE_FAULTS, *ROBOT_FAULTS)
                self._faults = Faults((*CAMERA_FAULTS, *robot_faults), cell.switch)
        except Exception as problem:  # noqa: BLE001 - raised by `configure`
            self._problem = problem
            return
        finally:
            self._started.set()
        with cell or nullcontext():
            while not self._closed.is_set():
                self._running.wait()
                try:
                    self._run_in_real_time(simulator, cell)
                except Exception as error:  # noqa: BLE001 - a thread's exception is lost otherwise
                    self.post_error(error)
                    self.post(self.fail, "the simulation failed")
                    self._running.clear()

    def _cell_at_start(self) -> Simulator:
        """The cell as the episode of the seed starts.

        Raises:
            SimulatorError: there is no OpenGL.
            ValueError: task or object cannot be used, or the scene allows no episode.
        """
        # Everything that imports MuJoCo fails where there is no OpenGL.
        from vjepa2_ros.simulation.simulator import Simulator, SimulatorConfig
        from vjepa2_ros.tasks import load_task
        from vjepa2_ros.tasks.task import TaskOptions, draw_episode

        settings = self.settings
        config = SimulatorConfig(workspace=settings.workspace, max_speed=settings.max_speed)
        simulator = Simulator(config)
        options = TaskOptions(settings.object or None, image_size=settings.image_size)
        draw_episode(load_task(settings.task), simulator, settings.seed, options)
        return simulator

    def _serve_franka(self, simulator: Simulator) -> FrankaCell | None:
        """The cell behind the Franka control interface, from now on; None without an address.

        Raises:
            SimulatorError: the package for it is missing, or its ports are taken.
        """
        settings = self.settings
        if not settings.franka_server:
            return None
        try:
            from vjepa2_ros.simulation.franka_cell import FrankaCell
            from vjepa2_ros.simulation.franka_server import Checks
        except ImportError as error:
            raise SimulatorError(
                f"franka_server needs the package franky-sim ({error}): pip install franky-sim"
            ) from error
        checks = Checks(silence=settings.franka_silence)
        return FrankaCell(simulator, checks).serve(settings.franka_server)

    def _run_in_real_time(self, simulator: Simulator, cell: FrankaCell | None) -> None:
        # With the simulator's control period the world runs as fast as the clock.
        period = simulator.config.control_period
        camera, states = FaultyCamera(), FaultyStates()
        due, step = time.monotonic(), 0
        while self._running.is_set() and not self._closed.is_set():
            if cell is None:
                self._apply_target(simulator)
                simulator.advance(period)
                moving = not simulator.settled()
            else:
                cell.update()
                moving = cell.moving
            now, faults = self.now(), self._faults.active(time.monotonic())
            state = states.state(simulator.measured(now), faults)
            if state is not None:
                frame = self.settings.base.base_frame
                self._states.publish(robot_state_message(state, frame, moving=moving))
            self._publish_truth(simulator, now)
            if falls_on(step, self.settings.image_rate * period):
                self._publish_image(simulator, camera, now, faults)
            step += 1
            due += period
            # On a machine that cannot keep up, the simulated world runs slower instead of jumping.
            due = max(due, time.monotonic() - period)
            self._closed.wait(max(0.0, due - time.monotonic()))

    def _apply_target(self, simulator: Simulator) -> None:
        target, self._target = self._target, None
        if target is None:
            silence = time.monotonic() - self._heard
            if silence > self.settings.driver_timeout and not simulator.settled():
                simulator.halt()
                # Once: each halt brakes from the present speed, and does not go on with the last.
                self._heard = math.inf
                text = f"nothing on simulator/target for {silence:.2f} s: the arm is held"
                self.post(self.log_throttled, text, "silent driver")
        elif target.mode == SimulatorTarget.MOVE:
            simulator.set_target(*pose_arrays(target.pose), target.gripper_closedness)
        else:
            simulator.halt()

    def _publish_truth(self, simulator: Simulator, now: float) -> None:
        # Both import MuJoCo, see `_cell_at_start`.
        from vjepa2_ros.ros.truth import truth_message
        from vjepa2_ros.tasks.truth import Truth

        frame = self.settings.base.base_frame
        self._truths.publish(truth_message(Truth.of(simulator), now, frame))

    def _publish_image(
        self, simulator: Simulator, camera: FaultyCamera, now: float, faults: tuple[str, ...]
    ) -> None:
        started = time.perf_counter()
        taken = camera.image(lambda: simulator.render(self.settings.image_size), now, faults)
        if taken is None:
            return
        image, stamp = taken
        rendered = time.perf_counter() - started
        size = len(image)
        info = camera_info(simulator.camera_matrix(size), size, size)
        info.header = self._images.publish(image, stamp, self.settings.camera.camera_frame)
        self._infos.publish(info)
        self.post(self._report_image, rendered)

    def _report_image(self, rendered: float) -> None:
        self.health.beat()
        self.health.set("render_ms", f"{rendered * 1e3:.1f}")


def main() -> int:
    return run(SimulatorNode, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
