"""Sequences in pg_catalog and information_schema, and what columns take their values from.

Left out: `last_value` of pg_sequences, which only the catalog's leader knows.
"""

from __future__ import annotations

from collections.abc import Iterator

from catalog.model import DEFAULT_SCHEMA, Catalog, Column, Table
from catalog.system_tables.definition import Row, SystemContext
from catalog.system_tables.objects import attribute_numbers, relation_oid
from storage.types import type_oid

_PG_CLASS_OID = 1259
_BITS = {"smallint": 16, "integer": 32, "bigint": 64}


def default_text(catalog: Catalog, column: Column) -> str | None:
    """What pg_get_expr shows for a column: its default, or what generates it."""
    if column.generated is not None:
        return column.generated
    if column.sequence is None or column.identity is not None:
        return column.default
    sequence = catalog.sequences[column.sequence]
    name = sequence.name
    if sequence.schema != DEFAULT_SCHEMA:
        name = f"{sequence.schema}.{name}"
    return f"nextval('{name}'::regclass)"


def column_origin(column: Column) -> dict[str, object]:
    """Where a column's values come from, as pg_attribute has it."""
    identity = {"always": "a", "by default": "d"}.get(column.identity or "", "")
    return {"attidentity": identity, "attgenerated": "s" if column.generated else ""}


def information_origin(catalog: Catalog, column: Column) -> dict[str, object]:
    """Where a column's values come from, as information_schema.columns has it."""
    if column.generated is not None:
        return {"is_generated": "ALWAYS", "generation_expression": column.generated}
    if column.identity is None or column.sequence is None:
        return {"column_default": default_text(catalog, column)}
    sequence = catalog.sequences[column.sequence]
    return {
        "is_identity": "YES",
        "identity_generation": column.identity.upper(),
        "identity_start": str(sequence.start),
        "identity_increment": str(sequence.increment),
        "identity_maximum": str(sequence.maximum),
        "identity_minimum": str(sequence.minimum),
        "identity_cycle": "YES" if sequence.cycle else "NO",
    }


def pg_sequence(context: SystemContext) -> Iterator[Row]:
    for sequence in context.catalog.sequences.values():
        yield {
            "seqrelid": relation_oid(sequence.id),
            "seqtypid": type_oid(sequence.type),
            "seqstart": sequence.start,
            "seqincrement": sequence.increment,
            "seqmax": sequence.maximum,
            "seqmin": sequence.minimum,
            "seqcache": sequence.cache,
            "seqcycle": sequence.cycle,
        }


def pg_sequences(context: SystemContext) -> Iterator[Row]:
    for sequence in context.catalog.sequences.values():
        yield {
            "schemaname": sequence.schema,
            "sequencename": sequence.name,
            "sequenceowner": context.user,
            "data_type": type_oid(sequence.type),
            "start_value": sequence.start,
            "min_value": sequence.minimum,
            "max_value": sequence.maximum,
            "increment_by": sequence.increment,
            "cycle": sequence.cycle,
            "cache_size": sequence.cache,
        }


def information_sequences(context: SystemContext) -> Iterator[Row]:
    """information_schema.sequences, which leaves identity columns' out."""
    catalog = context.catalog
    identities = {
        column.sequence
        for table in catalog.tables.values()
        for column in table.columns
        if column.identity is not None
    }
    for sequence in catalog.sequences.values():
        if sequence.id in identities:
            continue
        yield {
            "sequence_catalog": context.database,
            "sequence_schema": sequence.schema,
            "sequence_name": sequence.name,
            "data_type": str(sequence.type),
            "numeric_precision": _BITS[str(sequence.type)],
            "numeric_precision_radix": 2,
            "numeric_scale": 0,
            "start_value": str(sequence.start),
            "minimum_value": str(sequence.minimum),
            "maximum_value": str(sequence.maximum),
            "increment": str(sequence.increment),
            "cycle_option": "YES" if sequence.cycle else "NO",
        }


def pg_depend(context: SystemContext) -> Iterator[Row]:
    """That a sequence goes with its column: all that is told of dependencies."""
    catalog = context.catalog
    for sequence in catalog.sequences.values():
        if sequence.owner is None:
            continue
        table = catalog.tables.get(sequence.owner[0])
        if table is None:
            continue
        column = _owner_column(table, sequence.owner[1])
        if column is not None:
            yield {
                "classid": _PG_CLASS_OID,
                "objid": relation_oid(sequence.id),
                "objsubid": 0,
                "refclassid": _PG_CLASS_OID,
                "refobjid": relation_oid(table.id),
                "refobjsubid": attribute_numbers(table)[column.id],
                "deptype": "a" if column.identity is None else "i",
            }


def _owner_column(table: Table, column_id: int) -> Column | None:
    for column in table.columns:
        if column.id == column_id:
            return column
    return None
