"""The row store of one tablet: a SQLite file that caches what the log says, for work by key.

Where the columnar store takes changes thousands at a time, this one takes each entry as it is
applied, on the node's loop, in some tens of microseconds; and a read by key is a few
microseconds on the same loop, without a thread. Tables and encodings: `row_tables`,
`row_values`.

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
memory, *before* the transaction that makes it true begins, so it is never behind the tables: a
statement that finds `newest_ts <= S` meets no row later than S. One key needs no more than its
own row: a current row that began at or before S is the row at S; else the row at S, if there is
one, is in history already, since everything committed at or below S is applied (the caller has
waited for that), and only the horizon takes it away from there.

Invariants:
- `position.applied_index` names the last entry whose effects are in the tables, all of them;
- one caller at a time changes the store, on whichever thread; reads by key come on the loop, on
  a connection of their own while another thread writes, else on the one that does;
- nothing is unsettled while a thread is at the store;
- where one that stayed open is lost (a full disk), reads on the loop fail until the store is again
  where it has been: what was answered is not unsaid;
- a fragment filled from the columnar store holds everything up to an index of its own, and takes
  nothing from operations up to there.

Left out: vacuuming; a file keeps its length and reuses its pages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import apsw
import msgspec

from cluster.errors import DataCorrupted, IoError
from storage.fragments import (
    END_OF_TIME,
    FragmentId,
    FragmentSchema,
    FragmentSize,
    TabletId,
    Timestamp,
)
from storage.operations import (
    AlterOperation,
    Batches,
    CommitOperation,
    FragmentSource,
    Operation,
    StorePosition,
)
from storage.row_apply import apply_change, fill, fill_past
from storage.row_files import (
    PAGE_BYTES,
    WAL_BYTES,
    connect,
    remove_files,
    sync_path,
    wal_path,
)
from storage.row_pruning import RowPruning
from storage.row_scan import RowScan, begin_of, find, is_empty
from storage.row_tables import RowTables, StoredKey, StoredRow, quoted

logger = logging.getLogger(__name__)

_FORMAT = 1
Connection: TypeAlias = Any  # apsw's module has no type for a connection that mypy finds

_META_SQL = (
    "CREATE TABLE tablet (id INTEGER PRIMARY KEY, format INTEGER, applied_index INTEGER,"
    " max_commit_ts INTEGER, schema_version INTEGER, horizon INTEGER) STRICT",
    "CREATE TABLE fragment (fragment_id INTEGER PRIMARY KEY, definition BLOB,"
    " since_index INTEGER) STRICT",
    "CREATE TABLE image (id INTEGER PRIMARY KEY, image_index INTEGER, image BLOB) STRICT",
    f"INSERT INTO tablet VALUES (1, {_FORMAT}, 0, 0, 0, 0)",
    "INSERT INTO image VALUES (1, 0, x'')",
)


@dataclass(frozen=True, slots=True)
class _State:
    """What the store goes back to where a transaction is lost."""

    position: StorePosition
    tables: dict[FragmentId, RowTables]
    since: dict[FragmentId, int]


class RowStore:
    """Opens, changes, reads and checkpoints the file of one tablet."""

    def __init__(self, tablet_id: TabletId, path: Path) -> None:
        """Opens the file, or creates it. Raises DataCorrupted for one that does not open."""
        self.tablet_id = tablet_id
        self.path = path
        is_new = not path.exists()
        self._tables: dict[FragmentId, RowTables] = {}
        self._readable: dict[FragmentId, RowTables] = {}
        self._since: dict[FragmentId, int] = {}
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
        self.newest_ts: Timestamp = 0
        self.horizon: Timestamp = 0
        self.image_index = 0
        self.image = b""
        try:
            self._connection = connect(path)
            self._connection.set_wal_hook(self._committed)
            if is_new or not self._has_meta():
                self._create_meta()
            self._load_meta()
        except apsw.Error as error:
            raise DataCorrupted(
                f"could not open the row store of tablet {tablet_id}", detail=f"{path}: {error}"
            ) from error
        if is_new:
            sync_path(path.parent)

    @property
    def fragments(self) -> dict[FragmentId, FragmentSchema]:
        """The fragments in the file, by id."""
        return {fragment_id: tables.schema for fragment_id, tables in self._readable.items()}

    def tables(self, fragment_id: FragmentId) -> RowTables:
        """A fragment's tables; KeyError when the store has no such fragment."""
        return self._readable[fragment_id]

    def __contains__(self, fragment_id: FragmentId) -> bool:
        return fragment_id in self._readable

    # Reading by key, on the loop.

    def get(
        self, fragment_id: FragmentId, key: StoredKey, timestamp: Timestamp = END_OF_TIME
    ) -> StoredRow | None:
        """The row with that key at the timestamp, its `begin_ts` last; None where there is
        none. The caller has seen to it that the store has all it needs, and to the horizon."""
        tables = self._readable[fragment_id]
        execute = self._reader().execute
        found = execute(tables.get_sql, key).fetchall()
        if found and found[0][-1] <= timestamp:
            row: StoredRow = found[0]
            return row
        if self.newest_ts <= timestamp:
            return None
        past = execute(tables.get_past_sql, (*key, timestamp)).fetchall()
        return past[0] if past and past[0][-1] <= timestamp else None

    def get_many(
        self,
        fragment_id: FragmentId,
        keys: Sequence[StoredKey],
        timestamp: Timestamp = END_OF_TIME,
    ) -> list[StoredRow | None]:
        """`get` for each key."""
        return [self.get(fragment_id, key, timestamp) for key in keys]

    def scan(
        self,
        fragment_id: FragmentId,
        timestamp: Timestamp = END_OF_TIME,
        *,
        prefix: Sequence[Any] = (),
        low: tuple[Any, bool] | None = None,
        high: tuple[Any, bool] | None = None,
        index: Sequence[str] | None = None,
        descending: bool = False,
        limit: int | None = None,
        past: bool = True,
    ) -> list[StoredRow]:
        """Rows at the timestamp in the order of the key, or of `index`, a list of columns.

        `prefix` are stored values of the first of these columns, all equal; `low` and `high`
        bound the next one, each with whether the bound itself counts. Without `past` those that
        have ended since are left out.
        """
        tables = self._readable[fragment_id]
        columns = tuple(index) if index is not None else tables.schema.key
        earlier = self.newest_ts > timestamp
        where, parameters = _range(columns, prefix, low, high, first=2 if earlier else 1)
        if earlier:
            parameters = [timestamp, *parameters]
        order = ", ".join(quoted(c) + (" DESC" if descending else "") for c in columns)
        sql = tables.scan_sql(where, earlier=earlier, past=past)
        sql += f" ORDER BY {order}"
        if limit is not None:
            sql += f" LIMIT {limit}"
        rows: list[StoredRow] = self._reader().execute(sql, parameters).fetchall()
        return rows

    def find(
        self, fragment_id: FragmentId, columns: Sequence[str], values: Sequence[Any]
    ) -> list[StoredKey]:
        """Keys of current rows with these stored values in these columns, none of them NULL."""
        return find(self._reader(), self._readable[fragment_id], columns, values)

    def begin_of(self, fragment_id: FragmentId, key: StoredKey) -> Timestamp | None:
        """When the current row with that key began; None where there is none."""
        return begin_of(self._reader(), self._readable[fragment_id], key)

    def is_empty(self, fragment_id: FragmentId) -> bool:
        """Whether the fragment has no current row."""
        return is_empty(self._reader(), self._readable[fragment_id])

    def _reader(self) -> Connection:
        if self.position.applied_index < self._shown_index:
            raise IoError(
                f"the row store of tablet {self.tablet_id} could not keep what it took in"
            )
        # What was written by one connection another one has to read again.
        if self.is_idle():
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
        if self._settled is None:
            # Anew: only what begins behind a whole `copy_back` may begin the log file anew.
            self._end_reading()
            self._connection.execute("BEGIN IMMEDIATE")
            self._settled = _State(self.position, dict(self._tables), dict(self._since))
        try:
            self.position = self._apply_all(operations, applied_index)
        except BaseException:
            self._roll_back()
            raise

    def settle(self) -> None:
        """Ends the transaction that is open, if one is. An error takes back all that was in it."""
        self._end_reading()
        before = self._settled
        if before is None:
            return
        try:
            self._write_position(self.position)
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._settled = None
        if self._tables != before.tables:
            self._readable = dict(self._tables)

    def _end_reading(self) -> None:
        if self._keeps_reading:
            self._keeps_reading = False
            self._connection.execute("ROLLBACK")

    def _roll_back(self) -> None:
        before, self._settled = self._settled, None
        assert before is not None
        self.position, self._tables, self._since = before.position, before.tables, before.since
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
                self._alter(operation.schemas, operation.sources)
                newest = max([newest, *operation.newest()])
                version = operation.schema_version
            else:
                horizon = max(horizon, operation.horizon)
        return StorePosition(applied_index, newest, version, horizon)

    def _apply_commit(self, operation: CommitOperation) -> None:
        for change in operation.changes:
            tables = self._tables.get(change.fragment_id)
            if tables is None or operation.index <= self._since.get(change.fragment_id, -1):
                continue  # of the columnar store alone, dropped, or here already
            apply_change(self._connection, tables, change, operation.timestamp)

    def _write_position(self, position: StorePosition) -> None:
        self._connection.execute(
            "UPDATE tablet SET applied_index = ?, max_commit_ts = ?, schema_version = ?,"
            " horizon = ? WHERE id = 1",
            (
                position.applied_index,
                position.max_commit_ts,
                position.schema_version,
                position.horizon,
            ),
        )

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
            self._pruning.step(self._connection, self._tables, self.position.horizon, most_rows)

    def checkpoint(self, image: bytes, image_index: int) -> None:
        """Makes all that was applied durable, together with the participant's image."""
        assert self.image_index <= image_index <= self.position.applied_index
        if self._sync_failed:
            raise IoError(f"the row store of tablet {self.tablet_id} could not be synced before")
        with self._transaction():
            self._connection.execute(
                "UPDATE image SET image_index = ?, image = ? WHERE id = 1", (image_index, image)
            )
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

    # Definition.

    def _has_meta(self) -> bool:
        found = self._connection.execute(
            "SELECT 1 FROM sqlite_schema WHERE name = 'image'"
        ).fetchall()
        return bool(found)

    def _create_meta(self) -> None:
        with self._transaction():
            for statement in _META_SQL:
                self._connection.execute(statement)

    def _load_meta(self) -> None:
        execute = self._connection.execute
        tablet = execute("SELECT * FROM tablet").fetchall()
        image = execute("SELECT image_index, image FROM image").fetchall()
        if len(tablet) != 1 or len(image) != 1 or tablet[0][1] != _FORMAT:
            raise DataCorrupted(
                f"the row store of tablet {self.tablet_id} is damaged",
                detail=f"{self.path}: unexpected meta data {tablet!r}",
            )
        self.position = StorePosition(*tablet[0][2:])
        self.newest_ts, self.horizon = self.position.max_commit_ts, self.position.horizon
        self.image_index, self.image = image[0]
        for fragment_id, definition, since in execute("SELECT * FROM fragment").fetchall():
            schema = msgspec.json.decode(definition, type=FragmentSchema)
            self._tables[fragment_id] = RowTables(schema)
            if since is not None:
                self._since[fragment_id] = since
        self._readable = dict(self._tables)

    def _alter(
        self,
        schemas: Sequence[FragmentSchema],
        sources: Mapping[FragmentId, FragmentSource],
    ) -> None:
        wanted = {s.fragment_id: s for s in schemas if s.method.in_row_store}
        for fragment_id in [f for f in self._tables if f not in wanted]:
            self._drop_fragment(fragment_id)
        for fragment_id, schema in wanted.items():
            tables = self._tables.get(fragment_id)
            if tables is None:
                self._create_fragment(schema, sources.get(fragment_id))
            elif tables.schema != schema:
                self._change_fragment(tables, RowTables(schema))

    def _create_fragment(self, schema: FragmentSchema, source: FragmentSource | None) -> None:
        tables = RowTables(schema)
        for statement in tables.create_sql():
            self._connection.execute(statement)
        if source is not None:
            current, history = source.open()
            self._pruning = RowPruning()
            fill(self._connection, tables, current)
            fill_past(self._connection, tables, history)
            self._since[schema.fragment_id] = source.index
        # Behind the rows: an index is made faster than it is kept.
        for columns in tables.indexed():
            self._connection.execute(tables.index_sql(columns))
        self._write_definition(tables)

    def _drop_fragment(self, fragment_id: FragmentId) -> None:
        tables = self._tables.pop(fragment_id)
        self._since.pop(fragment_id, None)
        for statement in tables.drop_sql():
            self._connection.execute(statement)
        self._connection.execute("DELETE FROM fragment WHERE fragment_id = ?", (fragment_id,))

    def _change_fragment(self, old: RowTables, new: RowTables) -> None:
        """New labels, constraints and indexes only; new columns need a new fragment."""
        shapes = [[(c.name, c.type) for c in t.schema.columns] for t in (old, new)]
        assert shapes[0] == shapes[1], "the columns of a fragment do not change"
        assert old.schema.key == new.schema.key, "the key of a fragment does not change"
        for columns in old.indexed():
            if columns not in new.indexed():
                self._connection.execute(f"DROP INDEX {quoted(old.index_name(columns))}")
        for columns in new.indexed():
            if columns not in old.indexed():
                self._connection.execute(new.index_sql(columns))
        self._write_definition(new)

    def _write_definition(self, tables: RowTables) -> None:
        fragment_id = tables.schema.fragment_id
        self._tables[fragment_id] = tables
        self._connection.execute(
            "INSERT OR REPLACE INTO fragment VALUES (?, ?, ?)",
            (fragment_id, msgspec.json.encode(tables.schema), self._since.get(fragment_id)),
        )


def _is_not_known() -> bool:
    return False


def _range(
    columns: Sequence[str],
    prefix: Sequence[Any],
    low: tuple[Any, bool] | None,
    high: tuple[Any, bool] | None,
    first: int,
) -> tuple[str, list[Any]]:
    """A condition over the first columns, and its parameters, numbered from `first`."""
    compared = [(name, "=", value) for name, value in zip(columns, prefix, strict=False)]
    for bound, sign in ((low, ">"), (high, "<")):
        if bound is not None:
            value, is_included = bound
            compared.append((columns[len(prefix)], sign + "=" * is_included, value))
    conditions = [
        f"{quoted(name)} {sign} ?{number}" for number, (name, sign, _) in enumerate(compared, first)
    ]
    return " AND ".join(conditions), [value for _, _, value in compared]


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
