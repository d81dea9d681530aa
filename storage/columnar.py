"""The columnar store of one tablet: a DuckDB file that caches what the log says.

For each fragment there are two tables: the current rows with the commit timestamp that wrote
them, and the history, rows that ended, with begin and end. A read at S takes the current rows
as they are when nothing later than S was committed, else those with begin <= S, united with
the history rows of begin <= S < end (`storage.snapshot`). No primary key: keeping one makes a
batch of deletes fifteen times slower at a million rows; uniqueness is checked before
(`storage.uniqueness`).

Beside them the file keeps, always in the same transaction as the rows, how far it is: the log
index applied, the highest commit timestamp of the tablet and of each fragment, the schema
version and the prune horizon. The file survives a crash as of its last CHECKPOINT; the
participant's state of that moment lies in it as an opaque image with an index of its own.

Invariants:
- applied_index names the last log entry whose effects are in the tables, all of them;
- image_index <= applied_index, and both only grow;
- one thread at a time calls a store, except `size` and readers, who use cursors of their own.
- where the store is stands in the newest row of `tablet`; each batch appends one and a
  checkpoint removes the older ones. Never an UPDATE: while an old reader can still see the row
  before, DuckDB refuses the CHECKPOINT (measured on 2.0.0).

Left out: indexes; point work belongs to the row store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

from cluster.errors import DataCorrupted
from storage.columnar_apply import (
    BEGIN,
    END,
    FragmentTables,
    Step,
    StoreState,
    apply_steps,
    registered,
)
from storage.duckdb_node import BLOCK_SIZE_BYTES, DuckDbNode, quote_name
from storage.fragments import (
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
    HorizonOperation,
    Operation,
    StorePosition,
)
from storage.types import duckdb_type

_FORMAT = 2
# Rows that pass from store to store at a time.
SOURCE_BATCH_ROWS = 16_384


class ColumnarStore:
    """Opens, changes and checkpoints the file of one tablet."""

    def __init__(self, node: DuckDbNode, tablet_id: TabletId, path: Path) -> None:
        """Opens the file, or creates it. Raises DataCorrupted for one that does not open."""
        self.tablet_id = tablet_id
        self.database = f"t{tablet_id}"
        self._node = node
        self._path = path
        try:
            node.attach(self.database, path)
        except duckdb.Error as error:  # of many classes, for many kinds of damage
            raise DataCorrupted(
                f"could not open the store of tablet {tablet_id}", detail=f"{path}: {error}"
            ) from error
        self._cursor = node.store_cursor()
        self._pruned_to: Timestamp = 0  # history that ended by then is gone
        self._fragments: dict[FragmentId, FragmentSchema] = {}
        # What others may read: a new fragment from its commit on, a dropped one no longer.
        self._readable: dict[FragmentId, FragmentSchema] = {}
        self._recency: dict[FragmentId, Timestamp] = {}
        # Of fragments that came from the row store: they hold everything up to that index.
        self._since: dict[FragmentId, int] = {}
        self.position = StorePosition()
        self.image_index = 0
        self.image = b""
        self._state: StoreState | None = None
        try:
            if self._is_new():
                self._create_meta()
            else:
                self._load_meta()
        except BaseException:
            self.close()
            raise
        self._show_state()

    @property
    def fragments(self) -> dict[FragmentId, FragmentSchema]:
        """The fragments in the file, by id. Not to be changed."""
        return self._readable

    def tables(self, fragment_id: FragmentId) -> FragmentTables:
        """Where the rows of a fragment lie; KeyError when the store has no such fragment."""
        return FragmentTables(self.database, self._readable[fragment_id], state=self.state)

    def state(self) -> StoreState | None:
        """What the newest transaction says of the store; None while one is being committed.

        From any thread. A reader that finds the same object before and after it opened its
        transaction has the rows of that state before it.
        """
        return self._state

    def _show_state(self) -> None:
        position = self.position
        recency = dict(self._recency)
        self._state = StoreState(position.applied_index, position.horizon, recency)

    def _own_tables(self, fragment_id: FragmentId) -> FragmentTables:
        """The same inside the transaction that makes them."""
        return FragmentTables(self.database, self._fragments[fragment_id])

    def apply(self, operations: Sequence[Operation], applied_index: int) -> None:
        """Takes in the effects of the log up to `applied_index`, all in one transaction.

        After an error nothing has changed, and the same call may be made again.
        """
        assert applied_index >= self.position.applied_index
        before = dict(self._fragments), dict(self._recency), dict(self._since)
        try:
            with self._transaction():
                position = self._apply_all(operations, applied_index)
        except BaseException:
            self._fragments, self._recency, self._since = before
            self._readable = dict(before[0])
            self._show_state()
            raise
        self._readable = dict(self._fragments)
        self.position = position
        self._show_state()

    def checkpoint(self, image: bytes, image_index: int) -> None:
        """Makes all that was applied durable, together with the participant's image."""
        assert self.image_index <= image_index <= self.position.applied_index
        try:
            with self._transaction():
                self._execute(
                    "DELETE FROM {db}.tablet WHERE applied_index < ?",
                    [self.position.applied_index],
                )
                self._execute("DELETE FROM {db}.image")
                self._execute("INSERT INTO {db}.image VALUES (?, ?)", [image_index, image])
        finally:
            self._show_state()
        self._execute("CHECKPOINT {db}")
        self.image_index, self.image = image_index, image

    def relieve(self) -> None:
        """Nothing piles up but what `checkpoint` writes."""

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for reading beside the store's own. Close it after use."""
        return self._node.cursor()

    def source(self, fragment_id: FragmentId) -> FragmentSource:
        """The fragment as it is now, whatever is applied until it is read. Blocks."""
        tables = self.tables(fragment_id)
        cursor = self._node.cursor()
        cursor.execute("BEGIN")
        # The first statement that touches the file fixes what the transaction sees.
        cursor.execute(f"SELECT 1 FROM {tables.history} LIMIT 1").fetchall()
        newest = self._recency[fragment_id]
        read_out = partial(_read_out, cursor, tables)
        return FragmentSource(self.position.applied_index, newest, read_out, cursor.close)

    def recency(self, fragment_id: FragmentId) -> Timestamp:
        """The highest commit timestamp that touched the fragment."""
        return self._recency[fragment_id]

    def replace(
        self,
        schemas: Sequence[FragmentSchema],
        sources: Mapping[FragmentId, FragmentSource],
        position: StorePosition,
        image: bytes,
    ) -> None:
        """Throws away what is here for the fragments, rows and position of another store, with
        the participant's image of that moment; durably."""
        before = dict(self._fragments), dict(self._recency), dict(self._since)
        try:
            with self._transaction():
                self._alter([], {})
                self._alter(schemas, sources)
                self._execute("DELETE FROM {db}.tablet")
                self._write_position(position)
        except BaseException:
            self._fragments, self._recency, self._since = before
            self._readable = dict(before[0])
            self._show_state()
            raise
        self._readable = dict(self._fragments)
        self.position, self.image_index = position, 0
        self.checkpoint(image, position.applied_index)

    def size(self) -> list[FragmentSize]:
        """What each fragment occupies, as of the last checkpoint for the bytes."""
        with self._node.cursor() as cursor:
            return [_fragment_size(cursor, self.tables(f)) for f in list(self._readable)]

    @property
    def file_bytes(self) -> int:
        """The length of the file."""
        return self._path.stat().st_size

    def close(self) -> None:
        """Closes the file. What was not checkpointed may be lost; the log has it."""
        self._state = None
        self._cursor.close()
        self._node.detach(self.database)

    def drop(self) -> None:
        """Closes and removes the file."""
        self.close()
        self._path.unlink(missing_ok=True)

    # Meta tables.

    def _is_new(self) -> bool:
        rows = self._cursor.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE database_name = ?", [self.database]
        ).fetchall()
        return rows == [(0,)]

    def _create_meta(self) -> None:
        with self._transaction():
            self._execute(
                "CREATE TABLE {db}.tablet (format INTEGER, applied_index BIGINT,"
                " max_commit_ts BIGINT, schema_version BIGINT, horizon BIGINT, recency BLOB)"
            )
            self._execute("CREATE TABLE {db}.fragment (fragment_id BIGINT, definition BLOB)")
            self._execute("CREATE TABLE {db}.filled (fragment_id BIGINT, since_index BIGINT)")
            self._execute("CREATE TABLE {db}.image (image_index BIGINT, image BLOB)")
            self._execute("INSERT INTO {db}.image VALUES (0, ''::BLOB)")
            self._write_position(StorePosition())

    def _load_meta(self) -> None:
        try:
            tablet = self._execute(
                "SELECT * FROM {db}.tablet ORDER BY applied_index DESC LIMIT 1"
            ).fetchall()
            fragments = self._execute(
                "SELECT definition FROM {db}.fragment ORDER BY fragment_id"
            ).fetchall()
            image = self._execute("SELECT image_index, image FROM {db}.image").fetchall()
            filled = self._execute("SELECT fragment_id, since_index FROM {db}.filled").fetchall()
        except duckdb.Error as error:
            raise self._corrupt(str(error)) from error
        if len(tablet) != 1 or len(image) != 1 or tablet[0][0] != _FORMAT:
            raise self._corrupt(f"unexpected meta data {tablet!r}")
        self.position = StorePosition(*tablet[0][1:-1])
        self._recency = decode_recency(tablet[0][-1])
        self.image_index, self.image = image[0]
        self._since = dict(filled)
        schemas = [msgspec.json.decode(row[0], type=FragmentSchema) for row in fragments]
        self._fragments = {schema.fragment_id: schema for schema in schemas}
        self._readable = dict(self._fragments)

    def _corrupt(self, detail: str) -> DataCorrupted:
        return DataCorrupted(
            f"the store of tablet {self.tablet_id} is damaged", detail=f"{self._path}: {detail}"
        )

    def _write_position(self, position: StorePosition) -> None:
        if position.applied_index == self.position.applied_index:
            # A fragment came outside of the log (`storage.moves`); the newest row is one.
            index = position.applied_index
            self._execute("DELETE FROM {db}.tablet WHERE applied_index = ?", [index])
        self._execute(
            "INSERT INTO {db}.tablet VALUES (?, ?, ?, ?, ?, ?)",
            [
                _FORMAT,
                position.applied_index,
                position.max_commit_ts,
                position.schema_version,
                position.horizon,
                msgspec.msgpack.encode(self._recency),
            ],
        )

    def _execute(
        self, statement: str, parameters: Sequence[object] = ()
    ) -> duckdb.DuckDBPyConnection:
        text = statement.replace("{db}", quote_name(self.database))
        return self._cursor.execute(text, list(parameters))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._cursor.execute("BEGIN")
        try:
            yield
            self._state = None
            self._cursor.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        try:
            self._cursor.execute("ROLLBACK")
        except duckdb.TransactionException:
            # A COMMIT that failed has already ended the transaction.
            return

    # Applying.

    def _apply_all(self, operations: Sequence[Operation], applied_index: int) -> StorePosition:
        now = self.position
        newest, version = now.max_commit_ts, now.schema_version
        # Nobody reads below what the last of them says once this is committed.
        horizons = (o.horizon for o in operations if isinstance(o, HorizonOperation))
        horizon = max([now.horizon, *horizons])
        steps: dict[FragmentId, list[Step]] = {}
        for operation in operations:
            if isinstance(operation, CommitOperation):
                _collect_steps(steps, operation, self._since)
                newest = max(newest, operation.timestamp)
            elif isinstance(operation, AlterOperation):
                self._apply_steps(steps, horizon)
                steps = {}
                self._alter(operation.schemas, operation.sources)
                newest = max([newest, *operation.newest()])
                version = operation.schema_version
        self._apply_steps(steps, horizon)
        position = StorePosition(applied_index, newest, version, horizon)
        self._write_position(position)
        return position

    def _apply_steps(self, steps: dict[FragmentId, list[Step]], horizon: Timestamp) -> None:
        for fragment_id, fragment_steps in steps.items():
            if fragment_id not in self._fragments:
                continue  # dropped while the transaction was under way
            apply_steps(self._cursor, self._own_tables(fragment_id), fragment_steps, horizon)
            newest = max(step.timestamp for step in fragment_steps)
            self._recency[fragment_id] = max(self._recency[fragment_id], newest)

    @property
    def prunable(self) -> bool:
        """Whether there may be history that ended by the horizon."""
        return self.position.horizon > self._pruned_to

    def prune(self, most_rows: int) -> None:
        """Deletes so many rows of history at most, in a transaction of its own. What they took
        comes free at the next checkpoint."""
        horizon, left = self.position.horizon, most_rows
        try:
            with self._transaction():
                for fragment_id in self._fragments:
                    history = self._own_tables(fragment_id).history
                    deleted = self._cursor.execute(
                        f"DELETE FROM {history} WHERE rowid IN"
                        f" (SELECT rowid FROM {history} WHERE {END} <= {horizon} LIMIT {left})"
                    ).fetchall()
                    left -= deleted[0][0]
                    if not left:
                        return
        finally:
            self._show_state()
        self._pruned_to = horizon

    # Fragments.

    def _alter(
        self,
        schemas: Sequence[FragmentSchema],
        sources: Mapping[FragmentId, FragmentSource],
    ) -> None:
        wanted = {s.fragment_id: s for s in schemas if s.method.in_columnar_store}
        for fragment_id in [f for f in self._fragments if f not in wanted]:
            self._drop_fragment(fragment_id)
        for fragment_id, schema in wanted.items():
            if fragment_id not in self._fragments:
                self._create_fragment(schema)
                if fragment_id in sources:
                    self._fill_from(fragment_id, sources[fragment_id])
            elif self._fragments[fragment_id] != schema:
                self._change_fragment(self._fragments[fragment_id], schema)

    def _create_fragment(self, schema: FragmentSchema) -> None:
        tables = FragmentTables(self.database, schema)
        columns = ", ".join(f"{quote_name(c.name)} {duckdb_type(c.type)}" for c in schema.columns)
        self._cursor.execute(f"CREATE TABLE {tables.current} ({columns}, {BEGIN} BIGINT)")
        self._cursor.execute(
            f"CREATE TABLE {tables.history} ({columns}, {BEGIN} BIGINT, {END} BIGINT)"
        )
        self._recency[schema.fragment_id] = 0
        self._write_definition(schema)

    def _fill_from(self, fragment_id: FragmentId, source: FragmentSource) -> None:
        """Begins with the rows of another store, of a moment at or behind this one."""
        self._pruned_to = 0
        tables = self._own_tables(fragment_id)
        for name, batches in zip((tables.current, tables.history), source.open(), strict=True):
            first = next(batches, None)
            if first is None:
                continue
            reader = pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))
            with registered(self._cursor, "filled_rows", reader):
                self._cursor.execute(f"INSERT INTO {name} SELECT * FROM filled_rows")
        self._recency[fragment_id] = source.max_commit_ts
        self._since[fragment_id] = source.index
        self._execute("INSERT INTO {db}.filled VALUES (?, ?)", [fragment_id, source.index])

    def _drop_fragment(self, fragment_id: FragmentId) -> None:
        tables = self._own_tables(fragment_id)
        self._readable = {f: s for f, s in self._readable.items() if f != fragment_id}
        self._cursor.execute(f"DROP TABLE {tables.current}")
        self._cursor.execute(f"DROP TABLE {tables.history}")
        del self._recency[fragment_id]
        self._since.pop(fragment_id, None)
        for table in ("fragment", "filled"):
            self._execute(f"DELETE FROM {{db}}.{table} WHERE fragment_id = ?", [fragment_id])
        del self._fragments[fragment_id]

    def _change_fragment(self, old: FragmentSchema, new: FragmentSchema) -> None:
        """New labels and constraints only; new columns need a new fragment."""
        shapes = [[(c.name, c.type) for c in schema.columns] for schema in (old, new)]
        assert shapes[0] == shapes[1], "the columns of a fragment do not change"
        assert old.key == new.key, "the key of a fragment does not change"
        self._write_definition(new)

    def _write_definition(self, schema: FragmentSchema) -> None:
        self._execute("DELETE FROM {db}.fragment WHERE fragment_id = ?", [schema.fragment_id])
        definition = msgspec.json.encode(schema)
        self._execute("INSERT INTO {db}.fragment VALUES (?, ?)", [schema.fragment_id, definition])
        self._fragments[schema.fragment_id] = schema


def _read_out(cursor: duckdb.DuckDBPyConnection, tables: FragmentTables) -> tuple[Batches, Batches]:
    return _read(cursor, tables.current), _read(cursor, tables.history)


def _read(cursor: duckdb.DuckDBPyConnection, name: str) -> Batches:
    yield from cursor.sql(f"SELECT * FROM {name}").to_arrow_reader(SOURCE_BATCH_ROWS)


def decode_recency(data: bytes) -> dict[FragmentId, Timestamp]:
    """The highest commit timestamp of each fragment, as the `tablet` table keeps it."""
    return msgspec.msgpack.decode(data, type=dict[FragmentId, Timestamp])


def _collect_steps(
    steps: dict[FragmentId, list[Step]],
    operation: CommitOperation,
    since: Mapping[FragmentId, int],
) -> None:
    for change in operation.changes:
        if operation.index <= since.get(change.fragment_id, -1):
            continue  # came along with the rows it was filled with
        steps.setdefault(change.fragment_id, []).append(Step(operation.timestamp, change))


def _fragment_size(cursor: duckdb.DuckDBPyConnection, tables: FragmentTables) -> FragmentSize:
    rows, blocks = [], 0
    for name in (tables.current, tables.history):
        count = cursor.execute(f"SELECT count(*) FROM {name}").fetchall()
        used = cursor.execute(
            "SELECT count(DISTINCT block_id) FROM pragma_storage_info(?) WHERE block_id >= 0",
            [name.replace('"', "")],
        ).fetchall()
        rows.append(int(count[0][0]))
        blocks += int(used[0][0])
    return FragmentSize(tables.schema.fragment_id, rows[0], rows[1], blocks * BLOCK_SIZE_BYTES)
