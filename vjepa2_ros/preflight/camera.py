# SPDX-License-Identifier: Apache-2.0
"""Whether images come, and can be seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vjepa2_ros.preflight.finding import Finding, fail, ok, warn
from vjepa2_ros.settings.camera import CameraNodeSettings

MEASURED = 2.0
"""How long images are taken, if nothing else is said [s]."""
_DARK, _BRIGHT = 15.0, 240.0  # mean of all pixels, 0 to 255
_FLAT = 3.0  # standard deviation of an image without a scene


@dataclass(frozen=True)
class CameraReading:
    """Images of some time.

    Attributes:
        count: of images.
        seconds: from the first to the last.
        width, height: of the last [pixels].
        mean, deviation: of its pixels, 0 to 255.
        ages: from stamp to arrival of each [s]; for a camera that is read here, from capture to
            the decoded image.
    """

    count: int
    seconds: float
    width: int
    height: int
    mean: float
    deviation: float
    ages: Sequence[float]


def read_camera(
    progress: Callable[[float], None], settings: CameraNodeSettings, seconds: float = MEASURED
) -> CameraReading | str:
    """Take images from a device, a video or a folder; a text says why there are none.

    Args:
        progress: called with the part done.
        settings: of camera_node.
        seconds: how long to take images.
    """
    from vjepa2_ros.camera.sources import CameraError, open_source

    times, ages, image = [], [], None
    try:
        source = open_source(settings)
        begin = time.monotonic()
        while (now := time.monotonic()) < begin + seconds and source.grab():
            captured = time.monotonic()
            image = source.retrieve()
            times.append(captured)
            ages.append(time.monotonic() - captured)
            progress((now - begin) / seconds)
        source.close()
    except CameraError as error:
        return str(error)
    if image is None:
        return "it gives no image"
    return reading_of(image, times, ages)


def reading_of(
    image: np.ndarray, times: Sequence[float], ages: Sequence[float]
) -> CameraReading:
    """Sum up images.

    Args:
        image: the last one, uint8 RGB [height, width, 3].
        times: when each came [s].
        ages: see `CameraReading`.
    """
    height, width = image.shape[:2]
    seconds = times[-1] - times[0]
    mean, deviation = float(image.mean()), float(image.std())
    return CameraReading(len(times), seconds, width, height, mean, deviation, tuple(ages))


def camera_findings(
    reading: CameraReading | str, wanted_rate: float, max_age: float
) -> list[Finding]:
    """Judge rate, ages and brightness.

    Args:
        reading: or why there is none.
        wanted_rate: of the configuration [Hz].
        max_age: `max_observation_age` of the configuration [s].
    """
    if isinstance(reading, str):
        return [fail("camera", reading, "see the text; `v4l2-ctl --list-devices`")]
    rate = (reading.count - 1) / reading.seconds if reading.seconds > 0 else 0.0
    text = f"{rate:.1f} Hz, {reading.count} images of {reading.width}x{reading.height} pixels"
    slow = rate < 0.8 * wanted_rate
    findings = [
        warn("camera", f"{text}; {wanted_rate:g} Hz are set", "more light, a smaller size or USB 3")
        if slow
        else ok("camera", text)
    ]
    age = float(np.median(reading.ages))
    text = f"{1e3 * age:.0f} ms (median), at most {1e3 * max(reading.ages):.0f} ms"
    if not -0.05 < age < max_age:
        advice = "synchronise the clocks of the computers, see system clock"
        findings.append(fail("image age", f"{text}; max_observation_age is {max_age:g} s", advice))
    else:
        findings.append(ok("image age", text))
    text = f"mean {reading.mean:.0f} of 255, standard deviation {reading.deviation:.0f}"
    if reading.mean < _DARK or reading.deviation < _FLAT:
        advice = "take the lid off, switch on the light, and look at an image"
        findings.append(fail("brightness", f"{text}: no scene", advice))
    elif reading.mean > _BRIGHT:
        findings.append(warn("brightness", f"{text}: too bright", "shorten the exposure"))
    else:
        findings.append(ok("brightness", text))
    return findings
