"""Reading the stores of a node at one timestamp, for stages (rule R1).

The order of steps is the whole point. First, outside, every transaction that might commit at
or below S is waited for until it is applied (`storage.tablet`). Then the transaction of the
stores is opened, and *inside it* the applied index, the highest commit timestamps and the
prune horizon are read; only these tell whether the current rows are the rows at S. Checking
first and opening then was tried: a third of all reads beside an applier saw a later commit.

DuckDB opens the transaction of an attached file when a statement that names it is bound, so
one statement that names the meta tables of all tablets opens them all, and no data is read
before it. To bind it is enough, and takes a tenth of the time that reading those tables takes:
a store shows the state its newest commit made, as an object, and takes it away while the next
one commits (`ColumnarStore.state`). Whoever sees the same objects before and after opening has
read the stores' states inside his transaction. Where one has changed it is tried again, and
while an applier does nothing but commit the meta tables are read.

What only the row store has is read through a transaction of that store, opened and looked into
in the same way. `relation_sql` turns the columns asked for into an Arrow table and gives that to
the cursor under a name: every query works on such tables, at the price of reading them whole.

A snapshot has a maximum age (rule L4): `expire` interrupts what runs and every later use says
so. `relation_sql` yields a plain SELECT over the current table where it can, so that DuckDB
pushes filters and projections into the scan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from cluster.errors import ObjectNotInPrerequisiteState, SnapshotTooOld
from storage.columnar import decode_recency
from storage.columnar_apply import BEGIN, END, FragmentTables, StoreState
from storage.damage import damaged_store, is_damage
from storage.duckdb_node import DuckDbNode, quote_name
from storage.fragments import FragmentChange, FragmentId, FragmentSchema, TabletId, Timestamp
from storage.own_changes import OwnRows, net_changes
from storage.row_scan import RowScan
from storage.row_store import RowStore
from storage.types import duckdb_type

Read = tuple[TabletId, FragmentId]
States = Mapping[TabletId, StoreState]

# So often a transaction is opened anew because a store changed meanwhile.
OPEN_TRIES = 3


@dataclass(frozen=True, slots=True)
class FragmentView:
    """What the store's transaction said of one fragment when it was opened.

    `rows` for a fragment of the row store alone.
    """

    tables: FragmentTables
    applied_index: int
    max_commit_ts: Timestamp
    rows: RowReader | None = None


class RowReader:
    """A fragment of the row store, in a transaction of its own, for one cursor of DuckDB."""

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, scan: RowScan, schema: FragmentSchema
    ) -> None:
        self._cursor = cursor
        self._scan = scan
        self._schema = schema
        self._names: dict[tuple[Timestamp, tuple[str, ...]], str] = {}

    def relation(self, columns: Sequence[str], timestamp: Timestamp) -> str:
        """The name under which the cursor has these columns. Blocks while they are read."""
        wanted = timestamp, tuple(columns) or self._schema.key[:1]
        name = self._names.get(wanted)
        if name is None:
            name = f"@rows:{self._schema.fragment_id}:{len(self._names)}"
            table = self._scan.rows_at(self._schema.fragment_id, wanted[1], timestamp)
            self._cursor.register(name, table)
            self._names[wanted] = name
        return quote_name(name)

    def close(self) -> None:
        """Ends the transaction."""
        self._scan.close()


def relation_sql(
    view: FragmentView, columns: Sequence[str], timestamp: Timestamp, own: OwnRows | None = None
) -> str:
    """A parenthesised SELECT of these store columns as they were at the timestamp.

    With `own`, registered on the cursor by `register_changes`, as the transaction sees them.
    """
    if own is not None:
        return _own_relation_sql(view, columns, timestamp, own)
    selected = ", ".join(quote_name(column) for column in columns) or "1 AS one"
    if view.rows is not None:
        relation = view.rows.relation(columns, timestamp)
        return f"({_selected_sql(view.tables.schema, columns)} FROM {relation})"
    current = f"SELECT {selected} FROM {view.tables.current}"
    if view.max_commit_ts <= timestamp:
        return f"({current})"
    history = f"SELECT {selected} FROM {view.tables.history}"
    return (
        f"({current} WHERE {BEGIN} <= {timestamp}"
        f" UNION ALL {history} WHERE {BEGIN} <= {timestamp} AND {timestamp} < {END})"
    )


def _selected_sql(schema: FragmentSchema, columns: Sequence[str]) -> str:
    """SELECT of columns that come as Arrow has them, in the types that stages expect."""
    types = {column.name: duckdb_type(column.type) for column in schema.columns}
    cast = [f"CAST({n} AS {types[c]}) AS {n}" for c in columns for n in [quote_name(c)]]
    return f"SELECT {', '.join(cast) or '1 AS one'}"


def _own_relation_sql(
    view: FragmentView, columns: Sequence[str], timestamp: Timestamp, own: OwnRows
) -> str:
    schema = own.schema
    types = {column.name: duckdb_type(column.type) for column in schema.columns}
    selected = ", ".join(quote_name(column) for column in columns) or "1 AS one"
    parts = []
    if not own.truncated:
        stored = list(dict.fromkeys([*columns, *schema.key]))
        base = f"{relation_sql(view, stored, timestamp)} AS stored"
        if own.deleted_keys is not None:
            keys = " AND ".join(
                f"stored.{name} = CAST(gone.{name} AS {types[key]})"
                for key, name in ((key, quote_name(key)) for key in schema.key)
            )
            base += f" ANTI JOIN {quote_name(_own_name(schema, 'gone'))} AS gone ON {keys}"
        parts.append(f"SELECT {selected} FROM {base}")
    if own.rows is not None:
        rows = quote_name(_own_name(schema, "rows"))
        parts.append(f"{_selected_sql(schema, columns)} FROM {rows}")
    if not parts:
        nothing = f"{relation_sql(view, columns, timestamp)} AS stored WHERE false"
        parts.append(f"SELECT {selected} FROM {nothing}")
    return f"({' UNION ALL '.join(parts)})"


def _own_name(schema: FragmentSchema, what: str) -> str:
    return f"@own:{schema.fragment_id}:{what}"


def register_changes(
    cursor: duckdb.DuckDBPyConnection,
    reads: Mapping[Read, FragmentTables],
    changes: Mapping[TabletId, Sequence[FragmentChange]],
) -> dict[Read, OwnRows]:
    """Makes a transaction's own changes known to the cursor that reads for it. Blocks."""
    found = {}
    for read, tables in reads.items():
        tablet_id, fragment_id = read
        own = net_changes(
            cursor,
            tables.schema,
            [c for c in changes.get(tablet_id, ()) if c.fragment_id == fragment_id],
        )
        if own is None:
            continue
        for what, table in (("gone", own.deleted_keys), ("rows", own.rows)):
            if table is not None:
                cursor.register(_own_name(own.schema, what), table)
        found[read] = own
    return found


class StoreSnapshot:
    """An open read transaction over fragments of this node, at one timestamp.

    `cursor` is in the transaction already and belongs to the snapshot's user: one statement
    at a time. Close it when done; `close` may be called again.
    """

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        views: Mapping[Read, FragmentView],
        timestamp: Timestamp,
        on_close: Callable[[StoreSnapshot], None] | None = None,
        own: Mapping[Read, OwnRows] | None = None,
        on_damage: Callable[[list[TabletId]], None] | None = None,
    ) -> None:
        self._cursor = cursor
        self._views = views
        self._on_close = on_close
        self._on_damage = on_damage
        self._own = own or {}
        self._expired = False
        self._closed = False
        self.timestamp = timestamp
        # Who made the reading of each tablet possible (`storage.tablet.Answered`).
        self.answered: Sequence[str] = ()

    @property
    def cursor(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection; raises 72000 once the snapshot has expired."""
        self.check_alive()
        return self._cursor

    def relation_sql(
        self,
        tablet_id: TabletId,
        fragment_id: FragmentId,
        columns: Sequence[str],
        timestamp: Timestamp | None = None,
    ) -> str:
        """SQL text of a parenthesised SELECT giving these store columns at the timestamp."""
        read = tablet_id, fragment_id
        at = self.timestamp if timestamp is None else timestamp
        return relation_sql(self._views[read], columns, at, self._own.get(read))

    def versions_sql(self, tablet_id: TabletId, fragment_id: FragmentId, horizon: Timestamp) -> str:
        """What `RowScan.versions_at` gives, of a fragment of the columnar store."""
        view = self._views[tablet_id, fragment_id]
        names = ", ".join(map(quote_name, view.tables.schema.names))
        at = self.timestamp
        return (
            f"(SELECT {names}, {BEGIN}, 0::BIGINT AS {END} FROM {view.tables.current}"
            f" WHERE {BEGIN} <= {at} UNION ALL"
            f" SELECT {names}, {BEGIN}, CASE WHEN {END} > {at} THEN 0 ELSE {END} END"
            f" FROM {view.tables.history} WHERE {BEGIN} <= {at} AND {END} > {horizon})"
        )

    def applied_index(self, tablet_id: TabletId, fragment_id: FragmentId) -> int:
        """The log index that the rows read here reflect."""
        return self._views[tablet_id, fragment_id].applied_index

    def check_damage(self, error: BaseException) -> None:
        """Raises XX001 where the error of a statement over the snapshot means a damaged file.

        The tablets read are then looked at. From any thread.
        """
        if is_damage(error):
            tablets = list(dict.fromkeys(tablet_id for tablet_id, _ in self._views))
            if self._on_damage is not None:
                self._on_damage(tablets)
            raise damaged_store(", ".join(map(str, tablets)), error) from error

    def check_alive(self) -> None:
        """Raises 72000 when the snapshot has outlived its maximum age."""
        if self._expired:
            raise SnapshotTooOld(
                "the query's snapshot is too old",
                hint="The statement ran longer than a store may be read at one point in time.",
            )

    def expire(self) -> None:
        """Ends the reading, from any thread: what runs is interrupted, later uses fail."""
        if not self._closed:
            self._expired = True
            self._cursor.interrupt()

    def close(self) -> None:
        """Gives the transaction and the cursor back."""
        if self._closed:
            return
        self._closed = True
        self._cursor.close()  # rolls back
        close_views(self._views)
        if self._on_close is not None:
            self._on_close(self)


def open_views(
    node: DuckDbNode, reads: Mapping[Read, FragmentTables], timestamp: Timestamp
) -> tuple[duckdb.DuckDBPyConnection, dict[Read, FragmentView]]:
    """Opens the transactions and finds out what each fragment's store says of itself in them.

    Blocks. Raises 72000 for a timestamp below the horizon, 55000 for a fragment that is gone.
    """
    in_columns = {read: tables for read, tables in reads.items() if tables.rows is None}
    cursor, views = _open_columns(node, in_columns, timestamp)
    try:
        for read, tables in reads.items():
            if tables.rows is not None:
                views[read] = _row_view(cursor, read, tables, tables.rows, timestamp)
    except BaseException:
        cursor.close()
        close_views(views)
        raise
    return cursor, views


def close_views(views: Mapping[Read, FragmentView]) -> None:
    """Ends the transactions of row stores; the cursor is closed on its own."""
    for view in views.values():
        if view.rows is not None:
            view.rows.close()


def _row_view(
    cursor: duckdb.DuckDBPyConnection,
    read: Read,
    tables: FragmentTables,
    store: RowStore,
    timestamp: Timestamp,
) -> FragmentView:
    tablet_id, fragment_id = read
    if fragment_id not in store:
        raise fragment_gone(tablet_id, fragment_id)
    scan = store.snapshot()
    position = scan.position
    try:
        check_horizon(tablet_id, timestamp, position.horizon)
    except SnapshotTooOld:
        scan.close()
        raise
    reader = RowReader(cursor, scan, tables.schema)
    return FragmentView(tables, position.applied_index, position.max_commit_ts, reader)


def check_horizon(tablet_id: TabletId, timestamp: Timestamp, horizon: Timestamp) -> None:
    """Raises 72000 for a timestamp whose history may be gone."""
    if timestamp < horizon:
        raise SnapshotTooOld(
            f"timestamp {timestamp} lies below the horizon to which history was pruned",
            detail=f"The horizon of tablet {tablet_id} is {horizon}.",
        )


def _open_columns(
    node: DuckDbNode, reads: Mapping[Read, FragmentTables], timestamp: Timestamp
) -> tuple[duckdb.DuckDBPyConnection, dict[Read, FragmentView]]:
    for _ in range(OPEN_TRIES if reads else 0):
        before = _shown_states(reads)
        if before is None:
            break
        cursor = _begun(node)
        try:
            _touch(cursor, reads)
            if _shown_states(reads) == before:
                return cursor, _views(reads, before, timestamp)
        except BaseException:
            cursor.close()
            raise
        cursor.close()
    cursor = _begun(node)
    try:
        views = _views(reads, _read_states(cursor, reads), timestamp) if reads else {}
    except BaseException:
        cursor.close()
        raise
    return cursor, views


def _begun(node: DuckDbNode) -> duckdb.DuckDBPyConnection:
    cursor = node.cursor()
    try:
        cursor.execute("BEGIN")
    except BaseException:
        cursor.close()
        raise
    return cursor


def _shown_states(reads: Mapping[Read, FragmentTables]) -> dict[TabletId, StoreState] | None:
    """The state each store shows; None where one is being changed. (Equal only if the same.)"""
    states: dict[TabletId, StoreState] = {}
    for (tablet_id, _), tables in reads.items():
        state = tables.state()
        if state is None:
            return None
        states[tablet_id] = state
    return states


def _databases(reads: Mapping[Read, FragmentTables]) -> dict[TabletId, str]:
    return {tablet_id: quote_name(t.database) for (tablet_id, _), t in reads.items()}


def _touch(cursor: duckdb.DuckDBPyConnection, reads: Mapping[Read, FragmentTables]) -> None:
    """Opens the transactions of all files that are read, by binding a statement."""
    databases = _databases(reads)
    tables = ", ".join(f"{name}.tablet" for name in databases.values())
    with _gone_if_unknown(databases):
        cursor.sql(f"SELECT 1 FROM {tables}")


def _read_states(
    cursor: duckdb.DuckDBPyConnection, reads: Mapping[Read, FragmentTables]
) -> dict[TabletId, StoreState]:
    """What the meta tables say, all read by one statement."""
    databases = _databases(reads)
    selects = [
        f"(SELECT {tablet_id}, applied_index, horizon, recency"
        f" FROM {name}.tablet ORDER BY applied_index DESC LIMIT 1)"
        for tablet_id, name in databases.items()
    ]
    with _gone_if_unknown(databases):
        rows = cursor.execute(" UNION ALL ".join(selects)).fetchall()
    return {
        tablet_id: StoreState(applied_index, horizon, decode_recency(encoded))
        for tablet_id, applied_index, horizon, encoded in rows
    }


@contextmanager
def _gone_if_unknown(tablets: Iterable[TabletId]) -> Iterator[None]:
    try:
        yield
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        # The whole tablet left between looking it up and opening it.
        raise fragment_gone(", ".join(map(str, tablets))) from error


def _views(
    reads: Mapping[Read, FragmentTables], states: States, timestamp: Timestamp
) -> dict[Read, FragmentView]:
    views: dict[Read, FragmentView] = {}
    for read, tables in reads.items():
        tablet_id, fragment_id = read
        state = states[tablet_id]
        check_horizon(tablet_id, timestamp, state.horizon)
        if fragment_id not in state.recency:
            raise fragment_gone(tablet_id, fragment_id)
        views[read] = FragmentView(tables, state.applied_index, state.recency[fragment_id])
    return views


def definition_changed(schema: FragmentSchema) -> ObjectNotInPrerequisiteState:
    """The error for changes of rows that were made for a former version of the table."""
    return ObjectNotInPrerequisiteState(
        f'the definition of table "{schema.table_name}" was changed by another transaction',
        hint="The table was changed while the statement was planned; run it again.",
    )


def fragment_gone(
    tablet_id: TabletId | str, fragment_id: FragmentId | None = None
) -> ObjectNotInPrerequisiteState:
    """The error for what the node does not hold (any more, or yet)."""
    what = f"fragment {fragment_id} of " if fragment_id is not None else ""
    return ObjectNotInPrerequisiteState(
        f"{what}tablet {tablet_id} is not on this node",
        hint="The table was changed or moved while the statement was planned; run it again.",
    )
