"""Calls: scalar functions, aggregates, window functions, functions that return rows.

A parsed call may be wrapped in FILTER, WITHIN GROUP, IGNORE NULLS and OVER; `_Written` takes
the wrapping apart. The name is looked up in the catalogue, its arguments resolved by the
manual's rules, and the signature's rule writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlglot import exp

from cluster.errors import (
    AmbiguousFunction,
    FeatureNotSupported,
    GroupingError,
    SyntaxError_,
    UndefinedFunction,
    WindowingError,
    WrongObjectType,
)
from planner.binder.clause import Clause
from planner.binder.sort_keys import sort_keys
from planner.binder.special import SPECIAL
from planner.binder.windows import bound_window
from planner.bound import type_of
from planner.functions import Call, Resolution, Role, Signature, resolve
from planner.semantics import aggregates, build, sets, windows
from planner.semantics.catalogue import CATALOGUE
from planner.semantics.passthrough import duckdb_has
from planner.semantics.session_values import is_session_function, session_value
from planner.types import TYPE_NAMES, Coercion
from storage.types import ANY, TEXT, SqlType

if TYPE_CHECKING:
    from planner.binder.expressions import ExpressionBinder


@dataclass(frozen=True, slots=True)
class Written:
    """A call as written, with what stands around it."""

    node: exp.Anonymous
    name: str
    arguments: tuple[exp.Expr, ...]
    distinct: bool = False
    order: exp.Order | None = None
    filter: exp.Expr | None = None
    within_group: exp.Order | None = None
    window: exp.Window | None = None
    ignores_nulls: bool = False
    is_star: bool = False


def bind_call(binder: ExpressionBinder, node: exp.Expr) -> exp.Expr:
    """The typed tree of a call."""
    written = _written(node)
    special = SPECIAL.get(written.name)
    if special is not None and written.window is None:
        return special(binder, written.node)
    if not written.arguments and is_session_function(written.name):
        return session_value(written.name, binder.statement.environment)
    candidates = CATALOGUE.named(written.name)
    role = candidates[0].role if candidates else None
    if role is Role.AGGREGATE:
        return _aggregate(binder, written, candidates)
    if role is Role.WINDOW:
        return _window_function(binder, written, candidates)
    _refuse_decorations(written)
    if role is Role.SET:
        return _set_in_select_list(binder, written)
    return scalar_call(binder, written, candidates)


def _written(node: exp.Expr) -> Written:
    window = within = condition = None
    ignores = False
    inner = node
    while not isinstance(inner, exp.Anonymous):
        match inner:
            case exp.Window():
                window = inner
            case exp.Filter():
                condition = inner.expression.this
            case exp.WithinGroup():
                within = inner.expression
            case exp.IgnoreNulls():
                ignores = True
            case exp.Dot():
                inner = inner.expression
                continue
            case exp.RespectNulls():
                pass
            case _:
                raise SyntaxError_(f"{inner.key} cannot stand here")
        inner = inner.this
    written = Written(
        inner,
        _function_name(inner),
        tuple(inner.expressions),
        filter=condition,
        within_group=within,
        window=window,
        ignores_nulls=ignores,
    )
    return _take_apart(written)


def _function_name(node: exp.Anonymous) -> str:
    if isinstance(node.this, exp.Identifier):
        return node.this.name
    return str(node.this).lower()


def _take_apart(written: Written) -> Written:
    """DISTINCT, ORDER BY and `*` stand inside the argument list."""
    arguments = list(written.arguments)
    order = None
    if arguments and isinstance(arguments[-1], exp.Order):
        order = arguments[-1]
        arguments[-1] = order.this
    distinct = False
    if arguments and isinstance(arguments[0], exp.Distinct):
        distinct = True
        arguments[:1] = arguments[0].expressions
        if arguments and isinstance(arguments[-1], exp.Order):
            order = arguments[-1]
            arguments[-1] = order.this
    is_star = len(arguments) == 1 and isinstance(arguments[0], exp.Star)
    if is_star:
        arguments = []
    return replace(
        written, arguments=tuple(arguments), order=order, distinct=distinct, is_star=is_star
    )


def _refuse_decorations(written: Written) -> None:
    name, position = written.name, build.error_position(written.node)
    if written.window is not None:
        raise WrongObjectType(
            f"OVER specified, but {name} is not a window function nor an aggregate function",
            position=position,
        )
    for given, word in (
        (written.distinct, "DISTINCT"),
        (written.order is not None, "ORDER BY"),
        (written.filter is not None, "FILTER"),
        (written.within_group is not None, "WITHIN GROUP"),
    ):
        if given:
            raise WrongObjectType(
                f"{word} specified, but {name} is not an aggregate function", position=position
            )


# Scalars


def scalar_call(
    binder: ExpressionBinder, written: Written, candidates: Sequence[Signature]
) -> exp.Expr:
    """A function of one row."""
    arguments = [binder.bind(a) for a in _expanded(written)]
    if not candidates:
        return _unlisted(binder, written, arguments)
    found = resolved(written, candidates, arguments)
    coerced = _coerced(binder, found, arguments)
    return found.signature.emit(Call(coerced, found.result, binder.casts))


def _expanded(written: Written) -> list[exp.Expr]:
    """The arguments, VARIADIC ARRAY[...] spread out."""
    arguments: list[exp.Expr] = []
    for argument in written.arguments:
        if isinstance(argument, exp.Variadic):
            if not isinstance(argument.this, exp.Array):
                raise FeatureNotSupported("VARIADIC takes an array written out")
            arguments += argument.this.expressions
        elif isinstance(argument, (exp.Kwarg, exp.PropertyEQ)):
            raise FeatureNotSupported(f"named arguments are not supported for {written.name}")
        else:
            arguments.append(argument)
    return arguments


def _coerced(
    binder: ExpressionBinder, found: Resolution, arguments: Sequence[exp.Expr]
) -> tuple[exp.Expr, ...]:
    return tuple(
        binder.casts.coerce(argument, target, Coercion.IMPLICIT)
        for argument, target in zip(arguments, found.arguments, strict=True)
    )


def resolved(
    written: Written, candidates: Sequence[Signature], arguments: Sequence[exp.Expr]
) -> Resolution:
    """The signature a call means; 42883 and 42725 where there is none or no single one."""
    types = [type_of(argument) for argument in arguments]
    found = resolve(candidates, types)
    if found is None:
        raise unknown_function(written, types)
    if isinstance(found, list):
        raise AmbiguousFunction(
            f"function {_call_text(written.name, types)} is not unique",
            hint="Could not choose a best candidate function. "
            "You might need to add explicit type casts.",
            position=build.error_position(written.node),
        )
    return found


def unknown_function(written: Written, types: Sequence[SqlType]) -> UndefinedFunction:
    """42883."""
    return UndefinedFunction(
        f"function {_call_text(written.name, types)} does not exist",
        hint="No function matches the given name and argument types. "
        "You might need to add explicit type casts.",
        position=build.error_position(written.node),
    )


def _call_text(name: str, types: Sequence[SqlType]) -> str:
    return f"{name}({', '.join(str(SqlType(t.kind, element=t.element)) for t in types)})"


def _unlisted(binder: ExpressionBinder, written: Written, arguments: list[exp.Expr]) -> exp.Expr:
    """A type's name used as a function, or a function that only DuckDB knows."""
    if len(arguments) == 1 and written.name in TYPE_NAMES:
        return binder.casts.coerce(arguments[0], TYPE_NAMES[written.name], Coercion.EXPLICIT)
    if not duckdb_has(written.name):
        raise unknown_function(written, [type_of(a) for a in arguments])
    known = [
        binder.casts.coerce(a, TEXT, Coercion.IMPLICIT) if build.is_untyped(a) else a
        for a in arguments
    ]
    return build.call(written.name, *known, type=ANY)


# Aggregates


def _aggregate(
    binder: ExpressionBinder, written: Written, candidates: Sequence[Signature]
) -> exp.Expr:
    window = written.window
    _check_aggregate_place(binder, written)
    if written.name == "count" and not written.arguments and not written.is_star:
        raise WrongObjectType(
            "count(*) must be used to call a parameterless aggregate function",
            position=build.error_position(written.node),
        )
    if window is None:
        binder.inside_aggregate = True
    try:
        call = _aggregate_call(binder, written, candidates)
    finally:
        if window is None:
            binder.inside_aggregate = False
    if binder.block is not None and window is None:
        binder.block.aggregates = True
    return aggregates.RULES[written.name](call)


def _aggregate_call(
    binder: ExpressionBinder, written: Written, candidates: Sequence[Signature]
) -> aggregates.AggregateCall:
    arguments = [binder.bind(a) for a in written.arguments]
    if written.name in aggregates.ORDERED_SET and written.within_group is None:
        raise WrongObjectType(
            f"WITHIN GROUP is required for ordered-set aggregate {written.name}",
            position=build.error_position(written.node),
        )
    found = resolved(written, candidates, arguments)
    order = written.within_group or written.order
    return aggregates.AggregateCall(
        _coerced(binder, found, arguments),
        found.result,
        binder.casts,
        written.distinct,
        sort_keys(binder, order),
        _wrapper(binder, written),
    )


def _check_aggregate_place(binder: ExpressionBinder, written: Written) -> None:
    position = build.error_position(written.node)
    if written.window is not None:
        _check_window_place(binder, position)
        return
    if binder.inside_aggregate:
        raise GroupingError("aggregate function calls cannot be nested", position=position)
    if not binder.clause.allows_aggregates:
        raise GroupingError(
            f"aggregate functions are not allowed in {binder.clause}", position=position
        )


def _check_window_place(binder: ExpressionBinder, position: int | None) -> None:
    if binder.inside_aggregate:
        raise GroupingError(
            "aggregate function calls cannot contain window function calls", position=position
        )
    if binder.inside_window:
        raise WindowingError("window function calls cannot be nested", position=position)
    if not binder.clause.allows_windows:
        raise WindowingError(
            f"window functions are not allowed in {binder.clause}", position=position
        )


def _wrapper(binder: ExpressionBinder, written: Written) -> Callable[[exp.Expr], exp.Expr]:
    """What puts FILTER and OVER around an aggregate; they are bound once, and copied."""
    condition = None
    if written.filter is not None:
        condition = binder.bind_boolean(written.filter, "FILTER")
    over = bound_window(binder, written.window) if written.window is not None else None

    def wrap(node: exp.Expr) -> exp.Expr:
        sql_type = type_of(node)
        if condition is not None:
            where = exp.Where(this=condition.copy())
            node = build.typed(exp.Filter(this=node, expression=where), sql_type)
        if over is not None:
            arguments = {
                key: [n.copy() for n in value] if isinstance(value, list) else value.copy()
                for key, value in over.items()
            }
            node = build.typed(exp.Window(this=node, **arguments), sql_type)
        return node

    return wrap


def _window_function(
    binder: ExpressionBinder, written: Written, candidates: Sequence[Signature]
) -> exp.Expr:
    position = build.error_position(written.node)
    if written.within_group is not None:
        raise FeatureNotSupported(
            f"hypothetical-set aggregate {written.name} is not supported", position=position
        )
    if written.window is None:
        raise WrongObjectType(
            f"window function {written.name} requires an OVER clause", position=position
        )
    _check_window_place(binder, position)
    arguments = [binder.bind(a) for a in written.arguments]
    found = resolved(written, candidates, arguments)
    coerced = _coerced(binder, found, arguments)
    call = windows.WindowCall(
        written.name, coerced, found.result, written.ignores_nulls, _wrapper(binder, written)
    )
    return windows.write(call)


# Sets


def bind_set(binder: ExpressionBinder, node: exp.Expr) -> sets.RowSet | None:
    """A call of a function that returns rows; None where it is no such call."""
    if not isinstance(node, (exp.Anonymous, exp.Dot)):
        return None
    written = _written(node)
    candidates = CATALOGUE.named(written.name)
    if not candidates or candidates[0].role is not Role.SET:
        return None
    arguments = [binder.bind(a) for a in _expanded(written)]
    found = resolved(written, candidates, arguments)
    coerced = _coerced(binder, found, arguments)
    elements = found.signature.emit(Call(coerced, found.result, binder.casts))
    return sets.row_set(written.name, elements)


def _set_in_select_list(binder: ExpressionBinder, written: Written) -> exp.Expr:
    if not binder.clause.allows_sets or binder.inside_aggregate:
        raise FeatureNotSupported(
            f"set-returning functions are not allowed in {binder.clause}",
            position=build.error_position(written.node),
        )
    rows = bind_set(binder, written.node)
    assert rows is not None
    sql_type = rows.columns[0][1] if rows.is_scalar else ANY
    node = build.call("unnest", rows.elements, type=sql_type)
    node.meta["returns_set"] = True
    if binder.clause is Clause.ORDER:
        raise FeatureNotSupported("set-returning functions in ORDER BY must be output columns")
    return node
