# SPDX-License-Identifier: Apache-2.0
"""Functions for processes of their own, which import nothing that takes long."""

import os
import threading


def succeeds(progress, value):
    """Report half of the way, then return."""
    progress(0.5)
    return value


def never_ends(_):
    """Wait for ever."""
    threading.Event().wait()


def dies(_):
    """End the process at once."""
    os._exit(3)


def fails(_):
    """Raise."""
    raise ValueError("too bad")
