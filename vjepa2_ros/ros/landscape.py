# SPDX-License-Identifier: Apache-2.0
"""The service `energy_landscape`: energies round the last plan, evaluated between plans."""

from __future__ import annotations

from array import array
from functools import partial

import torch

from vjepa2_ros.execution.observation import Observation
from vjepa2_ros.planning.landscape import POINTS, slice_actions
from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.planning.step import Step
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.awaiting_node import AwaitingNode, Refused
from vjepa2_ros.ros.conversions import stamp
from vjepa2_ros.ros.mailbox import LatestWorker
from vjepa2_ros.srv import EnergyLandscape


class EnergyMapper:
    """Answers the service; all but the evaluations in the executor's thread.

    Args:
        node: waits for the worker.
        worker: makes the plans, and evaluates between them.
    """

    def __init__(self, node: AwaitingNode, worker: LatestWorker) -> None:
        self._node, self._worker = node, worker
        self._plan: tuple[LatentDistance, Step, Observation] | None = None
        self._is_busy = False

    def planned(self, observation: Observation, step: Step) -> None:
        """Look round this plan from now on."""
        if observation.loop.objective is not None:
            self._plan = observation.loop.objective, step, observation

    def forget(self) -> None:
        """There is no plan of the present goal yet."""
        self._plan = None

    async def answer(
        self, request: EnergyLandscape.Request, response: EnergyLandscape.Response
    ) -> EnergyLandscape.Response:
        """Fill the response; raises Refused without a plan, and while another one is filled."""
        if self._plan is None:
            raise Refused(
                "there is no plan to look round: set a goal, and call this while it is pursued",
                Reason.NO_GOAL,
            )
        if self._is_busy:
            # Two of them would leave no time to plan.
            raise Refused("another landscape is being evaluated", Reason.SUPERSEDED)
        objective, step, observation = self._plan
        action = observation.loop.action
        points = request.points or POINTS
        try:
            actions = slice_actions(points, action.max_translation, action.horizon)
        except ValueError as error:
            raise Refused(str(error), Reason.INVALID) from error
        self._is_busy = True
        try:
            energies = [
                # In pieces, so that no plan waits longer than for another one.
                await self._node.result_of(self._worker.call(partial(objective, part)))
                for part in actions.split(max(1, step.evaluations))
            ]
        finally:
            self._is_busy = False
        xy, xz = torch.cat(energies).reshape(2, -1)
        response.header.stamp = stamp(observation.image.stamp)
        response.header.frame_id = observation.frame
        x, y, z = (float(value) for value in objective.state[:3])
        response.centre.x, response.centre.y, response.centre.z = x, y, z
        dx, dy, dz = (float(value) for value in step.action[:3])
        response.chosen.x, response.chosen.y, response.chosen.z = dx, dy, dz
        response.xy, response.xz = (array("f", part.numpy().tobytes()) for part in (xy, xz))
        response.points, response.reach = points, action.max_translation
        response.success, response.reason = True, int(Reason.ACCEPTED)
        response.message = f"{len(actions)} energies"
        return response
