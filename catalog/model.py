"""The nouns of the global catalog: what a table is, how it is cut, and where each piece lies.

All are immutable; a change makes a new `Catalog` (see `catalog.state`). Ids never change and
are never used again; names may. Values inside partition bounds are kept as text in the
canonical form of the key column's type (`catalog.bounds` compares them), so that the model
needs no type of its own for each SQL type and encodes to msgpack as it stands.

    table --< part (horizontal) --< fragment >-- column group (vertical)
    fragment >-- tablet --< replica >-- node

A fragment is one column group of one part. Co-located tables (the same `colocation_id`) have
the same number of parts with the same bounds, and their parts of one ordinal share tablets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from storage.fragments import AccessMethod as AccessMethod
from storage.types import SqlType

NodeId = NewType("NodeId", int)
TableId = NewType("TableId", int)
ColumnId = NewType("ColumnId", int)
FragmentId = NewType("FragmentId", int)
TabletId = NewType("TabletId", int)
ColocationId = NewType("ColocationId", int)

CATALOG_TABLET = TabletId(0)
DEFAULT_SCHEMA = "public"
# Schemas of sessions, for their temporary tables.
TEMPORARY_SCHEMA_PREFIX = "pg_temp_"
RING_SIZE = 2**32


class NodeState(StrEnum):
    """What the catalog holds of a node; liveness is measured elsewhere."""

    ACTIVE = "active"
    DRAINING = "draining"  # leads nothing and gets nothing new, keeps its replicas
    DECOMMISSIONING = "decommissioning"  # its replicas move away; then it is forgotten
    DEAD = "dead"  # silent for too long: its replicas are rebuilt elsewhere


@dataclass(frozen=True, slots=True)
class Node:
    """A member of the cluster. Addresses are `host:port`."""

    id: NodeId
    rpc_address: str
    pg_address: str
    region: str | None = None
    zone: str | None = None
    state: NodeState = NodeState.ACTIVE


class PartitionMethod(StrEnum):
    """How a table is cut horizontally."""

    HASH = "hash"
    RANGE = "range"
    LIST = "list"
    NONE = "none"  # one part
    REPLICATED = "replicated"  # one part, with a replica on every node


class Durability(StrEnum):
    """WITH (durability = ...)."""

    SYNC = "sync"
    QUORUM = "quorum"
    ASYNC = "async"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where replicas may lie; None and empty mean anywhere. All conditions must hold."""

    region: str | None = None
    zone: str | None = None
    nodes: tuple[NodeId, ...] = ()


class BoundKind(StrEnum):
    MINVALUE = "minvalue"
    VALUE = "value"
    MAXVALUE = "maxvalue"


@dataclass(frozen=True, slots=True)
class Bound:
    """One coordinate of a range bound; `text` is the canonical text of a VALUE."""

    kind: BoundKind
    text: str = ""


@dataclass(frozen=True, slots=True)
class PartBounds:
    """Which keys belong to a part; which fields count depends on the table's method.

    hash: ring positions `ring_low <= h < ring_high`.
    range: `range_low <= key < range_high`, compared column by column; or `is_default` and
    no other part takes the key (a NULL in it included).
    list: the key equals one of `list_values` (None is NULL), or `is_default` and no other does.
    none, replicated: every key.
    """

    ring_low: int = 0
    ring_high: int = RING_SIZE
    range_low: tuple[Bound, ...] = ()
    range_high: tuple[Bound, ...] = ()
    list_values: tuple[str | None, ...] = ()
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `default` is SQL text, evaluated when a row is written.

    `sequence` gives the value instead, for serial and identity columns; `identity` is "always"
    or "by default" for the latter. `generated` is SQL text over the other columns, evaluated
    whenever a row is written (GENERATED ALWAYS AS ... STORED).
    """

    id: ColumnId
    name: str
    type: SqlType
    not_null: bool = False
    default: str | None = None
    sequence: TableId | None = None
    identity: str | None = None
    generated: str | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class UniqueConstraint:
    """One that is `deferrable` can be checked at the end of the transaction, and is where it is
    `deferred`; else at the end of each statement."""

    name: str
    columns: tuple[ColumnId, ...]
    deferrable: bool = False
    deferred: bool = False


@dataclass(frozen=True, slots=True)
class CheckConstraint:
    """`expression` is SQL text over the table's column names.

    One that is not `validated` holds for new rows only (NOT VALID).
    """

    name: str
    expression: str
    validated: bool = True


class ReferentialAction(StrEnum):
    """What becomes of referencing rows when the row they refer to goes or changes its key."""

    NO_ACTION = "no action"
    RESTRICT = "restrict"
    CASCADE = "cascade"
    SET_NULL = "set null"
    SET_DEFAULT = "set default"


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """The values of `columns` are those of some row in `target_columns` of the table `target`.

    The target columns are those of a key of the target, in any order; the target lies where the
    referencing rows lie, or on every node. With `match_full` either all values are NULL or none;
    without, one NULL makes a row refer to nothing. `set_columns` are those that ON DELETE SET
    NULL or SET DEFAULT sets, if not all. One that is `deferrable` can be checked at the end of the
    transaction, and is where it is `deferred`; one that is not `validated` (NOT VALID) says nothing
    of rows that were there before it.
    """

    name: str
    columns: tuple[ColumnId, ...]
    target: TableId
    target_columns: tuple[ColumnId, ...]
    on_delete: ReferentialAction = ReferentialAction.NO_ACTION
    on_update: ReferentialAction = ReferentialAction.NO_ACTION
    match_full: bool = False
    set_columns: tuple[ColumnId, ...] = ()
    deferrable: bool = False
    deferred: bool = False
    validated: bool = True


@dataclass(frozen=True, slots=True)
class IndexColumn:
    """A column of an index. NULLs come last where it ascends, unless said otherwise."""

    column: ColumnId
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """A secondary index, kept by the row store; a unique one is checked wherever rows are kept.

    One that is not `ready` is kept and checked for all that is written, but rows from before
    may still contradict it: nothing may be concluded from it yet.
    """

    id: TableId
    name: str
    columns: tuple[IndexColumn, ...]
    unique: bool = False
    ready: bool = True

    @property
    def column_ids(self) -> tuple[ColumnId, ...]:
        """The columns in order."""
        return tuple(each.column for each in self.columns)


@dataclass(frozen=True, slots=True)
class ColumnGroup:
    """A vertical part. `columns` leaves out the key columns, which every group repeats.

    Group 0 is the row's anchor: constraints are checked there.
    """

    id: int
    name: str
    columns: tuple[ColumnId, ...]
    placement: Placement | None = None


@dataclass(frozen=True, slots=True)
class Fragment:
    """One column group of one part, and the tablet that holds it."""

    id: FragmentId
    group_id: int
    tablet_id: TabletId


@dataclass(frozen=True, slots=True)
class Part:
    """A horizontal part, with one fragment a column group, in the order of the groups."""

    ordinal: int
    name: str
    bounds: PartBounds
    fragments: tuple[Fragment, ...]
    placement: Placement | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the user sees it, and how it is cut.

    `key` are the columns that identify a row in every fragment: the primary key's, or the
    hidden row id's where there is none, or one that is deferrable, which several rows may have
    for a while (`hidden_row_id`; that column is in `columns`, too, with a name no user can spell,
    and is never shown). `partition_columns` is empty for
    `NONE` and `REPLICATED`.
    """

    id: TableId
    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[ColumnId, ...]
    hidden_row_id: bool
    primary_key: UniqueConstraint | None
    unique: tuple[UniqueConstraint, ...]
    checks: tuple[CheckConstraint, ...]
    method: PartitionMethod
    partition_columns: tuple[ColumnId, ...]
    groups: tuple[ColumnGroup, ...]
    parts: tuple[Part, ...]
    colocation_id: ColocationId
    access_method: AccessMethod
    replicas: int
    durability: Durability
    placement: Placement | None = None
    # The version of the table's own definition, counted from 1 by DDL on it.
    schema_version: int = 1
    # Nobody asked for `replicas`: they become three when there are nodes for that.
    default_replicas: bool = False
    foreign_keys: tuple[ForeignKey, ...] = ()
    # The tables whose foreign keys refer to this one, itself among them.
    referenced_by: tuple[TableId, ...] = ()
    indexes: tuple[Index, ...] = ()
    comment: str | None = None

    def column(self, column_id: ColumnId) -> Column:
        """The column with that id; KeyError when there is none."""
        for column in self.columns:
            if column.id == column_id:
                return column
        raise KeyError(column_id)

    def column_named(self, name: str) -> Column | None:
        """The column a user means by `name`, or None."""
        for column in self.visible_columns:
            if column.name == name:
                return column
        return None

    @property
    def visible_columns(self) -> tuple[Column, ...]:
        """The columns a user sees, in order."""
        if not self.hidden_row_id:
            return self.columns
        return tuple(c for c in self.columns if c.id not in self.key)

    @property
    def unique_keys(self) -> tuple[UniqueConstraint, ...]:
        """All that keeps its rows apart: the primary key first, unique indexes last."""
        keys = (self.primary_key,) if self.primary_key is not None else ()
        indexes = (UniqueConstraint(i.name, i.column_ids) for i in self.indexes if i.unique)
        return (*keys, *self.unique, *indexes)

    def group_of(self, index: Index) -> int | None:
        """The column group that keeps the index: the first that has all of its columns."""
        own = set(index.column_ids) - set(self.key)
        for group in self.groups:
            if own <= set(group.columns):
                return group.id
        return None

    @property
    def deferrable_keys(self) -> tuple[UniqueConstraint, ...]:
        """Of its keys those whose checks can wait for the end of the transaction."""
        return tuple(key for key in self.unique_keys if key.deferrable)

    @property
    def is_bound(self) -> bool:
        """Whether foreign keys tie its rows to others: each change of them is checked there."""
        return bool(self.foreign_keys or self.referenced_by)

    @property
    def tied_columns(self) -> tuple[ColumnId, ...]:
        """Columns whose values tie rows to other rows: those of its foreign keys, and of its
        keys where foreign keys refer to it."""
        found = [column for key in self.foreign_keys for column in key.columns]
        if self.referenced_by:
            found += [column for key in self.unique_keys for column in key.columns]
        return tuple(dict.fromkeys(found))

    def group_columns(self, group_id: int) -> tuple[Column, ...]:
        """What a fragment of that group stores: the key first, then the group's own."""
        group = self.groups[group_id]
        return tuple(self.column(c) for c in (*self.key, *group.columns))


HIDDEN_ROW_ID_NAME = "\x00rowid"


@dataclass(frozen=True, slots=True)
class Sequence:
    """Numbers handed out one after the other (rule S4); how far it has come is beside the
    catalog, in `CatalogState.positions`.

    Another `epoch` begins where it is set back by ALTER, at `first`. It goes with the column
    that is its `owner`.
    """

    id: TableId
    schema: str
    name: str
    type: SqlType
    start: int
    increment: int
    minimum: int
    maximum: int
    cycle: bool = False
    cache: int = 1
    first: int = 1
    epoch: int = 1
    owner: tuple[TableId, ColumnId] | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class View:
    """A view: its query as SQL text and the names of its columns."""

    id: TableId
    schema: str
    name: str
    query: str
    columns: tuple[tuple[str, SqlType], ...]
    # Tables and views that the query reads.
    depends_on: tuple[TableId, ...] = ()
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Tablet:
    """The unit of replication: a Raft group that holds co-located fragments.

    `replicas` are the nodes that should hold one; the first is preferred as leader. Voters
    come first: `voters` of them vote, the others learn. `founders` are the voters with which
    its group began; a replica that came later joins through them. `epoch` grows with every
    change of what the tablet holds.

    `joining` are those of `replicas` whose group has not said yet that they follow as they
    should; `leaving` are nodes beside `replicas` that keep theirs until the group has let go of
    them. `incarnation` counts the groups that carried the tablet: another one begins where an
    operator gave up what a lost majority may have held. `loss_timestamp` is where that was last:
    commits from there on may be lost; 0 for never.
    """

    id: TabletId
    colocation_id: ColocationId
    replicas: tuple[NodeId, ...]
    voters: int
    epoch: int = 1
    durability: Durability = Durability.QUORUM
    placement: Placement | None = None
    founders: tuple[NodeId, ...] = ()
    joining: tuple[NodeId, ...] = ()
    leaving: tuple[NodeId, ...] = ()
    incarnation: int = 1
    loss_timestamp: int = 0

    @property
    def holders(self) -> tuple[NodeId, ...]:
        """Every node that keeps a replica now, or is about to."""
        return (*self.replicas, *self.leaving)

    @property
    def serving(self) -> tuple[NodeId, ...]:
        """Those to ask for rows, the preferred first: not who has yet to get them."""
        present = tuple(node_id for node_id in self.replicas if node_id not in self.joining)
        return present or self.leaving or self.replicas

    @property
    def is_settled(self) -> bool:
        """Whether its replicas are where they should be, as far as its leader has said."""
        return not self.joining and not self.leaving


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """Of one column: `low` and `high` are canonical texts; width in bytes."""

    distinct: int
    null_fraction: float
    low: str | None
    high: str | None
    width_bytes: float


@dataclass(frozen=True, slots=True)
class TableStatistics:
    """What ANALYZE or a bulk load measured."""

    rows: int
    part_rows: tuple[int, ...] = ()
    columns: dict[ColumnId, ColumnStatistics] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StagedDefinitions:
    """What an open transaction has defined, as far as others must know of it: its coordinator,
    the fragments that tablets keep for it, and sequences to draw numbers from.

    Nobody finds these tables by name; they are the catalog's once the transaction commits.
    """

    node_id: NodeId
    tables: tuple[Table, ...] = ()
    sequences: tuple[Sequence, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalog:
    """The whole catalog at one version."""

    cluster_id: str = ""
    version: int = 0
    next_id: int = 1
    nodes: dict[NodeId, Node] = field(default_factory=dict)
    schemas: tuple[str, ...] = (DEFAULT_SCHEMA,)
    tables: dict[TableId, Table] = field(default_factory=dict)
    views: dict[TableId, View] = field(default_factory=dict)
    tablets: dict[TabletId, Tablet] = field(default_factory=dict)
    statistics: dict[TableId, TableStatistics] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    # Tables being cut anew: each as it will be, its new fragments being filled.
    recuts: dict[TableId, Table] = field(default_factory=dict)
    # Above the id of every node there ever was; those that were forgotten do not come again.
    next_node_id: int = 1
    sequences: dict[TableId, Sequence] = field(default_factory=dict)
    # By transaction id; who is here can commit.
    staged: dict[int, StagedDefinitions] = field(default_factory=dict)
    # Tables that cannot be read at timestamps before these (`changes.readable`).
    readable_from: dict[TableId, int] = field(default_factory=dict)

    def find_table(self, name: str, schema: str | None = None) -> Table | None:
        """The table of that name; without a schema, in `public`."""
        wanted = schema or DEFAULT_SCHEMA
        for table in self.tables.values():
            if table.name == name and table.schema == wanted:
                return table
        return None

    def find_view(self, name: str, schema: str | None = None) -> View | None:
        """The view of that name; without a schema, in `public`."""
        wanted = schema or DEFAULT_SCHEMA
        for view in self.views.values():
            if view.name == name and view.schema == wanted:
                return view
        return None

    def find_sequence(self, name: str, schema: str | None = None) -> Sequence | None:
        """The sequence of that name; without a schema, in `public`."""
        wanted = schema or DEFAULT_SCHEMA
        for sequence in self.sequences.values():
            if sequence.name == name and sequence.schema == wanted:
                return sequence
        return None

    def numbered_sequence(self, sequence_id: TableId) -> Sequence | None:
        """The sequence with that id, also one that a transaction has only staged."""
        found = self.sequences.get(sequence_id)
        if found is None:
            every = (s for staged in self.staged.values() for s in staged.sequences)
            found = next((s for s in every if s.id == sequence_id), None)
        return found
