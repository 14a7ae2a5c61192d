# SPDX-License-Identifier: Apache-2.0
"""The camera's newest images as a clip: its embedding, and what is done in it.

Off the control path: nothing waits for this node, and its end ends nothing. A clip is made of the
newest images whenever the one before is done; none waits in a queue.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from torch import Tensor

from vjepa2_ros.msg import Clip
from vjepa2_ros.ros.conversions import image_array, seconds, stamp
from vjepa2_ros.ros.image_transport import COMPRESSED_TOPIC, RAW_TOPIC
from vjepa2_ros.ros.mailbox import LatestWorker
from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.qos import LATEST, VIEW
from vjepa2_ros.ros.runner import run
from vjepa2_ros.settings.clip import ClipNodeSettings
from vjepa2_ros.settings.transport import COMPRESSED
from vjepa2_ros.share import model_path
from vjepa2_ros.video.buffer import ClipBuffer
from vjepa2_ros.video.classification import check_fit, embedding, most_likely
from vjepa2_ros.video.clip_encoder import load_clip_encoder
from vjepa2_ros.video.labels import load_labels
from vjepa2_ros.video.preprocessing import preprocess_video
from vjepa2_ros.video.probe import LABELS, load_probe
from vjepa2_ros.world_model.attentive_probe import AttentiveProbe


class ClipNode(ManagedNode):
    """Keeps the newest images at the clip's rate, and encodes them in a worker thread."""

    NAME = "clip_node"
    SETTINGS = ClipNodeSettings
    STARTS_BY_ITSELF = True
    _worker: LatestWorker[list[tuple[float, Image | CompressedImage]]] | None = None

    def configure(self) -> None:
        settings = self.settings
        chosen = settings.computation
        torch.set_num_threads(chosen.threads)
        self._encoder = load_clip_encoder(
            model_path(settings.encoder),
            settings.part,
            settings.size or None,
            chosen.device,
            chosen.dtype,
            chosen.attention,
        )
        self._probe: AttentiveProbe | None = None
        self._labels: list[str] = []
        if settings.probe:
            self._load_probe(Path(settings.probe).expanduser())
        self._model = self._encoder.fingerprint(
            {"frames": settings.frames, "rate": settings.frame_rate, "resize": settings.resize}
        )
        self.health.set("model", f"{self._encoder.source} {self._model}")
        # Frames that clips share are preprocessed once; only the worker's thread uses it.
        self._prepared: dict[float, Tensor] = {}
        self._buffer: ClipBuffer[Image | CompressedImage] = ClipBuffer(
            settings.frames, settings.frame_rate
        )
        self._next = 0.0
        self._worker = LatestWorker(self._encode, self._publish_later, self.post_error, "clips")
        self._clips = self.advertise(Clip, "clip", VIEW)
        if settings.subscription.image_transport == COMPRESSED:
            self.subscribe(CompressedImage, COMPRESSED_TOPIC, self._on_image, LATEST)
        else:
            self.subscribe(Image, RAW_TOPIC, self._on_image, LATEST)

    def _load_probe(self, path: Path) -> None:
        probe = load_probe(path, self.settings.heads)
        if set(probe.classes) != {LABELS}:
            raise ValueError(f"{path} names {', '.join(probe.classes)}, not labels of clips")
        check_fit(self._encoder, probe)
        count = probe.classes[LABELS]
        self._labels = [str(number) for number in range(count)]
        if self.settings.labels:
            self._labels = load_labels(Path(self.settings.labels).expanduser(), count)
        self._probe = probe.to(self._encoder.device)

    def deactivate(self) -> None:
        if self._worker is not None:
            self._worker.discard()
            self._buffer.clear()

    def cleanup(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    # In the worker's thread -----------------------------------------------------------------

    @torch.no_grad()
    def _encode(self, kept: list[tuple[float, Image | CompressedImage]]) -> Clip:
        started = time.perf_counter()
        before, self._prepared = self._prepared, {}
        for when, message in kept:
            self._prepared[when] = before[when] if when in before else self._prepare(message)
        tokens = self._encoder.tokens(torch.stack([self._prepared[when] for when, _ in kept])[None])
        last = kept[-1][1]
        clip = Clip(
            header=Header(stamp=last.header.stamp, frame_id=last.header.frame_id),
            first=stamp(kept[0][0]),
            frames=len(kept),
            model=self._model,
            embedding=embedding(tokens).cpu().numpy(),
        )
        if self._probe is not None:
            probabilities = self._probe(tokens)[LABELS][0].softmax(0)
            named = most_likely(probabilities, self._labels, self.settings.top)
            clip.labels = [name for name, _ in named]
            clip.probabilities = [probability for _, probability in named]
        clip.encode_seconds = time.perf_counter() - started
        return clip

    def _prepare(self, message: Image | CompressedImage) -> Tensor:
        """Preprocessed frame [3, S, S]."""
        image = image_array(message)
        return preprocess_video(image[None], self._encoder.encoder.size, self.settings.resize)[0, 0]

    def _publish_later(self, clip: Clip) -> None:
        self.post(self._publish, clip)

    # In the executor's thread ---------------------------------------------------------------

    def _on_image(self, message: Image | CompressedImage) -> None:
        kept = self._buffer.add(seconds(message.header.stamp), message)
        self.health.set("restarts", self._buffer.restarts)
        clip = self._buffer.clip()
        if not kept or clip is None or self.steady_now() < self._next:
            return
        self._next = self.steady_now() + 1.0 / self.settings.clip_rate
        self._worker.offer(clip)

    def _publish(self, clip: Clip) -> None:
        self._clips.publish(clip)
        self.health.set("encode_ms", f"{clip.encode_seconds * 1e3:.1f}")
        self.health.set("clip_age_s", f"{self.now() - seconds(clip.header.stamp):.3f}")
        self.health.set("dropped", self._worker.dropped)
        if clip.labels:
            self.health.set("label", clip.labels[0])
        self.health.beat()


def main() -> int:
    return run(ClipNode, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
