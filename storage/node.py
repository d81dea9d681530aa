"""All that one node keeps: its data directory, log, DuckDB instance and tablets.

    DIR/identity.json, lock        whose it is, and that it is in use (storage.identity)
    DIR/wal/                       the one log (storage.wal)
    DIR/tablets/<id>.duckdb        the columnar store of a tablet, a cache of the log
    DIR/tablets/<id>.rows          its row store, where a fragment needs one; also -wal, -shm
    DIR/tablets/<id>.damaged       what did not open; <id>.rows-damaged for the row store's
    DIR/staging/<id>/              changes without outcome; emptied at a start
    DIR/spill/                     DuckDB's temporary files; emptied at a start
    DIR/state/                     small states kept whole (`kept_file`)

One task looks after the tablets about every second: leases, transactions in doubt, snapshots
that are too old, history that may go, and checkpoints, one tablet at a time. A checkpoint is due
when enough log waits for it, when a change is older than `CHECKPOINT_AGE_S`, or when the log could
let a segment go but for that tablet.

`open` finds the stores; the floors above open the tablets they know of, each with its Raft
group: `tablet = await storage.open_tablet(id)`, `group = await host.open_group(id, tablet,
...)`, `tablet.attach(group)`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb

from cluster.disk import Disk
from cluster.errors import CannotConnectNow, DataCorrupted, DqeError
from cluster.raft.log import tablet_of
from cluster.runtime import Runtime
from storage.columnar_apply import FragmentTables
from storage.damage import Suspects, damaged_store
from storage.deadlocks import WaitEdge
from storage.duckdb_node import DuckDbLimits, DuckDbNode, Setup
from storage.fragments import (
    FragmentChange,
    FragmentId,
    FragmentSize,
    OwnChanges,
    TabletId,
    Timestamp,
    TransactionId,
)
from storage.identity import DataDirectory, Identity
from storage.kept_file import KeptFile
from storage.opening import damaged_path, open_stores, rows_path, set_aside
from storage.participant import Outcome
from storage.row_files import remove_files
from storage.row_side import RowSide
from storage.snapshot import (
    FragmentView,
    Read,
    StoreSnapshot,
    close_views,
    fragment_gone,
    open_views,
    register_changes,
)
from storage.staging import MemoryBudget, Staging
from storage.surroundings import Peers
from storage.tablet import Tablet
from storage.tablet_leader import DEADLINE_S
from storage.wal import WalSettings, WriteAheadLog, stop_process

logger = logging.getLogger(__name__)

TICK_S = 1.0
# The files of a tablet that hold its rows.
_STORE_SUFFIXES = ("duckdb", "rows", "rows-wal")
CHECKPOINT_BYTES = 64 * 1024 * 1024
CHECKPOINT_AGE_S = 60.0
# Of history that may go, a tablet looks at so many rows at once, the node's tablets together at
# so many times that each second.
PRUNE_ROWS = 50_000
PRUNE_STEPS = 20
# A stage that reads one snapshot for longer is ended (rule L4).
MAX_SNAPSHOT_AGE_S = 3600.0


@dataclass(frozen=True, slots=True)
class TabletSize:
    """What a replica occupies: its files, and how its fragments share them."""

    tablet_id: TabletId
    file_bytes: int
    fragments: tuple[FragmentSize, ...]


class _NoPeers:
    """Before the upper floors are there, nobody else can be asked."""

    async def ask_home(self, tablet_id: TabletId, transaction_id: TransactionId) -> Outcome | None:
        raise _nobody(tablet_id)

    async def tell_commits(
        self, tablet_id: TabletId, commits: Sequence[tuple[TransactionId, Timestamp]]
    ) -> Sequence[TransactionId]:
        raise _nobody(tablet_id)

    async def ask_read_index(
        self, tablet_id: TabletId, timestamp: Timestamp, deadline_s: float
    ) -> int:
        raise _nobody(tablet_id)

    async def wait_edges(self) -> Sequence[WaitEdge]:
        return []

    async def ask_own_changes(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        fragment_ids: Sequence[FragmentId],
        command: int,
    ) -> bytes:
        raise _nobody(tablet_id)


def _has_coordinator(transaction_id: TransactionId, spoken_for_s: float) -> bool:
    return False


def _nobody(tablet_id: TabletId) -> CannotConnectNow:
    return CannotConnectNow(f"the leader of tablet {tablet_id} cannot be reached yet")


def _log_damage(tablet_id: TabletId, error: DqeError) -> None:
    logger.error("tablet %s: %s (%s)", tablet_id, error.message, error.detail)


def _no_setup(_: object) -> None:
    return None


class NodeStorage:
    """See the module. Made by `open`."""

    def __init__(
        self,
        runtime: Runtime,
        directory: DataDirectory,
        duckdb: DuckDbNode,
        log: WriteAheadLog,
    ) -> None:
        self._runtime = runtime
        self._directory = directory
        self._tablets: dict[TabletId, Tablet] = {}
        self._checkpointed_s: dict[TabletId, float] = {}
        self._snapshots: dict[StoreSnapshot, float] = {}
        self._staging_budget = MemoryBudget()
        self._fenced: dict[TabletId, DqeError] = {}
        self._suspects = Suspects()
        # Called with a tablet whose file was found damaged while it was open.
        self.on_damage: Callable[[TabletId, DqeError], None] = _log_damage
        self._keeper: asyncio.Task[None] | None = None
        self.duckdb = duckdb
        self.log = log
        # Set by the upper floors: whether the coordinator of a transaction, which last spoke for
        # it then, is gone.
        self.is_orphan: Callable[[TransactionId, float], bool] = _has_coordinator
        # Set by the upper floors before any tablet needs another one.
        self.peers: Peers = _NoPeers()

    @classmethod
    async def open(
        cls,
        runtime: Runtime,
        directory: Path,
        *,
        limits: DuckDbLimits | None = None,
        setup: Setup = _no_setup,
        on_log_failure: Callable[[BaseException], None] = stop_process,
        log_disk: Disk | None = None,
        log_settings: WalSettings | None = None,
        make_duckdb: Callable[[Path, DuckDbLimits | None, Setup], DuckDbNode] = DuckDbNode,
    ) -> NodeStorage:
        """Takes the data directory and opens log and DuckDB. 55000 for a directory in use, of
        another version or not ours; XX001 for a damaged log.

        The last three are for a simulation, which has a disk and stores of its own.
        """
        held = DataDirectory.open(directory)
        try:
            log = await WriteAheadLog.open(
                directory / "wal",
                runtime,
                log_disk,
                settings=log_settings,
                on_failure=on_log_failure,
            )
            held.expect_log(log.log_id)
            duckdb = make_duckdb(directory / "spill", limits, setup)
        except BaseException:
            held.close()
            raise
        for name in ("tablets", "state"):
            (directory / name).mkdir(exist_ok=True)
        shutil.rmtree(directory / "staging", ignore_errors=True)
        storage = cls(runtime, held, duckdb, log)
        storage._keeper = runtime.spawn(storage._keep(), "storage keeper")
        return storage

    async def close(self) -> None:
        """Makes what is applied durable, closes everything and gives the directory back.

        The Raft host is closed before. After a crash nothing of this is needed.
        """
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        for tablet in list(self._tablets.values()):
            if tablet.has_unsaved:
                await self._checkpoint(tablet)
            await tablet.close()
        self._tablets.clear()
        for snapshot in list(self._snapshots):
            snapshot.close()
        self.duckdb.close()
        await self.log.close()
        self._directory.close()

    def abandon(self) -> None:
        """The node is gone without a word, but its process is not (in a simulation): gives
        back the one thing that the operating system would have."""
        self._directory.close()

    # Identity.

    @property
    def path(self) -> Path:
        """The data directory."""
        return self._directory.path

    @property
    def identity(self) -> Identity:
        """Which node of which cluster; cluster_id is empty until it was set."""
        return self._directory.identity

    def set_identity(self, cluster_id: str, node_id: int) -> None:
        """Writes down which node this is; 55000 when it is another already."""
        self._directory.set_identity(cluster_id, node_id, self.log.log_id)

    def expect_cluster(self, cluster_id: str) -> None:
        """55000 for a data directory of another cluster."""
        self._directory.expect_cluster(cluster_id)

    def kept_file(self, name: str) -> KeptFile:
        """A small state kept whole under that name."""
        return KeptFile(self._runtime, self.path / "state" / name)

    # Tablets.

    @property
    def tablets(self) -> Mapping[TabletId, Tablet]:
        """The open tablets."""
        return self._tablets

    def tablet(self, tablet_id: TabletId) -> Tablet:
        """An open tablet; 57P03 when it is not here, XX001 when it is fenced."""
        if tablet_id in self._fenced:
            raise self._fenced[tablet_id]
        tablet = self._tablets.get(tablet_id)
        if tablet is None:
            raise CannotConnectNow(f"tablet {tablet_id} is not on this node")
        return tablet

    def stored_tablets(self) -> list[TabletId]:
        """The tablets whose files are here, open or not, ascending."""
        return sorted(int(p.stem) for p in (self.path / "tablets").glob("*.duckdb"))

    async def open_tablet(self, tablet_id: TabletId) -> Tablet:
        """Opens the replica's stores, or new ones.

        A file that does not open is set aside. Its store is built from the other one, or both
        begin anew: the log brings them up, or says that it cannot (rule L3; then
        `fence_tablet`).
        """
        if tablet_id in self._tablets:
            return self._tablets[tablet_id]
        path = self._store_path(tablet_id)
        opened = await self._runtime.run_blocking(open_stores, self.duckdb, tablet_id, path)
        columnar, row_store = opened
        rows = RowSide(self._runtime, tablet_id, rows_path(path), row_store)
        staging = Staging(self.path / "staging" / str(tablet_id), self._staging_budget)
        node_id = self.identity.node_id
        tablet = Tablet(self._runtime, columnar, staging, node_id, lambda: self.peers, rows)
        tablet.on_damage(lambda: self._suspects.note([tablet_id]))
        self._fenced.pop(tablet_id, None)
        self._tablets[tablet_id] = tablet
        self._checkpointed_s[tablet_id] = self._runtime.monotonic()
        return tablet

    @property
    def fenced(self) -> Mapping[TabletId, DqeError]:
        """The replicas that serve nothing, and what whoever asks for them is told."""
        return self._fenced

    async def reopen_tablet(self, tablet_id: TabletId) -> Tablet:
        """Closes the replica, if it is open, and opens it as after a crash."""
        tablet = self._tablets.pop(tablet_id, None)
        if tablet is not None:
            await tablet.close()
        return await self.open_tablet(tablet_id)

    async def set_aside(self, tablet_id: TabletId, reason: str) -> None:
        """Closes a replica that must not be read, for `open_tablet` to begin anew from the log
        or from another replica. The files are kept beside until then."""
        node_id = self.identity.node_id
        self._fenced[tablet_id] = CannotConnectNow(
            f"tablet {tablet_id} is being rebuilt on node {node_id}", detail=reason
        )
        tablet = self._tablets.pop(tablet_id, None)
        self._checkpointed_s.pop(tablet_id, None)
        if tablet is not None:
            await tablet.close()
        for path in self._store_paths(tablet_id):
            set_aside(path)
        shutil.rmtree(self.path / "staging" / str(tablet_id), ignore_errors=True)

    async def fence_tablet(self, tablet_id: TabletId, error: DqeError) -> None:
        """Closes a replica that cannot be served; whoever asks for it gets the error."""
        logger.error("tablet %s is fenced: %s", tablet_id, error.message)
        self._fenced[tablet_id] = DataCorrupted(
            f"tablet {tablet_id} cannot be read on node {self.identity.node_id}",
            detail=f"{error.message}." + (f" {error.detail}" if error.detail else ""),
            hint=f'Restore "{self._store_path(tablet_id)}" from a copy, or drop the table.',
        )
        paths = self._store_paths(tablet_id)
        if any(damaged_path(path).exists() for path in paths):
            await self._close_for_good(tablet_id)
            for path in paths:
                if damaged_path(path).exists():
                    damaged_path(path).replace(path)
        elif (tablet := self._tablets.pop(tablet_id, None)) is not None:
            await tablet.close()

    async def drop_tablet(self, tablet_id: TabletId) -> None:
        """Removes the replica's files, open or not; its Raft group is dropped before."""
        self._fenced.pop(tablet_id, None)
        await self._close_for_good(tablet_id)
        for path in self._store_paths(tablet_id):
            damaged_path(path).unlink(missing_ok=True)

    async def _close_for_good(self, tablet_id: TabletId) -> None:
        tablet = self._tablets.pop(tablet_id, None)
        self._checkpointed_s.pop(tablet_id, None)
        if tablet is not None:
            await tablet.drop()
        else:
            self._store_path(tablet_id).unlink(missing_ok=True)
            remove_files(rows_path(self._store_path(tablet_id)))
        shutil.rmtree(self.path / "staging" / str(tablet_id), ignore_errors=True)

    def tablet_bytes(self) -> dict[int, int]:
        """The size of every open tablet's files; of the columnar one as of its checkpoint.

        One pass over the directory: asked of a thousand tablets every few seconds.
        """
        sizes = dict.fromkeys(sorted(self._tablets), 0)
        with os.scandir(self.path / "tablets") as entries:
            for entry in entries:
                stem, _, suffix = entry.name.partition(".")
                if suffix in _STORE_SUFFIXES and stem.isdigit() and int(stem) in sizes:
                    with suppress(FileNotFoundError):
                        sizes[int(stem)] += entry.stat().st_size
        return sizes

    async def sizes(self) -> list[TabletSize]:
        """What every open tablet occupies, by tablet id."""
        sizes = []
        for tablet_id, file_bytes in self.tablet_bytes().items():
            fragments = await self._tablets[tablet_id].sizes()
            sizes.append(TabletSize(tablet_id, file_bytes, tuple(fragments)))
        return sizes

    def _store_path(self, tablet_id: TabletId) -> Path:
        return self.path / "tablets" / f"{tablet_id}.duckdb"

    def _store_paths(self, tablet_id: TabletId) -> tuple[Path, Path]:
        path = self._store_path(tablet_id)
        return path, rows_path(path)

    # Reading.

    async def open_snapshot(
        self,
        reads: Sequence[Read],
        timestamp: Timestamp,
        deadline_s: float = DEADLINE_S,
        own: OwnChanges | None = None,
        latest: Timestamp | None = None,
    ) -> StoreSnapshot:
        """Opens fragments for reading at one timestamp (rule R1); close it after use.

        `own` names the transaction that reads: it sees its own changes too. With `latest` the
        rows up to this later timestamp may be asked for as well.

        57P03 when a tablet is not here or its leader does not answer in time, 55000 for a
        fragment that is gone, 72000 for a timestamp below the horizon.
        """
        wanted: dict[TabletId, list[FragmentId]] = {}
        for tablet_id, fragment_id in reads:
            wanted.setdefault(tablet_id, []).append(fragment_id)
        # All are looked up before any is read: one may have gone from here.
        here = [(self.tablet(tablet_id), found) for tablet_id, found in wanted.items()]
        prepared = await asyncio.gather(
            *(tablet.answer_read(found, latest or timestamp, deadline_s) for tablet, found in here)
        )
        tables: dict[Read, FragmentTables] = {}
        for (tablet_id, fragments), (_, found) in zip(wanted.items(), prepared, strict=True):
            for fragment_id in fragments:
                if fragment_id not in found:
                    raise fragment_gone(tablet_id, fragment_id)
                tables[tablet_id, fragment_id] = found[fragment_id]
        changes = await self._own_changes(wanted, own) if own is not None else {}
        try:
            cursor, views = await self._opened(tables, timestamp)
        except DataCorrupted as error:
            self._suspects.note(wanted)
            raise damaged_store(", ".join(map(str, wanted)), error) from error
        own_rows = {}
        if changes:
            try:
                register = partial(register_changes, cursor, tables, changes)
                own_rows = await self._runtime.run_blocking(register)
            except BaseException:
                cursor.close()
                close_views(views)
                raise
        snapshot = StoreSnapshot(
            cursor, views, timestamp, self._forget_snapshot, own_rows, self._suspects.note
        )
        snapshot.answered = [answered for answered, _ in prepared]
        self._snapshots[snapshot] = self._runtime.monotonic()
        return snapshot

    async def _opened(
        self, tables: Mapping[Read, FragmentTables], timestamp: Timestamp
    ) -> tuple[duckdb.DuckDBPyConnection, dict[Read, FragmentView]]:
        """`open_views`; what reads nothing gets a connection without waiting for a thread."""
        if not tables:
            return self.duckdb.cursor(), {}
        return await self._runtime.run_blocking(open_views, self.duckdb, tables, timestamp)

    async def _own_changes(
        self, wanted: Mapping[TabletId, Sequence[FragmentId]], own: OwnChanges
    ) -> dict[TabletId, list[FragmentChange]]:
        """What the transaction did to the fragments, of those tablets that it has written."""
        written = [t for t in wanted if t in own.tablets]
        found = await asyncio.gather(*(self.tablet(t).read_own(own, wanted[t]) for t in written))
        return {t: changes for t, changes in zip(written, found, strict=True) if changes}

    def _forget_snapshot(self, snapshot: StoreSnapshot) -> None:
        self._snapshots.pop(snapshot, None)

    # Keeping.

    async def _keep(self) -> None:
        while True:
            await self._runtime.sleep(TICK_S)
            for tablet in list(self._tablets.values()):
                tablet.tick()
                tablet.forget_orphans(self.is_orphan)
            self.expire_snapshots(MAX_SNAPSHOT_AGE_S)
            await self._examine_suspects()
            await self._prune()
            await self.checkpoint_due()

    async def _examine_suspects(self) -> None:
        """Reads the files that a statement met damage in, or in one of which it did."""
        for tablet_id in self._suspects.take():
            tablet = self._tablets.get(tablet_id)
            if tablet is None:
                continue
            try:
                await tablet.scan()
            except DataCorrupted as error:
                self.on_damage(tablet_id, error)
            except DqeError as error:
                logger.error("tablet %s could not be examined: %s", tablet_id, error)

    async def _prune(self) -> None:
        """Deletes history below the horizons, some of it at each look."""
        steps = PRUNE_STEPS
        for tablet_id, tablet in list(self._tablets.items()):
            if tablet_id not in self._tablets:
                continue  # dropped while another had its turn
            try:
                while steps and await tablet.prune(PRUNE_ROWS):
                    steps -= 1
            except DqeError as error:
                # It stays, below what anybody may read; the next look tries again.
                logger.error("history of tablet %s stays: %s", tablet_id, error.message)

    def expire_snapshots(self, older_than_s: float) -> None:
        """Ends the reading of snapshots that were opened longer ago."""
        now = self._runtime.monotonic()
        for snapshot, opened_s in list(self._snapshots.items()):
            if now - opened_s > older_than_s:
                snapshot.expire()

    async def checkpoint_due(self) -> None:
        """Checkpoints the tablets whose time has come."""
        now = self._runtime.monotonic()
        holding = [tablet_of(group_id) for group_id in self.log.holding_groups()]
        for tablet_id, tablet in list(self._tablets.items()):
            if tablet_id not in self._checkpointed_s:
                continue  # dropped while another had its turn
            if not tablet.has_unsaved:
                if tablet_id in holding:
                    tablet.compact_log()
                continue
            old = now - self._checkpointed_s[tablet_id] > CHECKPOINT_AGE_S
            if old or tablet_id in holding or tablet.unsaved_bytes > CHECKPOINT_BYTES:
                await self._checkpoint(tablet)

    async def _checkpoint(self, tablet: Tablet) -> None:
        try:
            await tablet.checkpoint()
        except DqeError as error:
            # The log keeps what the store could not; the next round tries again.
            logger.error("checkpoint of tablet %s failed: %s", tablet.tablet_id, error.message)
        if tablet.tablet_id in self._checkpointed_s:
            self._checkpointed_s[tablet.tablet_id] = self._runtime.monotonic()
