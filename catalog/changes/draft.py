"""A catalog being changed: mutable while one command is applied, then the next version."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from catalog.model import (
    TEMPORARY_SCHEMA_PREFIX,
    Catalog,
    FragmentId,
    NodeId,
    Sequence,
    Table,
    TableId,
    Tablet,
    TabletId,
    View,
)
from cluster.errors import DuplicateTable, InsufficientPrivilege, InvalidSchemaName, UndefinedTable

SYSTEM_SCHEMAS = ("pg_catalog", "information_schema", "dqe")


class Draft:
    """Copies of the catalog's dicts, to be changed in place by the functions beside this.

    A command that fails is dropped with its draft, so nothing of it shows.
    """

    def __init__(self, base: Catalog, avoided: Collection[NodeId] = ()) -> None:
        """`avoided` are nodes that the proposer could not reach: placed on last."""
        self.avoided = avoided
        self.cluster_id = base.cluster_id
        self.nodes = dict(base.nodes)
        self.schemas = list(base.schemas)
        self.tables = dict(base.tables)
        self.views = dict(base.views)
        self.tablets = dict(base.tablets)
        self.statistics = dict(base.statistics)
        self.settings = dict(base.settings)
        self.recuts = dict(base.recuts)
        self.next_node_id = base.next_node_id
        self.sequences = dict(base.sequences)
        self.staged = dict(base.staged)
        self.notices: list[str] = []
        self._base = base
        self._next_id = base.next_id

    def new_id(self) -> int:
        """An id that nothing else ever had."""
        self._next_id += 1
        return self._next_id - 1

    def finish(self) -> Catalog:
        """The next version."""
        return Catalog(
            cluster_id=self.cluster_id,
            version=self._base.version + 1,
            next_id=self._next_id,
            nodes=self.nodes,
            schemas=tuple(self.schemas),
            tables=self.tables,
            views=self.views,
            tablets=self.tablets,
            statistics=self.statistics,
            settings=self.settings,
            recuts=self.recuts,
            next_node_id=self.next_node_id,
            sequences=self.sequences,
            staged=self.staged,
        )

    # --- Look-ups with PostgreSQL's errors ---------------------------------------------------

    def relation(self, schema: str, name: str) -> Table | View | None:
        """The table or view of that name."""
        for table in self.tables.values():
            if table.name == name and table.schema == schema:
                return table
        for view in self.views.values():
            if view.name == name and view.schema == schema:
                return view
        return None

    def sequence(self, schema: str, name: str) -> Sequence | None:
        """The sequence of that name."""
        for sequence in self.sequences.values():
            if sequence.name == name and sequence.schema == schema:
                return sequence
        return None

    def table(self, table_id: TableId) -> Table:
        """The table; 42P01 when it was dropped since the statement was planned."""
        table = self.tables.get(table_id)
        if table is None:
            raise UndefinedTable(f"relation with OID {table_id} does not exist")
        return table

    def check_writable_schema(self, schema: str) -> None:
        """Refuses schemas that do not exist (3F000) or are the system's (42501).

        A session's temporary schema comes into being with what is first put into it.
        """
        if schema in SYSTEM_SCHEMAS:
            raise InsufficientPrivilege(
                f'permission denied for schema "{schema}"',
                detail="System catalog modifications are not allowed.",
            )
        if schema.startswith(TEMPORARY_SCHEMA_PREFIX) and schema not in self.schemas:
            self.schemas.append(schema)
        if schema not in self.schemas:
            raise InvalidSchemaName(f'schema "{schema}" does not exist')

    def check_name_free(self, schema: str, name: str) -> None:
        if self.is_taken(schema, name):
            raise DuplicateTable(f'relation "{name}" already exists')

    def is_taken(self, schema: str, name: str) -> bool:
        """Whether a table, view, sequence or index has that name."""
        return (
            self.relation(schema, name) is not None
            or self.sequence(schema, name) is not None
            or any(
                index.name == name
                for table in self.tables.values()
                if table.schema == schema
                for index in table.indexes
            )
        )

    # --- Tablets -----------------------------------------------------------------------------

    def held_fragments(self) -> dict[TabletId, list[FragmentId]]:
        """What every tablet holds, what transactions have only staged included."""
        held: dict[TabletId, list[FragmentId]] = {}
        staged = (table for each in self.staged.values() for table in each.tables)
        for table in (*self.tables.values(), *self.recuts.values(), *staged):
            for part in table.parts:
                for fragment in part.fragments:
                    held.setdefault(fragment.tablet_id, []).append(fragment.id)
        return held

    def drop_empty_tablets(self) -> None:
        """Forgets tablets that hold nothing any more."""
        held = self.held_fragments()
        self.tablets = {i: tablet for i, tablet in self.tablets.items() if i in held}

    def touch_tablets(self, *tables: Table) -> None:
        """Raises the epoch of every tablet that holds a fragment of these tables."""
        touched = {f.tablet_id for table in tables for p in table.parts for f in p.fragments}
        for tablet_id in sorted(touched):
            tablet = self.tablets.get(tablet_id)
            if tablet is not None:
                self.tablets[tablet_id] = replace(tablet, epoch=tablet.epoch + 1)

    def add_tablet(self, tablet: Tablet) -> None:
        assert tablet.id not in self.tablets
        self.tablets[tablet.id] = tablet
