"""Query blocks: SELECT, set operations, VALUES, and the CTEs around them.

A block is bound in PostgreSQL's order: FROM, WHERE, select list, GROUP BY, HAVING, ORDER BY,
LIMIT. Its outputs may still be untyped literals until `settling` gives them their final types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from cluster.errors import (
    DatatypeMismatch,
    FeatureNotSupported,
    SyntaxError_,
)
from planner.binder.blocks import Block, CommonTable, Item, Output, Selection
from planner.binder.clause import Clause
from planner.binder.common_tables import CommonTables
from planner.binder.expressions import ExpressionBinder
from planner.binder.grouping import GroupBinder, check_grouped
from planner.binder.naming import output_name
from planner.binder.ordering import Ordering
from planner.binder.relations import FromClause, RelationBinder
from planner.binder.scope import Scope
from planner.binder.settling import Settling
from planner.binder.statement import Statement
from planner.binder.trees import fold
from planner.bound import type_of
from planner.semantics import build, comparison, records
from planner.semantics.casts import stored_shape
from planner.types import Coercion, bare_type, common_type
from storage.types import BOOL, INT8, TEXT, Kind, SqlType


class QueryBinder:
    """Binds one block; `nested` makes binders for those inside it."""

    def __init__(
        self,
        statement: Statement,
        common_tables: Mapping[str, CommonTable] | None = None,
        view_depth: int = 0,
    ) -> None:
        self.statement = statement
        self.casts = statement.casts
        self.common_tables = dict(common_tables or {})
        self.view_depth = view_depth
        self.aggregates = False
        self.ordering = Ordering(self)
        self.settling = Settling(statement)
        self._windows: dict[str, exp.Window] = {}

    # Faces for expressions and relations

    def cte(self, name: str) -> CommonTable | None:
        return self.common_tables.get(name)

    def nested(self, node: exp.Expr, outer: Scope | None) -> Block:
        """A query inside this block, untyped outputs still open."""
        return self.inside().bind(node, outer)

    def inside(self) -> QueryBinder:
        """A binder for a query inside this block."""
        return QueryBinder(self.statement, self.common_tables, self.view_depth)

    def view(self, query: exp.Expr) -> Block:
        """A view's query: it sees no names of the block that uses it."""
        inner = QueryBinder(self.statement, None, self.view_depth + 1)
        return inner.bind(query, None)

    def subquery(self, node: exp.Expr, scope: Scope) -> Block:
        """A query inside an expression."""
        block = self.nested(node, scope)
        self.settling.settle(block)
        return block

    def comparable_subquery(
        self, left: exp.Expr, query: exp.Expr, scope: Scope
    ) -> tuple[exp.Expr, exp.Subquery]:
        """`left IN (query)`: both sides as types that compare."""
        block = self.nested(query, scope)
        parts = list(left.expressions) if isinstance(left, exp.Tuple) else [left]
        if len(parts) != len(block.outputs):
            few = "few" if len(parts) > len(block.outputs) else "many"
            raise SyntaxError_(f"subquery has too {few} columns")
        targets = []
        for index, output in enumerate(block.outputs):
            open_type = output.type.kind is Kind.UNKNOWN
            if build.is_untyped(parts[index]):
                wanted = TEXT if open_type else bare_type(output.type)
                parts[index] = self.casts.coerce(parts[index], wanted, Coercion.IMPLICIT)
            targets.append(bare_type(type_of(parts[index])) if open_type else output.type)
            column = build.column(output.alias, "q", targets[-1])
            first, second = comparison.unified("=", parts[index], column, self.casts)
            parts[index] = first
            if type_of(second) != targets[-1]:
                targets[-1] = type_of(second)
        self.settling.settle(block, targets)
        row = exp.Tuple(expressions=parts) if isinstance(left, exp.Tuple) else parts[0]
        subquery = exp.Subquery(this=block.tree)
        return build.typed(row, type_of(left)), subquery

    def named_window(self, name: str) -> exp.Window | None:
        return self._windows.get(name.lower())

    @staticmethod
    def free_alias(wanted: str, taken: set[str]) -> str:
        """An output alias not in `taken`, letter case aside."""
        used = {name.lower() for name in taken}
        name, suffix = wanted or "column", 1
        while name.lower() in used:
            suffix += 1
            name = f"{wanted}_{suffix}"
        return name

    # Blocks

    def bind(
        self, node: exp.Expr, outer: Scope | None, targets: Sequence[SqlType] | None = None
    ) -> Block:
        """Any query; `targets` are the columns that its rows are assigned to."""
        ctes = CommonTables(self).bind(node, outer)
        match node:
            case exp.Select():
                block = self._select(node, outer)
            case exp.SetOperation():
                block = self._set_operation(node, outer)
            case exp.Values():
                block = self._values(node, outer, targets)
            case exp.Subquery() | exp.Paren():
                block = self._parenthesised(node, outer, targets)
            case _:
                raise FeatureNotSupported(f"{node.key} is not a query")
        if ctes is not None:
            block.tree.set("with_", ctes)
        return block

    def _parenthesised(
        self, node: exp.Expr, outer: Scope | None, targets: Sequence[SqlType] | None
    ) -> Block:
        block = self.bind(node.this, outer, targets)
        keys = ("order", "limit", "offset")
        if not any(node.args.get(key) for key in keys):
            return block
        self.settling.settle(block)
        wrapped = self.settling.wrapped(block)
        self.ordering.of_outputs(wrapped, node)
        self.ordering.limits(wrapped.tree, node, Scope(FromClause().namespace, outer))
        return wrapped

    # Set operations and VALUES

    def _set_operation(self, node: exp.SetOperation, outer: Scope | None) -> Block:
        left = self.nested(node.this, outer)
        right = self.nested(node.expression, outer)
        operator = type(node).__name__.upper()
        if len(left.outputs) != len(right.outputs):
            raise SyntaxError_(
                f"each {operator} query must have the same number of columns",
                position=build.error_position(node.expression),
            )
        types = [
            self._set_type(operator, a, b, node)
            for a, b in zip(left.outputs, right.outputs, strict=True)
        ]
        self.settling.settle(left, types)
        self.settling.settle(right, types)
        distinct = bool(node.args.get("distinct", True))
        tree = type(node)(
            this=_branch(left.tree), expression=_branch(right.tree), distinct=distinct
        )
        outputs = [
            Output(o.name, o.alias, settled.type)
            for o, settled in zip(left.outputs, left.outputs, strict=True)
        ]
        block = Block(tree, outputs)
        self.ordering.of_outputs(block, node)
        self.ordering.limits(tree, node, Scope(FromClause().namespace, outer))
        return block

    def _set_type(
        self, operator: str, left: Output, right: Output, node: exp.SetOperation
    ) -> SqlType:
        found = common_type([left.type, right.type])
        if found is None:
            first, second = bare_type(left.type), bare_type(right.type)
            raise DatatypeMismatch(
                f"{operator} types {first} and {second} cannot be matched",
                position=build.error_position(node.expression),
            )
        return found

    def _values(
        self, node: exp.Values, outer: Scope | None, targets: Sequence[SqlType] | None
    ) -> Block:
        scope = Scope(FromClause().namespace, outer)
        binder = ExpressionBinder(self.statement, scope, Clause.VALUES, self)
        rows = [
            [binder.bind(cell) for cell in (r.expressions if isinstance(r, exp.Tuple) else [r])]
            for r in node.expressions
        ]
        width = len(rows[0])
        if any(len(row) != width for row in rows):
            raise SyntaxError_("VALUES lists must all be the same length")
        if targets is not None and len(targets) >= width:
            types = list(targets[:width])
            for row in rows:
                row[:] = [self.settling.assigned(c, t) for c, t in zip(row, types, strict=True)]
        else:
            columns = [binder.unify([row[i] for row in rows], "VALUES") for i in range(width)]
            types = [common_type([type_of(c) for c in column]) or TEXT for column in columns]
            rows = [
                [stored_shape(columns[i][j], types[i]) for i in range(width)]
                for j in range(len(rows))
            ]
        block = self._values_block(rows, types)
        self.ordering.of_outputs(block, node)
        self.ordering.limits(block.tree, node, scope)
        return block

    def _values_block(self, rows: list[list[exp.Expr]], types: list[SqlType]) -> Block:
        unique = self.statement.unique_name("values")
        names = [f"column{i + 1}" for i in range(len(types))]
        alias = exp.TableAlias(
            this=build.identifier(unique), columns=[build.identifier(n) for n in names]
        )
        values = exp.Values(expressions=[exp.Tuple(expressions=row) for row in rows], alias=alias)
        outputs = [
            build.aliased(build.column(n, unique, t), n) for n, t in zip(names, types, strict=True)
        ]
        select = exp.Select(expressions=outputs, from_=exp.From(this=values))
        return Block(select, [Output(n, n, t) for n, t in zip(names, types, strict=True)])

    # SELECT

    def _select(self, node: exp.Select, outer: Scope | None) -> Block:
        for key, word in (("locks", "FOR UPDATE and its like"), ("sample", "TABLESAMPLE")):
            if node.args.get(key):
                raise FeatureNotSupported(f"{word} is not supported")
        if node.args.get("into") is not None:
            raise FeatureNotSupported("SELECT INTO is not supported here; use CREATE TABLE AS")
        self._windows = {w.this.name.lower(): w for w in node.args.get("windows") or []}
        clause = RelationBinder(self, outer).bind(node)
        selection = Selection(clause, Scope(clause.namespace, outer))
        where = node.args.get("where")
        if where is not None:
            binder = self.expression_binder(selection, Clause.WHERE)
            selection.where = binder.bind_condition(where.this)
        self._select_list(selection, node)
        self._group(selection, node)
        self.ordering.bind(selection, node)
        self._check_grouping(selection)
        return self._assembled(selection, node)

    def expression_binder(self, selection: Selection, clause: Clause) -> ExpressionBinder:
        """A binder for one clause of a SELECT."""
        return ExpressionBinder(self.statement, selection.scope, clause, self)

    def _select_list(self, selection: Selection, node: exp.Select) -> None:
        binder = self.expression_binder(selection, Clause.SELECT)
        for written in node.expressions:
            selection.items += self._expanded(written, selection, binder)
        taken: set[str] = set()
        for item in selection.items:
            alias = self.free_alias(item.name.replace("\x00", ""), taken)
            taken.add(alias.lower())
            selection.aliases.append(alias)

    def _expanded(
        self, written: exp.Expr, selection: Selection, binder: ExpressionBinder
    ) -> list[Item]:
        """A select-list item, or the columns of a star."""
        inner = written.this if isinstance(written, exp.Alias) else written
        if isinstance(inner, exp.Star):
            visible = selection.clause.namespace.visible
            if not visible and selection.clause.first is None:
                raise SyntaxError_("SELECT * with no tables specified is not valid")
            return [Item(column.name, column.node()) for column in visible]
        if isinstance(inner, exp.Column) and isinstance(inner.this, exp.Star):
            return self._starred(inner, selection)
        if isinstance(inner, exp.Dot) and isinstance(inner.expression, exp.Star):
            return self._starred_record(inner, binder)
        name = fold(written.args["alias"]) if isinstance(written, exp.Alias) else None
        return [Item(name or output_name(inner), binder.bind(inner))]

    def _starred(self, node: exp.Column, selection: Selection) -> list[Item]:
        name = fold(node.args["table"])
        schema = fold(node.args["db"]) if node.args.get("db") is not None else None
        source = selection.scope.source(name, schema)
        if source is None:
            raise selection.scope.missing_relation(name, build.error_position(node))
        return [Item(column.name, column.node()) for column in source.visible]

    @staticmethod
    def _starred_record(node: exp.Dot, binder: ExpressionBinder) -> list[Item]:
        value = records.written_row(binder.bind(node.this))
        if not isinstance(value, exp.Struct):
            raise FeatureNotSupported("row expansion via .* is supported for relations only")
        return [Item(pair.this.name, pair.expression) for pair in value.expressions]

    def _group(self, selection: Selection, node: exp.Select) -> None:
        group = node.args.get("group")
        if group is not None:
            groups = GroupBinder(self.expression_binder(selection, Clause.GROUP), selection.items)
            selection.group = groups.bind(group)
            selection.items = groups.items
            selection.keys, selection.has_sets = groups.keys, groups.has_sets
        having = node.args.get("having")
        if having is not None:
            selection.having = self.expression_binder(selection, Clause.HAVING).bind_condition(
                having.this
            )
        elif selection.has_sets and not selection.keys and not self.aggregates:
            selection.having = _any_group()

    def _check_grouping(self, selection: Selection) -> None:
        grouped = self.aggregates or selection.group is not None or selection.having is not None
        if not grouped and not selection.keys:
            return
        nodes = [item.node for item in selection.items]
        nodes += [key.this for key in selection.order] + selection.distinct_on
        if selection.having is not None:
            nodes.append(selection.having)
        extra = check_grouped(nodes, selection.keys, selection.clause.namespace)
        if extra and selection.has_sets:
            raise FeatureNotSupported(
                "columns fixed by a grouped primary key are not supported with grouping sets"
            )
        if extra and selection.group is not None:
            selection.group.set(
                "expressions", [*selection.group.expressions, *(e.copy() for e in extra)]
            )

    # Assembly

    def _assembled(self, selection: Selection, node: exp.Select) -> Block:
        items = [
            build.aliased(item.node, alias)
            for item, alias in zip(selection.items, selection.aliases, strict=True)
        ]
        outputs = [
            Output(item.name, alias, type_of(item.node))
            for item, alias in zip(selection.items, selection.aliases, strict=True)
        ]
        if not items:  # SELECT FROM t: rows without columns
            items = [build.aliased(build.boolean(True), "row")]
        select = exp.Select(expressions=items)
        if selection.clause.first is not None:
            select.set("from_", exp.From(this=selection.clause.first))
        if selection.clause.joins:
            select.set("joins", selection.clause.joins)
        if selection.where is not None:
            select.set("where", exp.Where(this=selection.where))
        if selection.group is not None:
            select.set("group", selection.group)
        if selection.having is not None:
            select.set("having", exp.Having(this=selection.having))
        self._set_distinct(select, selection, node)
        return self._ordered_and_limited(Block(select, outputs), selection, node)

    def _set_distinct(self, select: exp.Select, selection: Selection, node: exp.Select) -> None:
        if selection.distinct_on:
            on = exp.Tuple(expressions=selection.distinct_on)
            select.set("distinct", exp.Distinct(on=on))
        elif node.args.get("distinct") is not None:
            select.set("distinct", exp.Distinct())

    def _ordered_and_limited(self, block: Block, selection: Selection, node: exp.Select) -> Block:
        limit = node.args.get("limit")
        options = limit.args.get("limit_options") if isinstance(limit, exp.Fetch) else None
        if options is not None and options.args.get("with_ties"):
            return self.ordering.with_ties(block, selection, node)
        if selection.order:
            block.tree.set("order", exp.Order(expressions=selection.order))
        self.ordering.limits(block.tree, node, selection.scope)
        return block


def _any_group() -> exp.Expr:
    """A condition that all groups meet: DuckDB, which has nothing to compute, makes one group of
    several empty grouping sets."""
    rows = build.typed(exp.Count(this=exp.Star(), big_int=True), INT8)
    return build.binary(exp.GTE, rows, build.integer(0, INT8), BOOL)


def _branch(tree: exp.Query) -> exp.Expr:
    """A side of a set operation, in parentheses where its own clauses would reach further."""
    if isinstance(tree, exp.SetOperation) or any(
        tree.args.get(key) for key in ("order", "limit", "offset", "with_")
    ):
        return exp.Subquery(this=tree)
    return tree
