"""The faces around a transaction: what it stands on, and what a statement sees of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from catalog.model import Table
from catalog.tablet_requests import ChangeRows, RowsChanged
from cluster.errors import DqeError
from storage.fragments import (
    FragmentChange,
    FragmentId,
    OwnChanges,
    TabletId,
    Timestamp,
    TransactionId,
)
from storage.index_reads import IndexScan
from storage.lock_driver import RowsLocked
from storage.locks import LockMode
from storage.open_checks import Deferred
from storage.read_sets import ReadSet
from storage.row_tables import StoredKey, StoredRow


class TabletAccess(Protocol):
    """Tablets wherever they are led; the methods are those of `storage.tablet.Tablet`."""

    async def lock(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        mode: str,
        deadline_s: float,
        command: int = 0,
        wait: bool = True,
        base: Timestamp | None = None,
    ) -> Timestamp: ...

    async def lock_rows(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        fragment_id: FragmentId,
        keys: pa.RecordBatch,
        mode: str,
        base: Timestamp,
        command: int,
        policy: str,
        deadline_s: float,
    ) -> RowsLocked: ...

    async def stage(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        change: FragmentChange,
        deadline_s: float,
        command: int = 0,
        number: int = 0,
    ) -> None: ...

    async def take_back(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        command: int,
        deadline_s: float,
        number: int = 0,
    ) -> None: ...

    async def change_rows(self, request: ChangeRows) -> RowsChanged: ...

    async def write_rows(self, request: ChangeRows) -> RowsChanged: ...

    async def begin_again(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        number: int,
        deadline_s: float,
    ) -> None: ...

    async def has_come_along(
        self, tablet_id: TabletId, transaction_id: TransactionId, deadline_s: float
    ) -> None: ...

    def is_async(self, tablet_id: TabletId) -> bool: ...

    def is_led_on(self, tablet_id: TabletId, transaction_id: TransactionId) -> bool: ...

    async def check(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        base: Timestamp,
        command: int,
        deadline_s: float,
        locks: bool = True,
        anew: bool = False,
        deferred: Sequence[Deferred] = (),
    ) -> Sequence[Deferred]: ...

    async def write(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        floor: Timestamp,
        deadline_s: float,
        participants: Sequence[TabletId] = (),
    ) -> Timestamp: ...

    async def prepare(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        floor: Timestamp,
        home_tablet: TabletId,
        deadline_s: float,
        validates: bool = False,
    ) -> None: ...

    async def precommit(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        commit_ts: Timestamp,
        deadline_s: float,
    ) -> None: ...

    async def mark_home(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        floor: Timestamp,
        deadline_s: float,
        validates: bool = False,
    ) -> None: ...

    async def validate(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        reads: ReadSet,
        base: Timestamp,
        commit_ts: Timestamp,
        deadline_s: float,
    ) -> None: ...

    async def hold(
        self, tablet_id: TabletId, transaction_id: TransactionId, deadline_s: float
    ) -> None: ...

    async def decide(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        commit_ts: Timestamp,
        participants: Sequence[TabletId],
        deadline_s: float,
    ) -> Timestamp: ...

    def announce(
        self, transaction_id: TransactionId, commit_ts: Timestamp, tablets: Sequence[TabletId]
    ) -> None: ...

    async def abort(
        self, tablet_id: TabletId, transaction_id: TransactionId, deadline_s: float
    ) -> None: ...

    async def commit_status(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        settles: bool,
        deadline_s: float,
    ) -> str: ...

    async def scan_stored(
        self,
        tablet_id: TabletId,
        fragment_id: FragmentId,
        scan: IndexScan,
        timestamp: Timestamp | None = None,
        own: OwnChanges | None = None,
    ) -> Sequence[StoredRow] | None: ...

    async def read_stored(
        self,
        tablet_id: TabletId,
        fragment_id: FragmentId,
        keys: tuple[StoredKey, ...],
        timestamp: Timestamp | None = None,
        own: OwnChanges | None = None,
    ) -> Sequence[StoredRow | None]: ...


class CatalogHome(Protocol):
    """The catalog as a transaction's home, where it defines something (rule S1)."""

    async def mark(self) -> None:
        """It is registered as running, for participants in doubt."""
        ...

    async def decide(self, participants: Sequence[TabletId]) -> Timestamp:
        """Commits it, at a timestamp drawn behind every mark."""
        ...

    async def everywhere(self) -> None:
        """Once it is decided: returns when every live node has what it defines."""
        ...


class TimestampSource(Protocol):
    async def commit_timestamp(self, deadline_s: float = ...) -> Timestamp: ...


class Changes(Protocol):
    """What a statement changes rows with: a transaction of its own, or its part of one."""

    @property
    def id(self) -> TransactionId: ...

    async def lock(
        self, tablets: Iterable[TabletId], mode: str = ..., *, wait: bool = ...
    ) -> None: ...

    async def lock_rows(
        self,
        tablet_id: TabletId,
        fragment_id: FragmentId,
        keys: pa.RecordBatch,
        mode: LockMode,
        base: Timestamp,
        policy: str = ...,
        *,
        binding: bool = ...,
    ) -> RowsLocked: ...

    def writes_deferrable(self, table: Table) -> None:
        """Rows come into a table with unique constraints that may be checked later."""
        ...

    async def stage(self, tablet_id: TabletId, change: FragmentChange) -> None: ...

    async def drain(self) -> None: ...

    async def commit(self, floor: Timestamp, *, checks: bool) -> Timestamp: ...

    async def abort(self, error: DqeError | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Control:
    """How a transaction commits over several tablets, and keeps others away from its rows."""

    three_phase: bool = False
    optimistic: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Control:
        """By a session's settings."""
        return cls(
            settings.get("dqe.commit_protocol") == "three-phase",
            settings.get("dqe.concurrency_control") == "optimistic",
        )
