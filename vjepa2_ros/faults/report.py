# SPDX-License-Identifier: Apache-2.0
"""Results of injected faults as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from vjepa2_ros.faults.fault import Fault, Repeat

BEGIN, END = "<!-- faults -->", "<!-- end of faults -->"
"""Around the table in a page."""


def row(fault: Fault, repeats: Sequence[Repeat]) -> dict[str, Any]:
    """Figures of one fault over its repeats; None where there is nothing to tell.

    Returns:
        fault, text, stack, repeats; noticed_s_median and _worst (from the injection);
        rest_s_median and _worst (from the injection), rest_after_notice_s_worst; not_at_rest (how
        many still moved at the end); not_seen (how many could not be seen after the injection);
        distance_m_worst; commands_after; code and resumes, the most frequent ones, with all in
        codes and resumed; measured_again (attempts that ended before the injection).
    """
    noticed = [repeat.noticed for repeat in repeats if repeat.noticed is not None]
    rests = [repeat.rest for repeat in repeats if repeat.rest is not None]
    ways = [repeat.distance for repeat in repeats if repeat.distance is not None]
    late = [
        max(0.0, repeat.rest - repeat.noticed)
        for repeat in repeats
        if repeat.rest is not None and repeat.noticed is not None
    ]
    codes = Counter(repeat.code for repeat in repeats)
    resumed = Counter(repeat.resumes for repeat in repeats)
    return {
        "fault": fault.name,
        "text": fault.text,
        "stack": fault.stack,
        "stops": fault.stops,
        "repeats": len(repeats),
        "noticed": len(noticed),
        "noticed_s_median": median(noticed) if noticed else None,
        "noticed_s_worst": max(noticed, default=None),
        "rest_s_median": median(rests) if rests else None,
        "rest_s_worst": max(rests, default=None),
        "rest_after_notice_s_worst": max(late, default=None),
        "not_at_rest": len(ways) - len(rests),
        "not_seen": len(repeats) - len(ways),
        "distance_m_worst": max(ways, default=None),
        "commands_after": sum(repeat.commands_after for repeat in repeats),
        "code": codes.most_common(1)[0][0],
        "codes": dict(codes),
        "resumes": resumed.most_common(1)[0][0],
        "resumed": dict(resumed),
        "measured_again": sum(repeat.measured_again for repeat in repeats),
    }


HEADINGS = (
    "fault", "repeats", "detected [s]", "at rest [s]", "distance [cm]", "commands executed after",
    "code", "recovery",
)  # fmt: skip
"""Columns of the table: median and, in brackets, worst."""


def cells(result: Mapping[str, Any]) -> tuple[str, ...]:
    """One row of the table."""
    way = result["distance_m_worst"]
    return (
        f"{result['text']} (`{result['fault']}`)",
        str(result["repeats"]),
        _times(result["noticed_s_median"], result["noticed_s_worst"]),
        _times(result["rest_s_median"], result["rest_s_worst"])
        + (f", {result['not_at_rest']} go on" if result["not_at_rest"] else "")
        + (f", {result['not_seen']} not seen" if result["not_seen"] else ""),
        "–" if way is None else f"{way * 100:.1f}",
        str(result["commands_after"]),
        _counted(result["codes"]),
        _counted(result["resumed"]),
    )


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """Table of all faults."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(cells(result)) + " |" for result in results]
    return "\n".join(lines)


def is_kept(result: Mapping[str, Any]) -> bool:
    """Whether a fault did what is promised: no command after it, and rest where it has to be."""
    still_moved = result["not_at_rest"] or result["not_seen"]
    return not result["commands_after"] and not (result["stops"] and still_moved)


def merge(
    results: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], order: Sequence[str]
) -> list[Mapping[str, Any]]:
    """Rows with new ones instead of those of the same faults.

    Args:
        results: rows so far.
        new: rows to be added.
        order: names of faults. Rows of others come last.
    """
    rows = {result["fault"]: result for result in (*results, *new)}
    known = [rows.pop(name) for name in order if name in rows]
    return [*known, *rows.values()]


def insert(page: str, results: Sequence[Mapping[str, Any]], origin: str) -> str:
    """A page with the table instead of the one between its markers.

    Args:
        page: text with the markers `BEGIN` and `END`.
        results: rows of the table.
        origin: command, commit and date.

    Raises:
        ValueError: the page has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no place for the table: the lines {BEGIN} and {END} are missing")
    return f"{before}{BEGIN}\n{origin}\n\n{markdown(results)}\n{END}{after}"


def _times(middle: float | None, worst: float | None) -> str:
    return "–" if middle is None else f"{middle:.2f} ({worst:.2f})"


def _counted(counts: Mapping[str, int]) -> str:
    """Names with their counts, the most frequent one first; without counts if there is one."""
    names = sorted(counts, key=lambda name: -counts[name])
    if len(names) == 1:
        return names[0] or "–"
    return "; ".join(f"{name or '–'} ({counts[name]} times)" for name in names)
