"""`set_config(name, value, is_local)`: SET as a function, which clients call in a select list.

The planner is pure, so the session carries the calls out before the query is planned and puts
their values in their place. That is the same as running them only where each is evaluated
once, so they are taken in the select list of a query without FROM, with constant arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlglot import exp

from cluster.errors import FeatureNotSupported, UndefinedFunction
from planner.datum import Datum, datum_text
from planner.statements import Query

_NAME = "set_config"

# (name, value, local) -> the value as kept
Setter = Callable[[str, str, bool], str]


def calls_set_config(statement: Query) -> bool:
    """Whether the query calls it; the text is looked at first, which is cheap."""
    return _NAME in statement.text.lower() and bool(_calls(statement.tree))


def with_values(statement: Query, values: Sequence[Datum], setter: Setter) -> Query:
    """The query after its calls were carried out, with their values instead of them."""
    tree = statement.tree.copy()
    calls = _calls(tree)
    if not isinstance(tree, exp.Select) or tree.args.get("from_") is not None:
        raise _refusal()
    for call in calls:
        item = _select_item(call)
        literal = exp.Literal.string(setter(*_arguments(call, values)))
        if isinstance(item, exp.Alias):
            item.set("this", literal)
        else:
            item.replace(exp.alias_(literal, _NAME))
    return replace(statement, tree=tree)


def _calls(tree: exp.Expr) -> list[exp.Anonymous]:
    return [call for call in tree.find_all(exp.Anonymous) if call.name.lower() == _NAME]


def _select_item(call: exp.Anonymous) -> exp.Expr:
    """The item of the select list that is this call, perhaps qualified, perhaps named."""
    item: exp.Expr = call
    if isinstance(item.parent, exp.Dot):
        item = item.parent
    if isinstance(item.parent, exp.Alias):
        item = item.parent
    if not isinstance(item.parent, exp.Select) or item.arg_key != "expressions":
        raise _refusal()
    return item


def _arguments(call: exp.Anonymous, values: Sequence[Datum]) -> tuple[str, str, bool]:
    texts = [_constant(argument, values) for argument in call.expressions]
    if len(texts) != 3:
        raise UndefinedFunction("function set_config takes (text, text, boolean)")
    name, value, local = texts
    if name is None or local is None:
        raise FeatureNotSupported("set_config with NULL is not supported")
    return name, value or "", local.lower() in ("t", "true", "on", "1", "yes")


def _constant(node: exp.Expr, values: Sequence[Datum]) -> str | None:
    while isinstance(node, exp.Cast | exp.Paren):
        node = node.this
    match node:
        case exp.Literal():
            return str(node.this)
        case exp.Boolean():
            return "true" if node.this else "false"
        case exp.Null():
            return None
        case exp.Parameter():
            index = int(node.name) - 1
            return datum_text(values[index]) if index < len(values) else ""
    raise _refusal()


def _refusal() -> FeatureNotSupported:
    return FeatureNotSupported(
        "set_config is supported only in the select list of a query without FROM, "
        "with constant arguments",
        hint="Use SET.",
    )
