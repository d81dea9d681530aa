"""Applies committed changes to the current and history tables of one fragment, in bulk.

Problem: DuckDB takes 5 ms for a one-row statement and 20 ms for ten thousand rows, so the log
is applied many transactions at a time; yet the outcome must be that of one after the other,
with every row's begin and end in history.

Idea: the changes are numbered in log order and cut into segments at each TRUNCATE. In a segment

    deletes end rows of the current table: history gets them with the end of the *first*
    delete of their key, the current table loses them;
    an insert goes to the current table, unless a later delete of the same segment has its
    key: then it goes straight to history, ending at the next delete behind it (an ASOF join).

A row that begins and ends in the same transaction was never visible and is dropped; so is one
that ended by the prune horizon, below which nobody reads. Changes of single rows are gathered
before they become Arrow: a batch a change costs thirty times what its row does.
The twin in tests/storage/test_columnar.py does the same a row at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from storage.duckdb_node import quote_name
from storage.fragments import FragmentChange, FragmentId, FragmentSchema, Timestamp
from storage.row_store import RowStore
from storage.row_tables import RowTables, StoredRow
from storage.stored_changes import StoredChange

BEGIN = "begin_ts"
END = "end_ts"
_SEQUENCE = "sequence"


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one transaction to the fragment."""

    timestamp: Timestamp
    change: FragmentChange


@dataclass(frozen=True, slots=True, eq=False)
class StoreState:
    """What the newest transaction of a columnar store says of it. Every transaction makes a
    new one, so who meets the same object twice knows that none was committed in between."""

    applied_index: int
    horizon: Timestamp
    recency: Mapping[FragmentId, Timestamp]


def _no_state() -> StoreState | None:
    return None


@dataclass(frozen=True, slots=True)
class FragmentTables:
    """The two tables of a fragment inside an attached database.

    `rows` is the store that has them where the columnar one does not. `state` tells the
    columnar store's, None while a transaction is being committed; from any thread.
    """

    database: str
    schema: FragmentSchema
    rows: RowStore | None = None
    state: Callable[[], StoreState | None] = field(default=_no_state, compare=False)

    @property
    def current(self) -> str:
        return f"{quote_name(self.database)}.{quote_name(f'f{self.schema.fragment_id}')}"

    @property
    def history(self) -> str:
        return f"{quote_name(self.database)}.{quote_name(f'f{self.schema.fragment_id}_history')}"


class Numbered:
    """Rows or keys of one segment with the number and time of the change each came from.

    `columns` are theirs, as they travel.
    """

    def __init__(self, columns: pa.Schema) -> None:
        self._columns = columns
        self._batches: list[pa.RecordBatch] = []
        # A pair for each batch.
        self._places: list[tuple[pa.Array, pa.Array]] = []
        # Stored rows that are no batch yet.
        self._tables: RowTables | None = None
        self._rows: list[StoredRow] = []
        self._sequences: list[int] = []
        self._times: list[Timestamp] = []
        self._timestamps: set[Timestamp] = set()

    def __bool__(self) -> bool:
        return bool(self._batches or self._rows)

    def add(self, batch: pa.RecordBatch | None, sequence: int, timestamp: Timestamp) -> None:
        """Takes a batch behind all that came before."""
        if batch is None or not batch.num_rows:
            return
        self._gather()
        self._batches.append(batch)
        count = batch.num_rows
        self._places.append((_repeated(sequence, count), _repeated(timestamp, count)))
        self._timestamps.add(timestamp)

    def add_stored(
        self, tables: RowTables, rows: Sequence[StoredRow], sequence: int, timestamp: Timestamp
    ) -> None:
        """Takes rows in the row store's form."""
        if not rows:
            return
        self._tables = tables
        self._rows += rows
        self._sequences += [sequence] * len(rows)
        self._times += [timestamp] * len(rows)
        self._timestamps.add(timestamp)

    def _gather(self) -> None:
        if not self._rows:
            return
        assert self._tables is not None
        batch = self._tables.to_batch(self._rows, self._columns.names)
        self._batches.append(pa.RecordBatch.from_arrays(batch.columns, schema=self._columns))
        places = pa.array(self._sequences, pa.int64()), pa.array(self._times, pa.int64())
        self._places.append(places)
        self._rows, self._sequences, self._times = [], [], []

    @property
    def single_timestamp(self) -> Timestamp | None:
        """The one time all rows share, or None."""
        return next(iter(self._timestamps)) if len(self._timestamps) == 1 else None

    def table(self, time_column: str | None = None, *, numbered: bool = False) -> pa.Table:
        """All rows; with their times and numbers as columns where asked for."""
        self._gather()
        table = pa.Table.from_batches(self._batches)
        if time_column is not None:
            table = table.append_column(
                time_column, pa.chunked_array([times for _, times in self._places])
            )
        if numbered:
            table = table.append_column(
                _SEQUENCE, pa.chunked_array([sequences for sequences, _ in self._places])
            )
        return table


def _repeated(value: int, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.int64()), count)


class Segment:
    """Changes of one fragment between two truncations, in order."""

    def __init__(self, schema: FragmentSchema) -> None:
        self.deletes = Numbered(schema.key_arrow_schema())
        self.inserts = Numbered(schema.arrow_schema())
        # Whether some delete stands behind some insert, so that their keys must be compared.
        self.interleaved = False

    def add(self, change: FragmentChange, position: int, timestamp: Timestamp = 0) -> None:
        """Takes what the change deletes and inserts, behind all that came before."""
        self.interleaved |= change.delete_count > 0 and bool(self.inserts)
        ended, begun = 2 * position, 2 * position + 1
        if isinstance(change, StoredChange):
            self.deletes.add_stored(change.tables, change.keys, ended, timestamp)
            self.inserts.add_stored(change.tables, change.rows, begun, timestamp)
        else:
            self.deletes.add(change.delete_keys, ended, timestamp)
            self.inserts.add(change.insert_rows, begun, timestamp)

    def resolved_rows(self, cursor: duckdb.DuckDBPyConnection, schema: FragmentSchema) -> pa.Table:
        """The inserted rows with their begin, and their end where a later delete has their key."""
        matches = " AND ".join(f"r.{n} = k.{n}" for n in map(quote_name, schema.key))
        with (
            registered(cursor, "new_rows", self.inserts.table(BEGIN, numbered=True)),
            registered(cursor, "ended_keys", self.deletes.table(END, numbered=True)),
        ):
            return cursor.sql(
                f"SELECT {_columns(schema.names, prefix='r.')}, r.{BEGIN}, k.{END}"
                f" FROM new_rows r ASOF LEFT JOIN ended_keys k"
                f" ON {matches} AND r.{_SEQUENCE} < k.{_SEQUENCE}"
            ).to_arrow_table()

    def surviving_rows(self, cursor: duckdb.DuckDBPyConnection, schema: FragmentSchema) -> pa.Table:
        """The inserted rows that no later delete of the segment takes away."""
        if not self.interleaved:
            return self.inserts.table()
        rows = self.resolved_rows(cursor, schema)
        return rows.filter(pc.is_null(rows[END]))


def apply_steps(
    cursor: duckdb.DuckDBPyConnection,
    tables: FragmentTables,
    steps: Sequence[Step],
    horizon: Timestamp = 0,
) -> None:
    """Brings the fragment past `steps`, inside the cursor's open transaction, behind which nobody
    reads below the horizon."""
    segment = Segment(tables.schema)
    for position, step in enumerate(steps):
        if step.change.truncate:
            _apply_segment(cursor, tables, segment, horizon)
            _truncate(cursor, tables, step.timestamp)
            segment = Segment(tables.schema)
        segment.add(step.change, position, step.timestamp)
    _apply_segment(cursor, tables, segment, horizon)


def _apply_segment(
    cursor: duckdb.DuckDBPyConnection, tables: FragmentTables, segment: Segment, horizon: Timestamp
) -> None:
    if segment.deletes:
        _end_current_rows(cursor, tables, segment.deletes, horizon)
    if segment.interleaved:
        _insert_interleaved(cursor, tables, segment, horizon)
    elif segment.inserts:
        _insert(cursor, tables, segment.inserts)


def _truncate(
    cursor: duckdb.DuckDBPyConnection, tables: FragmentTables, timestamp: Timestamp
) -> None:
    # History first: it reads what the DELETE takes away. TRUNCATE keeps history (rule S1).
    columns = _columns(tables.schema, BEGIN)
    cursor.execute(
        f"INSERT INTO {tables.history} SELECT {columns}, {timestamp} FROM {tables.current}"
        f" WHERE {BEGIN} < {timestamp}"
    )
    cursor.execute(f"DELETE FROM {tables.current}")


def _end_current_rows(
    cursor: duckdb.DuckDBPyConnection,
    tables: FragmentTables,
    deletes: Numbered,
    horizon: Timestamp,
) -> None:
    schema = tables.schema
    keys = _columns(schema.key)
    # A key deleted twice ended at the first: the row that the second met came in between.
    first = f"(SELECT {keys}, arg_min({END}, {_SEQUENCE}) AS {END} FROM ended_keys GROUP BY ALL)"
    matches = " AND ".join(f"f.{n} = k.{n}" for n in map(quote_name, schema.key))
    with registered(cursor, "ended_keys", deletes.table(END, numbered=True)):
        cursor.execute(
            f"INSERT INTO {tables.history} SELECT {_columns(schema.names, prefix='f.')},"
            f" f.{BEGIN}, k.{END} FROM {tables.current} f JOIN {first} k ON {matches}"
            f" WHERE k.{END} > {horizon}"
        )
        cursor.execute(f"DELETE FROM {tables.current} f USING ended_keys k WHERE {matches}")


def _insert(cursor: duckdb.DuckDBPyConnection, tables: FragmentTables, inserts: Numbered) -> None:
    timestamp = inserts.single_timestamp
    table = inserts.table(BEGIN if timestamp is None else None)
    begin = BEGIN if timestamp is None else str(timestamp)
    with registered(cursor, "new_rows", table):
        cursor.execute(
            f"INSERT INTO {tables.current} SELECT {_columns(tables.schema.names)}, {begin}"
            " FROM new_rows"
        )


def _insert_interleaved(
    cursor: duckdb.DuckDBPyConnection, tables: FragmentTables, segment: Segment, horizon: Timestamp
) -> None:
    with registered(cursor, "resolved_rows", segment.resolved_rows(cursor, tables.schema)):
        cursor.execute(
            f"INSERT INTO {tables.current} SELECT * EXCLUDE ({END}) FROM resolved_rows"
            f" WHERE {END} IS NULL"
        )
        cursor.execute(
            f"INSERT INTO {tables.history} SELECT * FROM resolved_rows"
            f" WHERE {END} > {BEGIN} AND {END} > {horizon}"
        )


def _columns(schema: FragmentSchema | Sequence[str], *more: str, prefix: str = "") -> str:
    names = schema.names if isinstance(schema, FragmentSchema) else schema
    return ", ".join([*(prefix + quote_name(name) for name in names), *more])


class registered:
    """Makes an Arrow table visible to the cursor under a name, for the length of a block."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
        self._cursor = cursor
        self._name = name
        self._table = table

    def __enter__(self) -> None:
        self._cursor.register(self._name, self._table)

    def __exit__(self, *_: object) -> None:
        self._cursor.unregister(self._name)
