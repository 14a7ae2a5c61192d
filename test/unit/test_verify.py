# SPDX-License-Identifier: Apache-2.0
"""Exactness against the reference's tensors, and that the comparison itself cannot be fooled."""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from vjepa2_ros.cli import verify as command
from vjepa2_ros.verification import golden as golden_set
from vjepa2_ros.verification import models, verify
from vjepa2_ros.verification.golden import Case, GoldenError, compare
from vjepa2_ros.verification.planning import planning_model
from vjepa2_ros.verification.verify import run

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "test" / "golden"
MAKE_SUBSET = ROOT / "scripts" / "make-golden-subset"
KINDS = {
    *(f"ac_tiny/T{frames}" for frames in (1, 2, 3, 8)),
    *("ac_rem/T1", "ac_lowvar/T2", "ac_extr/T3", "ac_nonsq/T2"),
    *("enc_tiny/v2", "enc_tiny/v4", "enc_tiny/nonsq", "enc_lowvar/v2"),
    *("hf", "real_model/encoder", "real_model/ac_predictor"),
    *("preproc/franka_256", "preproc/480x640", "preproc/180x320", "preproc/200x150"),
    *("crop/480x640", "crop/720x1280", "pose", "plan", "plan/table"),
    *(f"plan/cem_{name} seed" for name in ("r1", "r2", "r2_close", "r2_axis", "r1_reach")),
}
"""A case of every kind that the comparison knows."""


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


def run_command(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


def test_every_case_of_the_reference_is_met():
    cases = run(GOLDEN)
    assert [case for case in cases if not case.passed] == []
    assert len(cases) > 160


def test_the_projects_own_set_has_every_kind_of_case_and_is_small():
    assert KINDS - {case.case for case in run(GOLDEN)} == set()
    compared = {case.what for case in run(GOLDEN)}
    assert {"landscape_energy", "z_goal_reach", "gimbal_new_pose (matrices)"} <= compared
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) <= 6_000_000


def test_without_a_folder_the_projects_own_set_is_compared(capsys):
    assert run_command() == 0
    printed = capsys.readouterr().out
    assert "0 failed" in printed and "plan/cem_r1" in printed


def test_without_a_folder_and_a_source_tree_the_command_says_what_to_give(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(verify, "share_directory", lambda: tmp_path)
    assert run_command() == 2
    assert "give a folder of golden sets" in capsys.readouterr().out


def test_a_device_that_is_not_there_is_refused(capsys):
    assert run_command("--device", "cuda:99") == 2
    assert "'cuda:99' is absent" in capsys.readouterr().out


def test_the_networks_and_their_inputs_are_on_the_device_that_was_asked_for(monkeypatch):
    devices = set()

    def compare_shapes(case, what, actual, expected, tolerance):
        devices.add(actual.device.type)
        return Case(case, what, actual.shape == expected.shape)

    monkeypatch.setattr(models, "compare", compare_shapes)
    # Any operation between a tensor of this device and one of the CPU is an error.
    golden = golden_set.GoldenSet(GOLDEN / "meta_A.json", "meta")
    cases = models.model_cases(golden)
    assert len(cases) > 40 and [case for case in cases if not case.passed] == []
    assert devices == {"meta"}
    assert planning_model(golden).device.type == "meta"


def test_a_subset_keeps_first_rows_bit_for_bit_and_describes_what_it_holds(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    full = Set(source, "A")
    for key in ("ac_tiny/T1/z", "plan/table/rep_step2"):
        full.arrays[key] = np.concatenate([full.arrays[key], full.arrays[key]])
        full.meta["arrays"][key]["shape"] = list(full.arrays[key].shape)
    full.arrays["enc_real/franka/out"] = np.zeros(3, np.float32)
    full.meta["models"]["enc_real"] = full.meta["models"]["enc_tiny"]
    full.write()
    words = [sys.executable, MAKE_SUBSET, source, target]
    made = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stderr
    project, subset = (dict(np.load(folder / "arrays_A.npz")) for folder in (GOLDEN, target))
    described = json.loads((target / "meta_A.json").read_text())
    assert subset.keys() == project.keys() and "enc_real" not in described["models"]
    for key, array in subset.items():
        assert array.dtype == project[key].dtype and array.shape == project[key].shape
        assert array.tobytes() == project[key].tobytes(), key
        assert described["arrays"][key]["shape"] == list(array.shape)


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
