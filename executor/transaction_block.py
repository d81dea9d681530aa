"""BEGIN to COMMIT as the client sees it: status, savepoint names, what is told about it.

Until transactions over tablets arrive every statement commits by itself; the block is kept so
that clients which open one work, and they are told that it does not bind its statements
together. A statement that fails puts the block into `E`, and then only its end is accepted
(25P02), as in PostgreSQL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cluster.errors import (
    InFailedSqlTransaction,
    InvalidSavepointSpecification,
    NoActiveSqlTransaction,
    ReadOnlySqlTransaction,
)

NOT_ATOMIC = "statements of this transaction take effect one by one, not at its COMMIT"
NOT_ATOMIC_HINT = "Transactions over several statements are not supported yet."
NOT_UNDONE = "changes made by this transaction's statements stay"


class Status(StrEnum):
    """As ReadyForQuery reports it."""

    IDLE = "I"
    ACTIVE = "T"
    FAILED = "E"


@dataclass(frozen=True, slots=True)
class _Savepoint:
    name: str
    wrote: bool


@dataclass(slots=True)
class TransactionBlock:
    """One session's block, open or not."""

    status: Status = Status.IDLE
    started: datetime | None = None
    # Whether a statement since the start, or the last savepoint gone back to, changed anything.
    wrote: bool = False
    _savepoints: list[_Savepoint] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.status is not Status.IDLE

    def begin(self, now: datetime) -> None:
        self.status = Status.ACTIVE
        self.started = now

    def end(self) -> None:
        self.status = Status.IDLE
        self.started = None
        self.wrote = False
        self._savepoints.clear()

    def fail(self) -> None:
        """A statement failed; outside a block that changes nothing."""
        if self.open:
            self.status = Status.FAILED

    def check_usable(self) -> None:
        """Raises 25P02 where only the block's end is accepted."""
        if self.status is Status.FAILED:
            raise InFailedSqlTransaction(
                "current transaction is aborted, commands ignored until end of transaction block"
            )

    def check_open(self, command: str) -> None:
        if not self.open:
            raise NoActiveSqlTransaction(f"{command} can only be used in transaction blocks")

    @staticmethod
    def check_may_write(command: str, *, read_only: bool) -> None:
        if read_only:
            raise ReadOnlySqlTransaction(f"cannot execute {command} in a read-only transaction")

    # -- savepoints ---------------------------------------------------------------------

    def save(self, name: str) -> None:
        self._savepoints.append(_Savepoint(name, self.wrote))

    def release(self, name: str) -> None:
        """Forgets the savepoint and those after it."""
        del self._savepoints[self._find(name) :]

    def go_back(self, name: str) -> bool:
        """The block goes on from the savepoint; true where changes since then stay."""
        index = self._find(name)
        stays = self.wrote and not self._savepoints[index].wrote
        del self._savepoints[index + 1 :]
        self.status = Status.ACTIVE
        return stays

    def _find(self, name: str) -> int:
        for index in reversed(range(len(self._savepoints))):
            if self._savepoints[index].name == name:
                return index
        raise InvalidSavepointSpecification(f'savepoint "{name}" does not exist')
