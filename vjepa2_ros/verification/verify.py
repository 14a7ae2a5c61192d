# SPDX-License-Identifier: Apache-2.0
"""Run every case of a folder of golden sets."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.markup import escape
from rich.table import Table

from vjepa2_ros.share import share_directory
from vjepa2_ros.verification.golden import Case, GoldenError, GoldenSet, not_covered
from vjepa2_ros.verification.inputs import pose_cases, preprocessing_cases
from vjepa2_ros.verification.jepa_wms import jepa_wms_cases, jepa_wms_models
from vjepa2_ros.verification.models import model_cases, published_cases
from vjepa2_ros.verification.planning import planning_cases
from vjepa2_ros.verification.video import video_cases, video_models
from vjepa2_ros.world_model.checkpoint import choose_computation


def project_folder() -> Path:
    """The golden set that comes with the source tree.

    Raises:
        GoldenError: the package does not run from a source tree.
    """
    folder = share_directory() / "test" / "golden"
    if not folder.is_dir():
        raise GoldenError(
            f"{folder} does not exist: the project's own golden set comes with its source tree "
            "only, so give a folder of golden sets"
        )
    return folder


def run(folder: str | Path, device: str = "cpu") -> list[Case]:
    """All comparisons of all sets in a folder.

    Args:
        folder: of meta_X.json, arrays_X.npz and weights_X.safetensors.
        device: where the networks run: "cpu", "cuda", "cuda:1", ...

    Returns:
        The results; what the sets hold and nothing compares is among them, as failed.

    Raises:
        GoldenError: the folder holds no set, a file of one is missing or cannot be read, or the
            device is not available.
    """
    folder = Path(folder)
    sets = sorted(folder.glob("meta_*.json"))
    if not sets:
        raise GoldenError(
            f"{folder.absolute()} holds no golden set:"
            " meta_X.json, arrays_X.npz and weights_X.safetensors"
        )
    try:
        chosen, _ = choose_computation(device, "float32", "sdpa")
    except ValueError as error:
        raise GoldenError(str(error)) from error
    with full_precision():
        return [case for path in sets for case in run_set(GoldenSet(path, chosen))]


@contextmanager
def full_precision() -> Iterator[None]:
    """Convolutions in float32: PyTorch allows TF32 for them by default, with 1e-3 of error."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def run_set(golden: GoldenSet) -> list[Case]:
    """All comparisons of one set, and a failure for each array that nothing compared."""
    cases = [
        *model_cases(golden, elsewhere=[*video_models(golden), *jepa_wms_models(golden)]),
        *published_cases(golden),
        *preprocessing_cases(golden),
        *pose_cases(golden),
        *planning_cases(golden),
        *video_cases(golden),
        *jepa_wms_cases(golden),
    ]
    cases += [
        Case(key, "array", False, message="described, but missing from the arrays")
        for key in golden.absent()
    ]
    broken = {case.case for case in cases if case.error is None and not case.passed}
    left: dict[str, list[str]] = {}
    for key in golden.unread():
        group, _, name = key.rpartition("/")
        if group not in broken:  # else a row says already why nothing was compared
            left.setdefault(group, []).append(name)
    cases += [
        not_covered(group, ", ".join(names), "no comparison reads these")
        for group, names in left.items()
    ]
    return cases


def table(cases: list[Case], title: str) -> Table:
    """The comparisons as a table: case, what, maximal error, tolerance, verdict."""
    drawn = Table(title=title)
    for heading in ("case", "what"):
        drawn.add_column(heading, overflow="fold")
    for heading in ("max abs error", "tolerance"):
        drawn.add_column(heading, justify="right")
    drawn.add_column("verdict", overflow="fold")
    for case in cases:
        drawn.add_row(
            case.case,
            case.what,
            "-" if case.error is None else f"{case.error:.2e}",
            "-" if case.tolerance is None else f"{case.tolerance:.0e}",
            "[green]pass[/]"
            if case.passed
            else f"[bold red]FAIL[/] {escape(case.message)}".rstrip(),
        )
    return drawn
