"""The locks of a tablet, on the whole of it and on rows, held in memory by its leader.

    tablet   PostgreSQL's eight table lock modes (manual 13.3.1). Who changes rows holds it in
             ROW EXCLUSIVE, who locks rows to read them in ROW SHARE; a statement of very many
             rows, TRUNCATE and a table that is cut anew take it EXCLUSIVE instead (rule I6).
    row      the four row lock modes (manual 13.3.2) on a key of a fragment, whether a row has
             it or not: an INSERT locks the key that it adds.

Readers take no lock; snapshots serve them. Locks last until the transaction's outcome, or until
it goes back to a savepoint before the statement (`command`) that took them.

Invariants: no two transactions hold conflicting modes of one resource; a request waits behind
every earlier one of its resource that it conflicts with, so nobody starves; a holder that asks
for more than it has goes to the front, because those behind it could not run before it ends
anyway. Pure: no clock, no futures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache

from storage.fragments import FragmentId, TransactionId
from storage.key_overlay import Key


class LockMode(StrEnum):
    ACCESS_SHARE = "access share"
    ROW_SHARE = "row share"
    ROW_EXCLUSIVE = "row exclusive"
    SHARE_UPDATE_EXCLUSIVE = "share update exclusive"
    SHARE = "share"
    SHARE_ROW_EXCLUSIVE = "share row exclusive"
    EXCLUSIVE = "exclusive"
    ACCESS_EXCLUSIVE = "access exclusive"
    FOR_KEY_SHARE = "for key share"
    FOR_SHARE = "for share"
    FOR_NO_KEY_UPDATE = "for no key update"
    FOR_UPDATE = "for update"

    @property
    def bit(self) -> int:
        return _BITS[self]


TABLE_MODES = tuple(LockMode)[:8]
ROW_MODES = tuple(LockMode)[8:]
_BITS = {mode: 1 << place for place, mode in enumerate(LockMode)}


def _mask(modes: Iterable[LockMode]) -> int:
    return sum(_BITS[mode] for mode in modes)


# Which modes another transaction must not hold; the table of the manual, and row modes' own.
CONFLICTS: dict[LockMode, int] = {
    LockMode.ACCESS_SHARE: _mask(TABLE_MODES[7:]),
    LockMode.ROW_SHARE: _mask(TABLE_MODES[6:]),
    LockMode.ROW_EXCLUSIVE: _mask(TABLE_MODES[4:]),
    LockMode.SHARE_UPDATE_EXCLUSIVE: _mask(TABLE_MODES[3:]),
    LockMode.SHARE: _mask([*TABLE_MODES[2:4], *TABLE_MODES[5:]]),
    LockMode.SHARE_ROW_EXCLUSIVE: _mask(TABLE_MODES[2:]),
    LockMode.EXCLUSIVE: _mask(TABLE_MODES[1:]),
    LockMode.ACCESS_EXCLUSIVE: _mask(TABLE_MODES),
    LockMode.FOR_KEY_SHARE: _mask(ROW_MODES[3:]),
    LockMode.FOR_SHARE: _mask(ROW_MODES[2:]),
    LockMode.FOR_NO_KEY_UPDATE: _mask(ROW_MODES[1:]),
    LockMode.FOR_UPDATE: _mask(ROW_MODES),
}

# The whole tablet, or a key of one of its fragments.
Resource = tuple[()] | tuple[FragmentId, Key]
TABLET: Resource = ()


@dataclass(slots=True, eq=False)
class LockRequest:
    """One transaction's wish for one resource; `number` tells requests apart."""

    number: int
    transaction_id: TransactionId
    resource: Resource
    mode: LockMode
    command: int
    granted: bool = False


@dataclass(slots=True)
class _Queue:
    """Who holds a resource, in which modes as bits, and who waits for it."""

    holders: dict[TransactionId, int] = field(default_factory=dict)
    waiting: list[LockRequest] = field(default_factory=list)


class LockTable:
    """All locks of one tablet."""

    def __init__(self) -> None:
        self._queues: dict[Resource, _Queue] = {}
        # What each transaction holds, with the commands that took it.
        self._held: dict[TransactionId, dict[Resource, list[tuple[int, LockMode]]]] = {}
        self._wishes: dict[TransactionId, list[LockRequest]] = {}
        self._numbers = 0

    # -- what is there

    def holds(
        self, transaction_id: TransactionId, mode: LockMode, resource: Resource = TABLET
    ) -> bool:
        """Whether the transaction has the mode, or one that excludes no fewer others."""
        queue = self._queues.get(resource)
        return queue is not None and _covers(queue.holders.get(transaction_id, 0), mode)

    def rows_of(self, transaction_id: TransactionId) -> list[tuple[Resource, LockMode]]:
        """The rows that it holds, each with its strongest mode."""
        held = self._held.get(transaction_id, {})
        order = list(LockMode)
        return [
            (resource, max((mode for _, mode in taken), key=order.index))
            for resource, taken in held.items()
            if resource != TABLET
        ]

    def held(self) -> Iterator[tuple[TransactionId, Resource, LockMode]]:
        """Everything that is held, each mode once."""
        for transaction_id, resources in self._held.items():
            for resource, taken in resources.items():
                for mode in dict.fromkeys(mode for _, mode in taken):
                    yield transaction_id, resource, mode

    def count_of(self, transaction_id: TransactionId) -> int:
        """How many resources it holds."""
        return len(self._held.get(transaction_id, ()))

    def waiting(self, transaction_id: TransactionId | None = None) -> tuple[LockRequest, ...]:
        """The requests that wait, of one transaction or of all, the oldest first."""
        if transaction_id is not None:
            return tuple(self._wishes.get(transaction_id, ()))
        every = [request for wishes in self._wishes.values() for request in wishes]
        return tuple(sorted(every, key=lambda request: request.number))

    def edges(self) -> Iterator[tuple[LockRequest, TransactionId]]:
        """Each waiting request with every transaction it waits for."""
        for request in self.waiting():
            queue = self._queues[request.resource]
            for other in dict.fromkeys(_blockers(queue, queue.waiting.index(request))):
                yield request, other

    # -- asking and giving back

    def request(
        self,
        transaction_id: TransactionId,
        mode: LockMode,
        resource: Resource = TABLET,
        *,
        command: int = 0,
        wait: bool = True,
    ) -> LockRequest:
        """Asks for a lock: `granted` says whether it is held now. If not the request waits,
        unless it was not to."""
        self._numbers += 1
        request = LockRequest(self._numbers, transaction_id, resource, mode, command)
        queue = self._queues.setdefault(resource, _Queue())
        held = queue.holders.get(transaction_id, 0)
        if _covers(held, mode):
            request.granted = True
            return request
        place = 0 if held else len(queue.waiting)
        queue.waiting.insert(place, request)
        if not any(True for _ in _blockers(queue, place)):
            queue.waiting.pop(place)
            self._grant(queue, request)
        elif wait:
            self._wishes.setdefault(transaction_id, []).append(request)
        else:
            queue.waiting.pop(place)
        return request

    def cancel(self, request: LockRequest) -> list[LockRequest]:
        """Nobody waits for the request any more; those who are granted because of it."""
        if request not in self._wishes.get(request.transaction_id, ()):
            return []
        self._forget_wish(request)
        return self._advance(request.resource)

    def release(
        self, transaction_id: TransactionId, since_command: int | None = None
    ) -> list[LockRequest]:
        """Gives up what the transaction holds, or what commands from that number on took, and
        what it waits for; the requests that are granted because of it."""
        touched = self._give_up(transaction_id, since_command)
        for request in self.waiting(transaction_id):
            if since_command is None or request.command >= since_command:
                self._forget_wish(request)
                touched[request.resource] = None
        return [granted for resource in touched for granted in self._advance(resource)]

    def weaken(
        self,
        transaction_id: TransactionId,
        mode: LockMode,
        resource: Resource,
        command: int,
        to: LockMode | None = None,
    ) -> list[LockRequest]:
        """Holds the mode that a command took only as `to`, or not at all; those who are granted
        because of it. What other commands took stays."""
        taken = self._held.get(transaction_id, {}).get(resource, [])
        if (command, mode) not in taken:
            return []
        kept = [one for one in taken if one != (command, mode)]
        self._keep(transaction_id, resource, kept if to is None else [*kept, (command, to)])
        return self._advance(resource)

    def _forget_wish(self, request: LockRequest) -> None:
        self._queues[request.resource].waiting.remove(request)
        self._drop_wish(request)

    def _drop_wish(self, request: LockRequest) -> None:
        wishes = self._wishes[request.transaction_id]
        wishes.remove(request)
        if not wishes:
            del self._wishes[request.transaction_id]

    def restore(
        self,
        exclusive: Iterable[TransactionId],
        rows: Iterable[tuple[TransactionId, Sequence[tuple[Resource, LockMode]]]],
    ) -> None:
        """The locks as a new leader finds them: those of what is prepared."""
        for found in (self._queues, self._held, self._wishes):
            found.clear()
        every = [(t, [(TABLET, LockMode.EXCLUSIVE)]) for t in exclusive]
        every += [(t, [(TABLET, LockMode.ROW_EXCLUSIVE), *locked]) for t, locked in rows]
        for transaction_id, wanted in every:
            for resource, mode in wanted:
                # They held them at once under the leader before: nothing to ask.
                request = LockRequest(0, transaction_id, resource, mode, 0)
                self._grant(self._queues.setdefault(resource, _Queue()), request)

    def _give_up(
        self, transaction_id: TransactionId, since_command: int | None
    ) -> dict[Resource, None]:
        held = self._held.get(transaction_id, {})
        touched: dict[Resource, None] = {}
        for resource, taken in list(held.items()):
            kept = [] if since_command is None else [t for t in taken if t[0] < since_command]
            if len(kept) == len(taken):
                continue
            touched[resource] = None
            self._keep(transaction_id, resource, kept)
        return touched

    def _keep(
        self, transaction_id: TransactionId, resource: Resource, kept: list[tuple[int, LockMode]]
    ) -> None:
        held, queue = self._held[transaction_id], self._queues[resource]
        if kept:
            held[resource] = kept
            queue.holders[transaction_id] = _mask({mode for _, mode in kept})
            return
        del held[resource], queue.holders[transaction_id]
        if not held:
            del self._held[transaction_id]

    def _advance(self, resource: Resource) -> list[LockRequest]:
        queue = self._queues.get(resource)
        if queue is None:
            return []
        granted = []
        place = 0
        while place < len(queue.waiting):
            if any(True for _ in _blockers(queue, place)):
                place += 1
                continue
            request = queue.waiting.pop(place)
            self._drop_wish(request)
            self._grant(queue, request)
            granted.append(request)
        if not queue.holders and not queue.waiting:
            del self._queues[resource]
        return granted

    def _grant(self, queue: _Queue, request: LockRequest) -> None:
        request.granted = True
        transaction_id = request.transaction_id
        queue.holders[transaction_id] = queue.holders.get(transaction_id, 0) | request.mode.bit
        held = self._held.setdefault(transaction_id, {})
        held.setdefault(request.resource, []).append((request.command, request.mode))


@cache
def _covers(held: int, mode: LockMode) -> bool:
    """Whether modes held keep away everybody that the mode would."""
    if held & mode.bit:
        return True
    kept_away = 0
    for other, bit in _BITS.items():
        if held & bit:
            kept_away |= CONFLICTS[other]
    return bool(held) and not CONFLICTS[mode] & ~kept_away


def _blockers(queue: _Queue, place: int) -> Iterator[TransactionId]:
    """Whom the request at that place waits for: holders, and conflicting ones before it."""
    request = queue.waiting[place]
    conflicts = CONFLICTS[request.mode]
    for holder, modes in queue.holders.items():
        if holder != request.transaction_id and modes & conflicts:
            yield holder
    for earlier in queue.waiting[:place]:
        if earlier.transaction_id != request.transaction_id and earlier.mode.bit & conflicts:
            yield earlier.transaction_id
