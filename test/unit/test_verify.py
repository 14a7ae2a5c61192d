# SPDX-License-Identifier: Apache-2.0
"""Exactness against the reference's tensors, and that the comparison itself cannot be fooled."""

import argparse
import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from small_model import GOLDEN, needs_golden

from vjepa2_ros.cli import verify as command
from vjepa2_ros.verification import models
from vjepa2_ros.verification.golden import GoldenError, compare
from vjepa2_ros.verification.verify import run

pytestmark = needs_golden


class Set:
    """A copy of the first golden set under another name, to be tampered with."""

    def __init__(self, folder, name="Z"):
        source = next(GOLDEN.glob("meta_*.json"))
        original = source.stem.removeprefix("meta_")
        self.folder, self.name = folder, name
        self.meta = json.loads(source.read_text())
        self.arrays = dict(np.load(GOLDEN / f"arrays_{original}.npz"))
        shutil.copy(GOLDEN / f"weights_{original}.safetensors", self.weights)

    @property
    def weights(self):
        return self.folder / f"weights_{self.name}.safetensors"

    def write(self):
        (self.folder / f"meta_{self.name}.json").write_text(json.dumps(self.meta))
        np.savez(self.folder / f"arrays_{self.name}.npz", **self.arrays)
        return self.folder

    def only(self, *prefixes):
        """Keep the arrays of some cases, for speed."""
        self.arrays = {key: value for key, value in self.arrays.items() if key.startswith(prefixes)}
        self.meta["arrays"] = {
            key: value for key, value in self.meta["arrays"].items() if key in self.arrays
        }
        self.meta["models"] = {
            name: model for name, model in self.meta["models"].items() if name.startswith(prefixes)
        }
        if not any(prefix.startswith("plan") for prefix in prefixes):
            self.meta["cem"] = {}
        return self


@pytest.fixture
def golden(tmp_path):
    return Set(tmp_path)


def failures(folder):
    return [case for case in run(folder) if not case.passed]


def run_command(folder):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(folder)]))


def test_every_case_of_the_reference_is_met():
    cases = run(GOLDEN)
    assert [case for case in cases if not case.passed] == []
    assert len(cases) > 100


def test_the_command_prints_the_table_and_succeeds(golden, capsys):
    assert run_command(golden.only("ac_rem", "pose").write()) == 0
    printed = capsys.readouterr().out
    assert "ac_rem/T1" in printed and "new_pose" in printed and "0 failed" in printed


def test_a_wrong_number_fails_its_own_case_alone_and_the_command(golden, capsys):
    golden.only("ac_rem").arrays["ac_rem/T2/out"][0, 0, 0] += 1e-3
    (failed,) = failures(golden.write())
    assert (failed.case, failed.what) == ("ac_rem/T2", "out")
    assert failed.error == pytest.approx(1e-3, rel=0.1) and failed.tolerance == 1e-4
    assert run_command(golden.folder) == 1
    assert "FAIL" in capsys.readouterr().out


def test_tolerances_are_those_that_the_set_states(golden):
    golden.only("ac_rem").arrays["ac_rem/T2/out"][0, 0, 0] += 1e-3
    golden.meta["tolerances"]["advice"] = "compare with atol ~1e-2 for features"
    assert failures(golden.write()) == []


def test_arrays_that_nothing_compares_are_failures_named_not_covered(golden):
    golden.only("ac_rem").arrays |= {
        "ac_rem/T2/attention_map": np.zeros(3),
        "depth/front/out": np.zeros(3),
    }
    failed = failures(golden.write())
    assert {(case.case, case.what) for case in failed} == {
        ("ac_rem/T2", "attention_map"),
        ("depth/front", "out"),
    }
    assert all("not covered" in case.message for case in failed)


def test_a_described_array_that_is_missing_fails(golden):
    del golden.only("ac_rem").arrays["ac_rem/T1/z"]
    messages = {case.case: case.message for case in failures(golden.write())}
    assert "ac_rem/T1/z is missing" in messages["ac_rem/T1"]
    assert "ac_rem/T1/z" in messages


def test_a_model_of_an_unknown_kind_or_option_is_not_covered(golden):
    golden.only("ac_rem", "ac_extr")
    golden.meta["models"]["ac_extr"]["keys"] = {"decoder.weight": [3]}
    golden.meta["models"]["ac_rem"]["kwargs"]["use_gated_attention"] = True
    messages = {case.case: case.message for case in failures(golden.write())}
    assert "neither a predictor nor an encoder" in messages["ac_extr"]
    assert "use_gated_attention" in messages["ac_rem/T1"]


def test_an_unknown_crop_and_an_unknown_search_argument_are_not_covered(golden):
    golden.only("ac_tiny", "enc_tiny", "plan", "preproc/franka", "pose")
    golden.meta["transform"]["crops"]["480x640"]["fisheye_crop_i_j_h_w"] = [[0, 0, 1, 1]]
    golden.meta["cem"]["cem_r1"]["mpc_args"]["temperature"] = 1.0
    messages = {case.case: case.message for case in failures(golden.write())}
    assert "not covered" in messages["crop/480x640"]
    assert "temperature" in messages["plan/cem_r1"]


def test_missing_or_other_weights_fail_with_their_names(golden):
    weights = load_file(golden.weights)
    save_file(
        {k: v for k, v in weights.items() if k != "ac_rem/predictor_norm.bias"}, golden.weights
    )
    failed = failures(golden.only("ac_rem").write())
    assert failed and all(
        "predictor_norm.bias" in case.message for case in failed if case.what == "case"
    )


def test_a_wrong_layer_norm_epsilon_is_seen(golden, monkeypatch):
    monkeypatch.setattr("vjepa2_ros.world_model.predictor.LAYER_NORM_EPS", 1e-5)
    assert failures(golden.only("ac_lowvar").write())
    config = models.encoder_config
    monkeypatch.setattr(
        models, "encoder_config", lambda fields: config(fields | {"layer_norm_eps": 1e-5})
    )
    assert [case.case for case in failures(Set(golden.folder).only("enc_lowvar").write())] == [
        "enc_lowvar/v2"
    ]


@pytest.mark.parametrize("name", ["arrays_Z.npz", "weights_Z.safetensors"])
def test_a_missing_or_truncated_file_is_named(golden, name, capsys):
    path = golden.only("pose").write() / name
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(GoldenError, match=f"{name}.* is truncated"):
        run(golden.folder)
    path.unlink()
    with pytest.raises(GoldenError, match=f"{name}.* is missing"):
        run(golden.folder)
    assert run_command(golden.folder) == 2
    assert "is missing" in capsys.readouterr().out


def test_a_folder_without_a_set_is_refused(tmp_path):
    with pytest.raises(GoldenError, match="holds no golden set"):
        run(tmp_path)


def test_a_nan_or_another_shape_never_passes():
    assert not compare("case", "nan", np.array([np.nan]), np.array([0.0]), 1.0).passed
    assert not compare("case", "shape", np.zeros(3), np.zeros((3, 1)), 1.0).passed
