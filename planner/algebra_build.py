"""From the bound tree to the algebra: query blocks, set operations and CTEs.

`build` gives every column its unique name, takes subqueries out of expressions (see
`algebra_subqueries`) and puts each block's clauses in the order in which SQL evaluates them:
FROM, WHERE, GROUP BY, HAVING, windows, select list, DISTINCT, ORDER BY, LIMIT.

A block that cannot be put so raises `CannotDistribute`. The nearest enclosing query that
refers to nothing outside itself then becomes an `Opaque` (see `algebra_opaque`), in the end
the whole statement, so that every bound query has a plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sqlglot import exp

from planner.algebra import (
    Aggregate,
    Column,
    DistinctOn,
    Filter,
    Item,
    Join,
    JoinKind,
    Limit,
    Node,
    OneRow,
    Project,
    Scalar,
    Scan,
    SetKind,
    SetOperation,
    Shared,
    Sort,
    SortItem,
    TableExpression,
    names_of,
    walk,
)
from planner.algebra_blocks import Grouping, extract_windows, grouping_of
from planner.algebra_functions import is_query, returns_set
from planner.algebra_opaque import opaque_query
from planner.algebra_relations import RelationBuilder
from planner.algebra_scalars import (
    column_item,
    column_scalar,
    conjuncts,
    copy_tree,
    plain_column,
    scalar_of,
)
from planner.algebra_scopes import CannotDistribute, Cte, Frame, Relation, Scope
from planner.algebra_subqueries import SubqueryBuilder
from planner.bound import BoundQuery, type_of

_SET_KINDS: tuple[tuple[type[exp.Expr], SetKind], ...] = (
    (exp.Union, SetKind.UNION),
    (exp.Intersect, SetKind.INTERSECT),
    (exp.Except, SetKind.EXCEPT),
)
# Clauses of a block that are not in the algebra.
_FOREIGN_CLAUSES = {
    "qualify": "QUALIFY",
    "windows": "a WINDOW clause",
    "pivots": "PIVOT",
    "connect": "CONNECT BY",
    "match": "MATCH_RECOGNIZE",
    "sample": "TABLESAMPLE",
}


def build(bound: BoundQuery) -> Node:
    """The algebra of a bound query; its columns carry the tree's output aliases."""
    builder = QueryBuilder(bound.tree)
    relation = builder.query_or_opaque(bound.tree, Scope(), "", root=True)
    return relation.node


class QueryBuilder:
    """Builds one statement; hands out its unique names."""

    def __init__(self, tree: exp.Expr) -> None:
        self._taken: Counter[str] = Counter()
        self._cte_uses = Counter(
            table.name
            for table in tree.find_all(exp.Table)
            if not (table._meta and "relation" in table._meta)
        )
        self.relations = RelationBuilder(self)
        self.subqueries = SubqueryBuilder(self)

    def unique(self, wanted: str) -> str:
        """`wanted`, or with a number behind it where it is taken (DuckDB ignores letter case)."""
        folded = wanted.lower()
        self._taken[folded] += 1
        count = self._taken[folded]
        return wanted if count == 1 else f"{wanted}#{count}"

    def fresh(self, what: str) -> str:
        """A name no user can have given, as `sum~1`."""
        self._taken["~" + what] += 1
        return f"{what}~{self._taken['~' + what]}"

    # Queries

    def query_or_opaque(
        self, tree: exp.Expr, scope: Scope, prefix: str, *, root: bool = False
    ) -> Relation:
        """The query in the algebra, or else as a whole in one `Opaque`."""
        try:
            return self.query(tree, scope, prefix, root=root)
        except CannotDistribute as obstacle:
            node = opaque_query(tree, self, prefix, obstacle.reason, root=root)
            if node is None:
                raise
            return Relation(node, tuple(zip(node.sources, node.columns, strict=True)))

    def query(self, tree: exp.Expr, scope: Scope, prefix: str, *, root: bool = False) -> Relation:
        """The query, which must not refer to the block around it."""
        inner = Scope(parent=scope)
        added = self._declare_ctes(tree, inner)
        if isinstance(tree, exp.Subquery):
            relation = self._parenthesised(tree, inner, prefix, root)
        elif isinstance(tree, exp.SetOperation):
            relation = self._set_operation(tree, inner, prefix, root)
        elif isinstance(tree, exp.Select):
            frame = self.open_block(tree, inner)
            if frame.correlated:
                raise CannotDistribute("a correlated subquery in FROM or deeper than its parent")
            relation = self.finish_block(tree, frame, prefix, root=root)
        else:
            raise CannotDistribute(f"{type(tree).__name__.upper()} as a query")
        return _share(relation, added)

    def _parenthesised(self, tree: exp.Subquery, scope: Scope, prefix: str, root: bool) -> Relation:
        if tree.args.get("joins") or not is_query(tree.this):
            raise CannotDistribute("a parenthesised query with further clauses")
        relation = self.query(tree.this, scope, prefix, root=root)
        return self._ordered_output(tree, relation)

    def _declare_ctes(self, tree: exp.Expr, scope: Scope) -> list[Cte]:
        clause = tree.args.get("with_")
        if clause is None:
            return []
        if clause.args.get("recursive"):
            raise CannotDistribute("a recursive query")
        added: list[Cte] = []
        for item in clause.expressions:
            # Each sees those before it, not itself.
            before = Scope(parent=scope.parent, ctes=dict(scope.ctes))
            names = tuple(c.name for c in item.args["alias"].args.get("columns") or ())
            cte = Cte(item.alias, item.this, names, before, self._cte_uses[item.alias])
            scope.ctes[cte.name] = cte
            added.append(cte)
        return added

    def use_cte(self, cte: Cte) -> Relation:
        """One use of a CTE: built in place, unless it must be or had better be shared."""
        if cte.definition is None:
            cte.definition = self._named(cte, self._cte_query(cte))
            if cte.uses > 1 and not _may_repeat(cte.definition.node):
                cte.shared = self.fresh(cte.name)
            else:
                return cte.definition
        if cte.shared is None:
            return self._named(cte, self._cte_query(cte))
        return self.relations.shared_use(cte)

    def _cte_query(self, cte: Cte) -> Relation:
        return self.query_or_opaque(cte.tree, cte.scope, cte.name)

    @staticmethod
    def _named(cte: Cte, relation: Relation) -> Relation:
        outputs = tuple(
            (cte.column_names[i] if i < len(cte.column_names) else name, column)
            for i, (name, column) in enumerate(relation.outputs)
        )
        return Relation(relation.node, outputs)

    def _set_operation(
        self, tree: exp.SetOperation, scope: Scope, prefix: str, root: bool
    ) -> Relation:
        kind = next(kind for kind_class, kind in _SET_KINDS if isinstance(tree, kind_class))
        keeps_duplicates = not tree.args.get("distinct")
        sides = [
            self.query_or_opaque(side, scope, prefix or "query")
            for side in (tree.this, tree.expression)
        ]
        names = [name for name, _ in sides[0].outputs]
        columns = tuple(
            Column(name if root else self.unique(f"{prefix}.{name}"), column.type)
            for name, (_, column) in zip(names, sides[0].outputs, strict=True)
        )
        sources = tuple(tuple(column.name for _, column in side.outputs) for side in sides)
        branches = tuple(side.node for side in sides)
        node: Node = SetOperation(kind, keeps_duplicates, branches, sources, columns)
        relation = Relation(node, tuple(zip(names, columns, strict=True)))
        return self._ordered_output(tree, relation)

    def _ordered_output(self, tree: exp.Expr, relation: Relation) -> Relation:
        """ORDER BY and LIMIT over a finished output, whose columns they name."""
        frame = Frame(Scope(outputs=dict(relation.outputs)), relation.node)
        order = tree.args.get("order")
        node = relation.node
        if order is not None:
            node = Sort(node, tuple(self._sort_item(o, frame) for o in order.expressions))
        return Relation(_limited(node, tree), relation.outputs)

    # Blocks

    def open_block(self, tree: exp.Select, scope: Scope) -> Frame:
        """FROM and WHERE of a block; what reads the query around is in `correlated`."""
        for clause, name in _FOREIGN_CLAUSES.items():
            if tree.args.get(clause):
                raise CannotDistribute(name)
        frame = Frame(scope, OneRow(()))
        self.relations.from_clause(tree, frame)
        where = tree.args.get("where")
        if where is not None:
            self.subqueries.apply_conditions(conjuncts(where.this), frame)
        return frame

    def finish_block(
        self, tree: exp.Select, frame: Frame, prefix: str, *, root: bool = False
    ) -> Relation:
        """The clauses behind WHERE."""
        if any(returns_set(e) for e in tree.expressions):
            raise CannotDistribute("a set-returning function in the select list")
        grouping = self.group(tree, frame)
        outputs, sort_items = self._select_list(tree, frame, grouping, prefix, root)
        self._project(tree, frame, outputs, sort_items)
        frame.node = _limited(frame.node, tree)
        columns = tuple((name, item.column) for name, item in outputs)
        if sort_items and root:
            wanted = {column.name: column for _, column in columns}
            if len(wanted) < len(frame.node.columns):
                items = tuple(column_item(c) for c in wanted.values())
                frame.node = Project(frame.node, items)
        elif root:
            assert names_of(frame.node) >= {column.name for _, column in columns}
        return Relation(frame.node, columns)

    def group(self, tree: exp.Select, frame: Frame) -> Grouping | None:
        """GROUP BY and HAVING, where the block aggregates."""
        grouping = grouping_of(tree, frame, self)
        if grouping is None:
            return None
        frame.node = _aggregated(frame, grouping)
        having = tree.args.get("having")
        if having is not None:
            self.subqueries.apply_conditions(conjuncts(having.this), frame, grouping)
            if frame.correlated:
                raise CannotDistribute("a HAVING that refers to the query around it")
        return grouping

    def _select_list(
        self,
        tree: exp.Select,
        frame: Frame,
        grouping: Grouping | None,
        prefix: str,
        root: bool,
    ) -> tuple[list[tuple[str, Item]], list[SortItem]]:
        """The output columns, and the sort keys as columns among or beside them."""
        scalars = [
            (e.alias_or_name, self.scalar(e.unalias(), frame, grouping)) for e in tree.expressions
        ]
        order = tree.args.get("order")
        ordered = list(order.expressions) if order is not None else []
        sort_scalars = [self._sort_scalar(o, frame, grouping) for o in ordered]
        frame.node, changed = extract_windows(
            frame.node, [s for _, s in scalars] + [s for s in sort_scalars if s is not None], self
        )
        outputs = [
            (name, self._output_item(name, scalar, prefix, root))
            for (name, _), scalar in zip(scalars, changed, strict=False)
        ]
        rest = iter(changed[len(scalars) :])
        keys = [
            self._sort_key(o, next(rest) if s is not None else None, outputs)
            for o, s in zip(ordered, sort_scalars, strict=True)
        ]
        return outputs, keys

    def _output_item(self, name: str, scalar: Scalar, prefix: str, root: bool) -> Item:
        if root:
            return Item(name, scalar)
        plain = plain_column(scalar)
        if plain is not None:
            return Item(plain, scalar)
        return Item(self.unique(f"{prefix}.{name}") if prefix else self.fresh(name), scalar)

    def _sort_scalar(
        self, ordered: exp.Expr, frame: Frame, grouping: Grouping | None
    ) -> Scalar | None:
        """The key's value; None where it names an output column."""
        key = ordered.this
        if isinstance(key, exp.Column) and not key.table:
            return None
        return self.scalar(key, frame, grouping)

    def _sort_key(
        self, ordered: exp.Expr, scalar: Scalar | None, outputs: Sequence[tuple[str, Item]]
    ) -> SortItem:
        if scalar is None:
            by_name = dict(outputs)
            name = ordered.this.name
            if name not in by_name:
                raise CannotDistribute(f'ORDER BY "{name}"')
            scalar = column_scalar(by_name[name].column)
        else:
            for _, item in outputs:
                if item.scalar.node == scalar.node:
                    scalar = column_scalar(item.column)
                    break
        return sort_item(ordered, scalar)

    def _project(
        self,
        tree: exp.Select,
        frame: Frame,
        outputs: Sequence[tuple[str, Item]],
        keys: Sequence[SortItem],
    ) -> None:
        """Select list, DISTINCT and ORDER BY, in this order; sort keys are made columns."""
        items = list({item.name: item for _, item in outputs}.values())
        shown = len(items)
        sort_keys: list[SortItem] = []
        for key in keys:
            if plain_column(key.scalar) not in {i.name for i in items}:
                item = Item(self.fresh("sort"), key.scalar)
                items.append(item)
                key = SortItem(column_scalar(item.column), key.descending, key.nulls_first)
            sort_keys.append(key)
        distinct = tree.args.get("distinct")
        on = distinct.args.get("on") if distinct is not None else None
        if on is not None:
            self._distinct_on(on, frame, items, tuple(sort_keys), outputs)
        elif distinct is not None:
            if len(items) > shown:
                raise CannotDistribute("SELECT DISTINCT ordered by what it does not select")
            frame.node = _projected(frame.node, items)
            frame.node = Aggregate(frame.node, tuple(column_item(i.column) for i in items), ())
        else:
            frame.node = _projected(frame.node, items)
        if sort_keys:
            frame.node = Sort(frame.node, tuple(sort_keys))

    def _distinct_on(
        self,
        on: exp.Expr,
        frame: Frame,
        items: list[Item],
        sort: tuple[SortItem, ...],
        outputs: Sequence[tuple[str, Item]],
    ) -> None:
        keys: list[Scalar] = []
        for node in on.expressions if isinstance(on, exp.Tuple) else [on]:
            if isinstance(node, exp.Column) and not node.table:
                scalar = column_scalar(dict(outputs)[node.name].column)
            else:
                scalar = self.scalar(node, frame, None)
            found = next((i for i in items if i.scalar.node == scalar.node), None)
            if found is None and plain_column(scalar) not in {i.name for i in items}:
                found = Item(self.fresh("distinct"), scalar)
                items.append(found)
            keys.append(column_scalar(found.column) if found is not None else scalar)
        frame.node = DistinctOn(_projected(frame.node, items), tuple(keys), sort)

    def _sort_item(self, ordered: exp.Expr, frame: Frame) -> SortItem:
        return sort_item(ordered, self.scalar(ordered.this, frame, None))

    # Scalars

    def scalar(
        self,
        tree: exp.Expr,
        frame: Frame,
        grouping: Grouping | None,
        *,
        allow_outer: bool = False,
    ) -> Scalar:
        """The expression over unique names; its subqueries are joined to the frame."""

        def replace(node: exp.Expr) -> exp.Expr | None:
            if grouping is not None:
                found = grouping.replacement(node)
                if found is not None:
                    return found
            if isinstance(node, exp.Column):
                return self._column(node, frame, allow_outer)
            return self.subqueries.replacement(node, frame, grouping)

        return scalar_of(copy_tree(tree, replace), type_of(tree))

    def _column(self, node: exp.Column, frame: Frame, allow_outer: bool) -> exp.Expr:
        column, level = frame.scope.resolve(node)
        if level > (1 if allow_outer else 0):
            raise CannotDistribute("a subquery that refers to an outer query beside its WHERE")
        if level == 0 and node.table and column.name not in names_of(frame.node):
            raise CannotDistribute(f'"{node.name}", which is neither grouped nor aggregated')
        return column_scalar(column).node


def sort_item(ordered: exp.Expr, scalar: Scalar) -> SortItem:
    """The sort key; where NULLS is not written, PostgreSQL's rule: largest."""
    descending = bool(ordered.args.get("desc"))
    nulls_first = ordered.args.get("nulls_first")
    return SortItem(scalar, descending, descending if nulls_first is None else bool(nulls_first))


def _projected(child: Node, items: Iterable[Item]) -> Node:
    items = tuple(items)
    if all(i.is_plain for i in items) and tuple(i.column for i in items) == child.columns:
        return child
    return Project(child, items)


def _aggregated(frame: Frame, grouping: Grouping) -> Node:
    """The block's groups. `SELECT 1 ... HAVING` has one, of no columns, whatever was read."""
    if grouping.keys or grouping.aggregates:
        keys, aggregates = tuple(grouping.keys), tuple(grouping.aggregates)
        return Aggregate(frame.node, keys, aggregates, grouping.sets)
    if frame.correlated or len(grouping.sets) > 1:
        raise CannotDistribute("groups without keys and aggregates")
    return OneRow(())


def _limited(node: Node, tree: exp.Expr) -> Node:
    limit, offset = tree.args.get("limit"), tree.args.get("offset")
    if limit is None and offset is None:
        return node
    if isinstance(limit, exp.Fetch):
        if limit.args.get("limit_options"):
            raise CannotDistribute("FETCH FIRST ... WITH TIES")
        count = limit.args.get("count")
    else:
        count = limit.expression if limit is not None else None
    skipped = _row_count(offset.expression, "OFFSET") if offset is not None else 0
    return Limit(node, _row_count(count, "LIMIT") if count is not None else None, skipped or 0)


def _row_count(node: exp.Expr, clause: str) -> int | None:
    inner = node
    while isinstance(inner, exp.Paren | exp.Cast):
        inner = inner.this
    if isinstance(inner, exp.Null):
        return None
    if isinstance(inner, exp.Literal) and str(inner.this).isdigit():
        return int(inner.this)
    raise CannotDistribute(f"a {clause} that is not a constant")


def _may_repeat(node: Node) -> bool:
    """Whether computing it twice is sure to give the same rows, and not much dearer."""
    for part in walk(node):
        if not isinstance(part, Scan | Filter | Project | Join | OneRow | TableExpression):
            return False
        if isinstance(part, TableExpression) and part.volatile:
            return False
        if isinstance(part, Filter) and any(c.volatile for c in part.conditions):
            return False
        if isinstance(part, Project) and any(i.scalar.volatile for i in part.items):
            return False
        if isinstance(part, Join) and part.kind is JoinKind.FULL:
            return False
    return True


def _share(relation: Relation, added: Sequence[Cte]) -> Relation:
    """Puts the shared CTEs of a WITH clause above the query that uses them."""
    node = relation.node
    for cte in reversed(added):
        if cte.shared is not None:
            assert cte.definition is not None
            node = Shared(cte.shared, cte.definition.node, node)
    return Relation(node, relation.outputs)
