# SPDX-License-Identifier: Apache-2.0
"""Which processes a node listens to, so that a second planner or a replayed bag changes nothing.

A process is known by its instance (host, process and a random number), which it puts into its
heartbeat and into its messages. This protects from mistakes, not from an attacker, who can copy an
instance from the wire: that is what SROS 2 is for. Plain data, without ROS.
"""

from __future__ import annotations

from collections.abc import Mapping


class ManagerBinding:
    """The one lifecycle manager that a node listens to: the first one heard, until it is lost.

    Silence is counted in periods in which the node itself worked, so that a node that loads a model
    for a minute does not take that for the manager's silence.

    Args:
        period: of `tick` [s].
        absent: silence after which the manager is not there [s].
        lost: silence after which it is lost, and another one may take its place [s].

    Attributes:
        instance: of the manager that is listened to; empty without one.
        members: instance of each node that this manager manages, empty for one that it has not
            begun to bring up.
    """

    def __init__(self, period: float, absent: float, lost: float) -> None:
        self.instance = ""
        self.members: Mapping[str, str] = {}
        self._period, self._absent, self._lost = period, absent, lost
        self._periods: int | None = None

    @property
    def silence(self) -> float | None:
        """For how long the manager that was heard has been silent [s]; None if none was heard."""
        return self._periods * self._period if self.instance and self._periods is not None else None

    @property
    def is_there(self) -> bool:
        """True if a heartbeat came lately, or was expected to begin lately."""
        return self._periods is not None and self._periods * self._period < self._absent

    @property
    def is_lost(self) -> bool:
        """True if heartbeats came once, or were expected, and none came for long."""
        return self._periods is not None and self._periods * self._period >= self._lost

    def expect(self) -> None:
        """Take a manager to be there now, so that it counts as lost if it is never heard.

        One that was heard before and is not there any more is forgotten.
        """
        if not self.is_there:
            self.instance, self.members = "", {}
            self._periods = 0

    def heard(self, instance: str, members: Mapping[str, str]) -> bool:
        """Take a heartbeat; False if it is of another manager than the one that is listened to.

        One without members says that this manager ends: another one may take its place.
        """
        if self.instance and instance != self.instance and not self.is_lost:
            return False
        if members:
            self.instance, self.members, self._periods = instance, dict(members), 0
        else:
            self.instance, self.members = "", {}
        return True

    def tick(self) -> None:
        """Count one period of silence."""
        if self._periods is not None:
            self._periods += 1


class SenderBinding:
    """The one process that a node takes messages of a kind from.

    It is the one that the manager names. Without a manager, or where it does not manage such a
    node, it is the first one heard, until `release`.

    Args:
        node: name of the node that sends.
        manager: whom the node listens to.

    Attributes:
        node: as above.
        refused: how many messages of others were not taken.
    """

    def __init__(self, node: str, manager: ManagerBinding) -> None:
        self.node = node
        self.refused = 0
        self._manager = manager
        self._first: str | None = None

    @property
    def sender(self) -> str | None:
        """Instance that messages are taken from; None while any would be the first one heard."""
        return self._manager.members.get(self.node, self._first)

    def accepts(self, sender: str) -> bool:
        """Whether a message of this sender is taken."""
        expected = self.sender
        if expected is None:
            self._first = expected = sender
        # Where the manager has not begun to bring the node up, it names nobody: an empty text.
        names_nobody = not self._manager.members.get(self.node, "somebody")
        accepted = sender == expected and not names_nobody
        self.refused += not accepted
        return accepted

    def release(self) -> None:
        """Forget the first one heard."""
        self._first = None
