# SPDX-License-Identifier: Apache-2.0
"""A diagnosis as Markdown tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from vjepa2_ros import plain_json
from vjepa2_ros.diagnosis.decisions import Decision

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the back end is chosen before)

_TITLES = ("camera", "true next", "imagined next", "best true next", "goal")
_ROWS = 6


def summary(
    changes: dict[str, float],
    errors: dict[str, dict[str, list[float]]],
    told: dict[str, dict[str, float]],
    decisions: Sequence[Decision],
) -> dict[str, Any]:
    """Everything that was measured, as plain JSON values.

    Args:
        changes: see `representation.changes_of_latents`.
        errors: see `prediction.errors_by_situation`.
        told: see `approaches.approaches`.
        decisions: see `decisions.watch`.
    """
    return {
        "changes": changes,
        "errors": errors,
        "approaches": told,
        "decisions": _by_subgoal(decisions),
    }


def _by_subgoal(decisions: Sequence[Decision]) -> dict[str, dict[str, float]]:
    """Medians over the decisions towards each sub-goal, in the order of the episode."""
    rows = {}
    for name in dict.fromkeys(decision.subgoal for decision in decisions):
        some = [decision for decision in decisions if decision.subgoal == name]
        fields = ("now", "chosen", "chosen_true", "best", "best_true", "hold_true")
        rows[name] = {
            "decisions": len(some),
            **{field: float(np.median([getattr(d, field) for d in some])) for field in fields},
            # What is lost against the best plan that the same search finds with true predictions,
            # and how often the predictor itself prefers its choice to that plan.
            "regret": float(np.median([d.chosen_true - d.best_true for d in some])),
            "predictor_prefers_its_choice": float(np.mean([d.chosen < d.best for d in some])),
            "gripper_differs": float(
                np.mean([abs(d.chosen_closes - d.best_closes) > 0.5 for d in some])
            ),
        }
    return rows


def markdown(found: dict[str, Any]) -> str:
    """The four tables of a `summary`."""
    lines = ["What changes the energy of true latents by how much:", "", "| change | energy |"]
    lines += ["|---|---:|"]
    lines += [f"| {name} | {energy:.4f} |" for name, energy in found["changes"].items()]
    lines += ["", "Error of the predictions 1, 2 and 3 steps ahead, relative to copying:", ""]
    models = [
        key for key in next(iter(found["errors"].values())) if key not in ("steps", "copied")
    ]
    lines += [
        f"| what happens in the last step | steps | copying | {' | '.join(models)} |",
        f"|---|---:|---:|{'---:|' * len(models)}",
    ]
    for name, row in found["errors"].items():
        numbers = [" / ".join(f"{value:.2f}" for value in row[model]) for model in models]
        copied = " / ".join(f"{value:.3f}" for value in row["copied"])
        lines.append(f"| {name} | {row['steps'][0]:.0f} | {copied} | {' | '.join(numbers)} |")
    energies = ("true", *models)
    lines += [
        "",
        "Straight approaches to an object, then a grip: probability that one that ends in a grasp "
        "has less energy than one that overturns or misses the object (0.5: by chance):",
        "",
        f"| object | approaches | end in a grasp | {' | '.join(energies)} |",
        f"|---|---:|---:|{'---:|' * len(energies)}",
    ]
    for name, told in found["approaches"].items():
        ranked = " | ".join(f"{told[key]:.2f}" for key in energies)
        lines.append(f"| {name} | {told['approaches']:.0f} | {told['succeed']:.0%} | {ranked} |")
    lines += [
        "",
        "Decisions, medians by sub-goal. *Best* is the plan that the same search finds with true "
        "predictions; *regret* is the true energy of the chosen plan minus that of the best. "
        "Predicted energies include the variance, where it counts in the search:",
        "",
        "| sub-goal | decisions | energy now | chosen: predicted | chosen: true | best: predicted "
        "| best: true | regret | predictor prefers its choice | gripper differs |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in found["decisions"].items():
        lines.append(
            f"| {name} | {row['decisions']} | {row['now']:.4f} | {row['chosen']:.4f} | "
            f"{row['chosen_true']:.4f} | {row['best']:.4f} | {row['best_true']:.4f} | "
            f"{row['regret']:.4f} | {row['predictor_prefers_its_choice']:.0%} | "
            f"{row['gripper_differs']:.0%} |"
        )
    return "\n".join(lines) + "\n"


def write(found: dict[str, Any], decisions: Sequence[Decision], folder: Path) -> None:
    """Write diagnosis.json, diagnosis.md, energies.png and decisions.png into a folder.

    Raises:
        OSError: a file cannot be written.
    """
    plain_json.write(found, folder / "diagnosis.json")
    (folder / "diagnosis.md").write_text(markdown(found))
    _draw_energies(decisions, folder / "energies.png")
    # Those that lose most say most.
    worst = sorted(decisions, key=lambda d: d.best_true - d.chosen_true)[:_ROWS]
    _draw_decisions(worst, folder / "decisions.png")


def _draw_energies(decisions: Sequence[Decision], path: Path) -> None:
    """Energy of what was imagined against that of what truly follows, by sub-goal."""
    figure, axis = plt.subplots(figsize=(5, 5))
    for name in dict.fromkeys(decision.subgoal for decision in decisions):
        some = [decision for decision in decisions if decision.subgoal == name]
        axis.scatter([d.chosen_true for d in some], [d.chosen for d in some], s=12, label=name)
    most = max([max(d.chosen, d.chosen_true) for d in decisions], default=1.0)
    axis.plot([0, most], [0, most], color="grey", linewidth=1)
    axis.set(xlabel="energy of the true next image", ylabel="energy of the imagined one")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_decisions(decisions: Sequence[Decision], path: Path) -> None:
    figure, axes = plt.subplots(
        max(1, len(decisions)),
        len(_TITLES),
        figsize=(2.2 * len(_TITLES), 2.5 * max(1, len(decisions))),
        squeeze=False,
    )
    for axis in axes.flat:
        axis.axis("off")
    for row, decision in zip(axes, decisions, strict=False):
        energies = (
            decision.now, decision.chosen_true, decision.chosen, decision.best_true, 0.0
        )  # fmt: skip
        for axis, image, title, energy in zip(
            row, decision.images, _TITLES, energies, strict=True
        ):
            if image is not None:
                axis.imshow(image)
                axis.set_title(f"{title}: {energy:.3f}", fontsize=8)
        row[0].set_title(
            f"scene {decision.scene}, step {decision.step}\n{decision.subgoal}: "
            f"{decision.now:.3f}",
            fontsize=8,
        )
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
