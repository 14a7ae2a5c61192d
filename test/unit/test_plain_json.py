# SPDX-License-Identifier: Apache-2.0
"""Figures as JSON."""

import json
import math
import os

import numpy as np
import pytest

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


def test_a_file_keeps_its_old_text_when_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    file = tmp_path / "figures.json"
    plain_json.write([1], file)

    def fail(path, text):
        path.write_bytes(text[:2].encode())
        raise OSError("no space left")

    monkeypatch.setattr(plain_json.Path, "write_text", fail)
    with pytest.raises(OSError, match="no space"):
        plain_json.write([2], file)
    assert json.loads(file.read_text()) == [1] and list(tmp_path.iterdir()) == [file]


def test_a_link_and_the_mode_of_a_file_stay_when_it_is_written_anew(tmp_path):
    file, link = tmp_path / "figures.json", tmp_path / "link.json"
    file.write_text("[]")
    file.chmod(0o640)
    link.symlink_to(file)
    plain_json.write([1], link)
    assert link.is_symlink() and json.loads(file.read_text()) == [1]
    assert file.stat().st_mode & 0o777 == 0o640


def test_what_is_no_file_is_written_into_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    plain_json.write([1], pipe)
    assert json.loads(os.read(reader, 100)) == [1]
    os.close(reader)
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
