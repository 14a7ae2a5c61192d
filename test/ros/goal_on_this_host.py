# SPDX-License-Identifier: Apache-2.0
"""A program: sets what the camera sees as the goal of a stack, and prints what came of it as JSON.

A process of its own, since Fast DDS looks once in a process which networks there are.
"""

import json

from sensor_msgs.msg import CompressedImage
from stack_probe import make_probe, wait_for_latents

from vjepa2_ros.execution.goal_status import TERMINAL
from vjepa2_ros.msg import Clip
from vjepa2_ros.ros.conversions import compressed_image, image_array
from vjepa2_ros.ros.image_transport import COMPRESSED_TOPIC, jpeg
from vjepa2_ros.ros.qos import LATEST, VIEW
from vjepa2_ros.srv import SetGoal


def values_of(message):
    """Entries of a diagnostics message."""
    return {entry.key: entry.value for entry in message.status[0].values}


def main():
    probe = make_probe("/vjepa2")
    probe.listen(CompressedImage, COMPRESSED_TOPIC, LATEST)
    probe.listen(Clip, "clip", VIEW)
    wait_for_latents(probe)
    link = probe.wait("/diagnostics", lambda m: "image_mbit_s" in values_of(m), after=0)
    raw, wire = probe.wait("camera/image_raw"), probe.wait(COMPRESSED_TOPIC)
    # The planner finds nothing to improve.
    image = compressed_image(jpeg(image_array(raw), 95).tobytes())
    mark = probe.mark("status")
    answer = probe.call(SetGoal, "set_goal", SetGoal.Request(images=[image]))
    assert answer.accepted, answer.message
    end = probe.wait("status", lambda s: s.goal_id == answer.goal_id and s.state in TERMINAL, mark)
    clip = probe.wait("clip", after=0)
    result = {
        "clip": clip.frames,
        "state": end.state,
        "message": end.message,
        "raw": len(raw.data),
        "wire": len(wire.data),
        "from": link.status[0].name,
        "link": values_of(link),
    }
    print(json.dumps(result), flush=True)
    probe.close()


if __name__ == "__main__":
    main()
