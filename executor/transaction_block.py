"""BEGIN to COMMIT as the client sees it: status, savepoints, and the transaction behind it.

A block is explicit (BEGIN) or implicit (several statements of one message); the client sees
only the explicit one in its status. A statement that fails ends an implicit block, and puts an
explicit one into `E`: then only its end, or going back to a savepoint, is accepted (25P02). What
it changed is taken back at once.
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
from executor.session_transaction import SessionTransaction


class Status(StrEnum):
    """As ReadyForQuery reports it."""

    IDLE = "I"
    ACTIVE = "T"
    FAILED = "E"


@dataclass(frozen=True, slots=True)
class _Savepoint:
    name: str
    command: int  # of the first statement behind it


@dataclass(slots=True)
class TransactionBlock:
    """One session's block, open or not."""

    status: Status = Status.IDLE
    started: datetime | None = None
    transaction: SessionTransaction | None = None
    _savepoints: list[_Savepoint] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Whether there is an explicit block."""
        return self.status is not Status.IDLE

    @property
    def begun(self) -> bool:
        """Whether there is a block, explicit or implicit."""
        return self.transaction is not None

    def begin(self, now: datetime, transaction: SessionTransaction) -> None:
        """BEGIN; in an implicit block it makes that one explicit."""
        self.status = Status.ACTIVE
        self.begin_implicit(now, transaction)

    def begin_implicit(self, now: datetime, transaction: SessionTransaction) -> None:
        """The statements to come are one transaction until `end`."""
        if self.transaction is None:
            self.started = now
            self.transaction = transaction

    def end(self) -> SessionTransaction | None:
        """The block is over; its transaction is the caller's to end."""
        transaction, self.transaction = self.transaction, None
        self.status = Status.IDLE
        self.started = None
        self._savepoints.clear()
        return transaction

    def fail(self) -> SessionTransaction | None:
        """A statement failed; the transaction where this ends an implicit block."""
        if not self.open:
            return self.end()
        assert self.transaction is not None
        if self.status is Status.ACTIVE:
            self.status = Status.FAILED
            self.transaction.fail(self._savepoints[-1].command if self._savepoints else None)
        return None

    def check_usable(self) -> None:
        """Raises 25P02 where only the block's end is accepted."""
        if self.status is Status.FAILED:
            raise InFailedSqlTransaction(
                "current transaction is aborted, commands ignored until end of transaction block"
            )

    def check_open(self, command: str) -> SessionTransaction:
        """The explicit block's transaction; 25P01 without one."""
        if not self.open or self.transaction is None:
            raise NoActiveSqlTransaction(f"{command} can only be used in transaction blocks")
        return self.transaction

    @staticmethod
    def check_may_write(command: str, *, read_only: bool) -> None:
        if read_only:
            raise ReadOnlySqlTransaction(f"cannot execute {command} in a read-only transaction")

    # -- savepoints ---------------------------------------------------------------------

    def save(self, name: str) -> None:
        assert self.transaction is not None
        self._savepoints.append(_Savepoint(name, self.transaction.command + 1))

    def release(self, name: str) -> None:
        """Forgets the savepoint and those after it; what they hold stays."""
        del self._savepoints[self._find(name) :]

    def go_back(self, name: str) -> int:
        """The block goes on from the savepoint; the command from which on all is undone."""
        assert self.transaction is not None
        index = self._find(name)
        command = self._savepoints[index].command
        # The savepoint stays, now in front of whatever comes next.
        del self._savepoints[index:]
        self._savepoints.append(_Savepoint(name, self.transaction.command + 1))
        self.status = Status.ACTIVE
        return command

    def _find(self, name: str) -> int:
        for index in reversed(range(len(self._savepoints))):
            if self._savepoints[index].name == name:
                return index
        raise InvalidSavepointSpecification(f'savepoint "{name}" does not exist')
