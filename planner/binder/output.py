"""The outermost block as the client gets it: result columns, exact divisions, padding."""

from __future__ import annotations

from sqlglot import exp

from planner.algebra_functions import is_aggregate_call
from planner.binder.blocks import Block
from planner.binder.query import QueryBinder
from planner.bound import Spelling, spelling_of, type_of
from planner.plan import DIVISOR, HostOperation, ResultColumn
from planner.semantics import build
from planner.semantics.casts import Casts, padded
from planner.semantics.numbers import division_operands, is_numeric_division
from planner.types import REG_KINDS
from storage.types import INT2, NUMERIC, TEXT, Kind, array_of


def finished(block: Block, casts: Casts) -> tuple[ResultColumn, ...]:
    """Rewrites the outermost select list for the client and describes it."""
    tree = block.tree
    divides = isinstance(tree, exp.Select) and tree.args.get("distinct") is None
    columns: list[ResultColumn] = []
    for index, output in enumerate(block.outputs):
        node = _output_node(tree, index)
        if divides and node is not None and is_numeric_division(node):
            columns.append(_division(tree, index, output.name, output.alias))
            continue
        seen = output.type
        for alias in _output_aliases(tree, index):
            written = shown(alias.this, casts)
            if written is not alias.this:
                _keep_spelling(alias.this, written)
                alias.set("this", written)
            seen = type_of(written)
        columns.append(ResultColumn(output.name, seen, (output.alias,)))
    return tuple(columns)


def _output_node(tree: exp.Expr, index: int) -> exp.Expr | None:
    return tree.expressions[index].this if isinstance(tree, exp.Select) else None


def _output_aliases(tree: exp.Expr, index: int) -> list[exp.Expr]:
    """The alias nodes of one output, one in each branch of a set operation."""
    if isinstance(tree, exp.SetOperation):
        return _output_aliases(tree.this, index) + _output_aliases(tree.expression, index)
    if isinstance(tree, (exp.Subquery, exp.Paren)):
        return _output_aliases(tree.this, index)
    return [tree.expressions[index]]


def shown(node: exp.Expr, casts: Casts) -> exp.Expr:
    """What a client sees of a value: char(n) padded, names for regclass and its like."""
    sql_type = type_of(node)
    if isinstance(node, exp.Column) and node.name.rpartition(".")[2] in _VECTORS:
        return _vector(node)
    if sql_type.kind in (Kind.BPCHAR, Kind.ARRAY):
        return padded(node)
    if sql_type.kind in REG_KINDS or sql_type.kind is Kind.RECORD:
        return casts.to_text(node)
    return node


# Columns of pg_index whose type clients know as int2vector, which is written without braces.
_VECTORS = ("indkey", "indoption")


def _vector(node: exp.Expr) -> exp.Expr:
    if type_of(node) != array_of(INT2):
        return node
    return build.call("array_to_string", node, build.text(" "), type=TEXT)


def _keep_spelling(node: exp.Expr, made: exp.Expr) -> None:
    """What is made of a node is what the user wrote for it."""
    spelling = spelling_of(node)
    # An aggregate of the user's own is also shown where it is computed.
    kept = spelling_of(made) is not None and is_aggregate_call(made)
    if spelling is not None and not kept:
        made.meta["spelling"] = Spelling(spelling)


def _division(tree: exp.Query, index: int, name: str, alias: str) -> ResultColumn:
    """Dividend and divisor as columns of their own: the coordinator divides them exactly."""
    node = tree.expressions[index]
    dividend, divisor = division_operands(node.this)
    _keep_spelling(node.this, dividend)
    taken = {each.alias for each in tree.expressions}
    divisor_alias = QueryBinder.free_alias(alias + DIVISOR, taken)
    node.set("this", dividend)
    node.meta["type"] = type_of(dividend)
    tree.append("expressions", build.aliased(divisor, divisor_alias))
    operands = (alias, divisor_alias)
    return ResultColumn(name, NUMERIC, operands, HostOperation.NUMERIC_DIVIDE)
