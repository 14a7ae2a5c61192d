# SPDX-License-Identifier: Apache-2.0
"""A training that takes seconds, for tests."""

import argparse
import resource
from contextlib import contextmanager
from dataclasses import replace

from vjepa2_ros.cli import train as cli
from vjepa2_ros.training.loop import LoopConfig
from vjepa2_ros.training.pretrain import (
    PretrainConfig,
)
from vjepa2_ros.training.recipe import (
    Recipe,
    recording_config,
)

TINY = Recipe(
    episodes=6,
    length=5,
    held_out=2,
    image_size=64,
    width=48,
    heads=2,
    encoder_layers=1,
    predictor_layers=1,
    pretrain=PretrainConfig(batch=4),
    pretrain_loop=LoopConfig(4, checkpoint_every=2),
    predictor_batch=4,
    predictor_window=4,
    predictor_loop=LoopConfig(4, checkpoint_every=2),
    approaches=0,
    uncertainty_layers=1,
    uncertainty_window=5,
    uncertainty_loop=LoopConfig(4, checkpoint_every=2),
)

WITH_APPROACHES = replace(TINY, approaches=2)

RECORDING = recording_config(TINY)


def command(*words):
    """Arguments of `vjepa2-ros train`."""
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


@contextmanager
def largest_file(size):
    """Let no file grow beyond a size, as a full disk does not."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
