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

    from vjepa2_ros import plain_json
    from vjepa2_ros.cli.tables import wide_console

    try:
        isolate()
        from vjepa2_ros.faults import network, report
        from vjepa2_ros.faults.catalogue import by_names
        from vjepa2_ros.faults.fault import TWO_HOSTS

        faults = by_names(args.only)
        if args.table is not None:
            # Before an hour of measurements: whether there is a place for them.
            report.insert(args.table.read_text(), [], "")
        kept = _kept(args, {fault.name for fault in faults})
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
    order = [fault.name for fault in faults]
    done = {result["fault"] for result in kept}
    faults = tuple(fault for fault in faults if fault.name not in done)
    apart = [fault.name for fault in faults if fault.stack == TWO_HOSTS]
    if apart and (problem := network.problem()):
        print(f"not measured: {', '.join(apart)}: {problem}", file=sys.stderr)
        faults, apart = tuple(fault for fault in faults if fault.stack != TWO_HOSTS), []
    results, code = kept, 0
    if apart and len(apart) == len(faults) and args.only == apart:
        os.environ.update(network.NETWORK)
        results, code = _measure(args, faults, log, results)
    else:
        if here := tuple(fault for fault in faults if fault.stack != TWO_HOSTS):
            results, code = _measure(args, here, log, results)
        if apart and not code:
            results, code = _measure_apart(args, apart, log, results)
    results.sort(key=lambda result: order.index(result["fault"]))
    if results:
        if args.json is not None:
            plain_json.write(results, args.json)
        table = Table(*report.HEADINGS)
        for result in results:
            table.add_row(*map(escape, report.cells(result)))
        wide_console().print(table)
        if args.table is not None:
            origins = sorted({result["origin"] for result in results})
            origin = f"`vjepa2-ros faults --repeats {args.repeats}`, {'; '.join(origins)}:"
            page = report.insert(args.table.read_text(), results, origin)
            args.table.write_text(page)
    return code or (0 if all(is_kept(result) for result in results) else 1)


def _kept(args: argparse.Namespace, names: set[str]) -> list[dict]:
    """Results of these faults from an earlier run that was cut off.

    Raises:
        OSError: the file cannot be read.
        ValueError: the arguments, or the file, do not allow it.
    """
    import json

    if not args.resume:
        return []
    if args.json is None:
        raise ValueError("--resume needs --json FILE, which holds the results so far")
    if not args.json.exists() or not (text := args.json.read_text()):
        return []
    try:
        results = json.loads(text)
        return [
            result
            for result in results
            if result["fault"] in names
            and result["repeats"] >= args.repeats
            and result["origin"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{args.json} holds no results of this command: {error!r}") from error


def _measure(args: argparse.Namespace, faults: tuple, log: Path, results: list) -> tuple[list, int]:
    """Measure faults; their rows after those that are there, and the exit code of a failure."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from vjepa2_ros import plain_json
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
                results.append({**report.row(fault, repeats), "origin": origin})
                if args.json is not None:
                    plain_json.write(results, args.json)
            for number, what in (
                (bench.failed_starts, "starts of a stack failed"),
                (bench.failed_repeats, "repeats had to be made again"),
            ):
                if number:
                    print(f"{number} {what}: see {log}", file=sys.stderr)
    except (FaultBenchError, NetworkError, ProcessGroupError) as error:
        print(f"{error}; see {log}", file=sys.stderr)
        return results, 1
    return results, 0


def _measure_apart(
    args: argparse.Namespace, names: list[str], log: Path, results: list
) -> tuple[list, int]:
    """Measure in a process of its own: the middleware looks for its network once."""
    import json
    import subprocess
    import tempfile

    from vjepa2_ros import plain_json

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "faults.json"
        command = [sys.executable, "-m", "vjepa2_ros.cli.main", "faults", "--only", *names]
        command += ["--repeats", str(args.repeats), "--json", str(file), "--log", str(log)]
        subprocess.run(command, stdout=subprocess.DEVNULL)
        text = file.read_text() if file.exists() else ""
    if not text:
        return results, 1
    results += json.loads(text)
    if args.json is not None:
        plain_json.write(results, args.json)
    return results, 0


def _commit() -> str:
    """The commit of the source tree, with a comma; empty for an installed package."""
    import subprocess

    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return f"commit {done.stdout.strip()}, " if done.returncode == 0 else ""


def is_kept(result: dict) -> bool:
    """Whether a fault did what is promised: no command after it, and rest where it has to be."""
    return not result["commands_after"] and not (result["stops"] and result["not_at_rest"])
