# SPDX-License-Identifier: Apache-2.0
"""A measurement in a process of its own, which a deadline can end.

A library that waits for a robot cannot be interrupted, and a thread that waits would keep the
program from ending.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_PERIOD = 0.1  # [s], for which a wait ignores what else happens


class MeasurementError(RuntimeError):
    """The measurement did not end in time, or its process died."""


def measure(
    function: Callable[..., Any],
    *arguments: Any,
    timeout: float,
    on_progress: Callable[[float], None] = lambda done: None,
) -> Any:
    """Call a function in a process of its own.

    Args:
        function: of a module; its first argument is called with the part done (0 to 1).
        arguments: the others.
        timeout: for the whole of it [s].
        on_progress: called here with the part done.

    Returns:
        What the function returns.

    Raises:
        MeasurementError: it did not end in time, raised or died.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, function, arguments), daemon=True)
    process.start()
    sender.close()
    deadline = time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            if not receiver.poll(_PERIOD):
                continue
            kind, value = receiver.recv()
            if kind == "returned":
                return value
            if kind == "raised":
                raise MeasurementError(value)
            on_progress(value)
        raise MeasurementError(f"no answer within {timeout:.0f} s")
    except EOFError:
        process.join(1.0)
        raise MeasurementError(f"its process died with code {process.exitcode}") from None
    finally:
        receiver.close()
        process.kill()
        process.join()


def _run(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        value = function(lambda done: sender.send(("progress", done)), *arguments)
    except Exception as error:
        sender.send(("raised", f"{type(error).__name__}: {error}"))
    else:
        sender.send(("returned", value))
