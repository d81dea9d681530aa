"""FROM: tables, views, subqueries, functions and VALUES, and the joins between them.

Joins come out as a flat list over the first item. Where PostgreSQL nests (parentheses, or a
RIGHT or FULL join behind a comma) the nested join becomes a derived table, so that a reader of
the tree needs to know only one form. A function in FROM becomes a derived table that unnests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlglot import exp

from catalog.model import Table, View
from cluster.errors import (
    FeatureNotSupported,
    InvalidColumnReference,
    SyntaxError_,
)
from planner.binder.calls import bind_set
from planner.binder.clause import Clause
from planner.binder.expressions import ExpressionBinder
from planner.binder.scope import Namespace, Scope, ScopeColumn, Source
from planner.binder.statement import MAX_VIEW_DEPTH
from planner.binder.tables import (
    find_relation,
    never_null,
    parsed_view,
    relation_columns,
    system_columns,
)
from planner.binder.trees import fold
from planner.binder.using import join_using, shared_names
from planner.bound import type_of
from planner.semantics import build
from planner.semantics.sets import RowSet
from planner.types import Coercion, declared_type
from storage.types import ANY, INT8, TEXT, SqlType

if TYPE_CHECKING:
    from planner.binder.blocks import Block
    from planner.binder.query import QueryBinder


@dataclass(slots=True)
class FromClause:
    """The bound clause: the first item, the joins behind it, and what they bring into sight."""

    first: exp.Expr | None = None
    joins: list[exp.Join] = field(default_factory=list)
    namespace: Namespace = field(default_factory=Namespace)


@dataclass(frozen=True, slots=True)
class Item:
    """One bound FROM item."""

    node: exp.Expr
    namespace: Namespace


class RelationBinder:
    """Binds the FROM clause of one block."""

    def __init__(self, block: QueryBinder, outer: Scope | None) -> None:
        self.block = block
        self.statement = block.statement
        self.outer = outer

    def bind(self, select: exp.Expr) -> FromClause:
        """The FROM clause of a SELECT (or of a parenthesised join)."""
        clause = FromClause()
        first = select.args.get("from_")
        if first is None:
            return clause
        for segment in segments(first.this, select.args.get("joins") or []):
            self._add_segment(clause, *segment)
        return clause

    def _add_segment(self, clause: FromClause, first: exp.Expr, joins: Sequence[exp.Join]) -> None:
        """A comma-separated part: its first item and the joins behind that."""
        before = clause.namespace
        if clause.first is not None and any(_reverses(join) for join in joins):
            item = self._nested(first, joins, before)
            self._cross(clause, item)
            return
        part = FromClause()
        item = self._item(first, before, Namespace())
        part.namespace.add(item.namespace)
        bound_joins: list[exp.Join] = []
        for join in joins:
            bound_joins.append(self._join(part, join, before))
        position = build.error_position(first)
        if clause.first is None:
            clause.first = item.node
        else:
            clause.joins.append(exp.Join(this=item.node, kind="CROSS"))
        clause.joins += bound_joins
        clause.namespace.add(part.namespace, position)

    def _cross(self, clause: FromClause, item: Item) -> None:
        clause.joins.append(exp.Join(this=item.node, kind="CROSS"))
        clause.namespace.add(item.namespace)

    # Joins

    def _join(self, left: FromClause, join: exp.Join, before: Namespace) -> exp.Join:
        """One explicit join; `left.namespace` grows by its right side."""
        right = self._item(join.this, before, left.namespace)
        side = str(join.args.get("side") or "").upper()
        kind = str(join.args.get("kind") or "").upper()
        left_count = len(left.namespace.sources)
        names = shared_names(join, left.namespace, right.namespace)
        condition: exp.Expr | None = None
        if names is not None:
            condition = join_using(
                self.statement.casts, left.namespace, right.namespace, names, side, join
            )
        else:
            left.namespace.add(right.namespace, build.error_position(join.this))
            if join.args.get("on") is not None:
                scope = Scope(left.namespace, self.outer, before)
                binder = ExpressionBinder(self.statement, scope, Clause.JOIN, self.block)
                condition = binder.bind_condition(join.args["on"])
        left.namespace.extend_with_nulls(side, left_count)
        if condition is None and kind != "CROSS" and side:
            if names is None:
                raise SyntaxError_("a join needs ON or USING", position=build.error_position(join))
            condition = build.boolean(True)
        if condition is None:
            return exp.Join(this=right.node, kind="CROSS")
        return exp.Join(
            this=right.node, side=side or None, kind="INNER" if not side else None, on=condition
        )

    # Items

    def _item(self, node: exp.Expr, before: Namespace, left: Namespace) -> Item:
        """One item; `before` and `left` are what LATERAL may look at."""
        behind = node.args.get("joins")
        if behind and not isinstance(node, exp.Select):
            # `a JOIN b JOIN c ON ... ON ...`: the inner join stands behind its first relation.
            return self._nested(_without_joins(node), behind, before)
        match node:
            case exp.Lateral():
                return self._lateral(node, before, left)
            case exp.Unnest():
                return self._unnest(node, before, left)
            case exp.Values():
                return self._values(node)
            case exp.Subquery() if isinstance(node.this, exp.Table):
                return self._parenthesised(node, before)
            case exp.Subquery() | exp.Select() | exp.SetOperation():
                return self._derived(node, self.outer, lateral=False)
            case exp.Table() if node.args.get("rows_from"):
                return self._rows_from(node, before, left)
            case exp.Table() if isinstance(node.this, (exp.Anonymous, exp.Func, exp.Dot)):
                return self._function(node, node.this, before, left)
            case exp.Table():
                return self._table(node)
        raise FeatureNotSupported(f"{node.key} in FROM is not supported")

    def _lateral_scope(self, before: Namespace, left: Namespace) -> Scope:
        around = Scope(before, self.outer) if before.sources else self.outer
        return Scope(left, around)

    def _lateral(self, node: exp.Lateral, before: Namespace, left: Namespace) -> Item:
        inner = node.this
        scope = self._lateral_scope(before, left)
        if isinstance(inner, (exp.Subquery, exp.Select)):
            aliased = inner.copy()
            aliased.set("alias", node.args.get("alias"))
            return self._derived(aliased, scope, lateral=True)
        table = exp.Table(this=inner, alias=node.args.get("alias"))
        table.set("ordinality", node.args.get("ordinality"))
        return self._function(table, inner, before, left)

    def _derived(self, node: exp.Expr, scope: Scope | None, *, lateral: bool) -> Item:
        """A subquery in FROM."""
        alias = node.args.get("alias")
        inner = node.copy() if isinstance(node, exp.Subquery) else node
        if isinstance(inner, exp.Subquery):
            inner.set("alias", None)
        block = self.block.nested(inner, scope)
        return self._derived_item(block, alias, lateral=lateral)

    def _derived_item(
        self, block: Block, alias: exp.Expr | None, *, lateral: bool, name: str = ""
    ) -> Item:
        self.block.settling.settle(block)
        shown = fold(alias.this) if alias is not None and alias.this is not None else name
        unique = self.statement.unique_name(shown or "subquery")
        names = _column_names(alias, [o.name for o in block.outputs], shown)
        columns = tuple(
            ScopeColumn(column_name, output.type, unique, output.alias)
            for column_name, output in zip(names, block.outputs, strict=True)
        )
        subquery = exp.Subquery(this=block.tree)
        table_alias = exp.TableAlias(this=build.identifier(unique))
        if lateral:
            node: exp.Expr = exp.Lateral(this=subquery, alias=table_alias)
        else:
            subquery.set("alias", table_alias)
            node = subquery
        return Item(node, _namespace(Source(shown, unique, columns)))

    def _values(self, node: exp.Values) -> Item:
        alias = node.args.get("alias")
        block = self.block.nested(_without_alias(node), None)
        return self._derived_item(block, alias, lateral=False)

    def _parenthesised(self, node: exp.Subquery, before: Namespace) -> Item:
        table = node.this
        joins = table.args.get("joins") or []
        first = _without_joins(table)
        alias = node.args.get("alias")
        if not joins and alias is None:
            return self._item(first, before, Namespace())
        return self._nested(first, joins, before, alias)

    def _nested(
        self,
        first: exp.Expr,
        joins: Sequence[exp.Join],
        before: Namespace,
        alias: exp.Expr | None = None,
    ) -> Item:
        """A join as a derived table that still shows its relations' names."""
        part = FromClause()
        item = self._item(first, before, Namespace())
        part.namespace.add(item.namespace)
        part.joins = [self._join(part, join, before) for join in joins]
        unique = self.statement.unique_name(fold(alias.this) if alias is not None else "joined")
        outputs: list[exp.Expr] = []
        aliases: dict[tuple[str, str], str] = {}

        def exported(column: ScopeColumn) -> ScopeColumn:
            key = (column.relation, column.column if column.relation else column.name)
            if key not in aliases:
                aliases[key] = self.block.free_alias(column.name, set(aliases.values()))
                outputs.append(build.aliased(column.node(), aliases[key]))
            return ScopeColumn(column.name, column.type, unique, aliases[key])

        visible = [exported(column) for column in part.namespace.visible]
        sources = [
            replace(
                source,
                unique=unique,
                columns=tuple(map(exported, source.columns)),
                system=tuple(map(exported, source.system)),
            )
            for source in part.namespace.sources
        ]
        select = exp.Select(expressions=outputs, from_=exp.From(this=item.node))
        if part.joins:
            select.set("joins", part.joins)
        node = exp.Subquery(this=select, alias=exp.TableAlias(this=build.identifier(unique)))
        if alias is None:
            return Item(node, Namespace(sources, visible))
        names = _column_names(alias, [c.name for c in visible], fold(alias.this))
        named = [replace(c, name=n) for c, n in zip(visible, names, strict=True)]
        return Item(node, _namespace(Source(fold(alias.this), unique, tuple(named))))

    # Tables and views

    def _table(self, node: exp.Table) -> Item:
        if node.args.get("sample"):
            raise FeatureNotSupported("TABLESAMPLE is not supported")
        name = fold(node.this)
        schema = fold(node.args["db"]) if node.args.get("db") is not None else None
        alias = node.args.get("alias")
        cte = self.block.cte(name) if schema is None else None
        if cte is not None:
            unique = self.statement.unique_name(_shown(alias, name))
            columns = tuple(replace(column, relation=unique) for column in cte.columns)
            table = _table_node(cte.unique, unique)
            return self._named_item(table, name, unique, columns, alias)
        position = build.error_position(node.args.get("db") or node)
        found = find_relation(self.statement.environment, name, schema, position)
        if isinstance(found, View):
            return self._view(found, alias)
        relation = self.statement.relation(_shown(alias, name), found)
        columns = relation_columns(found, relation.name)
        table = _table_node(relation.name, relation.name)
        table.meta["relation"] = relation
        base = found if isinstance(found, Table) else None
        item = self._named_item(table, name, relation.name, columns, alias, base, found.schema)
        (source,) = item.namespace.sources
        telling = never_null(found)
        system = system_columns(found, relation.name, columns, telling)
        source = replace(source, system=system, never_null=telling)
        return Item(table, Namespace([source], item.namespace.visible))

    def _named_item(
        self,
        node: exp.Expr,
        name: str,
        unique: str,
        columns: tuple[ScopeColumn, ...],
        alias: exp.Expr | None,
        table: Table | None = None,
        schema: str | None = None,
    ) -> Item:
        shown = _shown(alias, name)
        names = iter(_column_names(alias, [c.name for c in columns if not c.is_hidden], shown))
        renamed = tuple(c if c.is_hidden else replace(c, name=next(names)) for c in columns)
        visible_schema = schema if alias is None else None
        return Item(node, _namespace(Source(shown, unique, renamed, visible_schema, table)))

    def _view(self, view: View, alias: exp.Expr | None) -> Item:
        if self.block.view_depth >= MAX_VIEW_DEPTH:
            raise FeatureNotSupported("views are nested too deeply")
        block = self.block.view(parsed_view(view.query))
        item = self._derived_item(block, None, lateral=False, name=_shown(alias, view.name))
        (source,) = item.namespace.sources
        shown = [name for name, _type in view.columns]
        names = _column_names(alias, shown, source.name)
        columns = tuple(replace(c, name=n) for c, n in zip(source.columns, names, strict=True))
        schema = view.schema if alias is None else None
        return Item(item.node, _namespace(replace(source, columns=columns, schema=schema)))

    # Functions

    def _unnest(self, node: exp.Unnest, before: Namespace, left: Namespace) -> Item:
        calls = [exp.Anonymous(this="unnest", expressions=[e.copy()]) for e in node.expressions]
        alias, offset = node.args.get("alias"), node.args.get("offset")
        if isinstance(offset, exp.Identifier) and alias is not None:
            # The parser took the ordinality's name out of the alias list.
            alias = alias.copy()
            alias.append("columns", offset.copy())
        table = exp.Table(alias=alias)
        table.set("ordinality", bool(offset))
        return self._sets(table, list(calls), "unnest", before, left)

    def _rows_from(self, node: exp.Table, before: Namespace, left: Namespace) -> Item:
        calls = [each.this for each in node.args["rows_from"]]
        return self._sets(node, calls, "rows", before, left)

    def _function(
        self, node: exp.Table, call: exp.Expr, before: Namespace, left: Namespace
    ) -> Item:
        inner = call.expression if isinstance(call, exp.Dot) else call
        name = inner.name.lower() if isinstance(inner, exp.Anonymous) else inner.key
        return self._sets(node, [call], name, before, left)

    def _sets(
        self,
        node: exp.Table,
        calls: list[exp.Expr],
        name: str,
        before: Namespace,
        left: Namespace,
    ) -> Item:
        """Functions in FROM, side by side, as one derived table."""
        scope = self._lateral_scope(before, left)
        binder = ExpressionBinder(self.statement, scope, Clause.FUNCTION, self.block)
        alias = node.args.get("alias")
        row_sets = [self._row_set(binder, call, alias) for call in calls]
        shown = _shown(alias, name)
        single = len(row_sets) == 1 and row_sets[0].is_scalar
        items, columns = _unnested(row_sets, shown if single and alias is not None else None)
        if node.args.get("ordinality"):
            items.append(_ordinality(row_sets))
            columns.append(("ordinality", INT8))
        unique = self.statement.unique_name(shown)
        names = _column_names(alias, [n for n, _t in columns], shown)
        aliases: list[str] = []
        for column_name in names:
            aliases.append(self.block.free_alias(column_name, set(aliases)))
        outputs = [build.aliased(i, a) for i, a in zip(items, aliases, strict=True)]
        subquery = exp.Subquery(this=exp.Select(expressions=outputs))
        table_alias = exp.TableAlias(this=build.identifier(unique))
        scope_columns = tuple(
            ScopeColumn(n, t, unique, a)
            for n, (_n, t), a in zip(names, columns, aliases, strict=True)
        )
        source = Source(shown, unique, scope_columns, is_scalar=single and len(columns) == 1)
        if any(_refers(item, before, left) for item in items):
            return Item(exp.Lateral(this=subquery, alias=table_alias), _namespace(source))
        subquery.set("alias", table_alias)
        return Item(subquery, _namespace(source))

    def _row_set(self, binder: ExpressionBinder, call: exp.Expr, alias: exp.Expr | None) -> RowSet:
        rows = bind_set(binder, call)
        if rows is not None:
            return rows
        value = binder.bind(call)  # a function of one row gives one row
        if build.is_untyped(value):
            value = self.statement.casts.coerce(value, TEXT, Coercion.IMPLICIT)
        definitions = _definitions(alias)
        inner = call.expression if isinstance(call, exp.Dot) else call
        elements = build.list_of([value], SqlType(type_of(value).kind))
        elements.meta["type"] = ANY
        if definitions:
            return RowSet(elements, definitions, is_scalar=False)
        name = inner.name.lower() or "function"
        return RowSet(elements, ((name, type_of(value)),))


def _unnested(
    row_sets: Sequence[RowSet], scalar_name: str | None
) -> tuple[list[exp.Expr], list[tuple[str, SqlType]]]:
    items: list[exp.Expr] = []
    columns: list[tuple[str, SqlType]] = []
    for rows in row_sets:
        unnested = build.call("unnest", rows.elements, type=ANY)
        if rows.is_scalar:
            name, sql_type = rows.columns[0]
            items.append(build.typed(unnested, sql_type))
            columns.append((scalar_name or name, sql_type))
            continue
        for name, sql_type in rows.columns:
            part = build.call("struct_extract", unnested.copy(), build.text(name), type=sql_type)
            items.append(part)
            columns.append((name, sql_type))
    return items, columns


def _ordinality(row_sets: Sequence[RowSet]) -> exp.Expr:
    lengths = [build.call("len", rows.elements.copy(), type=INT8) for rows in row_sets]
    longest = lengths[0] if len(lengths) == 1 else build.call("greatest", *lengths, type=INT8)
    series = build.call("range", build.integer(1), _plus_one(longest), type=ANY)
    return build.call("unnest", series, type=INT8)


def _plus_one(node: exp.Expr) -> exp.Expr:
    filled = build.call("coalesce", node, build.integer(0), type=INT8)
    return build.binary(exp.Add, filled, build.integer(1), INT8)


def _refers(node: exp.Expr, *namespaces: Namespace) -> bool:
    uniques = {source.unique for namespace in namespaces for source in namespace.sources}
    return any(column.table in uniques for column in node.find_all(exp.Column))


def _definitions(alias: exp.Expr | None) -> tuple[tuple[str, SqlType], ...]:
    columns = alias.args.get("columns") or [] if alias is not None else []
    if not columns or not isinstance(columns[0], exp.ColumnDef):
        return ()
    return tuple((fold(c.this), declared_type(c.args["kind"])) for c in columns)


def _without_joins(node: exp.Expr) -> exp.Expr:
    found = node.copy()
    found.set("joins", None)
    return found


def segments(first: exp.Expr, joins: Sequence[exp.Join]) -> list[tuple[exp.Expr, list[exp.Join]]]:
    """The comma-separated parts of FROM."""
    segments: list[tuple[exp.Expr, list[exp.Join]]] = [(first, [])]
    for join in joins:
        if _is_comma(join):
            segments.append((join.this, []))
        else:
            segments[-1][1].append(join)
    return segments


def _is_comma(join: exp.Join) -> bool:
    return not any(join.args.get(key) for key in ("kind", "side", "method", "on", "using"))


def _reverses(join: exp.Join) -> bool:
    return str(join.args.get("side") or "").upper() in ("RIGHT", "FULL")


def _namespace(source: Source) -> Namespace:
    return Namespace([source], list(source.visible))


def _shown(alias: exp.Expr | None, name: str) -> str:
    return fold(alias.this) if alias is not None and alias.this is not None else name


def _column_names(alias: exp.Expr | None, names: Sequence[str], shown: str) -> list[str]:
    """The columns' names after an alias list like `t(a, b)`."""
    given = alias.args.get("columns") or [] if alias is not None else []
    renamed = [fold(c.this if isinstance(c, exp.ColumnDef) else c) for c in given]
    if len(renamed) > len(names):
        raise InvalidColumnReference(
            f'table "{shown}" has {len(names)} columns available but '
            f"{len(renamed)} columns specified"
        )
    return renamed + list(names[len(renamed) :])


def _without_alias(node: exp.Values) -> exp.Values:
    plain = node.copy()
    plain.set("alias", None)
    return plain


def _table_node(name: str, alias: str) -> exp.Table:
    return exp.Table(
        this=build.identifier(name), alias=exp.TableAlias(this=build.identifier(alias))
    )
