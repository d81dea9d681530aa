"""How many rows and bytes each operator puts out, guessed from the catalog's statistics.

An operator's `Profile` is its rows and, a column, distinct values, width, nulls and range.
Where the catalog knows nothing of a table, it is taken to have `UNKNOWN_TABLE_ROWS` rows with
a tenth as many distinct values a column. Guesses steer only the choice between right plans.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from catalog.datums import datum_from_text
from catalog.model import Catalog, ColumnId, ColumnStatistics, TableStatistics
from cluster.errors import DqeError
from planner.algebra import (
    Aggregate,
    Column,
    DistinctOn,
    Exchange,
    Filter,
    Item,
    Join,
    JoinKind,
    Limit,
    Node,
    OneRow,
    Opaque,
    Project,
    Scan,
    SetKind,
    SetOperation,
    Shared,
    SharedScan,
    SystemTableScan,
    TableExpression,
    TableScan,
    Window,
)
from planner.algebra_scalars import plain_column
from planner.optimizer.selectivity import join_selectivity, selectivity
from storage.types import Kind, SqlType

UNKNOWN_TABLE_ROWS = 100_000.0
SYSTEM_TABLE_ROWS = 500.0
TEXT_WIDTH_BYTES = 24.0
_WIDTHS = {
    Kind.BOOL: 1.0,
    Kind.INT2: 2.0,
    Kind.INT4: 4.0,
    Kind.DATE: 4.0,
    Kind.FLOAT4: 4.0,
    Kind.INT8: 8.0,
    Kind.FLOAT8: 8.0,
    Kind.TIME: 8.0,
    Kind.TIMESTAMP: 8.0,
    Kind.TIMESTAMPTZ: 8.0,
    Kind.NUMERIC: 16.0,
    Kind.INTERVAL: 16.0,
    Kind.UUID: 16.0,
    Kind.OID: 8.0,
    Kind.REGCLASS: 8.0,
}


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """Of one column; `low` and `high` as numbers where the type is ordered like them."""

    distinct: float
    width_bytes: float
    null_fraction: float = 0.0
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """Rows and bytes: all that the cost of moving them needs."""

    rows: float
    bytes: float

    @property
    def width_bytes(self) -> float:
        return self.bytes / self.rows if self.rows else 1.0

    def with_rows(self, rows: float) -> Size:
        """Other rows of the same width."""
        return Size(rows, rows * self.width_bytes)


@dataclass(frozen=True, slots=True)
class Profile:
    """Of an operator's output."""

    rows: float
    columns: dict[str, ColumnProfile]

    @property
    def width_bytes(self) -> float:
        """Of a row."""
        return sum(c.width_bytes for c in self.columns.values()) or 1.0

    @property
    def size(self) -> Size:
        return Size(self.rows, self.rows * self.width_bytes)

    def with_rows(self, rows: float) -> Profile:
        """The same columns over fewer (or more) rows."""
        rows = max(rows, 0.0)
        columns = {
            name: replace(c, distinct=max(1.0, min(c.distinct, rows))) if c.distinct > rows else c
            for name, c in self.columns.items()
        }
        return Profile(rows, columns)


def width_of(sql_type: SqlType) -> float:
    """A guess at the bytes of a value."""
    if sql_type.kind is Kind.BPCHAR and sql_type.length is not None:
        return float(sql_type.length) + 4.0
    return _WIDTHS.get(sql_type.kind, TEXT_WIDTH_BYTES)


def position_of(sql_type: SqlType, text: str | None) -> float | None:
    """Where a value lies on the line of its type's values; None where there is none."""
    if text is None:
        return None
    try:
        datum = datum_from_text(sql_type, text)
    except DqeError:
        return None
    if isinstance(datum, int | float | Decimal):
        return float(datum)
    return None


class Estimator:
    """Profiles of operators, each computed once."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[int, tuple[Node, Profile]] = {}
        self._shared: dict[str, Profile] = {}

    def profile(self, node: Node) -> Profile:
        """The operator's profile."""
        known = self._known.get(id(node))
        if known is None:
            known = (node, self._estimate(node))
            # The node is kept so that its id is not given to another one.
            self._known[id(node)] = known
        return known[1]

    def note(self, node: Node, profile: Profile) -> None:
        """Gives an operator a profile found otherwise."""
        self._known[id(node)] = (node, profile)

    def _estimate(self, node: Node) -> Profile:
        if isinstance(node, TableScan):
            whole = self.profile(node.scan)
            return whole.with_rows(whole.rows * node.fraction)
        if isinstance(node, Scan):
            return self._scan(node)
        if isinstance(node, Exchange):
            child = self.profile(node.child)
            return Profile(child.rows, _only(child, node.output))
        if isinstance(node, Filter):
            child = self.profile(node.child)
            return child.with_rows(child.rows * selectivity(node.conditions, child))
        if isinstance(node, Project):
            return self._items(node.items, self.profile(node.child))
        if isinstance(node, Join):
            joined = self._join(node)
            return joined.with_rows(node.choice.rows) if node.choice is not None else joined
        if isinstance(node, Aggregate):
            return self._aggregate(node)
        if isinstance(node, Window):
            child = self.profile(node.child)
            added = self._items(node.functions, child).columns
            return Profile(child.rows, {**child.columns, **added})
        if isinstance(node, DistinctOn):
            child = self.profile(node.child)
            return child.with_rows(groups(child, [plain_column(k) for k in node.keys]))
        if isinstance(node, Limit):
            child = self.profile(node.child)
            left = max(child.rows - node.offset, 0.0)
            return child.with_rows(left if node.count is None else min(left, float(node.count)))
        if isinstance(node, SetOperation):
            return self._set_operation(node)
        if isinstance(node, Shared):
            self._shared[node.name] = self.profile(node.definition)
            return self.profile(node.body)
        return self._leaf(node)

    def _leaf(self, node: Node) -> Profile:
        if isinstance(node, SharedScan):
            source = self._shared.get(node.name)
            if source is not None:
                columns = {
                    column.name: source.columns[name]
                    for column, name in zip(node.output, node.sources, strict=True)
                }
                return Profile(source.rows, columns)
        rows = {
            OneRow: 1.0,
            SystemTableScan: SYSTEM_TABLE_ROWS,
        }.get(type(node), 1000.0)
        if isinstance(node, TableExpression):
            rows = node.estimated_rows
        if isinstance(node, SystemTableScan) and node.table.rows is not None:
            rows = node.table.rows
        if isinstance(node, Opaque):
            rows = max((self.profile(c).rows for c in node.children), default=1.0)
        if node.children and not isinstance(node, Opaque):
            return self.profile(node.children[0])
        return Profile(rows, _default_columns(node.columns, rows))

    def _scan(self, node: Scan) -> Profile:
        statistics = self._catalog.statistics.get(node.table.id)
        rows = max(float(statistics.rows), 1.0) if statistics else UNKNOWN_TABLE_ROWS
        unique = {
            constraint.columns[0]
            for constraint in (*node.table.unique, node.table.primary_key)
            if constraint is not None and len(constraint.columns) == 1
        }
        columns = {
            column.name: _column_profile(statistics, source.id, source.type, rows, unique)
            for column, source in zip(node.output, node.sources, strict=True)
        }
        return Profile(rows, columns)

    def _items(self, items: tuple[Item, ...], child: Profile) -> Profile:
        columns: dict[str, ColumnProfile] = {}
        for item in items:
            plain = plain_column(item.scalar)
            known = child.columns.get(plain) if plain is not None else None
            if known is None:
                distinct = groups(child, sorted(item.scalar.columns))
                known = ColumnProfile(distinct, width_of(item.scalar.type))
            columns[item.name] = known
        return Profile(child.rows, columns)

    def _aggregate(self, node: Aggregate) -> Profile:
        child = self.profile(node.child)
        keys = self._items(node.keys, child)
        count = 1.0
        for profile in keys.columns.values():
            count = min(count * profile.distinct, max(child.rows, 1.0))
        rows = count * max(1, len(node.sets))
        aggregates = {
            item.name: ColumnProfile(rows, width_of(item.scalar.type)) for item in node.aggregates
        }
        return Profile(rows, {**keys.columns, **aggregates}).with_rows(rows)

    def _join(self, node: Join) -> Profile:
        left, right = self.profile(node.left), self.profile(node.right)
        both = {**left.columns, **right.columns}
        factor = join_selectivity(node.conditions, Profile(left.rows * right.rows, both))
        return joined_profile(node.kind, left, right, factor)

    def _set_operation(self, node: SetOperation) -> Profile:
        branches = [self.profile(b) for b in node.branches]
        rows = branches[0].rows
        if node.kind is SetKind.UNION:
            rows = sum(b.rows for b in branches)
        elif node.kind is SetKind.INTERSECT:
            rows = min(b.rows for b in branches) / 2
        columns = {
            column.name: branches[0].columns[name]
            for column, name in zip(node.output, node.sources[0], strict=True)
        }
        return Profile(rows, columns)


def joined_profile(kind: JoinKind, left: Profile, right: Profile, factor: float) -> Profile:
    """The profile of a join whose conditions let `factor` of the cross product through."""
    columns = {**left.columns, **right.columns} if kind.keeps_right else left.columns
    rows = joined_rows(kind, left.rows, right.rows, factor)
    return Profile(left.rows, columns).with_rows(rows)


def joined_rows(kind: JoinKind, left: float, right: float, factor: float) -> float:
    """The rows of a join whose conditions let `factor` of the cross product through."""
    matched = left * right * factor
    if kind is JoinKind.INNER:
        return matched
    if kind is JoinKind.LEFT:
        return max(matched, left)
    if kind is JoinKind.FULL:
        return max(matched, left + right)
    share = min(1.0, right * factor)
    return left * (share if kind is JoinKind.SEMI else max(1.0 - share, 0.05))


def groups(profile: Profile, names: list[str] | list[str | None]) -> float:
    """How many distinct combinations of these columns there are."""
    count = 1.0
    for name in names:
        column = profile.columns.get(name) if name is not None else None
        count *= column.distinct if column is not None else max(profile.rows / 10.0, 1.0)
    return max(1.0, min(count, profile.rows))


def _only(profile: Profile, columns: tuple[Column, ...]) -> dict[str, ColumnProfile]:
    return {c.name: profile.columns[c.name] for c in columns}


def _default_columns(columns: tuple[Column, ...], rows: float) -> dict[str, ColumnProfile]:
    distinct = max(rows / 10.0, 1.0)
    return {c.name: ColumnProfile(distinct, width_of(c.type)) for c in columns}


def _column_profile(
    statistics: TableStatistics | None,
    column_id: ColumnId,
    sql_type: SqlType,
    rows: float,
    unique: set[ColumnId],
) -> ColumnProfile:
    measured: ColumnStatistics | None = None
    if statistics is not None:
        measured = statistics.columns.get(column_id)
    if measured is None:
        distinct = rows if column_id in unique else max(rows / 10.0, 1.0)
        return ColumnProfile(distinct, width_of(sql_type))
    return ColumnProfile(
        float(max(measured.distinct, 1)),
        measured.width_bytes or width_of(sql_type),
        measured.null_fraction,
        position_of(sql_type, measured.low),
        position_of(sql_type, measured.high),
    )
