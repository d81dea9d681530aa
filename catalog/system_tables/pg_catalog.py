"""Row sources of pg_catalog: what psql's \\d forms, drivers and ORMs read.

One function a relation, from a `SystemContext` to dicts; relations without a source here are
empty. Fragments and tablets are not relations here, so a cut table is an ordinary one
(relkind r); how it is cut stands in its reloptions, pg_partitioned_table and dqe.*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from catalog.changes.draft import SYSTEM_SCHEMAS
from catalog.model import (
    TEMPORARY_SCHEMA_PREFIX,
    AccessMethod,
    Column,
    PartitionMethod,
    Table,
    View,
)
from catalog.system_tables.definition import Row, SystemContext
from catalog.system_tables.keys import foreign_key_rows, pg_index, pg_indexes
from catalog.system_tables.objects import (
    COLLATION_C,
    COLLATION_DEFAULT,
    COLUMNAR_METHODS,
    DATABASE_OID,
    DQE_SCHEMA_OID,
    INFORMATION_SCHEMA_OID,
    OWNER_NAME,
    OWNER_OID,
    PG_CATALOG_OID,
    all_types,
    attribute_numbers,
    collation_of,
    constraint_oid,
    index_oid,
    object_texts,
    relation_comments,
    relation_oid,
    schema_oid,
    shown_indexes,
    storage_options,
    unique_constraints,
)
from catalog.system_tables.sequences import (
    column_origin,
    default_text,
    pg_depend,
    pg_sequence,
    pg_sequences,
)
from storage.types import Kind, SqlType, type_length_bytes, type_modifier, type_oid

UTF8 = 6
UNKNOWN_ROWS = -1.0

# Kind -> category, preferred, alignment, storage of pg_type.
_TYPE_TRAITS: dict[Kind, tuple[str, bool, str, str]] = {
    Kind.BOOL: ("B", True, "c", "p"),
    Kind.INT2: ("N", False, "s", "p"),
    Kind.INT4: ("N", False, "i", "p"),
    Kind.INT8: ("N", False, "d", "p"),
    Kind.FLOAT4: ("N", False, "i", "p"),
    Kind.FLOAT8: ("N", True, "d", "p"),
    Kind.NUMERIC: ("N", False, "i", "m"),
    Kind.OID: ("N", True, "i", "p"),
    Kind.REGCLASS: ("N", False, "i", "p"),
    Kind.REGTYPE: ("N", False, "i", "p"),
    Kind.REGPROC: ("N", False, "i", "p"),
    Kind.TEXT: ("S", True, "i", "x"),
    Kind.VARCHAR: ("S", False, "i", "x"),
    Kind.BPCHAR: ("S", False, "i", "x"),
    Kind.NAME: ("S", False, "c", "p"),
    Kind.CHAR: ("Z", False, "c", "p"),
    Kind.DATE: ("D", False, "i", "p"),
    Kind.TIME: ("D", False, "d", "p"),
    Kind.TIMESTAMP: ("D", False, "d", "p"),
    Kind.TIMESTAMPTZ: ("D", True, "d", "p"),
    Kind.INTERVAL: ("T", True, "d", "p"),
    Kind.UUID: ("U", False, "c", "p"),
    Kind.RECORD: ("P", False, "d", "x"),
    Kind.VOID: ("P", False, "i", "p"),
    Kind.UNKNOWN: ("X", False, "c", "p"),
    Kind.ARRAY: ("A", False, "i", "x"),
}
_OTHER_TRAITS = ("U", False, "i", "x")
_PSEUDO = {Kind.RECORD, Kind.VOID, Kind.UNKNOWN}


def traits(sql_type: SqlType) -> tuple[str, bool, str, str]:
    """Category, preferred, alignment and storage of a type."""
    return _TYPE_TRAITS.get(sql_type.kind, _OTHER_TRAITS)


# --- Relations -----------------------------------------------------------------------------


def pg_class(context: SystemContext) -> Iterator[Row]:
    catalog = context.catalog
    for table in catalog.tables.values():
        statistics = catalog.statistics.get(table.id)
        yield {
            **_class_row(relation_oid(table.id), table.name, table.schema, "r"),
            "relam": COLUMNAR_METHODS[table.access_method],
            "relnatts": len(table.visible_columns),
            "reltuples": float(statistics.rows) if statistics else UNKNOWN_ROWS,
            "relhasindex": any(True for _ in shown_indexes(table)),
            "relhastriggers": table.is_bound,
            "relchecks": len(table.checks),
            "reloptions": storage_options(table) or None,
        }
        for index in shown_indexes(table):
            yield {
                **_class_row(index.oid, index.name, table.schema, "i"),
                "relam": COLUMNAR_METHODS["btree"],
                "relnatts": len(index.columns),
                "relreplident": "n",
            }
    for view in catalog.views.values():
        yield {
            **_class_row(relation_oid(view.id), view.name, view.schema, "v"),
            "relnatts": len(view.columns),
            "relhasrules": True,
            "relreplident": "n",
        }
    for sequence in catalog.sequences.values():
        yield {
            **_class_row(relation_oid(sequence.id), sequence.name, sequence.schema, "S"),
            "relnatts": 3,
            "relreplident": "n",
        }


def _class_row(oid: int, name: str, schema: str, kind: str) -> dict[str, object]:
    return {
        "oid": oid,
        "relname": name,
        "relnamespace": schema_oid(schema),
        "relowner": OWNER_OID,
        "relfilenode": 0 if kind == "v" else oid,
        "relkind": kind,
        "relpersistence": "t" if schema.startswith(TEMPORARY_SCHEMA_PREFIX) else "p",
        "relreplident": "d",
        "relispopulated": True,
        "reltuples": UNKNOWN_ROWS,
    }


def pg_attribute(context: SystemContext) -> Iterator[Row]:
    for table in context.catalog.tables.values():
        numbers = attribute_numbers(table)
        for column in table.visible_columns:
            row = _attribute_row(
                relation_oid(table.id),
                column.name,
                column.type,
                numbers[column.id],
                not_null=column.not_null,
                has_default=default_text(context.catalog, column) is not None,
            )
            yield {**row, **column_origin(column)}
        for index in shown_indexes(table):
            for place, each in enumerate(index.columns, start=1):
                column = table.column(each.column)
                yield _attribute_row(index.oid, column.name, column.type, place)
    for view in context.catalog.views.values():
        for place, (name, sql_type) in enumerate(view.columns, start=1):
            yield _attribute_row(relation_oid(view.id), name, sql_type, place)


def _attribute_row(
    relation: int,
    name: str,
    sql_type: SqlType,
    number: int,
    *,
    not_null: bool = False,
    has_default: bool = False,
) -> Row:
    _, _, alignment, storage = traits(sql_type)
    length = type_length_bytes(sql_type)
    return {
        "attrelid": relation,
        "attname": name,
        "atttypid": type_oid(sql_type),
        "attlen": length,
        "attnum": number,
        "attcacheoff": -1,
        "atttypmod": type_modifier(_element(sql_type)),
        "attndims": 1 if sql_type.kind is Kind.ARRAY else 0,
        "attbyval": 0 < length <= 8,
        "attalign": alignment,
        "attstorage": storage,
        "attnotnull": not_null,
        "atthasdef": has_default,
        "attislocal": True,
        "attstattarget": -1,
        "attcollation": collation_of(_element(sql_type)),
    }


def _element(sql_type: SqlType) -> SqlType:
    return sql_type.element if sql_type.element is not None else sql_type


def pg_attrdef(context: SystemContext) -> Iterator[Row]:
    for table, column in _columns(context):
        text = default_text(context.catalog, column)
        if text is not None:
            yield {
                "oid": relation_oid(table.id) + int(column.id) + 0x1000_0000,
                "adrelid": relation_oid(table.id),
                "adnum": attribute_numbers(table)[column.id],
                "adbin": text,
            }


def _columns(context: SystemContext) -> Iterator[tuple[Table, Column]]:
    for table in context.catalog.tables.values():
        for column in table.visible_columns:
            yield table, column


def pg_constraint(context: SystemContext) -> Iterator[Row]:
    for table in context.catalog.tables.values():
        numbers = attribute_numbers(table)
        common = {
            "connamespace": schema_oid(table.schema),
            "convalidated": True,
            "conenforced": True,
            "conrelid": relation_oid(table.id),
            "conislocal": True,
            "connoinherit": True,
        }
        for unique in unique_constraints(table):
            yield {
                **common,
                "oid": constraint_oid(table, unique),
                "conname": unique.name,
                "contype": "p" if unique is table.primary_key else "u",
                "condeferrable": unique.deferrable,
                "condeferred": unique.deferred,
                "conindid": index_oid(table, unique),
                "conkey": [numbers[column_id] for column_id in unique.columns],
            }
        for check in table.checks:
            yield {
                **common,
                "oid": constraint_oid(table, check),
                "conname": check.name,
                "contype": "c",
                "connoinherit": False,
                "convalidated": check.validated,
                "conbin": check.expression,
            }
    yield from foreign_key_rows(context)


def pg_partitioned_table(context: SystemContext) -> Iterator[Row]:
    letters = {
        PartitionMethod.HASH: "h",
        PartitionMethod.RANGE: "r",
        PartitionMethod.LIST: "l",
    }
    for table in context.catalog.tables.values():
        numbers = attribute_numbers(table)
        if table.method in letters and all(c in numbers for c in table.partition_columns):
            yield {
                "partrelid": relation_oid(table.id),
                "partstrat": letters[table.method],
                "partnatts": len(table.partition_columns),
                "partattrs": [numbers[c] for c in table.partition_columns],
            }


def pg_namespace(context: SystemContext) -> Iterator[Row]:
    for name in (*context.catalog.schemas, *SYSTEM_SCHEMAS):
        yield {"oid": schema_oid(name), "nspname": name, "nspowner": OWNER_OID}


def pg_am(context: SystemContext) -> Iterator[Row]:
    for name, oid in COLUMNAR_METHODS.items():
        yield {"oid": oid, "amname": name, "amtype": "i" if name == "btree" else "t"}


# --- Types ---------------------------------------------------------------------------------


def pg_type(context: SystemContext) -> Iterator[Row]:
    for sql_type in all_types():
        yield _type_row(sql_type)


def _type_row(sql_type: SqlType) -> Row:
    is_array = sql_type.kind is Kind.ARRAY
    element = _element(sql_type)
    category, preferred, alignment, storage = traits(sql_type)
    length = type_length_bytes(sql_type)
    return {
        "oid": type_oid(sql_type),
        "typname": f"_{element.kind}" if is_array else str(sql_type.kind),
        "typnamespace": PG_CATALOG_OID,
        "typowner": OWNER_OID,
        "typlen": length,
        "typbyval": 0 < length <= 8,
        "typtype": "p" if sql_type.kind in _PSEUDO else "b",
        "typcategory": category,
        "typispreferred": preferred,
        "typisdefined": True,
        "typdelim": ",",
        "typelem": type_oid(element) if is_array else 0,
        "typarray": 0 if is_array else type_oid(SqlType(Kind.ARRAY, element=sql_type)),
        "typalign": alignment,
        "typstorage": storage,
        "typtypmod": -1,
        "typcollation": collation_of(element),
    }


def pg_collation(context: SystemContext) -> Iterator[Row]:
    named = (("default", COLLATION_DEFAULT, "d"), ("C", COLLATION_C, "c"), ("POSIX", 951, "c"))
    for name, oid, provider in named:
        yield {
            "oid": oid,
            "collname": name,
            "collnamespace": PG_CATALOG_OID,
            "collowner": OWNER_OID,
            "collprovider": provider,
            "collisdeterministic": True,
            "collencoding": -1,
            "collcollate": None if provider == "d" else name,
            "collctype": None if provider == "d" else name,
        }


def pg_language(context: SystemContext) -> Iterator[Row]:
    for oid, name in ((12, "internal"), (14, "sql")):
        yield {"oid": oid, "lanname": name, "lanowner": OWNER_OID}


# --- The cluster ---------------------------------------------------------------------------


def pg_database(context: SystemContext) -> Iterator[Row]:
    yield {
        "oid": DATABASE_OID,
        "datname": context.database,
        "datdba": OWNER_OID,
        "encoding": UTF8,
        "datlocprovider": "c",
        "datallowconn": True,
        "datconnlimit": -1,
        "dattablespace": 1663,
        "datcollate": "C",
        "datctype": "C.UTF-8",
    }


def pg_tablespace(context: SystemContext) -> Iterator[Row]:
    for oid, name in ((1663, "pg_default"), (1664, "pg_global")):
        yield {"oid": oid, "spcname": name, "spcowner": OWNER_OID}


def _role_names(context: SystemContext) -> Iterator[tuple[int, str]]:
    yield OWNER_OID, OWNER_NAME
    if context.user != OWNER_NAME:
        yield OWNER_OID + 1, context.user


def pg_roles(context: SystemContext) -> Iterator[Row]:
    for oid, name in _role_names(context):
        yield {
            "oid": oid,
            "rolname": name,
            "rolsuper": True,
            "rolinherit": True,
            "rolcreaterole": True,
            "rolcreatedb": True,
            "rolcanlogin": True,
            "rolbypassrls": True,
            "rolconnlimit": -1,
            "rolpassword": "********",
        }


def pg_user(context: SystemContext) -> Iterator[Row]:
    for oid, name in _role_names(context):
        yield {
            "usename": name,
            "usesysid": oid,
            "usecreatedb": True,
            "usesuper": True,
            "usebypassrls": True,
            "passwd": "********",
        }


def pg_settings(context: SystemContext) -> Iterator[Row]:
    for name, (value, category, description) in sorted(context.settings.items()):
        yield {
            "name": name,
            "setting": value,
            "category": category,
            "short_desc": description,
            "context": "user",
            "vartype": "string",
            "source": "session",
            "boot_val": value,
            "reset_val": value,
        }


# --- Views over the above ------------------------------------------------------------------


def pg_tables(context: SystemContext) -> Iterator[Row]:
    for table in context.catalog.tables.values():
        yield {
            "schemaname": table.schema,
            "tablename": table.name,
            "tableowner": OWNER_NAME,
            "hasindexes": any(True for _ in shown_indexes(table)),
        }


def pg_views(context: SystemContext) -> Iterator[Row]:
    for view in context.catalog.views.values():
        yield {
            "schemaname": view.schema,
            "viewname": view.name,
            "viewowner": OWNER_NAME,
            "definition": _view_text(view),
        }


def _view_text(view: View) -> str:
    return f" {view.query.rstrip().rstrip(';')};"


def pg_stat_user_tables(context: SystemContext) -> Iterator[Row]:
    for table in context.catalog.tables.values():
        statistics = context.catalog.statistics.get(table.id)
        yield {
            "relid": relation_oid(table.id),
            "schemaname": table.schema,
            "relname": table.name,
            "n_live_tup": statistics.rows if statistics else 0,
        }


def pg_stats(context: SystemContext) -> Iterator[Row]:
    for table, column in _columns(context):
        statistics = context.catalog.statistics.get(table.id)
        known = statistics.columns.get(column.id) if statistics else None
        if known is not None:
            yield {
                "schemaname": table.schema,
                "tablename": table.name,
                "attname": column.name,
                "null_frac": known.null_fraction,
                "avg_width": round(known.width_bytes),
                "n_distinct": float(known.distinct),
                "histogram_bounds": [t for t in (known.low, known.high) if t is not None],
            }


def pg_description(context: SystemContext) -> Iterator[Row]:
    """Comments of the system's schemas, and those of COMMENT ON."""
    comments = (
        (PG_CATALOG_OID, "system catalog schema"),
        (INFORMATION_SCHEMA_OID, "SQL standard views of the catalog"),
        (DQE_SCHEMA_OID, "nodes, tablets and fragments of the cluster"),
        (schema_oid("public"), "standard public schema"),
    )
    for oid, text in comments:
        yield {"objoid": oid, "classoid": 2615, "objsubid": 0, "description": text}
    for oid, number, text in relation_comments(context.catalog):
        yield {"objoid": oid, "classoid": 1259, "objsubid": number, "description": text}


def dqe_object_text(context: SystemContext) -> Iterator[Row]:
    for found in object_texts(context.catalog):
        yield {"function": found.function, "oid": found.oid, "text": found.text}


OBJECT_TEXT_COLUMNS = "name function; oid oid; text text"

RowSource = Callable[[SystemContext], Iterable[Row]]

SOURCES: dict[str, RowSource] = {
    "dqe_object_text": dqe_object_text,
    "pg_am": pg_am,
    "pg_attrdef": pg_attrdef,
    "pg_attribute": pg_attribute,
    "pg_authid": pg_roles,
    "pg_class": pg_class,
    "pg_collation": pg_collation,
    "pg_constraint": pg_constraint,
    "pg_database": pg_database,
    "pg_depend": pg_depend,
    "pg_description": pg_description,
    "pg_index": pg_index,
    "pg_indexes": pg_indexes,
    "pg_language": pg_language,
    "pg_namespace": pg_namespace,
    "pg_partitioned_table": pg_partitioned_table,
    "pg_roles": pg_roles,
    "pg_sequence": pg_sequence,
    "pg_sequences": pg_sequences,
    "pg_settings": pg_settings,
    "pg_shadow": pg_user,
    "pg_stat_user_tables": pg_stat_user_tables,
    "pg_stats": pg_stats,
    "pg_tables": pg_tables,
    "pg_tablespace": pg_tablespace,
    "pg_type": pg_type,
    "pg_user": pg_user,
    "pg_views": pg_views,
}
assert all(method.value in COLUMNAR_METHODS for method in AccessMethod)
