"""The row store of one tablet: a SQLite file that caches what the log says, for work by key.

Where the columnar store takes changes thousands at a time, this one takes each entry as it is
applied, on the node's loop, in some tens of microseconds; and a read by key is a few
microseconds on the same loop, without a thread. Tables and encodings: `row_tables`,
`row_values`.

    RowKeyReads      rows by key or along an index, at a timestamp     storage.row_key_reads
    RowStore         opening, changing, keeping                        here
      RowFragments   which fragments the file has, and their tables    storage.row_fragments
      row_meta       how far they are, and the participant's image     storage.row_meta

The file is in WAL mode with `synchronous=NORMAL`: a commit is a write to the operating system
and nothing more. It writes each page that was touched, 4 KiB for a few bytes of a row, so entries
are taken in by a transaction that stays open (`take_in`, until `settle`): a page that many of
them change is written once, and so is how far the tables are, which is kept in the same
transaction as the rows. The connection that writes sees it all; others see it settled. A killed
process loses what was not settled, a power cut the newest commits, too, and what is left is a
prefix of them (tests/storage/test_row_crashes.py); the log has the rest. What is *durable* is what
`checkpoint` has synced; the participant's image of that moment lies in the file too, as in the
columnar one.

Reading at S (rule R1). What `max_commit_ts` and `horizon` tell a reader is announced here, in
memory, *before* the transaction that makes it true begins, so it is never behind the tables.

Invariants:
- `position.applied_index` names the last entry whose effects are in the tables, all of them;
- one caller at a time changes the store, on whichever thread; reads by key come on the loop, on
  a connection of their own while another thread writes, else on the one that does;
- nothing is unsettled while a thread is at the store;
- where one that stayed open is lost (a full disk), reads on the loop fail until the store is again
  where it has been: what was answered is not unsaid.

Left out: vacuuming; a file keeps its length and reuses its pages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import apsw

from cluster.errors import DataCorrupted, IoError
from storage.fragments import FragmentId, FragmentSize, TabletId, Timestamp
from storage.operations import (
    AlterOperation,
    Batches,
    CommitOperation,
    FragmentSource,
    Operation,
    StorePosition,
)
from storage.row_apply import apply_change
from storage.row_files import (
    PAGE_BYTES,
    WAL_BYTES,
    connect,
    remove_files,
    sync_path,
    wal_path,
)
from storage.row_fragments import FragmentsState, RowFragments
from storage.row_key_reads import RowKeyReads
from storage.row_meta import create_meta, has_meta, read_meta, write_image, write_position
from storage.row_pruning import RowPruning
from storage.row_scan import RowScan
from storage.row_tables import RowTables

logger = logging.getLogger(__name__)

Connection: TypeAlias = Any  # apsw's module has no type for a connection that mypy finds


@dataclass(frozen=True, slots=True)
class _State:
    """What the store goes back to where a transaction is lost."""

    position: StorePosition
    fragments: FragmentsState


class RowStore(RowKeyReads):
    """Opens, changes, reads and checkpoints the file of one tablet."""

    def __init__(self, tablet_id: TabletId, path: Path) -> None:
        """Opens the file, or creates it. Raises DataCorrupted for one that does not open."""
        super().__init__()
        self.tablet_id = tablet_id
        self.path = path
        is_new = not path.exists()
        self._reading: Connection | None = None
        # Told by who changes the store: whether no thread is at it, so that the loop may read
        # by the connection that writes.
        self.is_idle: Callable[[], bool] = _is_not_known
        self._sync_failed = False
        self._wal_pages = 0
        self.position = StorePosition()
        # The transaction that stays open began here, None where there is none.
        self._settled: _State | None = None
        # A transaction stays open in which the loop reads; no other connection writes meanwhile.
        self._keeps_reading = False
        # How far reads have seen the store.
        self._shown_index = 0
        self._pruning = RowPruning()
        self.horizon: Timestamp = 0
        self.image_index = 0
        self.image = b""
        try:
            self._connection = connect(path)
            self._connection.set_wal_hook(self._committed)
            self._fragments = RowFragments(self._connection)
            if is_new or not has_meta(self._connection):
                with self._transaction():
                    create_meta(self._connection)
            self._load()
        except apsw.Error as error:
            raise DataCorrupted(
                f"could not open the row store of tablet {tablet_id}", detail=f"{path}: {error}"
            ) from error
        if is_new:
            sync_path(path.parent)

    def _load(self) -> None:
        found = read_meta(self._connection, self.tablet_id, self.path)
        self.position, self.image_index, self.image = found
        self.newest_ts, self.horizon = self.position.max_commit_ts, self.position.horizon
        self._fragments.load()
        self._readable = dict(self._fragments.tables)

    def _reader(self) -> Connection:
        is_idle = self.is_idle()
        # Only where no thread is at the connection it may be asked.
        if self.position.applied_index < self._shown_index or (is_idle and self._is_lost):
            raise IoError(
                f"the row store of tablet {self.tablet_id} could not keep what it took in"
            )
        # What was written by one connection another one has to read again.
        if is_idle:
            if self._settled is None and not self._keeps_reading:
                # Each statement would begin one of its own, which costs as much as it does.
                self._connection.execute("BEGIN")
                self._keeps_reading = True
            return self._connection
        if self._reading is None:
            self._reading = connect(self.path, read_only=True)
        return self._reading

    # Changing.

    def apply(self, operations: Sequence[Operation], applied_index: int) -> None:
        """Takes in the effects of the log up to `applied_index`, all in one transaction.

        After an error nothing has changed, and the same call may be made again.
        """
        self.settle()
        self._take_in(operations, applied_index)
        self.settle()

    def take_in(self, operations: Sequence[Operation], applied_index: int) -> None:
        """The same in the transaction that stays open until `settle`, which this begins where
        there is none. An error takes back all that came since then."""
        self._take_in(operations, applied_index)
        self._shown_index = max(self._shown_index, applied_index)

    def _take_in(self, operations: Sequence[Operation], applied_index: int) -> None:
        assert applied_index >= self.position.applied_index
        self._announce(operations)
        self._check_kept()
        if self._settled is None:
            # Anew: only what begins behind a whole `copy_back` may begin the log file anew.
            self._end_reading()
            self._connection.execute("BEGIN IMMEDIATE")
            self._settled = _State(self.position, self._fragments.state())
        try:
            self.position = self._apply_all(operations, applied_index)
        except BaseException:
            self._roll_back()
            raise

    def settle(self) -> None:
        """Ends the transaction that is open, if one is. An error takes back all that was in it."""
        self._end_reading()
        self._check_kept()
        before = self._settled
        if before is None:
            return
        try:
            write_position(self._connection, self.position)
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._settled = None
        if self._fragments.tables != before.fragments.tables:
            self._readable = dict(self._fragments.tables)

    def _end_reading(self) -> None:
        if self._keeps_reading:
            self._keeps_reading = False
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    @property
    def _is_lost(self) -> bool:
        """Whether SQLite has ended the open transaction by itself: it met a page that it could not
        read, in whatever statement."""
        return self._settled is not None and not self._connection.in_transaction

    def _check_kept(self) -> None:
        if self._is_lost:
            self._roll_back()
            raise apsw.IOError("the transaction that was open is lost")

    def _roll_back(self) -> None:
        before, self._settled = self._settled, None
        assert before is not None
        self.position = before.position
        self._fragments.restore(before.fragments)
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _announce(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            if isinstance(operation, CommitOperation):
                self.newest_ts = max(self.newest_ts, operation.timestamp)
            elif not isinstance(operation, AlterOperation):
                self.horizon = max(self.horizon, operation.horizon)
            else:
                self.newest_ts = max([self.newest_ts, *operation.newest()])

    def _apply_all(self, operations: Sequence[Operation], applied_index: int) -> StorePosition:
        now = self.position
        newest, version, horizon = now.max_commit_ts, now.schema_version, now.horizon
        for operation in operations:
            if isinstance(operation, CommitOperation):
                self._apply_commit(operation)
                newest = max(newest, operation.timestamp)
            elif isinstance(operation, AlterOperation):
                if self._fragments.alter(operation.schemas, operation.sources):
                    self._pruning = RowPruning()  # there is history that it has not seen
                newest = max([newest, *operation.newest()])
                version = operation.schema_version
            else:
                horizon = max(horizon, operation.horizon)
        return StorePosition(applied_index, newest, version, horizon)

    def _apply_commit(self, operation: CommitOperation) -> None:
        for change in operation.changes:
            tables = self._fragments.takes(change.fragment_id, operation.index)
            if tables is not None:
                apply_change(self._connection, tables, change, operation.timestamp)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.settle()
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    # Keeping.

    @property
    def prunable(self) -> bool:
        """Whether there may be history that ended by the horizon."""
        return self.position.horizon > self._pruning.done

    def prune(self, most_rows: int) -> None:
        """Deletes some of it, in a transaction of its own that looks at so many rows at most."""
        with self._transaction():
            self._pruning.step(
                self._connection, self._fragments.tables, self.position.horizon, most_rows
            )

    def checkpoint(self, image: bytes, image_index: int) -> None:
        """Makes all that was applied durable, together with the participant's image."""
        assert self.image_index <= image_index <= self.position.applied_index
        if self._sync_failed:
            raise IoError(f"the row store of tablet {self.tablet_id} could not be synced before")
        with self._transaction():
            write_image(self._connection, image, image_index)
        self._sync()
        self.image_index, self.image = image_index, image

    def _sync(self) -> None:
        # Every commit so far is in the log file or, from there, synced, in the main one.
        try:
            sync_path(wal_path(self.path))
        except OSError as error:
            # What the system has dropped once it will not write by being asked again.
            self._sync_failed = True
            raise IoError(f"could not sync the row store: {error}") from error

    def relieve(self) -> None:
        """Copies the log file back once it is long."""
        if self.wal_bytes > WAL_BYTES:
            self.copy_back()

    def copy_back(self) -> None:
        """Brings the log file's pages into the main file, as far as readers let it.

        For any thread, beside reads and changes. The next change begins the log file anew, if
        there was none meanwhile.
        """
        connection = connect(self.path)
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            connection.close()

    def verify(self) -> None:
        """Reads the whole file; raises DataCorrupted where it does not fit together."""
        connection = connect(self.path, read_only=True)
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchall()
        finally:
            connection.close()
        if found != [("ok",)]:
            raise DataCorrupted(
                f"the row store of tablet {self.tablet_id} is damaged", detail=str(found[0][0])
            )

    @property
    def wal_bytes(self) -> int:
        """How much of the log file the last change has filled."""
        return self._wal_pages * PAGE_BYTES

    def _committed(self, _connection: Connection, _database: str, pages: int) -> int:
        self._wal_pages = pages
        return 0

    @property
    def file_bytes(self) -> int:
        """The length of all files."""
        return self.path.stat().st_size + wal_path(self.path).stat().st_size

    def snapshot(self) -> RowScan:
        """A read transaction of its own, for any thread; close it after use. Blocks."""
        return RowScan(connect(self.path, read_only=True), self._readable)

    def source(self, fragment_id: FragmentId) -> FragmentSource:
        """The fragment as it is now, whatever is applied until it is read. Blocks."""
        scan = self.snapshot()
        position = scan.position

        def read_out() -> tuple[Batches, Batches]:
            return scan.rows(fragment_id), scan.past_rows(fragment_id)

        index, newest = position.applied_index, position.max_commit_ts
        return FragmentSource(index, newest, read_out, scan.close)

    def size(self) -> list[FragmentSize]:
        """What each fragment occupies."""
        connection = connect(self.path, read_only=True)
        try:
            return [_fragment_size(connection, tables) for tables in self._readable.values()]
        finally:
            connection.close()

    def close(self) -> None:
        """Closes the file; all that was applied is in it, unless there was no room for it."""
        try:
            self.settle()
        except apsw.Error as error:
            logger.error("row store of tablet %s: %s", self.tablet_id, error)
        if self._reading is not None:
            self._reading.close()
            self._reading = None
        self._connection.close()

    def drop(self) -> None:
        """Closes and removes the files."""
        self.close()
        remove_files(self.path)


def _is_not_known() -> bool:
    return False


def _fragment_size(connection: Connection, tables: RowTables) -> FragmentSize:
    counts = [
        connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
        for name in (tables.current, tables.history)
    ]
    names = [tables.current, tables.history, *map(tables.index_name, tables.indexed())]
    used = connection.execute(
        f"SELECT sum(pgsize) FROM dbstat WHERE aggregate = 1"
        f" AND name IN ({', '.join('?' * len(names))})",
        names,
    ).fetchall()
    rows, history_rows = counts
    return FragmentSize(tables.schema.fragment_id, rows, history_rows, used[0][0] or 0)
