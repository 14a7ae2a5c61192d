# SPDX-License-Identifier: Apache-2.0
"""The end of a program with worker processes: by Ctrl-C, which reaches all, or of their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Let only this process, not those that it starts in here, handle Ctrl-C, and once it is left.

    A worker would print a traceback, at the latest while it starts; so does one whose starter is
    interrupted before it has told the worker what to do. A pool starts its workers when jobs are
    submitted. Call it from the main thread.
    """
    caught = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    # The mask is inherited, but is this thread's alone: another one may take the signal, and
    # Python then calls the handler in the main thread nevertheless.
    handler = signal.signal(signal.SIGINT, lambda *_: caught.append(None))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if caught:
            signal.raise_signal(signal.SIGINT)


def end_with_parent() -> None:
    """Let this worker process end as soon as the process that started it is gone, killed or not."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
