# SPDX-License-Identifier: Apache-2.0
"""Figures as JSON."""

import json
import math

import numpy as np

from vjepa2_ros import plain_json


def test_what_is_not_finite_becomes_null():
    value = {
        "a": [1.5, math.nan, (math.inf,)],
        "b": np.array([0.5, np.nan]),
        "c": np.float32("inf"),
    }
    text = plain_json.dumps(value)
    assert json.loads(text) == {"a": [1.5, None, [None]], "b": [0.5, None], "c": None}


def test_numpy_and_other_keys_are_written_as_python_would():
    value = {1: np.arange(4).reshape(2, 2), "flag": np.bool_(True), "count": np.int64(3)}
    text = plain_json.dumps(value)
    assert json.loads(text) == {"1": [[0, 1], [2, 3]], "flag": True, "count": 3}
    assert text.startswith('{\n  "1": [') and text.endswith("}\n")


def test_the_folder_of_a_file_is_made(tmp_path):
    plain_json.write([1], tmp_path / "new" / "figures.json")
    assert json.loads((tmp_path / "new" / "figures.json").read_text()) == [1]
