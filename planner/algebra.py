"""The relational algebra that queries are planned in.

A tree of frozen operators over scalar expressions. Two inventions keep it small:

- Every column has a name unique in the statement (`Column.name`, as `orders.total` or
  `sum~3`), so operators need no qualifiers, joins no renaming, and a rule may move an
  expression anywhere its columns are. A plain column keeps its name from the scan upward.
- Scalars stay sqlglot nodes, already in DuckDB's meaning, inside `Scalar`, which carries what
  the rules ask most: the columns read, the type, and whether it is volatile.

The last operators of this file do not come from SQL: `TableScan` is a scan after localisation,
and `Exchange` moves rows between nodes; a tree with these is a physical plan.

Left out: nothing here knows costs or nodes' names; `optimizer` does.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from sqlglot import exp

from catalog.model import Column as TableColumn
from catalog.model import ColumnGroup, NodeId, Part, Table, TabletId
from planner.bound import SystemTable
from planner.plan import ExchangeKind
from storage.read_sets import RowRange
from storage.types import SqlType


@dataclass(frozen=True, slots=True)
class Column:
    """An output column of an operator."""

    name: str
    type: SqlType


@dataclass(frozen=True, slots=True)
class Scalar:
    """An expression over columns by their unique names; made by `algebra_scalars.scalar_of`."""

    node: exp.Expr
    columns: frozenset[str]
    type: SqlType
    volatile: bool


@dataclass(frozen=True, slots=True)
class Item:
    """A named expression of a projection, a group key or an aggregate."""

    name: str
    scalar: Scalar

    @property
    def column(self) -> Column:
        return Column(self.name, self.scalar.type)

    @property
    def is_plain(self) -> bool:
        """Whether it hands a column on under its own name."""
        return isinstance(self.scalar.node, exp.Column) and self.name in self.scalar.columns


@dataclass(frozen=True, slots=True)
class SortItem:
    """A sort key. Nulls are placed explicitly, never by a default."""

    scalar: Scalar
    descending: bool
    nulls_first: bool


class JoinKind(StrEnum):
    """RIGHT joins are built as LEFT joins. ANTI keeps rows for which no condition is true;
    NULL_AWARE_ANTI is NOT IN: one condition `x = y`, and unknown counts as found."""

    INNER = "inner"
    LEFT = "left"
    FULL = "full"
    SEMI = "semi"
    ANTI = "anti"
    NULL_AWARE_ANTI = "null-aware anti"

    @property
    def keeps_right(self) -> bool:
        """Whether the right side's columns come out."""
        return self in (JoinKind.INNER, JoinKind.LEFT, JoinKind.FULL)


class SetKind(StrEnum):
    UNION = "union"
    INTERSECT = "intersect"
    EXCEPT = "except"


@dataclass(frozen=True, slots=True)
class Node:
    """An operator. `columns` is what comes out, in order."""

    @property
    def columns(self) -> tuple[Column, ...]:
        raise NotImplementedError

    @property
    def children(self) -> tuple[Node, ...]:
        return ()

    def with_children(self, children: tuple[Node, ...]) -> Node:
        """The same operator over other children."""
        assert not children
        return self


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """An operator over one child, which hands on the child's columns unless it says more."""

    child: Node

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.child.columns

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.child,)

    def with_children(self, children: tuple[Node, ...]) -> Node:
        (child,) = children
        return self if child is self.child else replace(self, child=child)


@dataclass(frozen=True, slots=True)
class Leaf(Node):
    """An operator without children."""

    output: tuple[Column, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.output


@dataclass(frozen=True, slots=True)
class Scan(Leaf):
    """A base table at one place of the statement, `relation` (copies of a scan keep it);
    `sources` runs parallel to `output`."""

    table: Table
    alias: str
    sources: tuple[TableColumn, ...]
    relation: str = ""


@dataclass(frozen=True, slots=True)
class SystemTableScan(Leaf):
    """A virtual table, computed on the coordinator; `sources` are its own column names."""

    table: SystemTable
    alias: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OneRow(Leaf):
    """One row without columns: what a SELECT without FROM reads."""


@dataclass(frozen=True, slots=True)
class TableExpression(Leaf):
    """VALUES or a function in FROM: SQL that names its own columns, in the output's order."""

    tree: exp.Expr
    volatile: bool
    estimated_rows: float


@dataclass(frozen=True, slots=True)
class SharedScan(Leaf):
    """One use of a shared subplan of an enclosing `Shared`, each under its own names."""

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filter(Unary):
    """Keeps the rows for which every condition is true."""

    conditions: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Project(Unary):
    items: tuple[Item, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(item.column for item in self.items)


@dataclass(frozen=True, slots=True)
class JoinChoice:
    """How a join is done, what that moves, what other ways would have moved, and its rows.

    The last `weak` conditions are equalities that hold for many pairs of rows; DuckDB, which
    knows no distinct values of what streams in, must not be led to join by them alone.
    """

    method: str
    moved_bytes: float
    considered: tuple[tuple[str, float], ...]
    rows: float
    weak: int = 0


@dataclass(frozen=True, slots=True)
class Join(Node):
    """A join. `choice` is filled in when the physical plan is chosen."""

    kind: JoinKind
    left: Node
    right: Node
    conditions: tuple[Scalar, ...]
    choice: JoinChoice | None = None
    output: tuple[Column, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        right = self.right.columns if self.kind.keeps_right else ()
        object.__setattr__(self, "output", (*self.left.columns, *right))

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.output

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.left, self.right)

    def with_children(self, children: tuple[Node, ...]) -> Node:
        left, right = children
        if left is self.left and right is self.right:
            return self
        return Join(self.kind, left, right, self.conditions, self.choice)


class AggregateStep(StrEnum):
    """WHOLE in one step, or PARTIAL on each node and FINAL over the partial rows."""

    WHOLE = "whole"
    PARTIAL = "partial"
    FINAL = "final"


@dataclass(frozen=True, slots=True)
class Aggregate(Unary):
    """Groups by `keys`; without keys there is always one row.

    `sets` are grouping sets as positions in `keys`, empty for a plain GROUP BY. DISTINCT is an
    aggregate without aggregates.
    """

    keys: tuple[Item, ...]
    aggregates: tuple[Item, ...]
    sets: tuple[tuple[int, ...], ...] = ()
    step: AggregateStep = AggregateStep.WHOLE

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(item.column for item in (*self.keys, *self.aggregates))


@dataclass(frozen=True, slots=True)
class DistinctOn(Unary):
    """The first row of each group of `keys` in the order of `sort`."""

    keys: tuple[Scalar, ...]
    sort: tuple[SortItem, ...]


@dataclass(frozen=True, slots=True)
class Window(Unary):
    """Adds window functions, each a Scalar over an `exp.Window`."""

    functions: tuple[Item, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return (*self.child.columns, *(item.column for item in self.functions))


@dataclass(frozen=True, slots=True)
class Sort(Unary):
    keys: tuple[SortItem, ...]


@dataclass(frozen=True, slots=True)
class Limit(Unary):
    """At most `count` rows after `offset`; None is without limit."""

    count: int | None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class SetOperation(Node):
    """Combines branches; output column i is the column `sources[b][i]` of branch b."""

    kind: SetKind
    all: bool
    branches: tuple[Node, ...]
    sources: tuple[tuple[str, ...], ...]
    output: tuple[Column, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.output

    @property
    def children(self) -> tuple[Node, ...]:
        return self.branches

    def with_children(self, children: tuple[Node, ...]) -> Node:
        if all(new is old for new, old in zip(children, self.branches, strict=True)):
            return self
        return SetOperation(self.kind, self.all, children, self.sources, self.output)


@dataclass(frozen=True, slots=True)
class Shared(Node):
    """A CTE computed once for all its `SharedScan`s below `body`."""

    name: str
    definition: Node
    body: Node

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.body.columns

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.definition, self.body)

    def with_children(self, children: tuple[Node, ...]) -> Node:
        return Shared(self.name, *children)


@dataclass(frozen=True, slots=True)
class OpaqueInput:
    """A relation that an opaque query reads: its name there, and for each of its columns the
    name there and the column of `node`."""

    relation: str
    node: Node
    names: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Opaque(Node):
    """A bound query run as it is written, on one node, over gathered relations.

    `reason` is why it is not in the algebra. `sources` are the tree's output names.
    """

    tree: exp.Expr
    inputs: tuple[OpaqueInput, ...]
    sources: tuple[str, ...]
    output: tuple[Column, ...]
    reason: str

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.output

    @property
    def children(self) -> tuple[Node, ...]:
        return tuple(i.node for i in self.inputs)

    def with_children(self, children: tuple[Node, ...]) -> Node:
        inputs = tuple(
            OpaqueInput(old.relation, child, old.names)
            for old, child in zip(self.inputs, children, strict=True)
        )
        return replace(self, inputs=inputs)


@dataclass(frozen=True, slots=True)
class PartPlace:
    """A part to read, the tablet that holds the wanted group, and the node asked for it."""

    part: Part
    tablet_id: TabletId
    node: NodeId


@dataclass(frozen=True, slots=True)
class GroupScan:
    """One column group of a table's remaining parts. `output` includes the key where it is
    needed to put groups together again; `sources` runs parallel."""

    group: ColumnGroup
    output: tuple[Column, ...]
    sources: tuple[TableColumn, ...]


@dataclass(frozen=True, slots=True)
class TableScan(Leaf):
    """A scan after localisation: the parts that can hold rows, and where each is read.

    `groups` lie side by side on the same nodes and are joined on the key in `group_keys`,
    which names the key columns in each group. A replicated table may be read on any node of
    `replicated_on`. `kept_out` says why parts are missing, and `fraction` how many rows stay.
    `ranges` have all rows that matter, where that is less than all.
    """

    scan: Scan
    groups: tuple[GroupScan, ...]
    group_keys: tuple[tuple[str, ...], ...]
    places: tuple[PartPlace, ...]
    replicated_on: tuple[NodeId, ...] = ()
    kept_out: str = ""
    fraction: float = 1.0
    ranges: tuple[RowRange, ...] = ()


@dataclass(frozen=True, slots=True)
class Exchange(Unary):
    """Moves the child's rows; the child runs on `nodes` as a stage of its own.

    `keys` name HASH columns; `sort` the order a MERGE keeps, by column name. `output` is what
    the reader needs. `rescannable`: the reader may read the rows more than once.
    """

    kind: ExchangeKind
    nodes: tuple[NodeId, ...]
    output: tuple[Column, ...]
    keys: tuple[str, ...] = ()
    sort: tuple[SortItem, ...] = ()
    rescannable: bool = False
    rows: float = 0.0
    bytes: float = 0.0

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.output


def names_of(node: Node) -> frozenset[str]:
    """The names of the operator's output columns."""
    return frozenset(c.name for c in node.columns)


def walk(node: Node) -> Iterator[Node]:
    """The operator and all below it, parents first."""
    yield node
    for child in node.children:
        yield from walk(child)


def map_children(node: Node, change: Callable[[Node], Node]) -> Node:
    """The operator over its changed children."""
    children = node.children
    return node.with_children(tuple(change(c) for c in children)) if children else node


def same_columns(columns: tuple[Column, ...], names: Container[str]) -> tuple[Column, ...]:
    """Those of `columns` whose name is among `names`, in order."""
    return tuple(c for c in columns if c.name in names)
