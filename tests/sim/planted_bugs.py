"""Bugs that a simulation must find, each planted by a patch, and where it is looked for.

Those of consensus alone are planted in the simulation of the Raft core (`tests/raft`), which
runs thousands of elections a second; those that need a log, a store or a client in the one of
whole clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from catalog.model import Catalog
from catalog.sequence_service import SequenceService
from catalog.service import CatalogService
from cluster.disk import DiskFile
from cluster.raft import election, replication, state
from cluster.raft.group import RaftGroup
from cluster.raft.snapshot_data import FileSnapshot
from executor import ddl
from executor.session_transaction import StatementChanges
from storage import wal_format, wal_recovery
from storage.lock_driver import RowsLocked
from storage.replica import TabletReplica
from storage.tablet_changes import TabletChanges
from storage.wal import WriteAheadLog

Patch = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Planted:
    """A bug and the world and workload in which whole clusters meet it."""

    plant: Patch
    world: str
    workload: str
    minutes: float = 0.3
    nodes: int = 3
    # Seeds that take long to see it are left to the long tests.
    is_rare: bool = False


def forgotten_fsync(patch: pytest.MonkeyPatch) -> None:
    """The log says that a batch is durable as soon as it is written."""

    def write(self: WriteAheadLog, file: DiskFile, offset: int, record: bytes) -> float:
        file.write(offset, record)
        return 0.0

    patch.setattr(WriteAheadLog, "_write_and_sync", write)


def torn_tail_accepted(patch: pytest.MonkeyPatch) -> None:
    """A record at the log's end is taken without looking at its checksum."""
    original = wal_recovery.decode_record

    def decode(*arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            stored: list[int] = []
            real = wal_format._RECORD

            class Trusting:
                size = real.size

                @staticmethod
                def unpack_from(data: memoryview, at: int) -> tuple[int, ...]:
                    stored[:] = [real.unpack_from(data, at)[1]]
                    return real.unpack_from(data, at)

            inner.setattr(wal_format, "_RECORD", Trusting)
            inner.setattr(wal_format, "_checksum", lambda *_: stored[0])
            return original(*arguments)

    patch.setattr(wal_recovery, "decode_record", decode)


def stale_lease_read(patch: pytest.MonkeyPatch) -> None:
    """A leader that believes in its lease for as long as it has not heard otherwise."""
    patch.setattr(election, "check_quorum", lambda raft: None)

    def holds(raft: state.RaftState) -> bool:
        return raft.role is state.Role.LEADER and raft.released_own_entry()

    patch.setattr(state.RaftState, "holds_lease", holds)


def acknowledged_before_a_quorum(patch: pytest.MonkeyPatch) -> None:
    """A leader takes as committed what it holds alone."""

    def agree(raft: state.RaftState, value: Callable[[int], float]) -> float:
        return max(value(voter) for voter in raft.configuration.voters)

    original = replication.advance_commit

    def advance(raft: state.RaftState) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(state.RaftState, "voters_agree_on", agree)
            original(raft)

    patch.setattr(replication, "advance_commit", advance)


def compacted_past_the_store(patch: pytest.MonkeyPatch) -> None:
    """The log is cut to what the stores have applied, not to what they hold durably."""
    original = RaftGroup.compact_log

    def compact(self: RaftGroup, *arguments: int) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(type(self._machine), "durable_index", type(self._machine).applied_index)
            original(self, *arguments)

    patch.setattr(RaftGroup, "compact_log", compact)


def snapshot_without_applied_index(patch: pytest.MonkeyPatch) -> None:
    """A snapshot's rows are of a later moment than the index it names."""
    original = TabletReplica.open_snapshot

    async def snapshot(self: TabletReplica) -> tuple[int, FileSnapshot]:
        index = self.applied_index
        await self._runtime.sleep(0.2)
        _, data = await original(self)
        return index, data

    patch.setattr(TabletReplica, "open_snapshot", snapshot)


def catalog_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    """A statement is planned with the catalog that its node happens to have (rule T3), and who
    defines something does not see to it that all nodes have heard of it."""

    async def wait_version(self: CatalogService, *arguments: Any, **named: Any) -> Catalog:
        return self.current

    async def ensure_everywhere(self: CatalogService, *arguments: Any, **named: Any) -> None:
        return

    patch.setattr(CatalogService, "wait_version", wait_version)
    patch.setattr(CatalogService, "ensure_everywhere", ensure_everywhere)


def older_versions_changed(patch: pytest.MonkeyPatch) -> None:
    """A statement at READ COMMITTED changes rows as it found them, not as they are (rule I2)."""
    original = StatementChanges.lock_rows

    async def lock_rows(self: StatementChanges, *arguments: Any, **named: Any) -> RowsLocked:
        found = await original(self, *arguments, **named)
        return RowsLocked((), found.skipped, found.as_of)

    patch.setattr(StatementChanges, "lock_rows", lock_rows)


def definitions_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    """Rows made for a table as it was go into the table as it is now (rule S1)."""
    patch.setattr(TabletChanges, "_refuse_gone", lambda self, draft: None)


def tables_defined_unlocked(patch: pytest.MonkeyPatch) -> None:
    """A definition does not keep out those who write to its table (rule S1)."""

    async def lock(*arguments: Any) -> bool:
        return True

    patch.setattr(ddl, "_lock", lock)


def numbers_not_logged(patch: pytest.MonkeyPatch) -> None:
    """A sequence's numbers are handed out from memory, with no range in the log (rule S4)."""

    async def log(self: SequenceService, *arguments: Any) -> None:
        return

    patch.setattr(SequenceService, "_log", log)


CLUSTER_BUGS: Sequence[Planted] = (
    Planted(forgotten_fsync, "power cuts", "sets"),
    Planted(torn_tail_accepted, "torn tails", "sets", is_rare=True),
    Planted(stale_lease_read, "cut off", "registers", nodes=5, is_rare=True),
    Planted(acknowledged_before_a_quorum, "cut off", "sets", is_rare=True),
    Planted(compacted_past_the_store, "power cuts", "sets"),
    Planted(snapshot_without_applied_index, "left behind", "counters", is_rare=True),
    Planted(catalog_not_waited_for, "cut off", "definitions", is_rare=True),
    Planted(older_versions_changed, "left behind", "transfers", is_rare=True),
    Planted(definitions_not_looked_at, "left behind", "definitions", is_rare=True),
    Planted(tables_defined_unlocked, "left behind", "definitions", is_rare=True),
    Planted(numbers_not_logged, "left behind", "numbers", is_rare=True),
)
