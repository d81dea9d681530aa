"""Deadlocks over all tablets: who waits for whom, and who gives up.

Each leader knows whom its tablet's transactions wait for. One that has waited for a while has
all nodes asked (`Peers.wait_edges`), looks for a circle through itself, and asks again: a wait
that is seen twice with the same number lasted all the time between, so if every wait of the
circle is seen at both times, all of them stood at one moment, and none will end by itself. Of a
circle the youngest transaction gives up; ids grow with time, so all that look agree on it.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from cluster.errors import DeadlockDetected
from storage.fragments import TabletId, TransactionId


class WaitEdge(msgspec.Struct, frozen=True, array_like=True):
    """A transaction waits for another at a tablet; `number` is the wait's there."""

    waiter: TransactionId
    holder: TransactionId
    tablet_id: TabletId
    number: int


def circle_through(
    edges: Iterable[WaitEdge], transaction_id: TransactionId
) -> tuple[WaitEdge, ...] | None:
    """Waits that lead from the transaction back to it, or None."""
    leaving: dict[TransactionId, list[WaitEdge]] = {}
    for edge in edges:
        leaving.setdefault(edge.waiter, []).append(edge)
    path: list[WaitEdge] = []
    seen: set[TransactionId] = {transaction_id}
    open_edges = [list(leaving.get(transaction_id, ()))]
    while open_edges:
        if not open_edges[-1]:
            open_edges.pop()
            if path:
                path.pop()
            continue
        edge = open_edges[-1].pop()
        if edge.holder == transaction_id:
            return (*path, edge)
        if edge.holder not in seen:
            seen.add(edge.holder)
            path.append(edge)
            open_edges.append(list(leaving.get(edge.holder, ())))
    return None


def gives_up(circle: Sequence[WaitEdge]) -> TransactionId:
    """Which transaction of the circle ends, so that the others can go on."""
    return max(edge.waiter for edge in circle)


def deadlock_detected(circle: Sequence[WaitEdge]) -> DeadlockDetected:
    """The error for the transaction that gives up."""
    waits = [
        f"Transaction {edge.waiter} waits for transaction {edge.holder} on tablet {edge.tablet_id}."
        for edge in circle
    ]
    return DeadlockDetected(
        "deadlock detected",
        detail=" ".join(waits),
        hint="The transaction might succeed if retried.",
    )
