# SPDX-License-Identifier: Apache-2.0
"""All figures that need a GPU, section by section: `bench gpu`.

Every section runs in a process of its own with a time limit, so that an error on the GPU, a crash
or a hang ends that section only. Everything measured so far is written after each section.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from vjepa2_ros.benchmark.gpu_measurements import MEASUREMENTS, SIZES, Row, short
from vjepa2_ros.share import share_directory

TEST_DEVICE = "VJEPA2_TEST_DEVICE"
"""Environment variable: where the tests under test/gpu run the networks."""
LOOP_SEEDS = (1, 2)
END_TIMEOUT = 20.0
"""Time that a process has to end after SIGTERM [s]."""
TAIL = 3
"""Last lines of a failed process's output that are reported."""


@dataclass(frozen=True)
class Kind:
    """One section of the report.

    Attributes:
        name: on the command line.
        title: in the report.
        limit: longest time [s] that its process may take.
    """

    name: str
    title: str
    limit: float


KINDS = (
    Kind("machine", "Machine", 60.0),
    Kind("parity", "Parity with the CPU", 60.0),
    Kind("eager", "Encoding and evaluations, eager", 90.0),
    Kind("compiled", "The same, compiled (torch.compile)", 150.0),
    Kind("captured", "The same, captured as a CUDA graph", 90.0),
    Kind("compiled-captured", "The same, compiled and captured", 120.0),
    Kind("plans", "Plans and host synchronisations", 90.0),
    Kind("tests", "Tests on the device", 150.0),
    Kind("loop", "The loop, with encoder and planner on the device", 180.0),
)
"""In the order in which they run."""


@dataclass
class Section:
    """What was measured of one kind.

    Attributes:
        name, title: as in `Kind`.
        rows: figures by name, one dictionary for each line of the table.
        seconds: how long it took.
        error: why rows are missing; None where none are.
    """

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether anything could not be measured, other than what the device does not have."""
        return self.error is not None or any("failed" in row for row in self.rows)


class SectionError(RuntimeError):
    """A section could not be measured to its end."""


def measure_all(
    device: torch.device,
    size: str,
    names: Sequence[str],
    time_limit: float,
    on_section: Callable[[list[Section]], None],
) -> list[Section]:
    """Measure the sections of these names, also if one fails.

    Args:
        device: to measure.
        size: a name of `SIZES`.
        names: of `KINDS`.
        time_limit: for all [s]; sections that would begin later are left out, with that reason.
        on_section: called with all sections so far, after each.
    """
    started = time.monotonic()
    sections: list[Section] = []
    for kind in (kind for kind in KINDS if kind.name in names):
        section = Section(kind.name, kind.title)
        sections.append(section)
        left = time_limit - (time.monotonic() - started)
        began = time.monotonic()
        try:
            if left < 1:
                raise SectionError(f"left out: the time limit of {time_limit:.0f} s was reached")
            _measure(section, device, size, min(kind.limit, left))
        except Exception as error:  # the other sections are still wanted after any error
            section.error = str(error) if isinstance(error, SectionError) else short(error)
        section.seconds = time.monotonic() - began
        on_section(sections)
    return sections


def description(command: str, device: torch.device, size: str) -> dict[str, Any]:
    """Where, when and of what figures are: command, commit, date, device, size."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "command": command,
        "commit": _commit(),
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "device": name,
        "size": size,
    }


def as_json(about: dict[str, Any], sections: Sequence[Section]) -> dict[str, Any]:
    """Everything as plain values."""
    return about | {"sections": [asdict(section) for section in sections]}


def measure_in_this_process(name: str, device: str, size: str, rows_file: str) -> None:
    """Measure one section and write its rows as lines of JSON, each as soon as there is one."""
    chosen = torch.device(device)
    if chosen.index is not None:
        torch.cuda.set_device(chosen)  # streams and graphs are made on the current device
    with open(rows_file, "a", encoding="utf-8") as file:
        for row in MEASUREMENTS[name](chosen, SIZES[size]):
            print(json.dumps(row), file=file, flush=True)


# Sections -----------------------------------------------------------------------------------


def _measure(section: Section, device: torch.device, size: str, limit: float) -> None:
    """Fill in the rows of a section; SectionError where some are missing."""
    with tempfile.TemporaryDirectory() as folder:
        if section.name == "tests":
            _run_tests(section, device, Path(folder), limit)
        elif section.name == "loop":
            _run_loop(section, device, Path(folder), limit)
        else:
            _run_measurement(section, device, size, Path(folder), limit)


def _run_measurement(
    section: Section, device: torch.device, size: str, folder: Path, limit: float
) -> None:
    rows_file = folder / "rows.jsonl"
    rows_file.touch()
    arguments = (section.name, str(device), size, str(rows_file))
    code = (
        "from vjepa2_ros.benchmark.gpu import measure_in_this_process as measure; "
        f"measure(*{arguments!r})"
    )
    try:
        _run([sys.executable, "-c", code], folder, limit)
    finally:
        section.rows += [json.loads(line) for line in rows_file.read_text().splitlines()]


def _run_tests(section: Section, device: torch.device, folder: Path, limit: float) -> None:
    tests = share_directory() / "test" / "gpu"
    if not tests.is_dir():
        raise SectionError(f"{tests} does not exist: the tests come with the source tree only")
    report = folder / "report.xml"
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    words += ["--rootdir", str(tests.parents[1]), f"--junit-xml={report}", str(tests)]
    try:
        _run(words, folder, limit, {TEST_DEVICE: str(device)})
    except SectionError:
        if not report.is_file():
            raise
        # Each failed test has a row that says so.
    for case in ElementTree.parse(report).iter("testcase"):
        row: Row = {"what": case.get("name"), "seconds": float(case.get("time", 0))}
        for outcome in case:
            if outcome.tag in ("failure", "error"):
                row["failed"] = (outcome.get("message") or outcome.tag).splitlines()[0][:300]
            elif outcome.tag == "skipped":
                row["note"] = f"skipped: {outcome.get('message')}"
        section.rows.append(row)
    if not section.rows:
        raise SectionError("pytest found no test")


def _run_loop(section: Section, device: torch.device, folder: Path, limit: float) -> None:
    config, report = folder / "device.yaml", folder / "loop.json"
    config.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"device": str(device)}}}))
    words = [sys.executable, "-m", "vjepa2_ros.cli.main", "bench", "loop"]
    words += ["--seeds", *map(str, LOOP_SEEDS), "--config", str(config)]
    words += ["--json", str(report), "--output", str(folder / "runs")]
    try:
        _run(words, folder, limit)
    finally:
        if report.is_file():
            for series in json.loads(report.read_text()):
                section.rows += _rows_of_series(series)


def _rows_of_series(series: dict[str, Any]) -> list[Row]:
    """Rows of one series of `bench loop`: what was reached, and the latencies of its stages."""
    way = "planning in motion" if series["overlap"] else "with stops"
    reached = f"reached {series['reached']} of {series['runs']}, {series['seconds_median']:.1f} s"
    rows: list[Row] = [{"what": way, "note": reached}]
    for stage, quantiles in series["latency_ms"].items():
        row = {"what": f"{way}: {stage}", "p50_ms": quantiles["p50"], "p99_ms": quantiles["p99"]}
        rows.append(row)
    return rows


# Processes ----------------------------------------------------------------------------------


def _run(
    words: Sequence[str], folder: Path, limit: float, variables: dict[str, str] | None = None
) -> None:
    """Run a process and all that it starts; SectionError where it fails or takes too long."""
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path} | (variables or {})
    log = folder / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            words, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise SectionError(f"not finished within {limit:.0f} s; {_tail(log)}") from None
        finally:
            _end(process)
    if code != 0:
        raise SectionError(f"ended with exit code {code}; {_tail(log)}")


def _end(process: subprocess.Popen) -> None:
    """End a process that still runs, and the rest of its process group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _tail(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "last output: " + (" / ".join(lines[-TAIL:])[-600:] or "none")


def _commit() -> str:
    try:
        words = ["git", "-C", str(share_directory()), "describe", "--always", "--dirty"]
        found = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
