"""What waits to be applied to one store, and what all that wait hold in memory.

A read asks of each queue whether something in it matters to it (`needed_by`): by the oldest
commit of each fragment, so it costs the same however much is queued.

A store that nobody misses for a while (`Queued.is_patient`) may let its queue grow for a minute.
A node has a thousand of them, so they share a `QueueBudget`: whoever takes it over its limit has
the queue that holds most emptied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from storage.fragments import FragmentId, Timestamp
from storage.operations import Operation

# Of the queues of all stores of a node that apply in the background.
BUDGET_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Queued:
    """The effect of one log entry. `operation` is made when it is applied, on the thread.

    `fragments` are those it touches, None for all; `timestamp` its commit's, or 0.
    `size_bytes` counts its log entries, `memory_bytes` those of them held in memory. `is_slow`:
    it may take long, however small it is.
    """

    index: int
    make: Callable[[], Operation]
    size_bytes: int
    timestamp: Timestamp = 0
    fragments: frozenset[FragmentId] | None = None
    memory_bytes: int = 0
    done: Callable[[], None] | None = None
    is_slow: bool = False
    # Nobody misses it here for a while: another store has it.
    is_patient: bool = False


class ApplyQueue:
    """Effects of log entries, in log order."""

    def __init__(self) -> None:
        self._entries: list[Queued] = []
        self.size_bytes = 0
        self.memory_bytes = 0
        # What a reader of any fragment needs; by fragment, the oldest commit.
        self._of_all = 0
        self._oldest: dict[FragmentId, Timestamp] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def first_index(self) -> int:
        """The oldest entry's; there is one."""
        return self._entries[0].index

    @property
    def last_index(self) -> int:
        """The newest entry's; there is one."""
        return self._entries[-1].index

    @property
    def is_slow(self) -> bool:
        """Whether an entry says so of itself."""
        return any(queued.is_slow for queued in self._entries)

    def entries(self) -> list[Queued]:
        """A copy."""
        return list(self._entries)

    def push(self, queued: Queued) -> None:
        """Adds the newest entry."""
        self._entries.append(queued)
        self._count(queued)

    def _count(self, queued: Queued) -> None:
        self.size_bytes += queued.size_bytes
        self.memory_bytes += queued.memory_bytes
        if queued.fragments is None:
            self._of_all += 1
            return
        oldest = self._oldest
        for fragment_id in queued.fragments:
            if queued.timestamp < oldest.get(fragment_id, queued.timestamp + 1):
                oldest[fragment_id] = queued.timestamp

    def take(self, count: int) -> None:
        """The first `count` entries are applied."""
        self._replace(self._entries[count:])

    def put_back(self, entries: Sequence[Queued]) -> None:
        """These, which were the first, are not applied after all."""
        self._replace([*entries, *self._entries])

    def clear(self) -> None:
        """Nothing of it counts any more."""
        self._replace([])

    def _replace(self, entries: list[Queued]) -> None:
        self._entries = entries
        self.size_bytes = self.memory_bytes = self._of_all = 0
        self._oldest = {}
        for queued in entries:
            self._count(queued)

    def needed_by(self, fragments: Iterable[FragmentId], timestamp: Timestamp) -> bool:
        """Whether a read of these fragments at the timestamp must see the queue applied."""
        if not self._entries:
            return False
        if self._of_all:
            return True
        oldest = self._oldest
        return any(oldest.get(fragment, timestamp + 1) <= timestamp for fragment in fragments)


class QueueBudget:
    """What the queues of a node's stores may hold in memory together.

    A member is a queue with the call that has it applied at once.
    """

    def __init__(self, limit_bytes: int = BUDGET_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._members: list[tuple[ApplyQueue, Callable[[], None]]] = []
        self._held_bytes = 0

    def join(self, queue: ApplyQueue, apply_at_once: Callable[[], None]) -> None:
        """The queue counts from here on."""
        self._members.append((queue, apply_at_once))

    def leave(self, queue: ApplyQueue) -> None:
        """It counts no longer."""
        self._members = [member for member in self._members if member[0] is not queue]

    def pushed(self, memory_bytes: int) -> None:
        """A member holds so much more. Past the limit the longest is applied.

        What was applied meanwhile is noticed only when the count says that there is too much:
        one look at all queues for each `limit_bytes` that came in.
        """
        self._held_bytes += memory_bytes
        if self._held_bytes <= self._limit_bytes:
            return
        self._held_bytes = sum(queue.memory_bytes for queue, _ in self._members)
        if self._held_bytes > self._limit_bytes:
            queue, apply_at_once = max(self._members, key=lambda member: member[0].memory_bytes)
            apply_at_once()
            self._held_bytes -= queue.memory_bytes
