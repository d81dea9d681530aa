"""The lock of a tablet: shared or exclusive, first come first served.

A statement that updates or deletes, and a transaction whose keys must stay unique while they
are checked, locks the whole tablet until its outcome (row locks come with the row store).
Readers take no lock; snapshots serve them.

Invariants: an exclusive holder is alone; a request waits behind every earlier one it conflicts
with, so nobody starves; a holder that asks for more than it has goes to the front, because
those behind it could not run before it ends anyway. Pure: no clock, no futures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from storage.fragments import TransactionId


class LockMode(StrEnum):
    SHARED = "shared"
    EXCLUSIVE = "exclusive"


@dataclass(frozen=True, slots=True)
class _Request:
    transaction_id: TransactionId
    mode: LockMode


class TabletLock:
    """Who holds the lock and who waits for it."""

    def __init__(self) -> None:
        self._holders: dict[TransactionId, LockMode] = {}
        self._waiting: list[_Request] = []

    def mode(self, transaction_id: TransactionId) -> LockMode | None:
        """What the transaction holds."""
        return self._holders.get(transaction_id)

    @property
    def waiting(self) -> tuple[TransactionId, ...]:
        """Who waits, first served first."""
        return tuple(request.transaction_id for request in self._waiting)

    def request(self, transaction_id: TransactionId, mode: LockMode) -> bool:
        """Asks for the lock: True when it is held now, False when the request waits."""
        held = self._holders.get(transaction_id)
        if held is LockMode.EXCLUSIVE or held is mode:
            return True
        if any(request.transaction_id == transaction_id for request in self._waiting):
            return False  # asked again while waiting
        request = _Request(transaction_id, mode)
        if held is not None:
            self._waiting.insert(0, request)
        else:
            self._waiting.append(request)
        return transaction_id in self._grant()

    def release(self, transaction_id: TransactionId) -> list[TransactionId]:
        """Gives up what the transaction holds or waits for; who holds the lock because of it."""
        self._holders.pop(transaction_id, None)
        self._waiting = [r for r in self._waiting if r.transaction_id != transaction_id]
        return self._grant()

    def restore(self, holders: Iterable[TransactionId]) -> None:
        """The lock as a new leader finds it: held exclusively by what is prepared."""
        self._holders = dict.fromkeys(holders, LockMode.EXCLUSIVE)
        self._waiting = []
        assert len(self._holders) <= 1, "two prepared transactions hold one exclusive lock"

    def _grant(self) -> list[TransactionId]:
        granted = []
        while self._waiting and self._compatible(self._waiting[0]):
            request = self._waiting.pop(0)
            self._holders[request.transaction_id] = request.mode
            granted.append(request.transaction_id)
        return granted

    def _compatible(self, request: _Request) -> bool:
        others = [mode for t, mode in self._holders.items() if t != request.transaction_id]
        if request.mode is LockMode.EXCLUSIVE:
            return not others
        return LockMode.EXCLUSIVE not in others
