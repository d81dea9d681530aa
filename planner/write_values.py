"""Rows of VALUES, and the columns that they go to."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from catalog.model import Column
from cluster.errors import SyntaxError_


def value_rows(tree: exp.Query) -> list[list[exp.Expr]] | None:
    """The rows of a bare VALUES list; None for any other query."""
    values = tree.args["from_"].this if tree.args.get("from_") else None
    if not isinstance(values, exp.Values) or values.alias != "*VALUES*":
        return None
    if any(tree.args.get(name) for name in ("where", "order", "limit", "offset", "with_")):
        return None
    return [list(_items(row)) for row in values.expressions]


def _items(row: exp.Expr) -> Sequence[exp.Expr]:
    return row.expressions if isinstance(row, exp.Tuple) else [row]


def matched_columns(targets: Sequence[Column], width: int, implicit: bool) -> Sequence[Column]:
    """The columns that `width` expressions go to; without a column list, fewer are allowed."""
    if width > len(targets):
        raise SyntaxError_("INSERT has more expressions than target columns")
    if width < len(targets) and not implicit:
        raise SyntaxError_("INSERT has more target columns than expressions")
    return targets[:width]
