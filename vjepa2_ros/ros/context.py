# SPDX-License-Identifier: Apache-2.0
"""The start of ROS in a process, with errors that say what to do."""

from collections.abc import Sequence

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions


class RosError(RuntimeError):
    """ROS cannot be started; the text says why, and what to do."""


def init(arguments: Sequence[str] | None = (), context: Context | None = None) -> None:
    """Initialise rclpy.

    Without rclpy's own signal handlers: they shut the context down at once, and a node could no
    longer halt the robot nor say goodbye.

    Args:
        arguments: of ROS; None for those of the process.
        context: to initialise; None for the default one.

    Raises:
        RosError: the arguments, or what the environment says to ROS, cannot be used.
    """
    try:
        rclpy.init(
            args=None if arguments is None else list(arguments),
            context=context,
            signal_handler_options=SignalHandlerOptions.NO,
        )
    except Exception as error:
        text = str(error)
        if "initialize logging" in text:
            # Without HOME rcl says only that rcutils_expand_user failed.
            text += "; set HOME, or ROS_LOG_DIR to a folder for its logs"
        raise RosError(text) from error
