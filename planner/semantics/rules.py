"""Short ways to write a rule: most calls are DuckDB's of the same meaning, or one of our macros."""

from __future__ import annotations

from typing import cast

from sqlglot import exp

from planner.functions import Call, Catalogue, Emit, Role, signature
from planner.semantics import build
from storage.types import Kind, SqlType


def define(catalogue: Catalogue, text: str, emit: object, role: Role = Role.SCALAR) -> None:
    """Adds the signature `text` with its rule."""
    catalogue.add(signature(text, cast(Emit, emit), role))


def natural(name: str) -> Emit:
    """A call of `name`, which gives just the type PostgreSQL gives."""

    def emit(call: Call) -> exp.Expr:
        return build.call(name, *call.arguments, type=call.type)

    return emit


def forms(name: str, duckdb_name: str | None = None) -> Emit:
    """A call of `name` cast to the result's type, which DuckDB gives more widely.

    Without a name the argument itself is cast. A numeric result is held as `duckdb_name`.
    """

    def emit(call: Call) -> exp.Expr:
        result = call.type if duckdb_name is None else _shaped(call.type, duckdb_name)
        value = build.call(name, *call.arguments, type=result) if name else call.arguments[0]
        return build.cast_as(value, result)

    return emit


def _shaped(sql_type: SqlType, duckdb_name: str) -> SqlType:
    if sql_type.kind is not Kind.NUMERIC:
        return sql_type
    precision, scale = duckdb_name.removeprefix("DECIMAL(").rstrip(")").split(",")
    if (precision, scale) == ("38", "16"):
        return sql_type
    return SqlType(Kind.NUMERIC, precision=int(precision), scale=int(scale))


def operator_node(node: type[exp.Expr]) -> Emit:
    """A binary or unary operator that DuckDB writes the same way."""

    def emit(call: Call) -> exp.Expr:
        if len(call.arguments) == 1:
            return build.unary(node, call.arguments[0], call.type)
        left, right = call.arguments
        return build.binary(node, left, right, call.type)

    return emit


def table(catalogue: Catalogue, rows: str, role: Role = Role.SCALAR) -> None:
    """Adds `signature = target` lines; `target` defaults to the name, `:` casts the result."""
    for line in rows.strip().splitlines():
        left, _, right = (part.strip() for part in line.partition("="))
        casts = right.startswith(":")
        name = right.removeprefix(":").strip() or left.split("(")[0].strip()
        define(catalogue, left, forms(name) if casts else natural(name), role)
