# SPDX-License-Identifier: Apache-2.0
"""Images in, latents out: the camera's as a topic, goal images as a service."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vjepa2_ros.camera.decoding import ImageTooLargeError, check_image, decode_image
from vjepa2_ros.msg import Latent
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.awaiting_node import Refused
from vjepa2_ros.ros.conversions import MessageError, image_array, seconds
from vjepa2_ros.ros.image_transport import COMPRESSED_TOPIC, RAW_TOPIC, LinkMeter
from vjepa2_ros.ros.latents import latent_message
from vjepa2_ros.ros.mailbox import LatestWorker
from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.qos import LATEST
from vjepa2_ros.ros.runner import run
from vjepa2_ros.settings.encoder import EncoderNodeSettings
from vjepa2_ros.settings.transport import COMPRESSED
from vjepa2_ros.srv import EncodeImages
from vjepa2_ros.world_model.checkpoint import open_world_model
from vjepa2_ros.world_model.world_model import WorldModel

MAX_IMAGES = 1000
"""Most images in a request: the highest `max_subgoals` that a planner may have."""


class EncoderNode(ManagedNode):
    """Encodes the newest image whenever the one before is done; goal images go first.

    Decoding and encoding happen in the worker's thread, so that heartbeats and services go on.
    """

    NAME = "encoder_node"
    SETTINGS = EncoderNodeSettings
    _model: WorldModel | None = None
    _worker: LatestWorker[Image | CompressedImage] | None = None

    def configure(self) -> None:
        self._model = open_world_model(self.settings.model)
        size = self._model.encoder.size
        # The first run is slower than the rest, and its latent would count as too old.
        self._model.encode(np.zeros((size, size, 3), np.uint8))
        self.health.set("model", f"{self._model.name} {self._model.fingerprint}")
        self._worker = LatestWorker(
            self._encode_message, self._publish_later, self.post_error, "encoder"
        )
        self._latents = self.advertise(Latent, "latent", LATEST)
        self._link = LinkMeter()
        if self.settings.subscription.image_transport == COMPRESSED:
            self.subscribe(CompressedImage, COMPRESSED_TOPIC, self._on_image, LATEST)
        else:
            self.subscribe(Image, RAW_TOPIC, self._on_image, LATEST)
        self.serve(EncodeImages, "encode_images", self._on_encode_images)

    def deactivate(self) -> None:
        if self._worker is not None:
            self._worker.discard()

    def cleanup(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = self._model = None

    @property
    def _max_pixels(self) -> int:
        return round(self.settings.max_image_megapixels * 1e6)

    # In the worker's thread -----------------------------------------------------------------

    def _encode_message(self, message: Image | CompressedImage) -> Latent:
        if isinstance(message, CompressedImage):
            return self._encode_file(message, self._max_pixels)
        return self._encode(image_array(message), message.header)

    def _encode_file(self, message: CompressedImage, max_pixels: int) -> Latent:
        return self._encode(decode_image(message.data, max_pixels), message.header)

    def _encode(self, image: np.ndarray, header: Header) -> Latent:
        started = time.perf_counter()
        model = self._model
        latent = model.encode(image)
        if not torch.isfinite(latent).all():
            raise MessageError("the latent is not finite: the model's weights are broken")
        grid = model.encoder.rows, model.encoder.columns
        message = latent_message(
            latent,
            grid,
            model.fingerprint,
            header,
            self.settings.half_precision,
            model.crop_of(image),
        )
        message.encode_seconds = time.perf_counter() - started
        return message

    def _publish_later(self, message: Latent) -> None:
        self.post(self._publish, message)

    # In the executor's thread ---------------------------------------------------------------

    def _on_image(self, message: Image | CompressedImage) -> None:
        latency = self.now() - seconds(message.header.stamp)
        self._link.add(len(message.data), latency, self.steady_now())
        self._worker.offer(message)

    def _publish(self, message: Latent) -> None:
        self._latents.publish(message)
        self.health.set("encode_ms", f"{message.encode_seconds * 1e3:.1f}")
        self.health.set("dropped", self._worker.dropped)
        self.health.set("late", self._link.late)
        for key, value in self._link.values().items():
            self.health.set(key, value)
        self.health.beat()

    async def _on_encode_images(
        self, request: EncodeImages.Request, response: EncodeImages.Response
    ) -> EncodeImages.Response:
        images: Sequence[CompressedImage] = request.images
        if not images:
            raise Refused(
                "no image was sent; send one, or one for each sub-goal", Reason.NO_GOAL_IMAGE
            )
        if len(images) > MAX_IMAGES:
            raise Refused(
                f"{len(images)} images were sent, more than {MAX_IMAGES}", Reason.TOO_MANY_SUBGOALS
            )
        max_pixels = self._max_pixels
        # All headers first: nothing is encoded for a request that will be refused.
        for number, image in enumerate(images, start=1):
            await self._work(partial(check_image, image.data, max_pixels), number, len(images))
        for number, image in enumerate(images, start=1):
            job = partial(self._encode_file, image, max_pixels)
            response.latents.append(await self._work(job, number, len(images)))
        response.success, response.reason = True, int(Reason.ACCEPTED)
        response.message = f"encoded {len(images)} image(s)"
        return response

    async def _work(self, job: Callable[[], Any], number: int, count: int) -> Any:
        """Result of a job of the worker on one of several images; raises Refused."""
        if not self.is_active or self._worker is None:
            raise Refused(f"{self.NAME} went down in the meantime", Reason.NODE_INACTIVE)
        try:
            return await self.result_of(self._worker.call(job))
        except ImageTooLargeError as error:
            reason = Reason.IMAGE_TOO_LARGE
            text = f"{error}, or raise the parameter max_image_megapixels"
        except MessageError as error:
            reason, text = Reason.LATENT_INVALID, str(error)
        except ValueError as error:
            # Not only ImageError: the model refuses an image that is too small for it.
            reason, text = Reason.IMAGE_INVALID, str(error)
        raise Refused(f"image {number} of {count}: {text}", reason)


def main() -> int:
    return run(EncoderNode, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
