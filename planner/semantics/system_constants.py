"""Information functions that say the same of everything here.

Clients ask them of each object they list: nothing is hidden, everything is allowed, and of what
does not exist here (triggers, rules, text search) there is no text.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from planner.functions import Call, Catalogue, Emit
from planner.semantics import build
from planner.semantics.rules import define
from storage.types import (
    INT8,
    NAME,
    OID,
    TEXT,
    VOID,
)

_VISIBLE = (
    "type",
    "function",
    "operator",
    "collation",
    "conversion",
    "opclass",
    "opfamily",
    "ts_config",
    "ts_dict",
    "ts_parser",
    "ts_template",
    "statistics_obj",
)
_WITH_PRIVILEGES = (
    "table",
    "any_column",
    "schema",
    "database",
    "function",
    "sequence",
    "type",
    "tablespace",
    "language",
)
_PRIVILEGE_ARGUMENTS = (
    "oid, text",
    "text, text",
    "name, oid, text",
    "name, text, text",
    "oid, oid, text",
)
_COLUMN_PRIVILEGE_ARGUMENTS = (
    "oid, int2, text",
    "oid, text, text",
    "text, text, text",
    "text, int2, text",
)
_WITHOUT_TEXT = (
    "shobj_description(oid, name)",
    "pg_tablespace_location(oid)",
    "pg_get_function_result(oid)",
    "pg_get_function_arguments(oid)",
    "pg_get_function_identity_arguments(oid)",
    "pg_get_functiondef(oid)",
    "pg_get_function_sqlbody(oid)",
    "pg_get_ruledef(oid, bool)",
    "pg_get_ruledef(oid)",
    "pg_get_triggerdef(oid, bool)",
    "pg_get_triggerdef(oid)",
    "pg_get_statisticsobjdef_columns(oid)",
    "pg_get_statisticsobjdef(oid)",
    "pg_get_partition_constraintdef(oid)",
    "pg_describe_object(oid, oid, int4)",
    "pg_collation_for(any)",
    "pg_relation_filepath(oid)",
)
_OF_NO_SIZE = (
    "pg_relation_size(oid)",
    "pg_relation_size(oid, text)",
    "pg_table_size(oid)",
    "pg_total_relation_size(oid)",
    "pg_indexes_size(oid)",
    "pg_database_size(oid)",
    "pg_database_size(name)",
    "pg_tablespace_size(oid)",
    "pg_stat_get_numscans(oid)",
    "pg_stat_get_tuples_inserted(oid)",
)
_TRUE = (
    "pg_has_role(oid, text)",
    "pg_has_role(name, text)",
    "pg_has_role(name, name, text)",
    "pg_has_role(oid, oid, text)",
)
_FALSE = (
    "pg_is_other_temp_schema(oid)",
    "pg_relation_is_publishable(oid)",
    "pg_relation_is_updatable(oid, bool)",
    "row_security_active(oid)",
)


def register(catalogue: Catalogue) -> None:
    """All of them."""
    for signature, value in _constants():
        define(catalogue, signature, _constant(value))


def _constant(value: exp.Expr) -> Emit:
    def emit(_call: Call) -> exp.Expr:
        return value.copy()

    return emit


def _constants() -> Iterator[tuple[str, exp.Expr]]:
    yes, no, no_text = build.boolean(True), build.boolean(False), build.null(TEXT)
    yield from ((f"pg_{name}_is_visible(oid) -> bool", yes) for name in _VISIBLE)
    for name in _WITH_PRIVILEGES:
        for types in _PRIVILEGE_ARGUMENTS:
            yield f"has_{name}_privilege({types}) -> bool", yes
    for types in _COLUMN_PRIVILEGE_ARGUMENTS:
        yield f"has_column_privilege({types}) -> bool", yes
    yield from ((f"{call} -> text", no_text) for call in _WITHOUT_TEXT)
    yield from ((f"{call} -> int8", build.integer(0, INT8)) for call in _OF_NO_SIZE)
    yield from ((f"{call} -> bool", yes) for call in _TRUE)
    yield from ((f"{call} -> bool", no) for call in _FALSE)
    # No advisory lock can be held, so there is none to free; connection pools ask for it.
    yield "pg_advisory_unlock_all() -> void", build.typed(build.text(""), VOID)
    yield "pg_my_temp_schema() -> oid", build.cast_as(build.integer(0), OID)
    yield "pg_relation_filenode(oid) -> oid", build.cast_as(build.integer(0), OID)
    yield "pg_encoding_to_char(int4) -> name", build.text("UTF8", NAME)
    yield "getdatabaseencoding() -> name", build.text("UTF8", NAME)
    yield "pg_char_to_encoding(name) -> int4", build.integer(6)
