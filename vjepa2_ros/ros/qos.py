# SPDX-License-Identifier: Apache-2.0
"""Quality of service of every topic, by what the topic is for."""

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy

# Only the newest is of use, and waiting for a lost one would make it old.
LATEST = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
# A stream of small states of which each is welcome.
STREAM = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.BEST_EFFORT)
# Must arrive, but a newer one makes the one before void.
COMMAND = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
# For whoever comes later, too.
LATCHED = QoSProfile(
    depth=1,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)
