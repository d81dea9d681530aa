"""Plain stand-ins for what surrounds a tablet: a Raft group of one, an oracle, other tablets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from cluster.errors import CannotConnectNow, StatementCompletionUnknown
from cluster.raft.errors import not_leader
from cluster.raft.log import Entry, EntryKind
from cluster.runtime import ProductionRuntime, Runtime
from storage import types
from storage.deadlocks import WaitEdge
from storage.drafts import encode_with_changes
from storage.duckdb_node import DuckDbLimits, DuckDbNode
from storage.entries import Ingest
from storage.fragments import (
    AccessMethod,
    FragmentChange,
    FragmentId,
    FragmentSchema,
    StoreColumn,
    TabletId,
    Timestamp,
    TransactionId,
    UniqueKey,
)
from storage.opening import open_stores, rows_path
from storage.participant import Outcome
from storage.row_side import RowSide
from storage.snapshot import open_views, relation_sql
from storage.staging import MemoryBudget, Staging
from storage.tablet import Tablet

T = TypeVar("T")

SMALL = DuckDbLimits(memory_bytes=512 << 20, threads=1)


class MemoryGroup:
    """A Raft group of one replica whose log is a list that outlives it.

    `lose_answer` makes the next proposal be logged and applied, but not answered.
    """

    def __init__(self, machine: Any, log: list[Entry], node_id: int = 1) -> None:
        self._machine = machine
        self.log = log
        self.node_id = node_id
        self.term = log[-1].term + 1 if log else 1
        self._serving = False
        self._callbacks: list[tuple[Callable[[int], None], Callable[[], None]]] = []
        self._turn = asyncio.Lock()
        self.lose_answer = False
        self.refuse: Callable[[bytes], bool] = lambda _: False
        self.compacted_to = 0
        self.told = self.hastened_to = 0
        # Asks for the lease up to this one are answered no.
        self.lease_asked = self.lease_lost_until = 0

    @property
    def is_leader(self) -> bool:
        return self._serving

    @property
    def leader_id(self) -> int | None:
        return self.node_id if self._serving else None

    def on_leadership(self, started: Callable[[int], None], stopped: Callable[[], None]) -> None:
        self._callbacks.append((started, stopped))
        if self._serving:
            started(self.term)

    async def start(self) -> None:
        """Replays the log, opens a term with an entry of its own, and serves."""
        first = self._machine.durable_index + 1
        replayed = [entry for entry in self.log if entry.index >= first]
        if replayed:
            await self._machine.apply(replayed)
        await self._append(EntryKind.NOOP, b"")
        self._serving = True
        for started, _ in self._callbacks:
            started(self.term)

    def stop(self) -> None:
        self._serving = False
        for _, stopped in self._callbacks:
            stopped()

    async def propose(self, data: bytes, *, deadline_s: float) -> object:
        if not self._serving:
            raise not_leader(0, self.node_id, None)
        if self.refuse(data):
            raise CannotConnectNow("refused by the test")
        lost, self.lose_answer = self.lose_answer, False
        result = await self._append(EntryKind.COMMAND, data)
        if lost:
            raise StatementCompletionUnknown("lost by the test")
        if isinstance(result, Exception):
            raise result
        return result

    async def read_barrier(self, *, deadline_s: float) -> int:
        if not self._serving:
            raise not_leader(0, self.node_id, None)
        return len(self.log)

    def lease_valid(self) -> bool:
        self.lease_asked += 1
        return self._serving and self.lease_asked > self.lease_lost_until

    def compact_log(self) -> None:
        self.compacted_to = self._machine.durable_index

    def out_of_step(self) -> None:
        return None

    def tell_commit(self) -> None:
        self.told += 1

    def hasten(self, index: int) -> None:
        self.hastened_to = index

    async def _append(self, kind: EntryKind, data: bytes) -> object:
        entry = Entry(self.term, len(self.log) + 1, kind, data)
        self.log.append(entry)
        async with self._turn:
            return (await self._machine.apply([entry]))[0]


class Oracle:
    """Timestamps in order."""

    def __init__(self) -> None:
        self.last: Timestamp = 100

    def now(self) -> Timestamp:
        self.last += 1
        return self.last

    async def draw(self) -> Timestamp:
        return self.now()


class LocalPeers:
    """Other tablets of the same process; `down` ones do not answer."""

    def __init__(self) -> None:
        self.tablets: dict[TabletId, Tablet] = {}
        self.down: set[TabletId] = set()

    def _find(self, tablet_id: TabletId) -> Tablet:
        if tablet_id in self.down or tablet_id not in self.tablets:
            raise CannotConnectNow(f"tablet {tablet_id} is down")
        return self.tablets[tablet_id]

    async def ask_home(self, tablet_id: TabletId, transaction_id: TransactionId) -> Outcome | None:
        return await self._find(tablet_id).status(transaction_id)

    async def tell_commits(
        self, tablet_id: TabletId, commits: Sequence[tuple[TransactionId, Timestamp]]
    ) -> Sequence[TransactionId]:
        return await self._find(tablet_id).commit_all(commits)

    async def ask_read_index(
        self, tablet_id: TabletId, timestamp: Timestamp, deadline_s: float
    ) -> int:
        return await self._find(tablet_id).read_index(timestamp, deadline_s)

    async def wait_edges(self) -> list[WaitEdge]:
        return [edge for tablet in self.tablets.values() for edge in tablet.wait_edges()]

    async def ask_own_changes(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        fragment_ids: Sequence[FragmentId],
        command: int,
    ) -> bytes:
        changes = await self._find(tablet_id).own_changes(transaction_id, fragment_ids, command)
        return encode_with_changes(lambda headers: Ingest(transaction_id, 0, 0, headers), changes)


class SkippingRuntime(ProductionRuntime):
    """A real runtime whose clock can be put forward."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.skipped_s


def run(main: Callable[[SkippingRuntime], Coroutine[Any, Any, T]]) -> T:
    """Runs a test's coroutine with a real runtime; a failed background task fails the test."""

    async def guarded() -> T:
        runtime = SkippingRuntime()
        try:
            result = await asyncio.wait_for(main(runtime), 60)
        finally:
            await runtime.close()
        assert not runtime.failures, list(runtime.failures)
        return result

    return asyncio.run(guarded())


METHODS = [AccessMethod.COLUMNAR, AccessMethod.HYBRID, AccessMethod.ROW]


class Defaults:
    """What `fragment` makes; a test that runs for every method sets it."""

    method = AccessMethod.COLUMNAR


def fragment(
    fragment_id: int = 12, *, unique: bool = True, columns: tuple[StoreColumn, ...] | None = None
) -> FragmentSchema:
    """`t (id bigint primary key, v text)` as a fragment stores it."""
    columns = columns or (
        StoreColumn("c1", types.INT8, "id"),
        StoreColumn("c2", types.TEXT, "v"),
    )
    keys = (UniqueKey("t_pkey", ("c1",)),) if unique else ()
    return FragmentSchema(fragment_id, columns, ("c1",), keys, "t", Defaults.method)


def rows(*pairs: tuple[int, str | None]) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "c1": pa.array([p[0] for p in pairs], pa.int64()),
            "c2": pa.array([p[1] for p in pairs], pa.string()),
        }
    )


def keys(*ids: int) -> pa.RecordBatch:
    return pa.record_batch({"c1": pa.array(ids, pa.int64())})


def insert(*pairs: tuple[int, str | None], fragment_id: int = 12) -> FragmentChange:
    return FragmentChange(fragment_id, insert_rows=rows(*pairs))


def delete(*ids: int, fragment_id: int = 12) -> FragmentChange:
    return FragmentChange(fragment_id, delete_keys=keys(*ids))


def update(*pairs: tuple[int, str | None], fragment_id: int = 12) -> FragmentChange:
    return FragmentChange(fragment_id, keys(*(p[0] for p in pairs)), rows(*pairs))


Row = tuple[int, str | None]


class Twin:
    """What a store is to hold, a row at a time: (begin, end or None, row)."""

    def __init__(self) -> None:
        self.versions: list[tuple[Timestamp, Timestamp | None, Row]] = []

    def commit(self, timestamp: Timestamp, changes: list[FragmentChange]) -> None:
        for change in changes:
            if change.truncate:
                self._end(timestamp, None)
            if change.delete_keys is not None:
                self._end(timestamp, change.delete_keys.column("c1").to_pylist())
            if change.insert_rows is not None:
                for row in change.insert_rows.to_pylist():
                    self.versions.append((timestamp, None, (row["c1"], row["c2"])))

    def _end(self, timestamp: Timestamp, ids: list[int] | None) -> None:
        ended = []
        for begin, end, row in self.versions:
            if end is None and (ids is None or row[0] in ids):
                end = timestamp
            if end is None or begin < end:
                ended.append((begin, end, row))
        self.versions = ended

    def at(self, timestamp: Timestamp) -> list[Row]:
        visible = [
            row
            for begin, end, row in self.versions
            if begin <= timestamp and (end is None or timestamp < end)
        ]
        return sorted(visible, key=repr)


class Bench:
    """Tablets on one DuckDB instance in a directory, each with its own log in memory.

    `crash` forgets everything but the files as of their last checkpoint, and the logs.
    """

    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self.runtime = runtime
        self.directory = directory
        self.oracle = Oracle()
        self.peers = LocalPeers()
        self.logs: dict[TabletId, list[Entry]] = {}
        self.groups: dict[TabletId, MemoryGroup] = {}
        self.duckdb = DuckDbNode(directory / "spill", SMALL)
        self.budget = MemoryBudget()
        self._transactions = 0

    def begin(self) -> TransactionId:
        self._transactions += 1
        return self._transactions

    async def open(
        self, tablet_id: TabletId = 7, *fragments: FragmentSchema, alter: bool = True
    ) -> Tablet:
        """Opens the tablet; a new one gets its fragments."""
        log = self.logs.setdefault(tablet_id, [])
        path = self._path(tablet_id)
        store, row_store = open_stores(self.duckdb, tablet_id, path)
        rows = RowSide(self.runtime, tablet_id, rows_path(path), row_store)
        staging = Staging(self.directory / f"staging-{tablet_id}", self.budget)
        tablet = Tablet(self.runtime, store, staging, 1, lambda: self.peers, rows)
        group = MemoryGroup(tablet, log)
        self.groups[tablet_id] = group
        self.peers.tablets[tablet_id] = tablet
        is_new = not log
        await group.start()
        tablet.attach(group)
        if is_new and alter:
            await tablet.alter(fragments or (fragment(),), 1)
        return tablet

    async def crash(self) -> None:
        """Kills the node: files go back to what their last checkpoint wrote."""
        saved = {t: self._path(t).read_bytes() for t in self.groups}
        for tablet_id in list(self.groups):
            self.groups[tablet_id].stop()
            await self.peers.tablets[tablet_id].close()
        self.duckdb.close()
        for tablet_id, data in saved.items():
            self._path(tablet_id).write_bytes(data)
        self.groups.clear()
        self.peers.tablets.clear()
        self.duckdb = DuckDbNode(self.directory / "spill", SMALL)

    async def write(self, tablet: Tablet, *changes: FragmentChange) -> Timestamp:
        """One transaction on one tablet."""
        transaction_id = self.begin()
        for change in changes:
            await tablet.stage(transaction_id, change)
        return await tablet.write(transaction_id, self.oracle.now(), self.oracle.draw)

    async def read(
        self, tablet: Tablet, timestamp: Timestamp | None = None, fragment_id: int = 12
    ) -> list[tuple[Any, ...]]:
        """The rows at the timestamp (now, if none), sorted."""
        at = self.oracle.now() if timestamp is None else timestamp
        tables = await tablet.prepare_read([fragment_id], at, 10.0)
        reads = {(tablet.tablet_id, fragment_id): tables[fragment_id]}
        cursor, views = open_views(self.duckdb, reads, at)
        with cursor:
            view = views[tablet.tablet_id, fragment_id]
            names = tables[fragment_id].schema.names
            found = cursor.execute(f"SELECT * FROM {relation_sql(view, names, at)}").fetchall()
        return sorted(found, key=repr)

    async def settle(self, runtime: SkippingRuntime) -> None:
        """Lets time pass until every tablet has ended its doubts."""
        for _ in range(20):
            runtime.skipped_s += 20.0
            for tablet in self.peers.tablets.values():
                tablet.tick()
            await self.quiet()
            await asyncio.sleep(0.001)

    async def quiet(self) -> None:
        """Until nobody asks or tells anybody."""
        while any(tablet._doubts.settling for tablet in self.peers.tablets.values()):
            await asyncio.sleep(0.001)

    async def close(self) -> None:
        for tablet_id in list(self.groups):
            self.groups[tablet_id].stop()
            await self.peers.tablets[tablet_id].close()
        self.duckdb.close()

    def _path(self, tablet_id: TabletId) -> Path:
        return self.directory / f"{tablet_id}.duckdb"
