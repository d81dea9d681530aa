"""Scalars as people read them, for EXPLAIN.

A bound tree is DuckDB's SQL: macros, casts and checks stand where the user wrote a function or
an operator. Nodes that stand for something written carry it (`Spelling`), and that is what is
shown, with its columns under the names that they have in the plan. A spelling is used only
where all of its columns are still there: rules replace columns by others, and what they made
of an expression is then shown part by part.

Left out: a spelling with a subquery in it, of which the plan has a join or a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sqlglot import Dialect, exp
from sqlglot.errors import UnsupportedError

from planner.algebra import Scalar
from planner.algebra_functions import call_name, is_query
from planner.algebra_scalars import columns_in, copy_tree
from planner.binder.trees import fold
from planner.bound import spelling_of
from planner.dialect import DUCKDB, POSTGRES

_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_PLAIN = re.compile(r"[a-z_][a-z0-9_.~#]*\Z")
# The number that tells two relations of one name apart where a query is run as written.
_COPY = re.compile(r"#[0-9]+(?=\.|\Z)")
# What the binder puts around a value that the user sees as the value itself.
_UNSEEN = frozenset({"pg_pad", "pg_fit_text", "pg_fit_char"})
# Operators whose spelling stands in parentheses inside another expression.
_LOOSE = (exp.Binary, exp.Not, exp.Between, exp.In, exp.Is, exp.Case)
_OPERATORS = (exp.Binary, exp.Unary, exp.Between, exp.In)


def readable(scalar: Scalar, alias: str | None = None) -> str:
    """The expression's text; without quotes that only our names need, and without `alias`."""

    short = {relation_name(name) for name in scalar.columns}
    distinct = len(short) == len(scalar.columns)

    def unquoted(found: re.Match[str]) -> str:
        name = found[1]
        if alias is not None and name.startswith(f"{alias}."):
            name = name[len(alias) + 1 :]
        if not _PLAIN.match(name):
            return f'"{name}"'
        return relation_name(name) if distinct else name

    shown = _shown(scalar.node, outermost=True)
    return _QUOTED.sub(unquoted, _text(DUCKDB, shown))


def _text(dialect: Dialect, tree: exp.Expr) -> str:
    return str(dialect.generate(tree, copy=False, normalize_functions="lower"))


def relation_name(name: str) -> str:
    """A relation's name as it was written."""
    return _COPY.sub("", name)


def seen(node: exp.Expr) -> exp.Expr:
    """The node without what the user does not see of it."""
    while True:
        if isinstance(node, exp.Paren) or (isinstance(node, exp.Cast) and not spelling_of(node)):
            node = node.this
        elif isinstance(node, exp.Anonymous) and call_name(node) in _UNSEEN:
            node = node.expressions[0]
        else:
            return node


def conjunction_text(texts: Sequence[str]) -> str:
    """The conjunction as PostgreSQL's EXPLAIN shows it."""
    if len(texts) == 1:
        return f"({texts[0]})"
    return "(" + " AND ".join(f"({text})" for text in texts) + ")"


def _shown(node: exp.Expr, *, outermost: bool = False) -> exp.Expr:
    """A tree whose text is what the user is to see of the node."""
    spelling = _spelled(node)
    if spelling is not None:
        text = exp.Var(this=spelling)
        loose = isinstance(spelling_of(node), _LOOSE) and not outermost
        return exp.Paren(this=text) if loose else text
    if isinstance(node, exp.Paren):
        return exp.Paren(this=_shown(seen(node), outermost=True))
    inner = seen(node)
    if inner is not node:
        return _shown(inner, outermost=outermost)
    if _is_found(node):
        return exp.Var(this="EXISTS (subquery)")
    alone = not isinstance(node, _OPERATORS)
    return _rebuilt(node, lambda part: _shown(part, outermost=alone))


def _is_found(node: exp.Expr) -> bool:
    """Whether the node asks for the marker of a membership that became a join."""
    test = node.this if isinstance(node, exp.Not) else None
    marker = test.this if isinstance(test, exp.Is) else None
    return isinstance(marker, exp.Column) and marker.name.startswith("exists~")


def _rebuilt(node: exp.Expr, change: Callable[[exp.Expr], exp.Expr]) -> exp.Expr:
    """A copy of the node over changed children."""

    def replace(part: exp.Expr) -> exp.Expr | None:
        return None if part is node else change(part)

    return copy_tree(node, replace)


def _spelled(node: exp.Expr) -> str | None:
    """The user's text for the node; None where there is none that still tells the truth."""
    written = spelling_of(node)
    if written is None or any(is_query(part) for part in written.walk()):
        return None
    names = _Names(node)

    def replace(part: exp.Expr) -> exp.Expr | None:
        return names.column(part) if isinstance(part, exp.Column) else None

    shown = copy_tree(written, replace)
    if names.missing:
        return None
    try:
        return _text(POSTGRES, shown)
    except UnsupportedError:
        return None


class _Names:
    """The columns of a spelling, by their names in the plan."""

    def __init__(self, node: exp.Expr) -> None:
        self._names = sorted(columns_in(node))
        self.missing = False

    def column(self, written: exp.Column) -> exp.Expr:
        name = fold(written.this)
        found = [n for n in self._names if _column_name(n) == name]
        relation = written.args.get("table")
        if relation is not None and len(found) > 1:
            wanted = f"{fold(relation)}.{name}"
            found = [n for n in found if relation_name(n) == wanted]
        self.missing |= len(found) != 1
        return exp.Column(this=exp.Identifier(this=found[0] if found else name, quoted=True))


def _column_name(name: str) -> str:
    return relation_name(name).rpartition(".")[2].partition("~")[0]
