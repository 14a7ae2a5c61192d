# SPDX-License-Identifier: Apache-2.0
"""The surroundings of a planner node: camera, robot and encoder, each with its faults."""

from array import array

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from vjepa2_ros.msg import Latent, RobotState
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.conversions import stamp
from vjepa2_ros.ros.latents import latent_message
from vjepa2_ros.ros.qos import LATEST, STREAM
from vjepa2_ros.srv import EncodeImages, SetGoal


class Surroundings:
    """Everything that the planner talks to, with each fault as an attribute.

    Attributes:
        stale_states: how many states still leave without the last halt, as they do where a halt is
            acknowledged before the next state.
    """

    def __init__(self, probe, model):
        self.probe, self.model = probe, model
        self.grid = model.encoder.rows, model.encoder.columns
        self.seeing = self.feeling = True
        self.sender = "the controller"
        self.latent_age = self.state_age = 0.0
        self.change_latent = self.change_state = lambda message: message
        self.obeying = True
        self.moving = False
        self.encoder_answers = True
        self.image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        self.latent = model.encode(self.image)
        self.accepted = ("", 0)
        self.halts, self.last_halt = 0, 0.0
        self.stale_states = 0
        self.encoded = 0
        self.image_size = 0
        node = probe.node
        self._latents = node.create_publisher(Latent, "latent", LATEST)
        self._states = node.create_publisher(RobotState, "robot_state", STREAM)
        self.before_encoding = lambda: None
        self._timer = node.create_timer(0.03, self._tick)
        self._services = [node.create_service(Trigger, "halt", self._on_halt)]
        self.offer_encoder()

    def offer_encoder(self):
        self._services.append(
            self.probe.node.create_service(EncodeImages, "encode_images", self._on_encode)
        )

    def withdraw_encoder(self):
        self.probe.run(lambda: self.probe.node.destroy_service(self._services.pop()))

    def withdraw_controller(self):
        """Publish no robot_state any more, and do not even offer it."""
        self.feeling = False
        self.probe.run(lambda: self.probe.node.destroy_publisher(self._states))

    def close(self):
        self.probe.run(self._destroy)

    def _destroy(self):
        node = self.probe.node
        node.destroy_timer(self._timer)
        node.destroy_publisher(self._latents)
        node.destroy_publisher(self._states)
        for service in self._services:
            node.destroy_service(service)

    def _tick(self):
        now = self.probe.now()
        if self.obeying:
            commands = self.probe.messages("command")
            if commands:
                self.accepted = commands[-1].goal_id, commands[-1].sequence
        if self.feeling:
            self.publish_state()
        if self.seeing:
            header = Header(stamp=stamp(now - self.latent_age), frame_id="camera")
            message = latent_message(self.latent, self.grid, self.model.fingerprint, header)
            self._latents.publish(self.change_latent(message))

    def publish_state(self):
        """Publish a state of the robot, measured now."""
        now = self.probe.now()
        point = Point(x=0.5, y=0.0, z=0.2)
        state = RobotState(
            sender=self.sender,
            header=Header(stamp=stamp(now - self.state_age), frame_id="base"),
            pose=Pose(position=point, orientation=Quaternion(x=1.0, w=0.0)),
            goal_id=self.accepted[0],
            sequence=self.accepted[1],
            mode=RobotState.READY,
            moving=self.moving,
            halts=self.halts,
            last_halt=stamp(self.last_halt),
        )
        if self.stale_states > 0:
            self.stale_states -= 1
            state.halts, state.last_halt = self.halts - 1, stamp(0.0)
        self._states.publish(self.change_state(state))

    def _on_encode(self, request, response):
        self.encoded += 1
        self.before_encoding()
        if self.encoder_answers:
            response.success = True
            message = latent_message(self.latent, self.grid, self.model.fingerprint, Header())
            response.latents = [self.change_latent(message)] * len(request.images)
        else:
            response.reason = int(Reason.IMAGE_INVALID)
            response.message = "image 1 of 1: the probe does not like it"
        return response

    def _on_halt(self, request, response):
        self.halts += 1
        self.last_halt = self.probe.now()
        self.stale_states = 2
        response.success, response.message = True, "halted by the probe"
        return response

    # Actions of the tests

    def forget(self):
        """Have the planner forget what it has seen so far: bring it down and up again."""
        for transition in ("deactivate", "cleanup", "configure", "activate"):
            assert self.probe.change("planner_node", transition)

    def refuse_commands(self):
        """Obey none, and say of each that it was refused."""
        self.obeying, self.accepted = False, ("", 0)

        def refusing(message):
            commands = self.probe.messages("command")
            if commands:
                message.refused_goal_id = commands[-1].goal_id
                message.refused_sequence = commands[-1].sequence
                message.refused_reason = int(Reason.OUT_OF_SEQUENCE)
                message.message = "refused by the probe"
            return message

        self.change_state = refusing

    def change_parameters(self, **values):
        """Change parameters of the running planner; returns the result."""
        changes = [
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()
        ]
        request = SetParameters.Request(parameters=changes)
        return self.probe.call(SetParameters, "planner_node/set_parameters", request).results[-1]

    def set_goal(self, count=1, **fields):
        images = [
            CompressedImage(format="png", data=array("B", self.image_bytes(number)))
            for number in range(count)
        ]
        return self.probe.call(SetGoal, "set_goal", SetGoal.Request(images=images, **fields))

    def image_bytes(self, number):
        """Content of a goal image; the probe's encoder takes anything."""
        return f"image {number}".encode().ljust(self.image_size, b".")

    def accepted_goal(self):
        """Set a goal as soon as the planner has seen latent and state; returns its id."""
        while True:
            mark = self.probe.mark("/diagnostics")
            answer = self.set_goal()
            if answer.accepted:
                return answer.goal_id
            # The encoder's service is a new one with each test.
            assert answer.reason in (
                Reason.NO_IMAGE,
                Reason.NO_ROBOT_STATE,
                Reason.NODE_INACTIVE,
                Reason.ENCODER_UNAVAILABLE,
                Reason.ENCODER_TIMEOUT,
            )
            self.probe.wait("/diagnostics", after=mark)

    def wait_status(self, goal_id, state, reason=None, step=0):
        """The status of a goal in a state, for a reason, from a step on."""

        def fits(status):
            found = status.goal_id == goal_id and status.state == state and status.step >= step
            return found and reason in (None, status.reason)

        return self.probe.wait("status", fits, after=max(0, self.probe.mark("status") - 1))

    def commands(self):
        return self.probe.mark("command")
