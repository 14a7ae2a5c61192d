# SPDX-License-Identifier: Apache-2.0
"""The simulated cell behind the Franka control interface (FCI), in real time.

A client such as franky or libfranka drives the arm of a `Simulator` as it drives a real one. The
physics runs in a thread of its own, in a copy of the simulator's world; `update` shows it in the
simulator, which then measures, judges and renders as it always does without holding up the arm.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from vjepa2_ros.simulation import SimulatorError
from vjepa2_ros.simulation.faults import STATE_FAULTS
from vjepa2_ros.simulation.franka_arm import PERIOD, FrankaArm
from vjepa2_ros.simulation.franka_server import (
    ARM_PORT,
    GRIPPER_PORT,
    ArmServer,
    Checks,
    GripperServer,
)
from vjepa2_ros.simulation.franka_state import Error
from vjepa2_ros.simulation.simulator import Simulator

_GRIPPER_STATES = 10
"""Periods between two states of the gripper."""
_MOST_LATE = 0.005
"""Time that the simulation makes up for after a delay [s]; beyond that it falls behind."""
_SWITCH_INTERVAL = 0.0005
"""For which other threads may hold the interpreter [s]; Python's 5 ms are five periods."""


class FrankaCell:
    """Serves the arm and the gripper of a simulated cell to one client of the FCI.

    It starts in the present state of the simulator, at rest. As a context manager it closes itself.

    Args:
        simulator: the cell. It must not be advanced while this serves it.
        checks: what the arm's controller watches; None for what a real one does.
    """

    def __init__(self, simulator: Simulator, checks: Checks | None = None) -> None:
        self._simulator = simulator
        self._checks = checks or Checks()
        self._arm = FrankaArm(simulator.model, simulator.data, simulator.commanded_closedness)
        self._lock = threading.Lock()
        self._requests: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._closing = False
        self._problem: Exception | None = None
        self._thread: threading.Thread | None = None
        self._connected = True
        self._periods = 0

    def serve(self, host: str = "127.0.0.1") -> FrankaCell:
        """Listen on an address, and start the time of the cell.

        Raises:
            SimulatorError: the ports of the FCI cannot be had at this address.
        """
        self._server = ArmServer(self._arm, host, self._checks)
        self._gripper = GripperServer(self._arm, host)
        try:
            self._server.init()
            self._gripper.init()
        except OSError as error:
            self._hang_up()
            raise SimulatorError(
                f"cannot serve the Franka control interface at {host!r}, ports {ARM_PORT} and "
                f"{GRIPPER_PORT}: {error}; is another server running there? Choose another "
                "address of this machine, such as 127.0.0.2"
            ) from error
        self._switch_interval = sys.getswitchinterval()
        sys.setswitchinterval(min(self._switch_interval, _SWITCH_INTERVAL))
        self._thread = threading.Thread(target=self._run, name="franka cell", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """End the time of the cell and hang up; the simulator shows its last state."""
        if self._thread is None:
            return
        self._closing = True
        self._thread.join()
        self._thread = None
        sys.setswitchinterval(self._switch_interval)
        self._hang_up()
        self._show()

    def __enter__(self) -> FrankaCell:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # What others see --------------------------------------------------------------------------

    def update(self) -> None:
        """Show the present state of the cell in the simulator.

        Raises:
            SimulatorError: the simulation has ended.
        """
        if self._problem is not None:
            raise SimulatorError(f"the simulated arm has failed: {self._problem!r}")
        self._show()

    def _show(self) -> None:
        arm = self._arm
        closedness = 1.0 - arm.hand_goal / arm.max_width
        with self._lock:
            self._simulator.show(arm.data, closedness)

    @property
    def robot_time(self) -> float:
        """Time of the cell since it is served [s]."""
        return self._periods * PERIOD

    @property
    def moving(self) -> bool:
        """Whether the arm moves, or is told to."""
        return not self._arm.at_rest

    def switch(self, fault: str, active: bool) -> None:
        """Begin or end, in the next period, a fault of `ROBOT_FAULTS` or `STATE_FAULTS`."""
        self._requests.put(lambda: self._switch(fault, active))

    def _switch(self, fault: str, active: bool) -> None:
        if fault == "reflex" and active:
            self._server.reflex(Error.CARTESIAN_REFLEX)
        elif fault == "user_stop":
            self._server.set_user_stop(active)
        elif fault == "gripper_blocked":
            self._arm.block_fingers(active)
        elif fault == "connection_lost":
            self._disconnect() if active else self._connect()
        elif fault in STATE_FAULTS:
            others = tuple(name for name in self._server.state_faults if name != fault)
            self._server.state_faults = (*others, fault) if active else others

    def _connect(self) -> None:
        self._server.init()
        self._gripper.init()
        self._connected = True

    def _disconnect(self) -> None:
        self._hang_up()
        self._connected = False

    def _hang_up(self) -> None:
        for server in (self._server, self._gripper):
            server.reset_state()
            server.cleanup()

    # Time -------------------------------------------------------------------------------------

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._closing:
                self._do_requests()
                self._period()
                due += PERIOD
                due = max(due, time.monotonic() - _MOST_LATE)
                time.sleep(max(0.0, due - time.monotonic()))
        except Exception as error:  # noqa: BLE001 - raised by `update`
            self._problem = error

    def _do_requests(self) -> None:
        while True:
            try:
                request = self._requests.get_nowait()
            except Empty:
                return
            request()

    def _period(self) -> None:
        if self._connected:
            self._listen(self._server)
            self._listen(self._gripper)
        else:
            self._arm.hold()
        with self._lock:
            self._arm.step()
        self._periods += 1
        if self._connected:
            self._send(self._server)
            if self._periods % _GRIPPER_STATES == 0:
                self._send(self._gripper)

    def _listen(self, server: ArmServer | GripperServer) -> None:
        try:
            server.process_commands()
        except Exception:  # noqa: BLE001 - whatever a client sends, the arm has to come to rest
            server.reset_state()
            self._arm.hold()

    def _send(self, server: ArmServer | GripperServer) -> None:
        try:
            server.send_state()
        except OSError:
            # The buffer is full or the client has gone; one state less harms nobody.
            pass
