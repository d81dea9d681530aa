"""Makes a failing query smaller: every step takes something out and must still fail alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import sqlglot
from sqlglot import exp

_OPTIONAL = ("where", "having", "order", "limit", "offset", "distinct", "group", "with_", "joins")
_TIME_LIMIT_S = 60.0


def shrink(sql: str, fails: Callable[[str], bool]) -> str:
    """The smallest query found that fails, within a minute."""
    deadline = time.monotonic() + _TIME_LIMIT_S
    found = True
    while found and time.monotonic() < deadline:
        found = False
        for candidate in candidates(sql):
            if time.monotonic() > deadline:
                break
            if len(candidate) < len(sql) and fails(candidate):
                sql, found = candidate, True
                break
    return sql


def candidates(sql: str) -> Iterator[str]:
    """The query with one thing less, the largest first."""
    seen = {sql}
    try:
        tree = sqlglot.parse_one(sql, dialect="postgres")
    except sqlglot.errors.SqlglotError:
        return
    count = sum(1 for _ in tree.walk())
    for position in range(count):
        for change in range(12):
            copy = tree.copy()
            node = next(n for i, n in enumerate(copy.walk()) if i == position)
            changed = _changed(node, change, copy)
            if changed is None:
                continue
            text = changed.sql(dialect="postgres")
            if text not in seen:
                seen.add(text)
                yield text


def _changed(node: exp.Expr, change: int, tree: exp.Expr) -> exp.Expr | None:
    """The tree after one kind of change at a node; None where it does not apply."""
    if change < len(_OPTIONAL):
        if not node.args.get(_OPTIONAL[change]) or _decides(node, _OPTIONAL[change]):
            return None
        node.set(_OPTIONAL[change], None)
        return tree
    children = [c for c in node.iter_expressions() if isinstance(c, exp.Expr)]
    if change == 9 and node.parent is not None and node.arg_key == "joins":
        node.pop()
        return tree
    if change == 10 and isinstance(node, (exp.Select, exp.Tuple)) and len(node.expressions) > 1:
        node.set("expressions", node.expressions[:1])
        return tree
    if change == 11 and node.parent is not None and isinstance(node, (exp.Condition, exp.Query)):
        for child in children:
            if isinstance(child, (exp.Condition, exp.Query)) and not isinstance(
                child, exp.Identifier
            ):
                node.replace(child)
                return tree
    if change == 11 and node.parent is None and isinstance(node, exp.SetOperation):
        return node.this
    return None


def _decides(node: exp.Expr, clause: str) -> bool:
    """Whether without the clause the answer could be another each time."""
    if clause != "order":
        return False
    if not isinstance(node, exp.Query):
        return True
    distinct = node.args.get("distinct") if isinstance(node, exp.Select) else None
    on = distinct is not None and distinct.args.get("on") is not None
    return on or any(node.args.get(key) for key in ("limit", "offset"))
