"""Row sources of information_schema (SQL standard; PostgreSQL manual, chapter 37)."""

from __future__ import annotations

from collections.abc import Iterator

from catalog.changes.draft import SYSTEM_SCHEMAS
from catalog.model import (
    TEMPORARY_SCHEMA_PREFIX,
    CheckConstraint,
    ForeignKey,
    Table,
    UniqueConstraint,
)
from catalog.system_tables.definition import Row, SystemContext
from catalog.system_tables.keys import (
    columns_of_key,
    each_foreign_key,
    place_in_target,
    referential_constraints,
)
from catalog.system_tables.objects import OWNER_NAME, Constraint, unique_constraints
from catalog.system_tables.pg_catalog import RowSource
from catalog.system_tables.sequences import information_origin, information_sequences
from storage.types import Kind, SqlType

_INTEGER_BITS = {Kind.INT2: 16, Kind.INT4: 32, Kind.INT8: 64}
_FLOAT_BITS = {Kind.FLOAT4: 24, Kind.FLOAT8: 53}
_TIME_KINDS = {Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.INTERVAL}
_TEXT_OCTETS = 1_073_741_824
PRIVILEGES = ("INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


def _yes(value: bool) -> str:
    return "YES" if value else "NO"


def schemata(context: SystemContext) -> Iterator[Row]:
    for name in (*context.catalog.schemas, *SYSTEM_SCHEMAS):
        yield {
            "catalog_name": context.database,
            "schema_name": name,
            "schema_owner": OWNER_NAME,
        }


def tables(context: SystemContext) -> Iterator[Row]:
    for table in context.catalog.tables.values():
        yield _table_row(context, table.schema, table.name, "BASE TABLE")
    for view in context.catalog.views.values():
        yield _table_row(context, view.schema, view.name, "VIEW")


def _table_row(context: SystemContext, schema: str, name: str, kind: str) -> Row:
    return {
        "table_catalog": context.database,
        "table_schema": schema,
        "table_name": name,
        "table_type": "LOCAL TEMPORARY" if schema.startswith(TEMPORARY_SCHEMA_PREFIX) else kind,
        "is_insertable_into": _yes(kind != "VIEW"),
        "is_typed": "NO",
    }


def views(context: SystemContext) -> Iterator[Row]:
    for view in context.catalog.views.values():
        yield {
            "table_catalog": context.database,
            "table_schema": view.schema,
            "table_name": view.name,
            "view_definition": f" {view.query.rstrip().rstrip(';')};",
            "check_option": "NONE",
            "is_updatable": "NO",
            "is_insertable_into": "NO",
            "is_trigger_updatable": "NO",
            "is_trigger_deletable": "NO",
            "is_trigger_insertable_into": "NO",
        }


def columns(context: SystemContext) -> Iterator[Row]:
    for table in context.catalog.tables.values():
        for place, column in enumerate(table.visible_columns, start=1):
            yield {
                **_column_row(context, table.schema, table.name, column.name, place, column.type),
                **information_origin(context.catalog, column),
                "is_nullable": _yes(not column.not_null),
                "is_updatable": "YES",
            }
    for view in context.catalog.views.values():
        for place, (name, sql_type) in enumerate(view.columns, start=1):
            yield {
                **_column_row(context, view.schema, view.name, name, place, sql_type),
                "is_nullable": "YES",
                "is_updatable": "NO",
            }


def _column_row(
    context: SystemContext, schema: str, table: str, name: str, place: int, sql_type: SqlType
) -> dict[str, object]:
    return {
        "table_catalog": context.database,
        "table_schema": schema,
        "table_name": table,
        "column_name": name,
        "ordinal_position": place,
        "udt_catalog": context.database,
        "udt_schema": "pg_catalog",
        "dtd_identifier": str(place),
        "is_self_referencing": "NO",
        "is_identity": "NO",
        "identity_cycle": "NO",
        "is_generated": "NEVER",
        **_type_columns(sql_type),
    }


def _type_columns(sql_type: SqlType) -> dict[str, object]:
    """What information_schema says of a type; columns that do not apply are NULL."""
    found: dict[str, object] = dict.fromkeys(
        (
            "character_maximum_length",
            "character_octet_length",
            "numeric_precision",
            "numeric_precision_radix",
            "numeric_scale",
            "datetime_precision",
            "interval_precision",
            "maximum_cardinality",
        )
    )
    kind = sql_type.kind
    if kind is Kind.ARRAY:
        assert sql_type.element is not None
        return {**found, "data_type": "ARRAY", "udt_name": f"_{sql_type.element.kind}"}
    found |= {"data_type": str(SqlType(kind)), "udt_name": str(kind)}
    if kind in (Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR):
        found["character_maximum_length"] = sql_type.length
        found["character_octet_length"] = sql_type.length * 4 if sql_type.length else _TEXT_OCTETS
    elif kind in _INTEGER_BITS:
        found |= {"numeric_precision": _INTEGER_BITS[kind], "numeric_precision_radix": 2}
        found["numeric_scale"] = 0
    elif kind in _FLOAT_BITS:
        found |= {"numeric_precision": _FLOAT_BITS[kind], "numeric_precision_radix": 2}
    elif kind is Kind.NUMERIC:
        found |= {"numeric_precision_radix": 10, "numeric_precision": sql_type.precision}
        found["numeric_scale"] = None if sql_type.precision is None else sql_type.scale or 0
    elif kind in _TIME_KINDS:
        found["datetime_precision"] = 6
    elif kind is Kind.DATE:
        found["datetime_precision"] = 0
    return found


def _constraints(context: SystemContext) -> Iterator[tuple[Table, Constraint]]:
    for table in context.catalog.tables.values():
        own: list[Constraint] = [*unique_constraints(table), *table.checks, *table.foreign_keys]
        for constraint in own:
            yield table, constraint


def _constraint_names(
    context: SystemContext, table: Table, constraint: Constraint
) -> dict[str, object]:
    return {
        "constraint_catalog": context.database,
        "constraint_schema": table.schema,
        "constraint_name": constraint.name,
    }


def _table_names(context: SystemContext, table: Table) -> dict[str, object]:
    return {
        "table_catalog": context.database,
        "table_schema": table.schema,
        "table_name": table.name,
    }


def table_constraints(context: SystemContext) -> Iterator[Row]:
    for table, constraint in _constraints(context):
        kind = "UNIQUE"
        if isinstance(constraint, CheckConstraint):
            kind = "CHECK"
        elif isinstance(constraint, ForeignKey):
            kind = "FOREIGN KEY"
        elif constraint is table.primary_key:
            kind = "PRIMARY KEY"
        yield {
            **_constraint_names(context, table, constraint),
            **_table_names(context, table),
            "constraint_type": kind,
            "is_deferrable": _yes(getattr(constraint, "deferrable", False)),
            "initially_deferred": _yes(getattr(constraint, "deferred", False)),
            "enforced": "YES",
            "nulls_distinct": "YES" if kind == "UNIQUE" else None,
        }


def check_constraints(context: SystemContext) -> Iterator[Row]:
    for table, constraint in _constraints(context):
        if isinstance(constraint, CheckConstraint):
            yield {
                **_constraint_names(context, table, constraint),
                "check_clause": constraint.expression,
            }


def key_column_usage(context: SystemContext) -> Iterator[Row]:
    for table, constraint in _constraints(context):
        if isinstance(constraint, CheckConstraint):
            continue
        for place, name in columns_of_key(table, constraint):
            elsewhere = None
            if isinstance(constraint, ForeignKey):
                target = context.catalog.tables[constraint.target]
                elsewhere = place_in_target(target, constraint, place)
            yield {
                **_constraint_names(context, table, constraint),
                **_table_names(context, table),
                "column_name": name,
                "ordinal_position": place,
                "position_in_unique_constraint": elsewhere,
            }


def constraint_column_usage(context: SystemContext) -> Iterator[Row]:
    """Of a foreign key the columns that it refers to."""
    for table, constraint in _constraints(context):
        if isinstance(constraint, UniqueConstraint):
            for _, name in columns_of_key(table, constraint):
                yield {
                    **_constraint_names(context, table, constraint),
                    **_table_names(context, table),
                    "column_name": name,
                }
    for table, key, target in each_foreign_key(context.catalog):
        for column_id in key.target_columns:
            yield {
                **_constraint_names(context, table, key),
                **_table_names(context, target),
                "column_name": target.column(column_id).name,
            }


def table_privileges(context: SystemContext) -> Iterator[Row]:
    for table in context.catalog.tables.values():
        for privilege in PRIVILEGES:
            yield {
                **_table_names(context, table),
                "grantor": OWNER_NAME,
                "grantee": OWNER_NAME,
                "privilege_type": privilege,
                "is_grantable": "YES",
                "with_hierarchy": _yes(privilege == "SELECT"),
            }


def information_schema_catalog_name(context: SystemContext) -> Iterator[Row]:
    yield {"catalog_name": context.database}


def enabled_roles(context: SystemContext) -> Iterator[Row]:
    yield {"role_name": OWNER_NAME}


def character_sets(context: SystemContext) -> Iterator[Row]:
    yield {
        "character_set_name": "UTF8",
        "character_repertoire": "UCS",
        "form_of_use": "UTF8",
        "default_collate_catalog": context.database,
        "default_collate_schema": "pg_catalog",
        "default_collate_name": "C",
    }


SOURCES: dict[str, RowSource] = {
    "character_sets": character_sets,
    "check_constraints": check_constraints,
    "columns": columns,
    "sequences": information_sequences,
    "constraint_column_usage": constraint_column_usage,
    "enabled_roles": enabled_roles,
    "information_schema_catalog_name": information_schema_catalog_name,
    "key_column_usage": key_column_usage,
    "referential_constraints": referential_constraints,
    "role_table_grants": table_privileges,
    "schemata": schemata,
    "table_constraints": table_constraints,
    "table_privileges": table_privileges,
    "tables": tables,
    "views": views,
}
