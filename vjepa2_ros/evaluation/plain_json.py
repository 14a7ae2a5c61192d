# SPDX-License-Identifier: Apache-2.0
"""JSON that every reader accepts: Python's own writes NaN and infinity, which are not valid."""

import json
import math
from pathlib import Path
from typing import Any


def dumps(value: Any, indent: int) -> str:
    """`value` as JSON text; numbers that are not finite become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def write(value: Any, path: Path) -> None:
    """Write `value` into a file, and make its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(value, indent=1) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
