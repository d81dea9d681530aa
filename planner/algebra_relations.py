"""FROM: base tables, CTEs, derived tables, VALUES, functions, and how they are joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from catalog.model import Column as TableColumn
from catalog.model import Table
from planner.algebra import (
    Column,
    Join,
    JoinKind,
    Node,
    OneRow,
    Scan,
    SharedScan,
    SystemTableScan,
    TableExpression,
)
from planner.algebra_functions import is_query
from planner.algebra_scalars import conjuncts, copy_tree
from planner.algebra_scopes import CannotDistribute, Cte, Frame, Relation, Scope
from planner.bound import BoundRelation, column_labels, type_of
from storage.types import ANY

if TYPE_CHECKING:
    from planner.algebra_build import QueryBuilder

DEFAULT_FUNCTION_ROWS = 1000.0


class RelationBuilder:
    """Builds the FROM clause of a block into its frame."""

    def __init__(self, builder: QueryBuilder) -> None:
        self._builder = builder
        # Columns by unique name: NOT NULL in the table, and made nullable by an outer join.
        self._declared_not_null: set[str] = set()
        self._nullable: set[str] = set()

    def never_null(self, name: str) -> bool:
        """Whether the column of that unique name surely holds no NULL."""
        return name in self._declared_not_null and name not in self._nullable

    def from_clause(self, tree: exp.Select, frame: Frame) -> None:
        """FROM with its joins and the comma list."""
        clause = tree.args.get("from_")
        if clause is None:
            return
        frame.node = self._source(clause.this, frame)
        for join in tree.args.get("joins") or ():
            self._join(join, frame)
        for lateral in tree.args.get("laterals") or ():
            frame.node = _crossed(frame.node, self._source(lateral, frame))

    def _join(self, join: exp.Join, frame: Frame) -> None:
        if join.args.get("using") or join.args.get("method") or join.args.get("match_condition"):
            raise CannotDistribute("a join that is not written with ON")
        left, right = frame.node, self._source(join.this, frame)
        side = (join.args.get("side") or "").upper()
        kind = (join.args.get("kind") or "").upper()
        on = join.args.get("on")
        if side == "" and kind in ("", "INNER", "CROSS"):
            frame.node = _crossed(left, right)
            if on is not None:
                self._builder.subqueries.apply_conditions(conjuncts(on), frame)
            return
        if side not in ("LEFT", "RIGHT", "FULL") or kind not in ("", "OUTER"):
            raise CannotDistribute(f"a {side} {kind} join".replace("  ", " "))
        self._outer_join(side, left, right, on, frame)

    def _outer_join(
        self, side: str, left: Node, right: Node, on: exp.Expr | None, frame: Frame
    ) -> None:
        before = Frame(frame.scope, Join(JoinKind.INNER, left, right, ()))
        conditions = tuple(self._builder.scalar(c, before, None) for c in conjuncts(on))
        if isinstance(before.node, Join) and before.node.left is not left:
            raise CannotDistribute("a subquery in the ON clause of an outer join")
        if any(c.volatile for c in conditions):
            raise CannotDistribute("a volatile function in the ON clause of an outer join")
        if side == "RIGHT":
            left, right = right, left
        self._nullable.update(c.name for c in right.columns)
        if side == "FULL":
            self._nullable.update(c.name for c in left.columns)
        kind = JoinKind.FULL if side == "FULL" else JoinKind.LEFT
        frame.node = Join(kind, left, right, conditions)

    def _source(self, tree: exp.Expr, frame: Frame) -> Node:
        """One element of FROM; its names are added to the frame's scope."""
        if isinstance(tree, exp.Table):
            node = self._table(tree, frame)
        elif isinstance(tree, exp.Subquery):
            node = self._derived(tree, frame)
        elif isinstance(tree, exp.Values | exp.Unnest):
            node = self._expression(tree, frame)
        elif isinstance(tree, exp.Lateral):
            node = self._lateral(tree, frame)
        elif isinstance(tree, exp.Paren):
            return self._source(tree.this, frame)
        else:
            raise CannotDistribute(f"{type(tree).__name__.upper()} in FROM")
        nested = tree.args.get("joins") or ()
        if nested and not isinstance(tree, exp.Subquery):
            raise CannotDistribute("a join nested in FROM")
        return node

    def _table(self, tree: exp.Table, frame: Frame) -> Node:
        if tree.args.get("sample") or tree.args.get("pivots"):
            raise CannotDistribute("TABLESAMPLE or PIVOT")
        relation = tree._meta.get("relation") if tree._meta else None
        if isinstance(relation, BoundRelation):
            return self._base_table(relation, tree.alias_or_name, frame.scope)
        if not isinstance(tree.this, exp.Identifier):
            return self._expression(tree, frame)
        cte = frame.scope.find_cte(tree.name)
        if cte is None:
            raise CannotDistribute(f'the relation "{tree.name}"')
        built = self._builder.use_cte(cte)
        self._enter(tree, built, frame.scope)
        return built.node

    def _base_table(self, relation: BoundRelation, alias: str, scope: Scope) -> Node:
        prefix = self._builder.unique(alias)
        source = relation.source
        if isinstance(source, Table):
            # A hidden row id is there for UPDATE and DELETE; nobody else can name it.
            names = tuple(column_labels(source).values())
            columns = tuple(
                Column(f"{prefix}.{name}".replace("\x00", "~"), c.type)
                for name, c in zip(names, source.columns, strict=True)
            )
            self._declared_not_null.update(
                column.name
                for column, own in zip(columns, source.columns, strict=True)
                if _holds_no_null(source, own)
            )
            node: Node = Scan(columns, source, prefix, source.columns, relation.name)
        else:
            columns = tuple(Column(f"{prefix}.{n}", t) for n, t in source.columns)
            names = tuple(n for n, _ in source.columns)
            node = SystemTableScan(columns, source, prefix, names)
        scope.add(alias, zip(names, columns, strict=True))
        return node

    def _derived(self, tree: exp.Subquery, frame: Frame) -> Node:
        if not is_query(tree.this):
            return self._nested_join(tree, frame)
        if tree.args.get("sample") or tree.args.get("pivots") or tree.args.get("joins"):
            raise CannotDistribute("a derived table with further clauses")
        built = self._builder.query_or_opaque(tree.this, frame.scope, tree.alias)
        self._enter(tree, built, frame.scope)
        return built.node

    def _nested_join(self, tree: exp.Subquery, frame: Frame) -> Node:
        """A join in parentheses: `a LEFT JOIN (b JOIN c ON ...) ON ...`."""
        if tree.alias:
            raise CannotDistribute("a parenthesised join with an alias")
        inner = Frame(frame.scope, OneRow(()))
        inner.node = self._source(tree.this, inner)
        for join in [*(tree.this.args.get("joins") or ()), *(tree.args.get("joins") or ())]:
            self._join(join, inner)
        if inner.correlated:
            raise CannotDistribute("a correlated join condition in parentheses")
        return inner.node

    def _lateral(self, tree: exp.Lateral, frame: Frame) -> Node:
        """LATERAL that reads nothing beside it is a derived table."""
        if tree.args.get("ordinality") or tree.args.get("view") or not is_query(tree.this):
            raise CannotDistribute("LATERAL")
        query = tree.this.this if isinstance(tree.this, exp.Subquery) else tree.this
        outside = Scope(ctes={}, parent=Scope(parent=frame.scope.parent, ctes=frame.scope.ctes))
        built = self._builder.query(query, outside, tree.alias)
        self._enter(tree, built, frame.scope)
        return built.node

    def _expression(self, tree: exp.Expr, frame: Frame) -> Node:
        """VALUES, or a function without columns among its arguments."""
        alias = tree.args.get("alias")
        names = [c.name for c in alias.args.get("columns") or ()] if alias is not None else []
        if not names or tree.find(exp.Column) or tree.find(exp.Query):
            raise CannotDistribute("a function in FROM that reads other relations")
        types = _expression_types(tree, len(names))
        prefix = self._builder.unique(tree.alias)
        columns = tuple(Column(f"{prefix}.{name}", t) for name, t in zip(names, types, strict=True))
        frame.scope.add(tree.alias, zip(names, columns, strict=True))
        volatile = any(n._meta and n._meta.get("volatile") for n in tree.walk())
        rows = float(len(tree.expressions)) if isinstance(tree, exp.Values) else _series_rows(tree)
        return TableExpression(columns, copy_tree(tree), volatile, rows)

    def _enter(self, tree: exp.Expr, built: Relation, scope: Scope) -> None:
        """Makes a built relation known under the alias, with its column aliases."""
        alias = tree.args.get("alias")
        renamed = [c.name for c in alias.args.get("columns") or ()] if alias is not None else []
        names = [*renamed, *(name for name, _ in built.outputs[len(renamed) :])]
        scope.add(tree.alias_or_name, zip(names, (c for _, c in built.outputs), strict=True))

    def shared_use(self, cte: Cte) -> Relation:
        """One more reading of a shared CTE, under names of its own."""
        assert cte.definition is not None
        assert cte.shared is not None
        prefix = self._builder.unique(cte.name)
        fresh: dict[str, Column] = {}
        for name, column in cte.definition.outputs:
            if column.name not in fresh:
                fresh[column.name] = Column(self._builder.unique(f"{prefix}.{name}"), column.type)
        node = SharedScan(tuple(fresh.values()), cte.shared, tuple(fresh))
        return Relation(node, tuple((n, fresh[c.name]) for n, c in cte.definition.outputs))


def _crossed(left: Node, right: Node) -> Node:
    return right if isinstance(left, OneRow) else Join(JoinKind.INNER, left, right, ())


def _holds_no_null(table: Table, column: TableColumn) -> bool:
    return column.not_null or (
        table.primary_key is not None and column.id in table.primary_key.columns
    )


def _expression_types(tree: exp.Expr, count: int) -> list:  # type: ignore[type-arg]
    if isinstance(tree, exp.Values) and tree.expressions:
        first = tree.expressions[0]
        values = first.expressions if isinstance(first, exp.Tuple) else [first]
        if len(values) == count:
            return [type_of(v) for v in values]
    types = tree._meta.get("column_types") if tree._meta else None
    return list(types) if types and len(types) == count else [ANY] * count


def _series_rows(tree: exp.Expr) -> float:
    bounds = [int(n.this) for n in tree.find_all(exp.Literal) if str(n.this).isdigit()]
    return float(max(bounds[1] - bounds[0] + 1, 1)) if len(bounds) >= 2 else DEFAULT_FUNCTION_ROWS
