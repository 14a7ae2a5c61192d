# SPDX-License-Identifier: Apache-2.0
"""What a fault's measurement makes of positions over time."""

import numpy as np
import pytest

from vjepa2_ros.faults import motion, report
from vjepa2_ros.faults.fault import Fault, Repeat

TIMES = np.arange(0.0, 6.0, 0.02)


def moving(until, speed=0.25, again=None):
    """Positions [T, 3] of an arm that moves along x until a time, and from another one on again."""
    fast = TIMES < until
    if again is not None:
        fast |= TIMES >= again
    x = np.cumsum(np.where(fast, speed, 0.0)) * 0.02
    return np.stack([x, np.zeros_like(x), np.zeros_like(x)], axis=1)


def test_rest_is_when_the_arm_stops_and_the_way_is_from_where_the_fault_began():
    rest, way = motion.rest(TIMES, moving(until=2.0), since=1.5)
    assert rest == pytest.approx(2.0, abs=0.05)
    assert way == pytest.approx(0.125, abs=0.01)


def test_an_arm_that_moves_again_was_not_at_rest_for_good():
    again = moving(until=2.0, again=4.0)
    assert motion.rest(TIMES, again, since=1.5)[0] is None
    rest, way = motion.rest(TIMES, again, since=1.5, for_good=False)
    assert rest == pytest.approx(2.0, abs=0.05) and way == pytest.approx(0.125, abs=0.01)


def test_an_arm_that_does_not_stop_has_no_rest():
    for for_good in (True, False):
        rest, way = motion.rest(TIMES, moving(until=9.0), 1.5, for_good)
        assert rest is None and way == pytest.approx(0.25 * 4.5, abs=0.02)


def test_an_arm_that_rests_already_is_at_rest_at_once():
    rest, way = motion.rest(TIMES, moving(until=1.0), since=3.0)
    assert rest == 3.0 and way == 0.0


def test_without_any_position_after_the_fault_there_is_no_way():
    assert motion.rest([], [], since=1.0) == (1.0, 0.0)
    assert motion.rest(TIMES, moving(until=9.0), since=7.0) == (7.0, 0.0)


def test_a_row_has_median_and_worst_of_all_repeats_and_names_what_was_not_at_rest():
    fault = Fault("camera_gone", "no images", lambda bench: None)
    repeats = [
        Repeat(1.0, 0.4, 0.05, 0, "NO_IMAGE", "by itself"),
        Repeat(1.2, 0.6, 0.09, 0, "NO_IMAGE", "new goal"),
        Repeat(None, None, 0.30, 2, "", "new goal"),
    ]
    row = report.row(fault, repeats)
    assert (row["rest_s_median"], row["rest_s_worst"], row["not_at_rest"]) == (0.5, 0.6, 1)
    assert (row["noticed"], row["noticed_s_worst"], row["commands_after"]) == (2, 1.2, 2)
    assert row["distance_m_worst"] == 0.30 and row["resumes"] == "new goal"
    table = report.markdown([row])
    assert "no images (`camera_gone`) | 3 | 1.10 (1.20) | 0.50 (0.60), 1 go on | 30.0 | 2" in table
    assert "NO_IMAGE 2, – 1" in table and "new goal 2, by itself 1" in table


def test_the_table_takes_the_place_of_the_one_in_a_page():
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    repeat = Repeat(1.0, 1.0, 0.0, 0, "NO_IMAGE", "by itself")
    row = report.row(Fault("x", "a text", lambda bench: None), [repeat])
    changed = report.insert(page, [row], "`command`, date:")
    assert changed.startswith(f"before\n{report.BEGIN}\n`command`, date:\n\n| fault |")
    assert changed.endswith(f"|\n{report.END}\nafter\n") and "old" not in changed
    assert "a text (`x`)" in changed
    with pytest.raises(ValueError, match="no place for the table"):
        report.insert("a page", [row], "")
