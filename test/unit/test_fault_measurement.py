# SPDX-License-Identifier: Apache-2.0
"""What a fault's measurement makes of positions and messages over time."""

from types import SimpleNamespace

import numpy as np
import pytest

from vjepa2_ros.faults import evidence, motion, report
from vjepa2_ros.faults.fault import Fault, Repeat
from vjepa2_ros.robot.reason import Reason

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


def test_without_positions_after_the_fault_rest_and_way_are_not_known():
    assert motion.rest([], [], since=1.0) == (None, None)
    assert motion.rest(TIMES, moving(until=9.0), since=7.0) == (None, None)
    last = float(TIMES[-1])
    assert motion.rest(TIMES, moving(until=9.0), since=last - 0.01) == (None, None)


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
    assert "NO_IMAGE (2 times); – (1 times)" in table
    assert "new goal (2 times); by itself (1 times)" in table


def test_an_arm_that_was_not_seen_is_not_an_arm_at_rest():
    fault = Fault("simulator_node_killed", "kill -9", lambda bench: None)
    unseen = Repeat(0.1, None, None, 0, "stack ended", "restart", measured_again=1)
    row = report.row(fault, [unseen])
    assert (row["not_at_rest"], row["not_seen"], row["measured_again"]) == (0, 1, 1)
    assert row["rest_s_worst"] is None and row["distance_m_worst"] is None
    assert "| 0.10 (0.10) | –, 1 not seen | – |" in report.markdown([row])
    assert not report.is_kept(row) and report.is_kept({**row, "stops": False})
    seen = report.row(fault, [unseen, Repeat(0.1, 0.2, 0.03, 0, "stack ended", "restart")])
    assert (seen["not_at_rest"], seen["not_seen"], seen["distance_m_worst"]) == (0, 1, 0.03)


def state(fault_reason=0, fault="", reason=1, message="", refused=("", 0, 0)):
    """A state of the robot, with goal, sequence number and reason of the refused command."""
    return SimpleNamespace(
        fault_reason=fault_reason, fault=fault, reason=reason, message=message,
        refused_goal_id=refused[0], refused_sequence=refused[1], refused_reason=refused[2],
    )  # fmt: skip


def notices(code, states=(), statuses=(), foreign=()):
    """What was noticed from 1 s on, with a code."""
    seen = SimpleNamespace(states=states, statuses=statuses, foreign=foreign)
    return evidence.notices((code,), seen, 1.0)


def test_a_refusal_of_an_earlier_repeat_does_not_show_that_a_fault_was_noticed():
    old = state(refused=("goal-1", 3, Reason.STALE))
    new = state(refused=("goal-2", 3, Reason.STALE))
    assert notices(Reason.STALE, [(0.9, old), (1.1, old)]) == []
    assert notices(Reason.STALE, [(0.9, old), (1.1, old), (1.2, new)]) == [(1.2, "STALE")]
    assert notices(Reason.STALE, [(1.1, new)]) == [(1.1, "STALE")], "the first of all"


def test_a_fault_and_a_reason_from_before_the_injection_do_not_count():
    latched = state(fault_reason=Reason.STATE_STALE, fault="0.5 s old")
    acted = state(reason=Reason.STATE_STALE, message="0.5 s old")
    for old in (latched, acted):
        assert notices(Reason.STATE_STALE, [(0.9, old), (1.1, old)]) == []
        assert notices(Reason.STATE_STALE, [(0.9, state()), (1.1, old)]) == [(1.1, "STATE_STALE")]


def test_a_status_from_before_the_injection_does_not_count():
    statuses = [
        (at, SimpleNamespace(reason=Reason.NO_IMAGE, goal_id=goal, message="no image"))
        for at, goal in ((0.9, "goal-1"), (1.1, "goal-1"), (1.2, "goal-2"))
    ]
    assert notices(Reason.NO_IMAGE, statuses=statuses) == [(1.2, "NO_IMAGE")]


def test_messages_of_foreign_senders_count_when_they_become_more():
    counts = [(0.5, 2), (1.1, 2), (1.2, 3)]
    assert notices(Reason.FOREIGN_SENDER, foreign=counts) == [(1.2, "FOREIGN_SENDER")]
    assert notices(Reason.STALE, foreign=counts) == []


def test_commands_that_are_accepted_in_order_do_not_go_back():
    accepted = [(0.5, ("a", 4)), (1.5, ("a", 5)), (2.0, ("b", 1)), (2.5, ("b", 2))]
    assert evidence.accepted_again(accepted, begun=1.0) == 0
    assert evidence.accepted_again([], begun=1.0) == 0


def test_an_older_command_or_one_of_a_goal_that_was_left_goes_back():
    older = [(0.5, ("a", 4)), (1.5, ("a", 3)), (2.0, ("a", 5))]
    left = [(0.2, ("a", 4)), (0.5, ("b", 1)), (1.5, ("a", 5)), (1.6, ("b", 2))]
    assert evidence.accepted_again(older, begun=1.0) == 1
    assert evidence.accepted_again(left, begun=1.0) == 2, "there, and to the one that was left"
    assert evidence.accepted_again(older, begun=1.8) == 0, "before the fault"


def test_a_new_row_takes_the_place_of_the_old_one_and_others_stay():
    rows = [{"fault": "gone", "n": 1}, {"fault": "b", "n": 1}, {"fault": "a", "n": 1}]
    merged = report.merge(rows, [{"fault": "b", "n": 2}, {"fault": "c", "n": 2}], "abc")
    assert [(row["fault"], row["n"]) for row in merged] == [
        ("a", 1), ("b", 2), ("c", 2), ("gone", 1),
    ]  # fmt: skip


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
