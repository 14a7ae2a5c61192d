# SPDX-License-Identifier: Apache-2.0
"""A bag with nothing but what a replay needs: small enough to be checked in.

Images become PNGs, which lose nothing; of the states those next to an image or a command stay.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from vjepa2_ros.recording.messages import image_pixels, seconds
from vjepa2_ros.recording.reading import Recording, read_bag

_IMAGE = "sensor_msgs/msg/CompressedImage"


def shorten(source: Path, target: Path) -> None:
    """Write the short bag of a bag.

    Args:
        source: folder of the bag.
        target: folder of the new one; must not exist yet.

    Raises:
        BagError: the source holds nothing to replay.
        FileExistsError: there is such a folder.
        OSError: it cannot be read or written.
    """
    recording = read_bag(source)
    if target.exists():
        raise FileExistsError(f"{target} exists already: choose another name")
    kept = _stamps(recording)
    writer = Writer(target, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    for key, value in recording.metadata.items():
        writer.set_custom_data(key, value)
    with AnyReader([source]) as reader, writer:
        store: Any = reader.typestore
        namespace = recording.namespace
        for name in ("goal", "command", "robot_state", "joint_states"):
            topic = f"{namespace}/{name}"
            connections = [c for c in reader.connections if c.topic == topic]
            if not connections:
                continue
            new = writer.add_connection(topic, connections[0].msgtype, typestore=store)
            for connection, received, data in reader.messages(connections):
                message: Any = reader.deserialize(data, connection.msgtype)
                if name == "robot_state" and seconds(message.header.stamp) not in kept:
                    continue
                writer.write(new, received, data)
                if name == "joint_states":
                    break  # only its names are used
        topic = f"{namespace}/camera/image_raw/compressed"
        new = writer.add_connection(topic, _IMAGE, typestore=store)
        done: set[float] = set()
        names = [f"{namespace}/camera/image_raw", topic]
        connections = [c for c in reader.connections if c.topic in names]
        for connection, received, data in reader.messages(connections):
            picture: Any = reader.deserialize(data, connection.msgtype)
            stamp = seconds(picture.header.stamp)
            if stamp in recording.images and stamp not in done:
                done.add(stamp)
                image = store.types[_IMAGE](picture.header, "png", _png(image_pixels(picture)))
                writer.write(new, received, store.serialize_cdr(image, _IMAGE))


def _stamps(recording: Recording) -> set[float]:
    """Stamps of the states that a replay looks at."""
    stamps = np.array([state.stamp for state in recording.states])
    kept: set[float] = set()
    for recorded in recording.commands:
        for moment in (recorded.command.observation_stamp, recorded.received):
            index = int(np.searchsorted(stamps, moment))
            kept.update(stamps[max(0, index - 2) : index + 2].tolist())
    return kept


def _png(image: np.ndarray) -> Any:
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return np.frombuffer(data.tobytes(), np.uint8)
