"""Physical plans under comparison, and the exchanges between them.

An `Alternative` is one way to compute an operator: where its rows then lie, what it cost, and
how to build it. Nothing is built until the winner is known.

Costs are in bytes moved between nodes; work on rows and the start of a stage are weighed
against them by the constants below (measured on the executor: a moved byte costs about as much
as a tenth of a row joined).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlglot import exp

from catalog.model import NodeId
from planner.algebra import Column, Exchange, Item, Node, Project, Scalar, SortItem
from planner.algebra_scalars import column_item, plain_column
from planner.optimizer.distribution import Distribution, Spread, hashed, single
from planner.optimizer.statistics import Size
from planner.plan import ExchangeKind
from storage.types import INT8, Kind, SqlType, duckdb_type

ROW_COST = 10.0
STAGE_COST = 30_000.0
MAX_ALTERNATIVES = 4

Build = Callable[[], Node]


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to compute an operator; `cost` includes all below it."""

    distribution: Distribution
    cost: float
    build: Build

    def then(
        self,
        wrap: Callable[[Node], Node],
        *,
        distribution: Distribution | None = None,
        cost: float = 0.0,
    ) -> Alternative:
        """The alternative with an operator on top."""
        below = self.build
        where = distribution if distribution is not None else self.distribution
        return Alternative(where, self.cost + cost, lambda: wrap(below()))


def best(alternatives: Iterable[Alternative]) -> Alternative:
    return min(alternatives, key=lambda a: a.cost)


def worth_keeping(alternatives: Sequence[Alternative], size: Size) -> list[Alternative]:
    """The cheapest of each distribution, as long as moving the cheapest's rows is not cheaper."""
    cheapest: dict[Distribution, Alternative] = {}
    for alternative in alternatives:
        known = cheapest.get(alternative.distribution)
        if known is None or alternative.cost < known.cost:
            cheapest[alternative.distribution] = alternative
    ordered = sorted(cheapest.values(), key=lambda a: a.cost)
    bound = ordered[0].cost + 2 * size.bytes + 2 * STAGE_COST
    return [a for a in ordered if a.cost <= bound][:MAX_ALTERNATIVES]


def row_cost(rows: float, distribution: Distribution) -> float:
    """Work on rows, which several nodes share where the rows are spread."""
    copies = distribution.spread is Spread.REPLICATED
    return ROW_COST * rows / (1 if copies else len(distribution.nodes))


def localised(alternative: Alternative, preferred: NodeId) -> Alternative:
    """One copy of a replicated result; any other as it is."""
    where = alternative.distribution
    if where.spread is not Spread.REPLICATED:
        return alternative
    node = preferred if preferred in where.nodes else where.nodes[0]
    return Alternative(single(node, where.pins), alternative.cost, alternative.build)


def gather(
    alternative: Alternative,
    size: Size,
    target: NodeId,
    *,
    sort: tuple[SortItem, ...] = (),
    rescannable: bool = False,
) -> Alternative:
    """All rows on the target node; merged in the order of `sort` where one is given."""
    where = alternative.distribution
    if target in where.nodes and (where.is_single or where.spread is Spread.REPLICATED):
        return Alternative(single(target, where.pins), alternative.cost, alternative.build)
    source = localised(alternative, target)
    nodes = source.distribution.nodes
    remote = 1.0 if target not in nodes else (len(nodes) - 1) / len(nodes)
    kind = ExchangeKind.MERGE if sort else ExchangeKind.GATHER

    def build() -> Node:
        child = source.build()
        return Exchange(
            child,
            kind,
            nodes,
            child.columns,
            sort=sort,
            rescannable=rescannable,
            rows=size.rows,
            bytes=size.bytes,
        )

    moved = size.bytes * remote
    return Alternative(single(target), source.cost + moved + STAGE_COST, build)


def broadcast(alternative: Alternative, size: Size, targets: tuple[NodeId, ...]) -> Alternative:
    """All rows on every target."""
    if len(targets) == 1:
        return gather(alternative, size, targets[0])
    source = localised(alternative, targets[0])
    nodes = source.distribution.nodes

    def build() -> Node:
        child = source.build()
        return Exchange(
            child,
            ExchangeKind.BROADCAST,
            nodes,
            child.columns,
            rows=size.rows,
            bytes=size.bytes * len(targets),
        )

    moved = size.bytes * len(targets)
    where = Distribution(Spread.REPLICATED, targets)
    return Alternative(where, source.cost + moved + STAGE_COST, build)


def repartition(
    alternative: Alternative,
    size: Size,
    keys: Sequence[Item],
    nodes: tuple[NodeId, ...],
) -> Alternative:
    """Rows to nodes by the hash of the keys, which are columns or become ones."""
    if len(nodes) == 1:
        return gather(alternative, size, nodes[0])
    source = localised(alternative, nodes[0])
    names = tuple(item.name for item in keys)

    def build() -> Node:
        child = source.build()
        added = tuple(item for item in keys if not item.is_plain)
        if added:
            child = Project(child, (*(column_item(c) for c in child.columns), *added))
        return Exchange(
            child,
            ExchangeKind.HASH,
            source.distribution.nodes,
            child.columns,
            keys=names,
            rows=size.rows,
            bytes=size.bytes,
        )

    moved = size.bytes * (len(nodes) - 1) / len(nodes)
    cost = source.cost + moved + row_cost(size.rows, source.distribution) + STAGE_COST
    return Alternative(hashed(names, [hashed_type(k) for k in keys], nodes), cost, build)


_INTEGERS = frozenset({Kind.INT2, Kind.INT4, Kind.INT8})
_TEXTS = frozenset({Kind.TEXT, Kind.VARCHAR, Kind.NAME})
# Kinds that DuckDB may hold in several types, or whose equality is not that of the type.
_UNCERTAIN = frozenset({Kind.ANY, Kind.UNKNOWN, Kind.RECORD, Kind.JSON, Kind.JSONB, Kind.ARRAY})


def hash_key(scalar: Scalar, name: str, other: SqlType | None = None) -> Item | None:
    """The key by which rows may be hashed; None where equal values may differ in their hash.

    The executor's hash follows equality within one DuckDB type. Rows that come from one stage
    have that; rows hashed to meet others, whose key has the type `other`, are cast where the
    two may not be the same, as integers of two widths and all decimals.
    """
    mine = scalar.type
    if other is None:
        return _as_key(scalar, name)
    if mine.kind in _INTEGERS and other.kind in _INTEGERS:
        if mine.kind is other.kind:
            return _as_key(scalar, name)
        return Item(name, _cast(scalar, INT8))
    if mine.kind is Kind.NUMERIC and other.kind is Kind.NUMERIC:
        if mine.precision is None or other.precision is None or mine.scale != other.scale:
            return None
        return Item(name, _cast(scalar, SqlType(Kind.NUMERIC, precision=38, scale=mine.scale)))
    if mine.kind in _UNCERTAIN:
        return None
    if mine.kind is other.kind or (mine.kind in _TEXTS and other.kind in _TEXTS):
        return _as_key(scalar, name)
    return None


def hashed_type(key: Item) -> str:
    """The DuckDB type of a hash key; of an uncertain one a name that equals no other."""
    kind = key.scalar.type.kind
    uncertain = kind is Kind.NUMERIC and not isinstance(key.scalar.node, exp.Cast)
    if kind in _UNCERTAIN or uncertain:
        return f"type of {key.name}"
    return duckdb_type(key.scalar.type)


def _as_key(scalar: Scalar, name: str) -> Item:
    plain = plain_column(scalar)
    return Item(plain or name, scalar)


def _cast(scalar: Scalar, sql_type: SqlType) -> Scalar:
    target = exp.DataType.build(duckdb_type(sql_type), dialect="duckdb")
    node = exp.Cast(this=scalar.node, to=target)
    return Scalar(node, scalar.columns, sql_type, scalar.volatile)


def column_keys(columns: Sequence[Column]) -> tuple[Item, ...]:
    """Hash keys over columns of one stage."""
    return tuple(column_item(c) for c in columns)
