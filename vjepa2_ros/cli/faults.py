# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros faults`: inject faults into running stacks and measure time and way to rest."""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import date
from pathlib import Path

from vjepa2_ros.cli.arguments import positive_integer
from vjepa2_ros.cli.demo import isolate
from vjepa2_ros.stack.reach import PROFILES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--repeats", type=positive_integer, default=10, help="injections of each fault"
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="FAULT", help="these faults (default: all)"
    )
    parser.add_argument("--list", action="store_true", help="print the faults; inject none")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the results, after each fault"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the results in the file of --json that have as many repeats; measure the others",
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="Markdown page that the table is written into, between its markers (docs/safety.md)",
    )
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="output of the nodes (default: runs/faults-TIME)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure; 0 if the arm came to rest where it has to, and no command was carried out after."""
    from rich.markup import escape
    from rich.table import Table

    from vjepa2_ros.cli.tables import wide_console

    try:
        isolate()
        from vjepa2_ros.faults import report
        from vjepa2_ros.faults.catalogue import FAULTS, by_names

        order = [fault.name for fault in FAULTS]
        faults = by_names(args.only)
        if args.table is not None:
            # Before an hour of measurements: whether there is a place for them.
            report.insert(args.table.read_text(), [], "")
        results = _Results(_stored(args, order), args.json, order)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if args.list:
        for fault in faults:
            print(f"{fault.name}: {fault.text}")
        return 0
    log = args.log or Path("runs") / f"faults-{time.strftime('%Y%m%d-%H%M%S')}.log"
    for path in (log, args.json):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Before an hour of measurements: whether it can be written.
            path.open("a").close()
    names = {fault.name for fault in faults}
    done = {
        row["fault"] for row in results.rows if row["repeats"] >= args.repeats and row["origin"]
    }
    code = _measure_all(args, tuple(f for f in faults if f.name not in done), log, results)
    rows = [row for row in results.rows if row["fault"] in order]
    if rows:
        table = Table(*report.HEADINGS)
        for row in rows:
            table.add_row(*map(escape, report.cells(row)))
        wide_console().print(table)
    if rows and args.table is not None and not code:
        origins = sorted({row["origin"] for row in rows})
        origin = f"`vjepa2-ros faults --repeats {args.repeats}`, {'; '.join(origins)}:"
        args.table.write_text(report.insert(args.table.read_text(), rows, origin))
    return code or (0 if all(report.is_kept(row) for row in rows if row["fault"] in names) else 1)


class _Results:
    """Rows of all faults that were measured, in a file from the first new one on.

    Args:
        rows: that are there.
        path: of the file; None for none.
        order: names of the known faults.
    """

    def __init__(self, rows: list, path: Path | None, order: list[str]) -> None:
        self.rows = rows
        self._path, self._order = path, order

    def add(self, rows: list) -> None:
        """Put rows into the places of those of the same faults, and write the file."""
        from vjepa2_ros import plain_json
        from vjepa2_ros.faults import report

        self.rows = report.merge(self.rows, rows, self._order)
        if self._path is not None:
            plain_json.write(self.rows, self._path)


def _stored(args: argparse.Namespace, known: list[str]) -> list:
    """Rows of an earlier run, which this one goes on with.

    Raises:
        OSError: the file cannot be read.
        ValueError: the arguments, or the file, do not allow it.
    """
    import json

    from vjepa2_ros.faults import report

    if not args.resume:
        return []
    if args.json is None:
        raise ValueError("--resume needs --json FILE, which holds the results so far")
    if not args.json.exists() or not (text := args.json.read_text()):
        return []
    try:
        rows = report.merge([], json.loads(text), known)
        for row in rows:
            if row["fault"] in known:
                # Whether it has all that is looked up later.
                report.cells(row), report.is_kept(row), row["repeats"] >= 1, row["origin"]
        return rows
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{args.json} holds no results of this command: {error!r}") from error


def _measure_all(args: argparse.Namespace, faults: tuple, log: Path, results: _Results) -> int:
    """Measure faults, each in a process that can; the exit code of a failure, or 0."""
    from vjepa2_ros.faults import network
    from vjepa2_ros.faults.fault import TWO_HOSTS

    here = tuple(fault for fault in faults if fault.stack != TWO_HOSTS)
    apart = [fault.name for fault in faults if fault.stack == TWO_HOSTS]
    if apart and (problem := network.problem()):
        print(f"not measured: {', '.join(apart)}: {problem}", file=sys.stderr)
        apart = []
    if apart and not here:
        os.environ.update(network.NETWORK)
        for name in PROFILES:
            # That of a stack on one machine has the loopback interface alone.
            os.environ.pop(name, None)
        return _measure(args, faults, log, results)
    code = _measure(args, here, log, results) if here else 0
    if apart and not code:
        code = _measure_apart(args, apart, log, results)
    return code


def _measure(args: argparse.Namespace, faults: tuple, log: Path, results: _Results) -> int:
    """Measure faults in this process; the exit code of a failure, or 0."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from vjepa2_ros.faults import report
    from vjepa2_ros.faults.bench import FaultBench, FaultBenchError
    from vjepa2_ros.faults.fault import TWO_HOSTS
    from vjepa2_ros.faults.network import NetworkError
    from vjepa2_ros.faults.stack import FaultStack
    from vjepa2_ros.stack.process_group import ProcessGroupError

    origin = f"{_commit()}{date.today()}"
    columns = TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn()
    two_hosts = any(fault.stack == TWO_HOSTS for fault in faults)
    try:
        with (
            FaultBench(FaultStack(log, two_hosts)) as bench,
            Progress(*columns, console=Console(stderr=True)) as progress,
        ):
            bar = progress.add_task("", total=len(faults) * args.repeats)
            for fault in faults:
                repeats = []
                for _ in range(args.repeats):
                    progress.update(bar, description=fault.name)
                    repeats.append(bench.measure(fault))
                    progress.advance(bar)
                results.add([{**report.row(fault, repeats), "origin": origin}])
            for number, what in (
                (bench.failed_starts, "starts of a stack failed"),
                (bench.failed_repeats, "repeats had to be made again"),
            ):
                if number:
                    print(f"{number} {what}: see {log}", file=sys.stderr)
    except (FaultBenchError, NetworkError, ProcessGroupError) as error:
        print(f"{error}; see {log}", file=sys.stderr)
        return 1
    return 0


def _measure_apart(
    args: argparse.Namespace, names: list[str], log: Path, results: _Results
) -> int:
    """Measure in a process of its own: the middleware looks for its network once."""
    import json
    import subprocess
    import tempfile

    from vjepa2_ros.faults import report

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "faults.json"
        command = [sys.executable, "-m", "vjepa2_ros.cli.main", "faults", "--only", *names]
        command += ["--repeats", str(args.repeats), "--json", str(file), "--log", str(log)]
        ended = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
        text = file.read_text() if file.exists() else ""
    rows = json.loads(text) if text else []
    results.add(rows)
    # It also ends with 1 when all was measured and a promise was not kept.
    expected = 0 if all(report.is_kept(row) for row in rows) else 1
    if len(rows) == len(names) and ended == expected:
        return 0
    print(
        f"{len(rows)} of {', '.join(names)} measured: their process ended with code {ended}; "
        f"see {log}",
        file=sys.stderr,
    )
    return 1


def _commit() -> str:
    """The commit of the source tree, `+` if it was changed since; empty for a package."""
    import subprocess

    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    done = subprocess.run([*command, "--exclude=*"], capture_output=True, text=True)
    return f"commit {done.stdout.strip()}, " if done.returncode == 0 else ""
