# SPDX-License-Identifier: Apache-2.0
"""Images in, latents out: the camera's as a topic, goal images as a service."""

from __future__ import annotations

import sys
import time
from functools import partial

import numpy as np
import torch
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vjepa2_ros.msg import Latent
from vjepa2_ros.ros.conversions import MessageError, decode_image, image_array
from vjepa2_ros.ros.latents import latent_message
from vjepa2_ros.ros.mailbox import LatestWorker
from vjepa2_ros.ros.managed_node import ManagedNode, Refused
from vjepa2_ros.ros.qos import LATEST
from vjepa2_ros.ros.runner import run
from vjepa2_ros.settings.encoder import EncoderNodeSettings
from vjepa2_ros.srv import EncodeImages
from vjepa2_ros.world_model.checkpoint import open_world_model


class EncoderNode(ManagedNode):
    """Encodes the newest image whenever the one before is done; goal images go first."""

    NAME = "encoder_node"
    SETTINGS = EncoderNodeSettings

    def configure(self) -> None:
        self._model = open_world_model(self.settings.model)
        encoder = self._model.encoder
        self._grid = encoder.rows, encoder.columns
        # The first run is slower than the rest, and would be taken for an old observation.
        self._model.encode(np.zeros((encoder.size, encoder.size, 3), np.uint8))
        self.health.set("model", f"{self._model.name} {self._model.fingerprint}")
        self._worker = LatestWorker(
            self._encode_message, self._publish_later, self.post_error, "encoder"
        )
        self._latents = self.advertise(Latent, "latent", LATEST)
        self.subscribe(Image, "camera/image_raw", self._on_image, LATEST)
        self.serve(EncodeImages, "encode_images", self._on_encode_images)

    def deactivate(self) -> None:
        if hasattr(self, "_worker"):
            self._worker.discard()

    def cleanup(self) -> None:
        if hasattr(self, "_worker"):
            self._worker.close()
            del self._worker, self._model

    def _on_image(self, message: Image) -> None:
        self._worker.offer(message)

    def _encode_message(self, message: Image) -> Latent:
        return self._encode(image_array(message), message.header)

    def _encode(self, image: np.ndarray, header: Header) -> Latent:
        started = time.perf_counter()
        latent = self._model.encode(image)
        if not torch.isfinite(latent).all():
            raise MessageError("the latent is not finite: the model's weights are broken")
        message = latent_message(
            latent, self._grid, self._model.fingerprint, header, self.settings.half_precision
        )
        message.encode_seconds = time.perf_counter() - started
        return message

    def _publish_later(self, message: Latent) -> None:
        self.post(self._publish, message)

    def _publish(self, message: Latent) -> None:
        self._latents.publish(message)
        self.health.set("encode_ms", f"{message.encode_seconds * 1e3:.1f}")
        self.health.set("dropped", self._worker.dropped)
        self.health.beat()

    async def _on_encode_images(
        self, request: EncodeImages.Request, response: EncodeImages.Response
    ) -> EncodeImages.Response:
        count = len(request.images)
        if not count:
            raise Refused("no image was sent; send one, or one for each sub-goal")
        for number, compressed in enumerate(request.images, start=1):
            try:
                image = decode_image(compressed)
                job = self._worker.call(partial(self._encode, image, compressed.header))
                response.latents.append(await self.result_of(job))
            except ValueError as error:
                raise Refused(f"image {number} of {count}: {error}") from error
        response.success, response.message = True, f"encoded {count} image(s)"
        return response


def main() -> int:
    return run(EncoderNode, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
