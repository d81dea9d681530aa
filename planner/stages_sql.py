"""The DuckDB SQL of one stage, written from its operators.

Operators that fit one SELECT share it (`_Block`), the rest nest; DuckDB's own optimiser takes
the nesting apart again. Columns are written by their unique names, so nothing is qualified and
no two operators can mean different columns by one name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlglot import exp

from planner.algebra import (
    Aggregate,
    Column,
    DistinctOn,
    Exchange,
    Filter,
    GroupScan,
    Item,
    Join,
    JoinKind,
    Limit,
    Node,
    OneRow,
    Opaque,
    Project,
    Scalar,
    SetOperation,
    Shared,
    SharedScan,
    Sort,
    SortItem,
    SystemTableScan,
    TableExpression,
    TableScan,
    Window,
)
from planner.algebra_scalars import copy_tree, plain_column
from planner.bound import BoundRelation
from planner.dialect import duckdb_sql
from planner.duckdb_faults import NO_LIMIT, UNKNOWN_ROWS, runnable

_JOINS = {
    JoinKind.INNER: "JOIN",
    JoinKind.LEFT: "LEFT JOIN",
    JoinKind.FULL: "FULL JOIN",
    JoinKind.SEMI: "SEMI JOIN",
    JoinKind.ANTI: "ANTI JOIN",
}


class Sources(Protocol):
    """Names for what a stage reads, as `"@scan:1"`."""

    def exchange(self, node: Exchange) -> str: ...

    def scan(self, node: TableScan, group: GroupScan) -> str: ...

    def system_scan(self, node: SystemTableScan) -> str: ...


@dataclass(slots=True)
class _Block:
    """A SELECT in the making. `items` None selects everything of the source."""

    source: str
    items: list[tuple[str, str]] | None = None
    where: list[str] = field(default_factory=list)
    group: str = ""
    distinct: str = ""
    order: str = ""
    limit: str = ""

    @property
    def is_open(self) -> bool:
        """Whether conditions may still be added to WHERE and a select list be given."""
        return self.items is None and not (self.distinct or self.order or self.limit)

    def text(self) -> str:
        items = "*" if self.items is None else ", ".join(_named(n, s) for n, s in self.items)
        if self.items is None and not self.source:
            items = "1 AS one"
        parts = [f"SELECT {self.distinct}{items}"]
        if self.source:
            parts.append(f"FROM {self.source}")
        if self.where:
            parts.append("WHERE " + " AND ".join(self.where))
        parts += [p for p in (self.group, self.order, self.limit) if p]
        return " ".join(parts)


class StageText:
    """Writes the SQL of one stage, asking `sources` for what it reads."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._writers: dict[type[Node], Callable[..., _Block]] = {
            Filter: self._filter,
            Project: self._project,
            Join: self._join,
            Aggregate: self._aggregate,
            DistinctOn: self._distinct_on,
            Window: self._window,
            Sort: self._sort,
            Limit: self._limit,
            SetOperation: self._set_operation,
            Shared: self._shared,
            SharedScan: self._shared_scan,
            OneRow: self._one_row,
            TableExpression: self._table_expression,
            TableScan: self._table_scan,
            SystemTableScan: self._system_scan,
            Exchange: self._exchange,
            Opaque: self._opaque,
        }

    def select(self, node: Node, output: Sequence[Column]) -> str:
        """The statement that puts out just these columns, in order."""
        block = self._block(node)
        wanted = [c.name for c in output]
        if block.items is None:
            if block.is_open and node.columns == tuple(output) and not block.where:
                block.items = [(n, quoted(n)) for n in wanted]
                return block.text()
            if block.is_open:
                block.items = [(n, quoted(n)) for n in wanted]
                return block.text()
        if block.items is not None and [n for n, _ in block.items] == wanted:
            return block.text()
        return _Block(f"({block.text()})", [(n, quoted(n)) for n in wanted]).text()

    def _block(self, node: Node) -> _Block:
        return self._writers[type(node)](node)

    def _open_block(self, node: Node) -> _Block:
        """The operator's SELECT, nested where nothing can be added to it."""
        block = self._block(node)
        return block if block.is_open else _Block(f"({block.text()})")

    def _from(self, node: Node) -> str:
        """The operator as an item of FROM."""
        block = self._block(node)
        if block.is_open and not block.where and block.source:
            return block.source if not isinstance(node, Join) else f"({block.source})"
        return f"({block.text()})"

    def _filter(self, node: Filter) -> _Block:
        block = self._open_block(node.child)
        hidden = _hidden_nulls(node.child)
        for condition in node.conditions:
            text = _condition(condition)
            # See planner.duckdb_faults: outer joins without a match.
            tested = isinstance(condition.node, exp.Is) and condition.columns <= hidden
            block.where.append(f"COALESCE({text}, FALSE)" if tested else text)
        return block

    def _project(self, node: Project) -> _Block:
        block = self._open_block(node.child)
        block.items = [_item(i) for i in node.items]
        return block

    def _join(self, node: Join) -> _Block:
        left = self._block(node.left)
        keeps = left.is_open and not left.where and left.source
        source = left.source if keeps else f"({left.text()})"
        right = self._from(node.right)
        if node.kind is JoinKind.NULL_AWARE_ANTI:
            return self._not_in(node, source, right)
        if not node.conditions and node.kind is JoinKind.INNER:
            return _Block(f"{source} CROSS JOIN {right}")
        texts = [_condition(c) for c in node.conditions]
        weak = node.choice.weak if node.choice is not None else 0
        # DuckDB keeps this beside a join and never joins by it.
        texts[len(texts) - weak :] = [f"COALESCE({t}, FALSE)" for t in texts[len(texts) - weak :]]
        on = " AND ".join(texts) or "TRUE"
        if node.kind in (JoinKind.LEFT, JoinKind.FULL):
            names = ", ".join(quoted(c.name) for c in node.right.columns) or "1"
            right = f"(SELECT {names} FROM {right} CROSS JOIN {UNKNOWN_ROWS})"
        return _Block(f"{source} {_JOINS[node.kind]} {right} ON {on}")

    @staticmethod
    def _not_in(node: Join, left: str, right: str) -> _Block:
        (condition,) = node.conditions
        equality = condition.node
        subject, value = duckdb_sql(equality.this), duckdb_sql(equality.expression)
        return _Block(left, where=[f"{subject} NOT IN (SELECT {value} FROM {right})"])

    def _aggregate(self, node: Aggregate) -> _Block:
        block = self._open_block(node.child)
        block.items = [_item(i) for i in (*node.keys, *node.aggregates)]
        if node.sets:
            texts = [_text(k.scalar) for k in node.keys]
            sets = ", ".join(f"({', '.join(texts[i] for i in one)})" for one in node.sets)
            block.group = f"GROUP BY GROUPING SETS ({sets})"
        elif node.keys:
            block.group = "GROUP BY " + ", ".join(str(i + 1) for i in range(len(node.keys)))
        return block

    def _distinct_on(self, node: DistinctOn) -> _Block:
        block = self._open_block(node.child)
        block.distinct = f"DISTINCT ON ({', '.join(_text(k) for k in node.keys)}) "
        block.order = _order(node.sort)
        block.limit = f"LIMIT {NO_LIMIT} OFFSET 0"  # see planner.duckdb_faults
        return block

    def _window(self, node: Window) -> _Block:
        block = self._open_block(node.child)
        block.items = [(c.name, quoted(c.name)) for c in node.child.columns]
        block.items += [_item(f) for f in node.functions]
        return block

    def _sort(self, node: Sort) -> _Block:
        block = self._block(node.child)
        plain = all(plain_column(k.scalar) is not None for k in node.keys)
        if block.order or block.limit or block.distinct or not (plain or block.items is None):
            block = _Block(f"({block.text()})")
        block.order = _order(node.keys)
        return block

    def _limit(self, node: Limit) -> _Block:
        block = self._block(node.child)
        if block.limit:
            block = _Block(f"({block.text()})")
        parts = [f"LIMIT {node.count}"] if node.count is not None else []
        # An OFFSET always: see planner.duckdb_faults.
        block.limit = " ".join([*parts, f"OFFSET {node.offset}"])
        return block

    def _set_operation(self, node: SetOperation) -> _Block:
        operator = f" {node.kind.value.upper()}{' ALL' if node.all else ''} "
        texts: list[str] = []
        for branch, sources in zip(node.branches, node.sources, strict=True):
            block = self._open_block(branch)
            block.items = [
                (c.name, quoted(source)) for c, source in zip(node.output, sources, strict=True)
            ]
            texts.append(f"({block.text()})")
        return _Block(f"({operator.join(texts)})")

    def _shared(self, node: Shared) -> _Block:
        definition = self.select(node.definition, node.definition.columns)
        body = self._block(node.body).text()
        return _Block(f"(WITH {quoted(node.name)} AS MATERIALIZED ({definition}) {body})")

    @staticmethod
    def _shared_scan(node: SharedScan) -> _Block:
        items = [
            (column.name, quoted(source))
            for column, source in zip(node.output, node.sources, strict=True)
        ]
        return _Block(quoted(node.name), items)

    @staticmethod
    def _one_row(_node: OneRow) -> _Block:
        return _Block("")

    @staticmethod
    def _table_expression(node: TableExpression) -> _Block:
        tree = copy_tree(node.tree)
        alias = tree.args["alias"]
        alias.set("columns", [exp.Identifier(this=c.name, quoted=True) for c in node.output])
        return _Block(duckdb_sql(tree))

    def _table_scan(self, node: TableScan) -> _Block:
        names = [quoted(self._sources.scan(node, group)) for group in node.groups]
        source = names[0]
        for name, keys in zip(names[1:], node.group_keys[1:], strict=False):
            pairs = zip(node.group_keys[0], keys, strict=True)
            on = " AND ".join(f"{quoted(a)} = {quoted(b)}" for a, b in pairs)
            source += f" JOIN {name} ON {on}"
        return _Block(source)

    def _system_scan(self, node: SystemTableScan) -> _Block:
        return _Block(quoted(self._sources.system_scan(node)))

    def _exchange(self, node: Exchange) -> _Block:
        return _Block(quoted(self._sources.exchange(node)))

    def _opaque(self, node: Opaque) -> _Block:
        """The query as written, its base relations replaced by what is read of them here."""
        texts = {i.relation: self._renamed(i.node, i.names) for i in node.inputs}

        def replace(part: exp.Expr) -> exp.Expr | None:
            if not isinstance(part, exp.Table) or not part._meta:
                return None
            if not isinstance(part._meta.get("relation"), BoundRelation):
                return None
            name = part.alias_or_name
            alias = exp.TableAlias(this=exp.Identifier(this=name, quoted=True))
            return exp.Subquery(this=exp.Var(this=texts[name]), alias=alias)

        text = duckdb_sql(runnable(copy_tree(node.tree, replace)))
        items = [
            (column.name, quoted(source))
            for column, source in zip(node.output, node.sources, strict=True)
        ]
        return _Block(f"({text})", items)

    def _renamed(self, node: Node, names: Iterable[tuple[str, str]]) -> str:
        block = self._open_block(node)
        block.items = [(name, quoted(source)) for name, source in names]
        return block.text()


def quoted(name: str) -> str:
    """The name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def _named(name: str, sql: str) -> str:
    own = quoted(name)
    return sql if sql == own else f"{sql} AS {own}"


def _text(scalar: Scalar) -> str:
    return duckdb_sql(scalar.node)


def _hidden_nulls(node: Node) -> frozenset[str]:
    """Columns that an outer join below may make NULL beside others that are still needed."""
    if isinstance(node, Filter | Project):
        return _hidden_nulls(node.child)
    if not isinstance(node, Join):
        return frozenset()
    found = _hidden_nulls(node.left) | _hidden_nulls(node.right)
    if node.kind in (JoinKind.LEFT, JoinKind.FULL) and len(node.right.columns) > 1:
        found |= frozenset(c.name for c in node.right.columns)
    return found


def _condition(scalar: Scalar) -> str:
    text = duckdb_sql(scalar.node)
    return f"({text})" if isinstance(scalar.node, exp.Or | exp.And | exp.Not) else text


def _item(item: Item) -> tuple[str, str]:
    return item.name, _text(item.scalar)


def _order(keys: Iterable[SortItem]) -> str:
    texts = [
        f"{_text(k.scalar)}{' DESC' if k.descending else ' ASC'}"
        f"{' NULLS FIRST' if k.nulls_first else ' NULLS LAST'}"
        for k in keys
    ]
    return "ORDER BY " + ", ".join(texts) if texts else ""
