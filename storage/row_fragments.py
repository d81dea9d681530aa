"""The fragments in a row store's file: their tables, made and changed as `alter` entries say.

A fragment that comes with a source is filled from it, holds everything up to the source's index,
and takes nothing from operations up to there. All of it happens in the caller's transaction; who
loses that goes back with `restore`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from storage.fragments import FragmentId, FragmentSchema
from storage.operations import FragmentSource
from storage.row_apply import fill, fill_past
from storage.row_tables import RowTables, quoted

Connection: TypeAlias = Any  # apsw's module has no type for a connection that mypy finds


@dataclass(frozen=True, slots=True)
class FragmentsState:
    """What `restore` goes back to."""

    tables: dict[FragmentId, RowTables]
    since: dict[FragmentId, int]


class RowFragments:
    """See the module. `tables` are those of every fragment in the file."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.tables: dict[FragmentId, RowTables] = {}
        # The index up to which a fragment was filled, where it was.
        self._since: dict[FragmentId, int] = {}

    def load(self) -> None:
        """Reads what the file has."""
        found = self._connection.execute("SELECT * FROM fragment").fetchall()
        for fragment_id, definition, since in found:
            schema = msgspec.json.decode(definition, type=FragmentSchema)
            self.tables[fragment_id] = RowTables(schema)
            if since is not None:
                self._since[fragment_id] = since

    def state(self) -> FragmentsState:
        """As it is now."""
        return FragmentsState(dict(self.tables), dict(self._since))

    def restore(self, state: FragmentsState) -> None:
        """As it was, since the file is so again."""
        self.tables, self._since = dict(state.tables), dict(state.since)

    def takes(self, fragment_id: FragmentId, index: int) -> RowTables | None:
        """The tables that take a change of that index; None for a fragment of the columnar store
        alone, one that was dropped, and one that has the change."""
        if index <= self._since.get(fragment_id, -1):
            return None
        return self.tables.get(fragment_id)

    def alter(
        self,
        schemas: Sequence[FragmentSchema],
        sources: Mapping[FragmentId, FragmentSource],
    ) -> bool:
        """Holds exactly these fragments, of those that are for a row store; whether one came with
        a past."""
        wanted = {s.fragment_id: s for s in schemas if s.method.in_row_store}
        for fragment_id in [f for f in self.tables if f not in wanted]:
            self._drop(fragment_id)
        filled = False
        for fragment_id, schema in wanted.items():
            tables = self.tables.get(fragment_id)
            if tables is None:
                self._create(schema, sources.get(fragment_id))
                filled |= fragment_id in sources
            elif tables.schema != schema:
                self._change(tables, RowTables(schema))
        return filled

    def _create(self, schema: FragmentSchema, source: FragmentSource | None) -> None:
        tables = RowTables(schema)
        for statement in tables.create_sql():
            self._connection.execute(statement)
        if source is not None:
            current, history = source.open()
            fill(self._connection, tables, current)
            fill_past(self._connection, tables, history)
            self._since[schema.fragment_id] = source.index
        # Behind the rows: an index is made faster than it is kept.
        for columns in tables.indexed():
            self._connection.execute(tables.index_sql(columns))
        self._write_definition(tables)

    def _drop(self, fragment_id: FragmentId) -> None:
        tables = self.tables.pop(fragment_id)
        self._since.pop(fragment_id, None)
        for statement in tables.drop_sql():
            self._connection.execute(statement)
        self._connection.execute("DELETE FROM fragment WHERE fragment_id = ?", (fragment_id,))

    def _change(self, old: RowTables, new: RowTables) -> None:
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
        self.tables[fragment_id] = tables
        self._connection.execute(
            "INSERT OR REPLACE INTO fragment VALUES (?, ?, ?)",
            (fragment_id, msgspec.json.encode(tables.schema), self._since.get(fragment_id)),
        )
