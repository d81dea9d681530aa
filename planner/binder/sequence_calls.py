"""nextval, currval, lastval, setval: bound to calls of Python functions (executor.sequences).

The sequence is a constant, found when the call is bound. The session's token goes along, and a
random number, so that DuckDB does not take a call with constants for one value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlglot import exp

from catalog.model import TableId
from catalog.system_tables.objects import FIRST_OID
from cluster.errors import FeatureNotSupported, UndefinedFunction, UndefinedTable, WrongObjectType
from planner.context import PlannerContext
from planner.semantics import build
from planner.semantics.system import relation_oid
from planner.types import Coercion
from storage.types import BOOL, FLOAT8, INT8, TEXT

if TYPE_CHECKING:
    from planner.binder.expressions import ExpressionBinder

Special = Callable[["ExpressionBinder", exp.Anonymous], exp.Expr]


# The fact about the session that names it in the cluster: `<node>:<what only it has there>`.
SESSION_TOKEN = "sequences"


def session_token(context: PlannerContext) -> str:
    """Which session remembers what currval and lastval say."""
    return context.session.get(SESSION_TOKEN, f"{context.node_id}:")


def _call(name: str, arguments: list[exp.Expr]) -> exp.Expr:
    random = build.typed(exp.Anonymous(this="random", expressions=[]), FLOAT8)
    node = build.call(f"pg_{name}", *arguments, random, type=INT8)
    node.meta["volatile"] = True
    return node


def _sequence(binder: ExpressionBinder, node: exp.Anonymous, name: str) -> exp.Expr:
    """The sequence's id, as the first argument says."""
    if not node.expressions:
        raise UndefinedFunction(f"function {name}() does not exist")
    written = node.expressions[0]
    while isinstance(written, exp.Paren | exp.Cast):  # 'name'::regclass
        written = written.this
    position = build.error_position(node)
    text = build.literal_text(binder.bind(written))
    if text is None:
        raise FeatureNotSupported(f"{name} needs a constant sequence", position=position)
    environment = binder.statement.environment
    oid = int(text) if text.isdigit() else relation_oid(text, environment)
    if oid is None:
        raise UndefinedTable(f'relation "{text}" does not exist', position=position)
    found = environment.context.catalog.sequences.get(TableId(oid - FIRST_OID))
    if found is None:
        raise WrongObjectType(f'"{text}" is not a sequence', position=position)
    return build.cast_as(build.integer(found.id, INT8), INT8)


def _token(binder: ExpressionBinder) -> exp.Expr:
    return build.text(session_token(binder.statement.context), TEXT)


def _of_sequence(name: str) -> Special:
    def bind(binder: ExpressionBinder, node: exp.Anonymous) -> exp.Expr:
        sequence = _sequence(binder, node, name)
        if len(node.expressions) != 1:
            raise UndefinedFunction(
                f"function {name} takes one argument", position=build.error_position(node)
            )
        return _call(name, [sequence, _token(binder)])

    return bind


def _lastval(binder: ExpressionBinder, node: exp.Anonymous) -> exp.Expr:
    return _call("lastval", [_token(binder)])


def _setval(binder: ExpressionBinder, node: exp.Anonymous) -> exp.Expr:
    sequence = _sequence(binder, node, "setval")
    if len(node.expressions) not in (2, 3):
        raise UndefinedFunction(
            "function setval takes two or three arguments", position=build.error_position(node)
        )
    value = binder.bind_as(node.expressions[1], INT8, Coercion.IMPLICIT)
    called: exp.Expr = build.boolean(True)
    if len(node.expressions) == 3:
        called = binder.bind_as(node.expressions[2], BOOL, Coercion.IMPLICIT)
    return _call("setval", [sequence, _token(binder), value, called])


SEQUENCE_CALLS: dict[str, Special] = {
    "nextval": _of_sequence("nextval"),
    "currval": _of_sequence("currval"),
    "lastval": _lastval,
    "setval": _setval,
}
