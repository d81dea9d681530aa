"""WITH: common tables of a query, the recursive ones among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from cluster.errors import (
    DatatypeMismatch,
    DuplicateAlias,
    FeatureNotSupported,
    InvalidColumnReference,
    SyntaxError_,
)
from planner.binder.blocks import Block, CommonTable, Output
from planner.binder.scope import Scope, ScopeColumn
from planner.binder.trees import fold
from planner.semantics import build
from planner.types import bare_type, common_type

if TYPE_CHECKING:
    from planner.binder.query import QueryBinder


class CommonTables:
    """Binds the WITH clauses of one block."""

    def __init__(self, block: QueryBinder) -> None:
        self._block = block

    def bind(self, node: exp.Expr, outer: Scope | None) -> exp.With | None:
        """The query's WITH clause, whose names the block's binder knows from here on."""
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
        unique = self._block.statement.unique_name(name)
        names = [fold(c) for c in cte.args["alias"].args.get("columns") or []]
        query = cte.this
        if not isinstance(query, (exp.Query, exp.Subquery, exp.Values)):
            raise FeatureNotSupported("data-modifying statements in WITH are not supported")
        if recursive and isinstance(query, exp.Union) and _mentions(query.expression, name):
            block = self._recursive(name, unique, query, names, outer)
        else:
            block = self._block.nested(query, outer)
            self._block.settling.settle(block)
        self._block.common_tables[name] = CommonTable(unique, _cte_columns(block, names, name))
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
        start = self._block.nested(query.this, outer)
        self._block.settling.settle(start)
        inner = self._block.inside()
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
        self._block.settling.settle(step, [o.type for o in start.outputs])
        distinct = bool(query.args.get("distinct"))
        tree = exp.Union(this=start.tree, expression=step.tree, distinct=distinct)
        return Block(tree, start.outputs)


def _settles_on(start: Output, step: Output) -> bool:
    """Whether the recursive term's type is that of the start, as PostgreSQL demands."""
    common = common_type([start.type, step.type])
    return common is not None and common.kind is start.type.kind


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
