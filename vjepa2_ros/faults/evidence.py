# SPDX-License-Identifier: Apache-2.0
"""What messages show of a fault: whether it was noticed, and commands that were accepted again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from vjepa2_ros.robot.reason import Reason

if TYPE_CHECKING:
    from vjepa2_ros.faults.observer import Observations


def notices(
    codes: Collection[Reason], seen: Observations, begun: float
) -> list[tuple[float, str]]:
    """When the stack named a fault, and by which code.

    A state repeats what was last refused, done or latched, however long ago. Only what differs from
    the last message before the fault began counts.

    Args:
        codes: that show that it was noticed.
        seen: what was received.
        begun: when the fault began [s, steady].

    Returns:
        Times of receipt [s, steady] with names of codes, in no order.
    """
    found = []
    for messages, entries in ((seen.states, _of_state), (seen.statuses, _of_status)):
        kept = list(messages)
        before = [message for received, message in kept if received < begun]
        old = entries(before[-1]) if before else ()
        for received, message in kept:
            if received < begun:
                continue
            for entry in entries(message):
                if Reason.of(entry[1]) in codes and entry not in old:
                    found.append((received, Reason.of(entry[1]).name))
    if Reason.FOREIGN_SENDER in codes:
        counts = list(seen.foreign)
        known = max((count for received, count in counts if received < begun), default=0)
        found += [
            (received, Reason.FOREIGN_SENDER.name)
            for received, count in counts
            if received >= begun and count > known
        ]
    return found


def accepted_again(accepted: Sequence[tuple[float, tuple[str, int]]], begun: float) -> int:
    """How often the accepted command went back: to an older one, or to a goal that was left.

    The command that is in execution can be accepted a second time without a trace here.

    Args:
        accepted: each change of the accepted command: when it was received [s, steady], goal and
            sequence number; from before `begun`, too.
        begun: changes from then on count [s, steady].
    """
    latest: dict[str, int] = {}
    count, current = 0, ""
    for received, (goal, sequence) in accepted:
        back = goal in latest and (goal != current or sequence <= latest[goal])
        count += back and received >= begun
        latest[goal], current = max(sequence, latest.get(goal, 0)), goal
    return count


# Each entry: what it is, the code, and what tells it from an earlier one with that code.
def _of_state(state: Any) -> tuple[tuple[str, int, Any], ...]:
    return (
        ("fault", state.fault_reason, state.fault),
        ("reason", state.reason, state.message),
        ("refused", state.refused_reason, (state.refused_goal_id, state.refused_sequence)),
    )


def _of_status(status: Any) -> tuple[tuple[str, int, Any], ...]:
    return (("status", status.reason, (status.goal_id, status.message)),)
