"""Citus' two functions, recognised as statements.

`SELECT create_distributed_table('t', 'column' [, shard_count := n] [, colocate_with := 'u'])`
and `SELECT create_reference_table('t')` change a table, so they cannot run inside a query: a
SELECT of exactly one such call with constant arguments is the statement `Distribute`; anywhere
else the names are unknown functions.
"""

from __future__ import annotations

from sqlglot import exp

from cluster.errors import FeatureNotSupported, UndefinedFunction
from planner.parser.builder import Source
from planner.parser.tokens import Cursor, fold, tokenize
from planner.statements import Distribute, ObjectName

_PARAMETERS = {
    "create_distributed_table": (
        "table_name", "distribution_column", "distribution_type", "colocate_with", "shard_count",
    ),
    "create_reference_table": ("table_name",),
}  # fmt: skip


def distribution(tree: exp.Expr, fields: Source) -> Distribute | None:
    """The statement a query stands for, or None when it is an ordinary query."""
    call = _only_call(tree)
    if call is None:
        return None
    function = call.name.lower()
    arguments = _arguments(function, call.expressions)
    table = _object_name(arguments["table_name"])
    if function == "create_reference_table":
        return Distribute(**fields, function=function, table=table)
    if "distribution_column" not in arguments:
        raise UndefinedFunction(f"function {function}(unknown) does not exist")
    if arguments.get("distribution_type", "hash") != "hash":
        raise FeatureNotSupported(
            "only hash distribution is supported",
            hint="Use CREATE TABLE ... PARTITION BY RANGE or LIST.",
        )
    colocate = arguments.get("colocate_with", "default")
    named = colocate not in ("default", "none")
    return Distribute(
        **fields,
        function=function,
        table=table,
        column=arguments["distribution_column"],
        part_count=int(arguments["shard_count"]) if "shard_count" in arguments else None,
        colocate_with=_object_name(colocate) if named else None,
        colocate_none=colocate == "none",
    )


def _only_call(tree: exp.Expr) -> exp.Anonymous | None:
    if not isinstance(tree, exp.Select) or len(tree.expressions) != 1:
        return None
    if any(value for key, value in tree.args.items() if key not in ("expressions", "kind")):
        return None
    call = tree.expressions[0].unalias()
    if isinstance(call, exp.Dot):
        call = call.expression
    if isinstance(call, exp.Anonymous) and call.name.lower() in _PARAMETERS:
        return call
    return None


def _arguments(function: str, given: list[exp.Expr]) -> dict[str, str]:
    """Argument values by parameter name; constants only."""
    parameters = _PARAMETERS[function]
    if not 1 <= len(given) <= len(parameters):
        raise UndefinedFunction(f"function {function} does not take {len(given)} arguments")
    values: dict[str, str] = {}
    for place, argument in enumerate(given):
        name = parameters[place]
        value = argument
        if isinstance(argument, exp.Kwarg | exp.PropertyEQ):
            name, value = fold(argument.this.name), argument.expression
        if name not in parameters:
            raise UndefinedFunction(f'function {function} has no parameter "{name}"')
        while isinstance(value, exp.Cast):
            value = value.this
        if not isinstance(value, exp.Literal):
            raise FeatureNotSupported(f"{function} takes constants only")
        values[name] = value.name
    if "table_name" not in values:
        raise UndefinedFunction(f"function {function} needs a table name")
    return values


def _object_name(text: str) -> ObjectName:
    """A table named inside a string, folded as SQL folds names."""
    cursor = Cursor(text, tokenize(text))
    parts = [cursor.name()]
    while cursor.accept("."):
        parts.append(cursor.label())
    if not cursor.at_end or len(parts) > 2:
        cursor.fail()
    return ObjectName(parts[-1], parts[0] if len(parts) == 2 else None)
