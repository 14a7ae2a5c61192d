# SPDX-License-Identifier: Apache-2.0
"""The next images of a topic as a video."""

from __future__ import annotations

import numpy as np

from vjepa2_ros.stack.client import ClientError, StackClient
from vjepa2_ros.video.frames import FramesInMemory, VideoError


def record_topic(topic: str, count: int) -> FramesInMemory:
    """Take the next images of a topic.

    Args:
        topic: of sensor_msgs/msg/Image, or of CompressedImage where its name ends with
            "compressed".
        count: number of images, at least 1.

    Returns:
        The video, with the rate that the stamps tell; None where they do not ascend.

    Raises:
        VideoError: ROS cannot be started, images did not come, or they are of different sizes.
    """
    try:
        with StackClient() as client:
            pictures = client.pictures(topic, count)
    except ClientError as error:
        raise VideoError(str(error)) from error
    stamps, images = zip(*pictures, strict=True)
    if len({image.shape for image in images}) > 1:
        raise VideoError(f"the images of {topic} changed their size: start again")
    time = stamps[-1] - stamps[0]
    return FramesInMemory(np.stack(images), topic, (count - 1) / time if time > 0 else None)
