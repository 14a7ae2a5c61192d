# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros replay BAG`: a recorded run through encoder, planner and gate, judged by gates."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2_ros.cli.configuration import (
    add_computation_arguments,
    add_configuration_arguments,
    computation,
    configuration,
)
from vjepa2_ros.cli.tables import wide_console

if TYPE_CHECKING:
    from vjepa2_ros.recording.reading import Recording
    from vjepa2_ros.settings.stack import StackSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="folder of a bag")
    parser.add_argument(
        "--gates", type=Path, metavar="FILE", help="YAML file with bounds (default: those of Gates)"
    )
    parser.add_argument(
        "--steps", action="store_true", help="print every plan beside the recorded command"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it as JSON")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the gates as JUnit XML")
    parser.add_argument(
        "--shorten",
        type=Path,
        metavar="FOLDER",
        help="write a bag with nothing but what a replay needs, and replay nothing",
    )
    add_configuration_arguments(parser)
    add_computation_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Replay twice, print hash, table and verdict; 1 if a gate failed or the hashes differ."""
    from tqdm import tqdm

    from vjepa2_ros import plain_json
    from vjepa2_ros.evaluation import writable
    from vjepa2_ros.recording.reading import BagError, read_bag
    from vjepa2_ros.recording.shortening import shorten
    from vjepa2_ros.replay import report
    from vjepa2_ros.replay.gates import Gates, judge, read_gates
    from vjepa2_ros.replay.replay import replay
    from vjepa2_ros.settings.declaration import SettingsError
    from vjepa2_ros.world_model.checkpoint import CheckpointError, open_world_model

    try:
        for file in filter(None, (args.json, args.junit)):
            writable.check_file(file)
        if args.shorten is not None:
            shorten(args.bag, args.shorten)
            return 0
        gates = read_gates(args.gates) if args.gates is not None else Gates()
        recording = read_bag(args.bag)
        settings = _settings(args, recording)
        model = open_world_model(settings.planner.model)
        count = sum(len(recording.commands_of(goal)) for goal in recording.goals)
        with tqdm(total=2 * count, desc="replay", unit="plan", leave=False, disable=None) as bar:
            first, second = (
                replay(recording, model, settings, lambda: bar.update()) for _ in range(2)
            )
    except (BagError, CheckpointError, FileExistsError, SettingsError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    checks = judge(first, gates)
    console = wide_console()
    if args.steps:
        console.print(report.step_table(first))
    console.print(report.gate_table(checks))
    print(f"hash: {first.digest}")
    if args.json is not None:
        plain_json.write(report.as_json(first, checks), args.json)
    if args.junit is not None:
        report.write_junit(checks, f"replay of {args.bag.name}", args.junit)
    if first.digest != second.digest:
        print(
            f"the second replay planned otherwise ({second.digest}): planner or model are not "
            "deterministic",
            file=sys.stderr,
        )
        return 1
    return 0 if all(check.passed for check in checks) else 1


def _settings(args: argparse.Namespace, recording: Recording) -> StackSettings:
    """The settings of the arguments, or without any the recorded ones."""
    import tempfile

    import yaml

    from vjepa2_ros.settings.declaration import SettingsError, parameters_of
    from vjepa2_ros.settings.stack import NODES

    recorded = recording.parameters()
    if args.config or args.preset or not recorded:
        return configuration(args, computation(args)).settings
    sections: dict[str, dict] = {}
    for node, values in recorded.items():
        declared = parameters_of(NODES[node].settings) if node in NODES else {}
        if ":" in str(values.get("planner", "")):
            raise SettingsError(
                f"the bag was recorded with the planner {values['planner']!r} of another package: "
                "give it by --config, if its code may be run"
            )
        # What all nodes share follows below; which robot it was does not matter.
        own = {name: value for name, value in values.items()
               if name in declared and not declared[name].shared}  # fmt: skip
        if own:
            sections[f"/**/{node}"] = {"ros__parameters": own}
    shared = {
        name: value
        for name, value in recorded.get("planner_node", {}).items()
        if (parameter := parameters_of(NODES["planner_node"].settings).get(name))
        and parameter.shared == "same"
    }
    sections["/**"] = {"ros__parameters": shared}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(sections, file)
        file.flush()
        args.config = [Path(file.name)]
        return configuration(args, computation(args)).settings
