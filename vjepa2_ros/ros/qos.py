# SPDX-License-Identifier: Apache-2.0
"""Quality of service of every topic, by what the topic is for, and of the services."""

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy

# Only the newest message is used; waiting for a lost one would add latency.
LATEST = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
# A stream of small messages; all of them are used.
STREAM = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.BEST_EFFORT)
# Must arrive; a newer message replaces the one before.
COMMAND = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
# Must arrive, each of them: a sign of life must not replace the target before it.
TARGET = QoSProfile(depth=10, reliability=QoSReliabilityPolicy.RELIABLE)
# Late subscribers get the last message.
LATCHED = QoSProfile(
    depth=1,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)
# As above, for large messages that follow each other soon: one that was lost on the wire is sent
# again only as long as the publisher has it, which may take seconds.
LATCHED_SERIES = QoSProfile(
    depth=10,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)
# Deep enough for all requests and answers that may wait at once: one that does not fit is dropped,
# and its caller waits for ever.
SERVICE = QoSProfile(depth=1000, reliability=QoSReliabilityPolicy.RELIABLE)
# For viewers, which ask for reliable topics unless they are told otherwise.
VIEW = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
# As tf2 publishes transforms.
TRANSFORMS = QoSProfile(depth=100, reliability=QoSReliabilityPolicy.RELIABLE)
