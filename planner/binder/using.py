"""JOIN ... USING and NATURAL JOIN: columns that both sides have, made one.

The column of a FULL JOIN is that of either side; of any other join that of the side which always
has a row.
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from cluster.errors import AmbiguousColumn, DatatypeMismatch, UndefinedColumn
from planner.binder.scope import Namespace, ScopeColumn
from planner.binder.trees import fold
from planner.semantics import build, comparison
from planner.semantics.casts import Casts
from planner.types import Coercion, common_type


def shared_names(join: exp.Join, left: Namespace, right: Namespace) -> list[str] | None:
    """The columns of USING or NATURAL; None for a join without either."""
    using = join.args.get("using")
    if using:
        return [fold(each.this if isinstance(each, exp.Column) else each) for each in using]
    if str(join.args.get("method") or "").upper() != "NATURAL":
        return None
    theirs = {column.name for column in right.visible}
    return [column.name for column in left.visible if column.name in theirs]


def join_using(
    casts: Casts, left: Namespace, right: Namespace, names: list[str], side: str, join: exp.Join
) -> exp.Expr | None:
    """The condition; `left` then has both sides' columns, the shared ones first and once."""
    tests, merged = [], []
    for name in names:
        ours = _single(left, name, "left", join)
        theirs = _single(right, name, "right", join)
        tests.append(comparison.compare("=", ours.node(), theirs.node(), casts))
        merged.append(_merged(casts, name, ours, theirs, side))
    wanted = set(names)
    rest = [c for c in (*left.visible, *right.visible) if c.name not in wanted]
    left.add(right, build.error_position(join.this))
    left.visible[:] = merged + rest
    return build.conjunction(tests) if tests else None


def _merged(
    casts: Casts, name: str, ours: ScopeColumn, theirs: ScopeColumn, side: str
) -> ScopeColumn:
    target = common_type([ours.type, theirs.type])
    if target is None:
        raise DatatypeMismatch(f"JOIN/USING types {ours.type} and {theirs.type} cannot be matched")
    if side == "FULL":
        both = [casts.coerce(c.node(), target, Coercion.IMPLICIT) for c in (ours, theirs)]
        either = exp.Coalesce(this=both[0], expressions=[both[1]])
        return ScopeColumn(name, target, "", name, build.typed(either, target))
    kept = theirs if side == "RIGHT" else ours
    if kept.type == target:
        return replace(kept, name=name)
    node = casts.coerce(kept.node(), target, Coercion.IMPLICIT)
    return ScopeColumn(name, target, "", name, node)


def _single(namespace: Namespace, name: str, side: str, join: exp.Join) -> ScopeColumn:
    found = [column for column in namespace.visible if column.name == name]
    position = build.error_position(join)
    if not found:
        raise UndefinedColumn(
            f'column "{name}" specified in USING clause does not exist in {side} table',
            position=position,
        )
    if len(found) > 1:
        raise AmbiguousColumn(
            f'common column name "{name}" appears more than once in {side} table',
            position=position,
        )
    return found[0]
