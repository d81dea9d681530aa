"""News that is pushed with every packet until enough nodes have it (pure).

A rumour names a member and the version from which on it changed; what is told of it is read
from the member when a packet is made, so a later change rides along. Each node pushes a rumour a
number of times that grows with the logarithm of the cluster and then lets it rest; whoever
missed it learns it when digests are compared. Rumours told least often go first, so a new one is
not held up by a flood of older ones, and a packet takes no more than its budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cluster.gossip.members import Member, delta_of
from cluster.gossip.messages import Delta, delta_bytes


@dataclass(slots=True)
class _Rumour:
    after: int
    told: int = 0


class Rumours:
    """At most one a member."""

    def __init__(self) -> None:
        self._rumours: dict[int, _Rumour] = {}

    def __len__(self) -> int:
        return len(self._rumours)

    def begin(self, node_id: int, after: int) -> None:
        """The member changed after that version: told from the beginning."""
        known = self._rumours.get(node_id)
        self._rumours[node_id] = _Rumour(min(after, known.after) if known else after)

    def end(self, node_id: int) -> None:
        self._rumours.pop(node_id, None)

    def pick(
        self, budget_bytes: int, pushes: int, member_of: Callable[[int], Member | None]
    ) -> list[Delta]:
        """The news for one packet."""
        picked: list[Delta] = []
        for node_id in sorted(self._rumours, key=lambda n: self._rumours[n].told):
            rumour = self._rumours[node_id]
            member = member_of(node_id)
            if member is not None:
                delta = delta_of(member, rumour.after, budget_bytes, quiet=False)
                budget_bytes -= delta_bytes(delta)
                if budget_bytes < 0 and picked:
                    break
                picked.append(delta)
            rumour.told += 1
            if member is None or rumour.told >= pushes:
                del self._rumours[node_id]
        return picked
