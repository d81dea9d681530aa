"""Rows that show indexes and foreign keys: pg_index, pg_indexes, those of pg_constraint and of
information_schema that are about references.

The index behind a constraint and one of CREATE INDEX are shown alike.
"""

from __future__ import annotations

from collections.abc import Iterator

from catalog.model import Catalog, ForeignKey, ReferentialAction, Table, UniqueConstraint
from catalog.system_tables.definition import Row, SystemContext
from catalog.system_tables.objects import (
    attribute_numbers,
    collation_of,
    constraint_oid,
    foreign_key_index,
    index_definition,
    relation_oid,
    schema_oid,
    shown_indexes,
)

_ACTIONS = {
    ReferentialAction.NO_ACTION: "a",
    ReferentialAction.RESTRICT: "r",
    ReferentialAction.CASCADE: "c",
    ReferentialAction.SET_NULL: "n",
    ReferentialAction.SET_DEFAULT: "d",
}
# The bits of pg_index.indoption.
_DESCENDING, _NULLS_FIRST = 1, 2


def pg_index(context: SystemContext) -> Iterator[Row]:
    for table in context.catalog.tables.values():
        numbers = attribute_numbers(table)
        for index in shown_indexes(table):
            count = len(index.columns)
            yield {
                "indexrelid": index.oid,
                "indrelid": relation_oid(table.id),
                "indnatts": count,
                "indnkeyatts": count,
                "indisunique": index.unique,
                "indisprimary": index.primary,
                "indimmediate": index.constraint is None or not index.constraint.deferrable,
                "indisvalid": index.ready,
                "indisready": True,
                "indislive": True,
                "indkey": [numbers[each.column] for each in index.columns],
                "indcollation": [
                    collation_of(table.column(each.column).type) for each in index.columns
                ],
                "indclass": [0] * count,
                "indoption": [
                    each.descending * _DESCENDING | each.nulls_first * _NULLS_FIRST
                    for each in index.columns
                ],
            }


def pg_indexes(context: SystemContext) -> Iterator[Row]:
    for table in context.catalog.tables.values():
        for index in shown_indexes(table):
            yield {
                "schemaname": table.schema,
                "tablename": table.name,
                "indexname": index.name,
                "indexdef": index_definition(table, index),
            }


# --- Foreign keys --------------------------------------------------------------------------


def each_foreign_key(catalog: Catalog) -> Iterator[tuple[Table, ForeignKey, Table]]:
    """Every foreign key between its table and the one it refers to."""
    for table in catalog.tables.values():
        for key in table.foreign_keys:
            yield table, key, catalog.tables[key.target]


def foreign_key_rows(context: SystemContext) -> Iterator[Row]:
    """Those of pg_constraint."""
    for table, key, target in each_foreign_key(context.catalog):
        numbers, others = attribute_numbers(table), attribute_numbers(target)
        behind = foreign_key_index(target, key)
        yield {
            "oid": constraint_oid(table, key),
            "conname": key.name,
            "connamespace": schema_oid(table.schema),
            "contype": "f",
            "convalidated": key.validated,
            "condeferrable": key.deferrable,
            "condeferred": key.deferred,
            "conenforced": True,
            "conislocal": True,
            "connoinherit": True,
            "conrelid": relation_oid(table.id),
            "confrelid": relation_oid(target.id),
            "conindid": behind.oid if behind is not None else 0,
            "conkey": [numbers[column] for column in key.columns],
            "confkey": [others[column] for column in key.target_columns],
            "confupdtype": _ACTIONS[key.on_update],
            "confdeltype": _ACTIONS[key.on_delete],
            "confmatchtype": "f" if key.match_full else "s",
            "confdelsetcols": [numbers[column] for column in key.set_columns] or None,
        }


def referential_constraints(context: SystemContext) -> Iterator[Row]:
    for table, key, target in each_foreign_key(context.catalog):
        behind = foreign_key_index(target, key)
        yield {
            "constraint_catalog": context.database,
            "constraint_schema": table.schema,
            "constraint_name": key.name,
            "unique_constraint_catalog": context.database,
            "unique_constraint_schema": target.schema,
            "unique_constraint_name": behind.name if behind is not None else None,
            "match_option": "FULL" if key.match_full else "NONE",
            "update_rule": key.on_update.upper(),
            "delete_rule": key.on_delete.upper(),
        }


def place_in_target(target: Table, key: ForeignKey, place: int) -> int | None:
    """Where the column that the key's column at that place refers to stands in its constraint."""
    wanted = key.target_columns[place - 1]
    for unique in target.unique_keys:
        if set(unique.columns) == set(key.target_columns):
            return unique.columns.index(wanted) + 1
    return None


def columns_of_key(table: Table, key: ForeignKey | UniqueConstraint) -> Iterator[tuple[int, str]]:
    """The names of the constraint's own columns, with their places from 1."""
    for place, column_id in enumerate(key.columns, start=1):
        yield place, table.column(column_id).name
