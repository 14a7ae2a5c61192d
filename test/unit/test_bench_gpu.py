# SPDX-License-Identifier: Apache-2.0
"""`bench gpu` on the CPU with a tiny model: every step but the CUDA graphs; no time is asserted."""

import argparse
import json
import os
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from vjepa2_ros.benchmark import gpu, gpu_measurements, gpu_report
from vjepa2_ros.benchmark.device_timing import host_synchronisations
from vjepa2_ros.benchmark.gpu import KINDS, Section, SectionError
from vjepa2_ros.benchmark.gpu_measurements import MEASUREMENTS, SIZES, WAYS
from vjepa2_ros.cli import bench, bench_gpu

CPU = torch.device("cpu")
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "gpu.md"
DEADLINE = 180.0


def run(*words):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return bench.run(parser.parse_args(["gpu", *map(str, words)]))


def rows_of(name):
    return {row["what"]: row for row in MEASUREMENTS[name](CPU, SIZES["tiny"])}


def section(name, rows=(), error=None):
    return Section(name, "Title", list(rows), error=error)


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_every_measurement_runs_to_its_end(name):
    rows = rows_of(name)
    assert rows and not any("failed" in row for row in rows.values()), rows
    json.dumps(rows)  # rows travel from process to process as JSON


def test_the_sections_of_the_command_are_those_that_are_measured():
    assert tuple(kind.name for kind in KINDS) == bench_gpu.SECTIONS
    assert set(MEASUREMENTS) | {"tests", "loop"} == set(bench_gpu.SECTIONS)


def test_evaluations_are_told_with_their_share_of_the_matrix_rate():
    rows = rows_of("eager")
    for count in SIZES["tiny"].counts:
        row = rows[f"{count} evaluation" + "s" * (count > 1)]
        assert row["time_ms"] > 0 and row["share"] > 0
        assert row["time_each_ms"] == pytest.approx(row["time_ms"] / count)
        assert row["tflops"] == pytest.approx(row["gflop_each"] / row["time_each_ms"])


def test_compiled_evaluations_are_those_of_the_model():
    rows = rows_of("compiled")
    assert rows["8 evaluations"]["difference_from_eager"] < 1e-5
    # More than fit the compiled shape, in parts of that shape.
    assert rows["32 evaluations"]["at_once"] == SIZES["tiny"].at_once == 8


@pytest.mark.parametrize("way", [way for way in WAYS if "captured" in way])
def test_what_the_device_does_not_have_is_said_and_is_no_failure(way):
    rows = list(rows_of(way).values())
    assert all(row["note"].startswith("not on this device") for row in rows)
    assert not section(way, rows).failed


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_counts_are_made_of_whole_parts_of_one_shape(size):
    assert all(count <= size.at_once or count % size.at_once == 0 for count in size.counts)


def test_a_measurement_that_fails_leaves_the_other_rows(monkeypatch):
    def fail(self):
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    monkeypatch.setattr(gpu_measurements._Bench, "encode", fail)
    rows = rows_of("eager")
    assert rows["encode one image"]["failed"] == "OutOfMemoryError: CUDA out of memory."
    assert rows["1 evaluation"]["time_ms"] > 0
    assert section("eager", rows.values()).failed


def test_host_synchronisations_are_counted_from_the_second_call_on(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def work():
        for _ in range(2 if modes else 5):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("another warning", stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert host_synchronisations(work, torch.device("cuda")) == 2
    assert modes == ["warn", "default"]
    assert host_synchronisations(work, CPU) is None


def test_a_section_that_fails_is_reported_and_the_others_still_run(monkeypatch):
    def measure(section, device, size, limit):
        section.rows.append({"what": section.name})
        if section.name == "parity":
            raise SectionError("the device fell off the bus")
        if section.name == "eager":
            raise ZeroDivisionError("division by zero\nmore")

    monkeypatch.setattr(gpu, "_measure", measure)
    seen = []
    sections = gpu.measure_all(
        CPU,
        "tiny",
        ["plans", "eager", "parity", "machine"],
        DEADLINE,
        lambda sections: seen.append([section.name for section in sections]),
    )
    assert seen == [["machine", "parity", "eager", "plans"][:count] for count in (1, 2, 3, 4)]
    assert [section.error for section in sections] == [
        None,
        "the device fell off the bus",
        "ZeroDivisionError: division by zero",
        None,
    ]
    assert [section.failed for section in sections] == [False, True, True, False]
    assert all(section.rows for section in sections)


def test_sections_beyond_the_time_limit_are_left_out_with_that_reason(monkeypatch):
    monkeypatch.setattr(gpu, "_measure", lambda *arguments: time.sleep(0.2))
    first, second = gpu.measure_all(CPU, "tiny", ["machine", "plans"], 1.1, lambda sections: None)
    assert first.error is None
    assert second.error == "left out: the time limit of 1 s was reached" and second.failed


def test_rows_before_a_failure_are_kept(monkeypatch, tmp_path):
    def measure(device, size):
        yield {"what": "first"}
        raise RuntimeError("an illegal memory access")

    monkeypatch.setitem(MEASUREMENTS, "machine", measure)
    with pytest.raises(RuntimeError):
        gpu.measure_in_this_process("machine", "cpu", "tiny", str(tmp_path / "rows"))
    assert (tmp_path / "rows").read_text() == '{"what": "first"}\n'


def test_a_process_that_fails_is_reported_with_its_last_output(tmp_path):
    code = "print('one'); print('two'); raise SystemExit(3)"
    with pytest.raises(SectionError, match="exit code 3; last output: one / two"):
        gpu._run([sys.executable, "-c", code], tmp_path, DEADLINE)


def test_a_process_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    code = (
        "import subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        "print(child.pid, flush=True); time.sleep(600)"
    )
    with pytest.raises(SectionError, match="not finished within 3 s"):
        gpu._run([sys.executable, "-c", code], tmp_path, 3.0)
    child = int((tmp_path / "log").read_text())
    deadline = time.monotonic() + DEADLINE
    while _runs(child):
        assert time.monotonic() < deadline, "the process that it started still runs"
        time.sleep(0.05)


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


REPORT_OF_PYTEST = """<testsuites><testsuite>
<testcase name="test_good" time="0.5"/>
<testcase name="test_bad" time="0.1"><failure message="AssertionError: 1 is 2&#10;more"/></testcase>
<testcase name="test_left_out" time="0"><skipped message="no reason"/></testcase>
</testsuite></testsuites>"""


def test_tests_on_the_device_have_a_row_each(monkeypatch, tmp_path):
    def run_pytest(words, folder, limit, variables):
        assert variables == {gpu.TEST_DEVICE: "cuda:1"}
        (report,) = (word.partition("=")[2] for word in words if word.startswith("--junit-xml="))
        Path(report).write_text(REPORT_OF_PYTEST)
        raise SectionError("ended with exit code 1")

    monkeypatch.setattr(gpu, "_run", run_pytest)
    tests = section("tests")
    gpu._measure(tests, torch.device("cuda:1"), "tiny", DEADLINE)
    assert tests.rows == [
        {"what": "test_good", "seconds": 0.5},
        {"what": "test_bad", "seconds": 0.1, "failed": "AssertionError: 1 is 2"},
        {"what": "test_left_out", "seconds": 0.0, "note": "skipped: no reason"},
    ]
    assert tests.failed


def test_the_loop_is_run_with_its_nodes_on_the_device_and_keeps_what_it_measured(monkeypatch):
    def run_loop(words, folder, limit):
        words = dict(zip(words, words[1:], strict=False))
        config = yaml.safe_load(Path(words["--config"]).read_text())
        assert config == {"/**": {"ros__parameters": {"device": "cuda"}}}
        series = {"overlap": False, "runs": 2, "reached": 1, "seconds_median": 3.14}
        series["latency_ms"] = {"planner": {"p50": 1.0, "p99": 2.0}}
        Path(words["--json"]).write_text(json.dumps([series]))
        raise SectionError("the second series was interrupted")

    monkeypatch.setattr(gpu, "_run", run_loop)
    loop = section("loop")
    with pytest.raises(SectionError, match="second series"):
        gpu._measure(loop, torch.device("cuda"), "published", DEADLINE)
    assert loop.rows == [
        {"what": "with stops", "note": "reached 1 of 2, 3.1 s"},
        {"what": "with stops: planner", "p50_ms": 1.0, "p99_ms": 2.0},
    ]


@pytest.mark.parametrize(
    ("count", "milliseconds", "share", "met"),
    [(200, 99.0, 0.61, "yes"), (200, 101.0, 0.61, "no"), (8000, 2900.0, 0.59, "no")],
)
def test_aims_are_met_where_time_and_share_are(count, milliseconds, share, met):
    measured = gpu_measurements._Bench.__new__(gpu_measurements._Bench)
    measured._size = SIZES["published"]
    judged = measured._judged(count, {"time_ms": milliseconds, "share": share})
    assert judged["aim_met"] == met and "60%" in judged["aim"]
    assert measured._judged(32, {"time_ms": milliseconds, "share": share}) == {}


def test_the_report_has_command_commit_date_device_figures_and_errors():
    about = gpu.description("vjepa2-ros bench gpu", CPU, "tiny")
    assert set(about) == {"command", "commit", "date", "device", "size"}
    rows = [{"what": "a|b", "time_ms": 1234.5, "share": 0.614}, {"what": "c", "at_once": 8}]
    text = gpu_report.markdown(about, [section("eager", rows, "no memory\nleft")])
    for name, value in about.items():
        assert f"| {name} | {value} |" in text
    assert "|  | at once | time [ms] | share of matrix rate |" in text
    assert "| a\\|b | – | 1,234 | 61% |" in text and "| c | 8 | – | – |" in text
    assert "**Not measured to the end:** no memory left" in text
    assert "60% of the matrix rate; 200 evaluations in 0.1 s, 8,000 evaluations in 3 s" in text


def test_the_document_is_a_report_or_says_plainly_that_nothing_was_measured():
    text = DOCUMENT.read_text()
    assert text == gpu_report.not_measured() or "| commit |" in text


@pytest.mark.slow
def test_the_command_measures_in_processes_of_their_own_and_writes_the_report(tmp_path, capsys):
    output, figures = tmp_path / "new" / "gpu.md", tmp_path / "gpu.json"
    words = ("--device", "cpu", "--only", "machine", "captured")
    assert run(*words, "--output", output, "--json", figures) == 0
    assert "Machine: done" in capsys.readouterr().out
    written = json.loads(figures.read_text())
    assert [section["name"] for section in written["sections"]] == ["machine", "captured"]
    assert written["command"] == "vjepa2-ros bench gpu --device cpu --only machine captured"
    assert all(section["rows"] for section in written["sections"])
    assert "not on this device" in output.read_text()


def test_a_run_without_a_gpu_does_not_overwrite_the_document(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = DOCUMENT.read_text()
    monkeypatch.setattr(gpu, "_measure", lambda *arguments: None)
    assert run("--device", "cpu") == 0
    assert DOCUMENT.read_text() == before
    assert "## Machine" in (tmp_path / "runs" / "bench-gpu.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device", "cpu", "--size", "published"), "takes hours on a CPU"),
        (("--device", "cuda:99"), "'cuda:99'"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(words, said, capsys):
    assert run(*words) == 2
    assert said in capsys.readouterr().err
