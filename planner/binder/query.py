"""Query blocks: SELECT, set operations, VALUES, and the CTEs around them.

A block is bound in PostgreSQL's order: FROM, WHERE, select list, GROUP BY, HAVING, ORDER BY,
LIMIT. Its outputs may still be untyped literals; `settle` gives every output its final type,
once the place of the block (a UNION's other side, INSERT's target) has said what it wants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from cluster.errors import (
    DatatypeMismatch,
    DuplicateAlias,
    FeatureNotSupported,
    InvalidColumnReference,
    SyntaxError_,
)
from planner.binder.blocks import Block, CommonTable, Item, Output, Selection
from planner.binder.clause import Clause
from planner.binder.expressions import ExpressionBinder
from planner.binder.grouping import GroupBinder, check_grouped
from planner.binder.naming import output_name
from planner.binder.ordering import Ordering
from planner.binder.relations import FromClause, RelationBinder
from planner.binder.scope import Scope, ScopeColumn
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
        self._windows: dict[str, exp.Window] = {}

    # Faces for expressions and relations

    def cte(self, name: str) -> CommonTable | None:
        return self.common_tables.get(name)

    def nested(self, node: exp.Expr, outer: Scope | None) -> Block:
        """A query inside this block, untyped outputs still open."""
        inner = QueryBinder(self.statement, self.common_tables, self.view_depth)
        return inner.bind(node, outer)

    def view(self, query: exp.Expr) -> Block:
        """A view's query: it sees no names of the block that uses it."""
        inner = QueryBinder(self.statement, None, self.view_depth + 1)
        return inner.bind(query, None)

    def subquery(self, node: exp.Expr, scope: Scope) -> Block:
        """A query inside an expression."""
        block = self.nested(node, scope)
        self.settle(block)
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
        self.settle(block, targets)
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
        ctes = self._bind_ctes(node, outer)
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
        self.settle(block)
        wrapped = self.wrapped(block)
        self.ordering.of_outputs(wrapped, node)
        self.ordering.limits(wrapped.tree, node, Scope(FromClause().namespace, outer))
        return wrapped

    def wrapped(self, block: Block) -> Block:
        """The block as a derived table of a plain SELECT."""
        unique = self.statement.unique_name("q")
        outputs = [
            build.aliased(build.column(o.alias, unique, o.type), o.alias) for o in block.outputs
        ]
        inner = exp.Subquery(this=block.tree, alias=exp.TableAlias(this=build.identifier(unique)))
        select = exp.Select(expressions=outputs, from_=exp.From(this=inner))
        return Block(select, list(block.outputs))

    # CTEs

    def _bind_ctes(self, node: exp.Expr, outer: Scope | None) -> exp.With | None:
        clause = node.args.get("with_")
        if clause is None:
            return None
        recursive = bool(clause.args.get("recursive"))
        bound: list[exp.Expr] = []
        seen: set[str] = set()
        for cte in clause.expressions:
            name = fold(cte.args["alias"].this)
            if name in seen:
                raise DuplicateAlias(f'WITH query name "{name}" specified more than once')
            seen.add(name)
            bound.append(self._common_table(name, cte, recursive, outer))
        return exp.With(expressions=bound, recursive=recursive)

    def _common_table(
        self, name: str, cte: exp.CTE, recursive: bool, outer: Scope | None
    ) -> exp.CTE:
        unique = self.statement.unique_name(name)
        names = [fold(c) for c in cte.args["alias"].args.get("columns") or []]
        query = cte.this
        if not isinstance(query, (exp.Query, exp.Subquery, exp.Values)):
            raise FeatureNotSupported("data-modifying statements in WITH are not supported")
        if recursive and isinstance(query, exp.Union) and _mentions(query.expression, name):
            block = self._recursive(name, unique, query, names, outer)
        else:
            block = self.nested(query, outer)
            self.settle(block)
        self.common_tables[name] = CommonTable(unique, _cte_columns(block, names, name))
        materialized = cte.args.get("materialized")
        alias = exp.TableAlias(this=build.identifier(unique))
        return exp.CTE(this=block.tree, alias=alias, materialized=materialized)

    def _recursive(
        self,
        name: str,
        unique: str,
        query: exp.Union,
        names: Sequence[str],
        outer: Scope | None,
    ) -> Block:
        start = self.nested(query.this, outer)
        self.settle(start)
        inner = QueryBinder(self.statement, self.common_tables, self.view_depth)
        inner.common_tables[name] = CommonTable(unique, _cte_columns(start, names, name))
        step = inner.bind(query.expression, outer)
        if len(step.outputs) != len(start.outputs):
            raise SyntaxError_("each UNION query must have the same number of columns")
        for index, (first, second) in enumerate(zip(start.outputs, step.outputs, strict=True), 1):
            if common_type([first.type, second.type]) is None or not _settles_on(first, second):
                raise DatatypeMismatch(
                    f'recursive query "{name}" column {index} has type {first.type} in '
                    f"non-recursive term but type {bare_type(second.type)} overall",
                    hint="Cast the output of the non-recursive term to the correct type.",
                )
        self.settle(step, [o.type for o in start.outputs])
        distinct = bool(query.args.get("distinct"))
        tree = exp.Union(this=start.tree, expression=step.tree, distinct=distinct)
        return Block(tree, start.outputs)

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
        self.settle(left, types)
        self.settle(right, types)
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
                row[:] = [self.assigned(c, t) for c, t in zip(row, types, strict=True)]
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

    # Types of outputs

    def settle(self, block: Block, targets: Sequence[SqlType] | None = None) -> None:
        """Every output in its final type: the target's, or text where none was found."""
        settled = []
        for index, output in enumerate(block.outputs):
            target = targets[index] if targets is not None else None
            settled.append(self._settle_output(block.tree, index, output, target))
        block.outputs = settled

    def _settle_output(
        self, tree: exp.Expr, index: int, output: Output, target: SqlType | None
    ) -> Output:
        if isinstance(tree, exp.SetOperation):
            wanted = target or (TEXT if output.type.kind is Kind.UNKNOWN else output.type)
            left = self._settle_output(tree.this, index, output, wanted)
            self._settle_output(tree.expression, index, output, wanted)
            return left
        if isinstance(tree, (exp.Subquery, exp.Paren)):
            return self._settle_output(tree.this, index, output, target)
        alias = tree.expressions[index]
        node = alias.this
        source = type_of(node)
        wanted = target or (TEXT if source.kind is Kind.UNKNOWN else source)
        coerced = comparison.normalised(self.casts.coerce(node, wanted, Coercion.IMPLICIT))
        if target is not None:
            coerced = stored_shape(coerced, target)
        if coerced is not node:
            alias.set("this", coerced)
        final = type_of(coerced)
        alias.meta["type"] = final
        return Output(output.name, output.alias, final)

    def assign(self, block: Block, targets: Sequence[SqlType]) -> None:
        """Every output as a value stored in a column of that type."""
        tree = block.tree
        if not isinstance(tree, exp.Select) or tree.args.get("distinct") is not None:
            self.settle(block)
            wrapped = self.wrapped(block)
            block.tree, tree = wrapped.tree, wrapped.tree
        assigned = []
        for index, output in enumerate(block.outputs):
            alias = tree.expressions[index]
            if index < len(targets):
                node = self.assigned(alias.this, targets[index])
            else:
                node = alias.this
            alias.set("this", node)
            alias.meta["type"] = type_of(node)
            assigned.append(Output(output.name, output.alias, type_of(node)))
        block.outputs = assigned

    def assigned(self, node: exp.Expr, target: SqlType) -> exp.Expr:
        """The value as a column of that type stores it."""
        coerced = self.casts.coerce(node, target, Coercion.ASSIGNMENT)
        return stored_shape(comparison.normalised(coerced), target)


def _any_group() -> exp.Expr:
    """A condition that all groups meet: DuckDB, which has nothing to compute, makes one group of
    several empty grouping sets."""
    rows = build.typed(exp.Count(this=exp.Star(), big_int=True), INT8)
    return build.binary(exp.GTE, rows, build.integer(0, INT8), BOOL)


def _settles_on(start: Output, step: Output) -> bool:
    """Whether the recursive term's type is that of the start, as PostgreSQL demands."""
    common = common_type([start.type, step.type])
    return common is not None and common.kind is start.type.kind


def _branch(tree: exp.Query) -> exp.Expr:
    """A side of a set operation, in parentheses where its own clauses would reach further."""
    if isinstance(tree, exp.SetOperation) or any(
        tree.args.get(key) for key in ("order", "limit", "offset", "with_")
    ):
        return exp.Subquery(this=tree)
    return tree


def _mentions(node: exp.Expr, name: str) -> bool:
    return any(
        fold(t.this) == name
        for t in node.find_all(exp.Table)
        if t.args.get("db") is None and isinstance(t.this, exp.Identifier)
    )


def _cte_columns(block: Block, names: Sequence[str], cte: str) -> tuple[ScopeColumn, ...]:
    if len(names) > len(block.outputs):
        raise InvalidColumnReference(
            f'WITH query "{cte}" has {len(block.outputs)} columns available but '
            f"{len(names)} columns specified"
        )
    shown = [*names, *(o.name for o in block.outputs[len(names) :])]
    return tuple(
        ScopeColumn(name, output.type, "", output.alias)
        for name, output in zip(shown, block.outputs, strict=True)
    )
