"""Flow control of the exchanges that one task reads: what is kept where, and who must wait.

Problem: a task reads several exchanges, but DuckDB drains one before it touches the next.
With bounded queues alone two tasks that share producers and read in opposite order hang: each
waits for rows that its producers cannot send, because the other task's full queue holds them.

Idea: a full inbox may hold its producers back only while its task can go on without what
those producers would send to *somebody else*. A task is **starving** at an inbox when it waits
for rows at another one. So:

- an inbox under its credit takes chunks into memory;
- over its credit it holds its producers back (`held`), unless its task is starving there;
- where the task is starving, the producers go on and what they send is kept on disk.

Why no cycle is left: a producer that waits, waits for a task that is not waiting for input.
Such a task runs, or it waits itself to send to a task further down, and so on; the stages
have no cycles, so the chain ends at a task that runs or at the client.

`TaskFlow` is the decision alone: events in, decisions out, no threads and no bytes.
`executor.inbox` drives it. Sizes are in bytes.

Invariants (`validate`): memory is used only under the credit at the time of arrival, so an
inbox holds at most `credit_bytes` and one chunk in memory; nothing is held where starving.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_CREDIT_BYTES = 16 * 1024 * 1024


class Place(StrEnum):
    """Where an arriving chunk is kept until it is read."""

    MEMORY = "memory"
    DISK = "disk"


@dataclass(slots=True)
class InboxState:
    """One exchange as its reader sees it."""

    open_producers: int
    memory_bytes: int = 0
    disk_bytes: int = 0
    waiting_readers: int = 0
    closed: bool = False

    @property
    def backlog_bytes(self) -> int:
        return self.memory_bytes + self.disk_bytes


class TaskFlow:
    """Decides for all inboxes of one task.

    Whoever drives it reports every arrival, removal and wait, in the order they happened, and
    delivers a chunk only where `held` is false.
    """

    def __init__(self, inboxes: Iterable[tuple[int, int]], credit_bytes: int) -> None:
        """`inboxes` are pairs of exchange id and number of producers."""
        assert credit_bytes > 0
        self.credit_bytes = credit_bytes
        self.inboxes = {exchange_id: InboxState(producers) for exchange_id, producers in inboxes}

    def starving(self, exchange_id: int) -> bool:
        """Whether the task waits for rows at an inbox other than this one."""
        return any(
            state.waiting_readers and not state.backlog_bytes and other != exchange_id
            for other, state in self.inboxes.items()
        )

    def held(self, exchange_id: int) -> bool:
        """Whether producers of this inbox have to wait."""
        state = self.inboxes[exchange_id]
        if state.closed or state.backlog_bytes < self.credit_bytes:
            return False
        return not self.starving(exchange_id)

    def arrived(self, exchange_id: int, size_bytes: int) -> Place:
        """A chunk came; the answer says where it is kept."""
        state = self.inboxes[exchange_id]
        assert state.open_producers > 0, "a chunk after the last producer finished"
        if state.memory_bytes < self.credit_bytes:
            state.memory_bytes += size_bytes
            return Place.MEMORY
        state.disk_bytes += size_bytes
        return Place.DISK

    def taken(self, exchange_id: int, size_bytes: int, place: Place) -> None:
        """The reader took a chunk of that size from that place."""
        state = self.inboxes[exchange_id]
        if place is Place.MEMORY:
            state.memory_bytes -= size_bytes
        else:
            state.disk_bytes -= size_bytes
        assert state.memory_bytes >= 0
        assert state.disk_bytes >= 0

    def wait_began(self, exchange_id: int) -> tuple[int, ...]:
        """A reader waits here with nothing to read; the answer names inboxes that it frees."""
        held_before = [other for other in self.inboxes if self.held(other)]
        self.inboxes[exchange_id].waiting_readers += 1
        return tuple(other for other in held_before if not self.held(other))

    def wait_ended(self, exchange_id: int) -> None:
        """That reader goes on."""
        state = self.inboxes[exchange_id]
        assert state.waiting_readers > 0
        state.waiting_readers -= 1

    def producer_finished(self, exchange_id: int) -> bool:
        """One producer has sent all it had; true when it was the last."""
        state = self.inboxes[exchange_id]
        assert state.open_producers > 0, "more producers finished than there are"
        state.open_producers -= 1
        return state.open_producers == 0

    def close(self, exchange_id: int) -> None:
        """Nobody reads here any more: producers are let go, what they send is dropped."""
        self.inboxes[exchange_id].closed = True

    def validate(self, largest_chunk_bytes: int) -> None:
        """Asserts the invariants; for tests."""
        for exchange_id, state in self.inboxes.items():
            assert state.memory_bytes < self.credit_bytes + largest_chunk_bytes
            if self.held(exchange_id):
                assert state.backlog_bytes >= self.credit_bytes
                assert not self.starving(exchange_id)
