# SPDX-License-Identifier: Apache-2.0
"""Whom a node listens to: its manager, and the processes that the manager names."""

import pytest

from vjepa2_ros.ros.senders import ManagerBinding, SenderBinding


@pytest.fixture
def manager():
    return ManagerBinding(period=0.5, absent=1.0, lost=2.0)


def wait(manager, periods):
    for _ in range(periods):
        manager.tick()


def test_without_a_manager_the_first_sender_is_kept_until_the_release(manager):
    planner = SenderBinding("planner_node", manager)
    assert planner.accepts("a") and planner.accepts("a")
    assert not planner.accepts("b") and not planner.accepts("")
    assert planner.refused == 2 and planner.sender == "a"
    planner.release()
    assert planner.accepts("b") and not planner.accepts("a")


def test_a_manager_decides_also_where_another_one_was_heard_first(manager):
    planner = SenderBinding("planner_node", manager)
    assert planner.accepts("bag")
    assert manager.heard("m", {"planner_node": "b"})
    assert not planner.accepts("bag") and planner.accepts("b")
    assert manager.heard("m", {"planner_node": "c"})
    assert not planner.accepts("b") and planner.accepts("c")


@pytest.mark.parametrize("sender", ["b", ""])
def test_nobody_is_taken_while_the_manager_has_not_begun_to_bring_the_node_up(manager, sender):
    planner = SenderBinding("planner_node", manager)
    manager.heard("m", {"planner_node": ""})
    assert not planner.accepts(sender)


def test_a_node_that_the_manager_does_not_manage_is_the_first_one_heard(manager):
    planner = SenderBinding("planner_node", manager)
    manager.heard("m", {"controller_node": "x"})
    assert planner.accepts("b") and not planner.accepts("c")


def test_another_manager_is_not_listened_to_before_the_first_is_lost(manager):
    assert manager.heard("m", {"planner_node": "b"})
    wait(manager, 3)
    assert not manager.is_there and not manager.is_lost and manager.silence == 1.5
    assert not manager.heard("n", {"planner_node": "c"})
    assert manager.members == {"planner_node": "b"} and manager.silence == 1.5
    wait(manager, 1)
    assert manager.is_lost
    assert manager.heard("n", {"planner_node": "c"})
    assert manager.members == {"planner_node": "c"} and manager.is_there and manager.silence == 0


def test_a_manager_that_says_goodbye_makes_room_for_another_at_once(manager):
    assert manager.heard("m", {"planner_node": "b"})
    assert not manager.heard("n", {}), "another one's goodbye"
    assert manager.heard("m", {}) and manager.silence is None
    assert manager.heard("n", {"planner_node": "c"}) and manager.silence == 0


def test_a_manager_that_was_never_heard_is_lost_but_not_silent(manager):
    wait(manager, 9)
    assert not manager.is_there and not manager.is_lost
    manager.expect()
    assert manager.is_there
    wait(manager, 4)
    assert manager.is_lost and manager.silence is None


def test_after_an_activation_by_hand_a_manager_that_is_gone_is_forgotten(manager):
    planner = SenderBinding("planner_node", manager)
    manager.heard("m", {"planner_node": "b"})
    wait(manager, 9)
    assert manager.silence == 4.5
    manager.expect()
    assert manager.silence is None and planner.accepts("c")
