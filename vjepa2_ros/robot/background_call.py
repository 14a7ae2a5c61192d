# SPDX-License-Identifier: Apache-2.0
"""Calls of a robot's library that may take long, or for ever.

A thread pool of Python would hold the end of the process up until such a call returns; these
threads are left behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any


def call_in_background(function: Callable[..., Any], *arguments: Any) -> Future:
    """Call a function in a thread that no end of the process waits for."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # noqa: BLE001 - belongs to who waits for it
            # Its traceback leads to this frame and with it to the future again: a cycle would keep
            # what the function belongs to, such as a connection, until the next collection.
            future.set_exception(error.with_traceback(None))

    threading.Thread(target=run, name=getattr(function, "__name__", ""), daemon=True).start()
    return future


def call_within(timeout: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function and return what it returns; raises what it raises.

    Args:
        timeout: longest wait [s].

    Raises:
        TimeoutError: it did not return in time; it goes on in the background.
    """
    future = call_in_background(function, *arguments)
    if not wait([future], timeout).done:
        raise TimeoutError(f"no answer within {timeout:.0f} s")
    return future.result()
