"""OIDs and texts of catalog objects, as PostgreSQL's system functions give them.

Tables and views have their id above `FIRST_OID`, so OIDs are stable and never used again.
Objects that have no id in the catalog (schemas, constraints and the indexes behind them) get
one by a checksum of what names them, in ranges of their own.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from catalog.model import (
    Catalog,
    CheckConstraint,
    Durability,
    ForeignKey,
    IndexColumn,
    PartitionMethod,
    ReferentialAction,
    Table,
    TableId,
    UniqueConstraint,
)
from storage.types import (
    ANY,
    Kind,
    SqlType,
    array_of,
    type_from_oid,
    type_oid,
)

FIRST_OID = 16384
OWNER_OID = 10
OWNER_NAME = "dqe"
# More than any table has columns.
COLUMNS_EACH = 65_536
DATABASE_OID = 16383
PG_CATALOG_OID = 11
PUBLIC_OID = 2200
INFORMATION_SCHEMA_OID = 13000
DQE_SCHEMA_OID = 13001
COLUMNAR_METHODS = {"heap": 2, "btree": 403, "columnar": 13010, "row": 13011, "hybrid": 13012}
COLLATION_DEFAULT = 100
COLLATION_C = 950
_COLLATABLE = {Kind.TEXT, Kind.VARCHAR, Kind.BPCHAR}

_SCHEMAS = {
    "pg_catalog": PG_CATALOG_OID,
    "public": PUBLIC_OID,
    "information_schema": INFORMATION_SCHEMA_OID,
    "dqe": DQE_SCHEMA_OID,
}
_INDEX_RANGE = 0x2000_0000
_CONSTRAINT_RANGE = 0x4000_0000
_SCHEMA_RANGE = 0x6000_0000
_RANGE_SIZE = 0x2000_0000


def relation_oid(table_id: TableId) -> int:
    """The OID of a table or view."""
    return FIRST_OID + table_id


def schema_oid(name: str) -> int:
    """The OID of a schema."""
    return _SCHEMAS.get(name) or _by_name(_SCHEMA_RANGE, name)


def index_oid(table: Table, constraint: UniqueConstraint) -> int:
    """The OID of the index that stands for a unique constraint."""
    return _by_name(_INDEX_RANGE, f"{table.id}/{constraint.name}")


Constraint = UniqueConstraint | CheckConstraint | ForeignKey


def constraint_oid(table: Table, constraint: Constraint) -> int:
    """The OID of a constraint."""
    return _by_name(_CONSTRAINT_RANGE, f"{table.id}/{constraint.name}")


def _by_name(start: int, name: str) -> int:
    return start + zlib.crc32(name.encode()) % _RANGE_SIZE


def collation_of(sql_type: SqlType) -> int:
    """The collation a column of the type has."""
    if sql_type.kind is Kind.NAME:
        return COLLATION_C
    return COLLATION_DEFAULT if sql_type.kind in _COLLATABLE else 0


def unique_constraints(table: Table) -> Iterator[UniqueConstraint]:
    """The primary key, then the others."""
    if table.primary_key is not None:
        yield table.primary_key
    yield from table.unique


@dataclass(frozen=True, slots=True)
class ShownIndex:
    """An index as PostgreSQL has one: of CREATE INDEX, or behind a constraint."""

    oid: int
    name: str
    columns: tuple[IndexColumn, ...]
    unique: bool
    primary: bool = False
    ready: bool = True
    constraint: UniqueConstraint | None = None


def shown_indexes(table: Table) -> Iterator[ShownIndex]:
    """All of a table, those of its constraints first."""
    for unique in unique_constraints(table):
        columns = tuple(IndexColumn(column) for column in unique.columns)
        primary = unique is table.primary_key
        oid = index_oid(table, unique)
        yield ShownIndex(oid, unique.name, columns, True, primary, constraint=unique)
    for index in table.indexes:
        oid = relation_oid(index.id)
        yield ShownIndex(oid, index.name, index.columns, index.unique, ready=index.ready)


def foreign_key_index(target: Table, key: ForeignKey) -> ShownIndex | None:
    """The unique index that makes the columns which the key refers to a key."""
    for index in shown_indexes(target):
        columns = {each.column for each in index.columns}
        if index.unique and columns == set(key.target_columns):
            return index
    return None


def attribute_numbers(table: Table) -> dict[int, int]:
    """Column id -> attnum: the visible columns' places from 1."""
    return {column.id: place for place, column in enumerate(table.visible_columns, start=1)}


def quoted(name: str) -> str:
    """The name as SQL text, quoted where PostgreSQL would."""
    plain = name.isascii() and name.replace("_", "a").replace("$", "a").isalnum()
    if plain and name == name.lower() and not name[:1].isdigit():
        return name
    return '"' + name.replace('"', '""') + '"'


def column_list(table: Table, columns: tuple[int, ...]) -> str:
    """Names in order, for definitions."""
    by_id = {int(column.id): column.name for column in table.columns}
    return ", ".join(quoted(by_id[int(column_id)]) for column_id in columns)


def foreign_key_definition(catalog: Catalog, table: Table, key: ForeignKey) -> str:
    """As `pg_get_constraintdef`."""
    target = catalog.tables[key.target]
    text = (
        f"FOREIGN KEY ({column_list(table, key.columns)}) REFERENCES"
        f" {regclass_text(target.schema, target.name)}({column_list(target, key.target_columns)})"
    )
    if key.match_full:
        text += " MATCH FULL"
    for event, action in (("UPDATE", key.on_update), ("DELETE", key.on_delete)):
        if action is not ReferentialAction.NO_ACTION:
            text += f" ON {event} {action.upper()}"
    text += f" ({column_list(table, key.set_columns)})" if key.set_columns else ""
    text += _timing(key)
    return text if key.validated else f"{text} NOT VALID"


def _timing(key: ForeignKey | UniqueConstraint) -> str:
    if not key.deferrable:
        return ""
    return " DEFERRABLE INITIALLY DEFERRED" if key.deferred else " DEFERRABLE"


def constraint_definition(table: Table, constraint: UniqueConstraint | CheckConstraint) -> str:
    """As `pg_get_constraintdef`."""
    if isinstance(constraint, CheckConstraint):
        valid = "" if constraint.validated else " NOT VALID"
        return f"CHECK ({constraint.expression}){valid}"
    kind = "PRIMARY KEY" if constraint is table.primary_key else "UNIQUE"
    return f"{kind} ({column_list(table, constraint.columns)}){_timing(constraint)}"


def index_definition(table: Table, index: ShownIndex) -> str:
    """As `pg_get_indexdef`."""
    relation = f"{quoted(table.schema)}.{quoted(table.name)}"
    columns = ", ".join(_indexed(table, each) for each in index.columns)
    kind = "UNIQUE INDEX" if index.unique else "INDEX"
    return f"CREATE {kind} {quoted(index.name)} ON {relation} USING btree ({columns})"


def _indexed(table: Table, each: IndexColumn) -> str:
    text = quoted(table.column(each.column).name)
    if each.descending:
        return text + (" DESC" if each.nulls_first else " DESC NULLS LAST")
    return text + (" NULLS FIRST" if each.nulls_first else "")


def partition_key_definition(table: Table) -> str | None:
    """As `pg_get_partkeydef`; NULL for a table of one part."""
    if table.method in (PartitionMethod.NONE, PartitionMethod.REPLICATED):
        return None
    if table.hidden_row_id and table.partition_columns == table.key:
        return "HASH (row id)"
    return f"{table.method.upper()} ({column_list(table, table.partition_columns)})"


def storage_options(table: Table) -> list[str]:
    """How the table is cut, as `reloptions` show it to psql's \\d+."""
    options = []
    key = partition_key_definition(table)
    if table.method is PartitionMethod.REPLICATED:
        options.append("replicated=true")
    if key is not None:
        options += [f"partition_by={key}", f"partitions={len(table.parts)}"]
    if len(table.groups) > 1:
        options.append(f"column_groups={'+'.join(group.name for group in table.groups)}")
    if table.replicas > 1 and not table.default_replicas:
        options.append(f"replicas={table.replicas}")
    if table.durability is not Durability.QUORUM:
        options.append(f"durability={table.durability}")
    return options


def format_type(oid: int, modifier: int | None) -> str:
    """As `format_type(oid, typmod)`: the SQL name of a type."""
    found = type_from_oid(oid)
    if found is None:
        return "???"
    if found.kind is Kind.ARRAY:
        assert found.element is not None
        return f"{_with_modifier(found.element, modifier)}[]"
    return str(_with_modifier(found, modifier))


def _with_modifier(sql_type: SqlType, modifier: int | None) -> SqlType:
    if modifier is None or modifier < 4:
        return sql_type
    if sql_type.kind in (Kind.VARCHAR, Kind.BPCHAR):
        return SqlType(sql_type.kind, length=modifier - 4)
    if sql_type.kind is Kind.NUMERIC:
        packed = modifier - 4
        return SqlType(Kind.NUMERIC, precision=packed >> 16, scale=packed & 0x7FF)
    return sql_type


@dataclass(frozen=True, slots=True)
class ObjectText:
    """What a system function says of an object."""

    function: str
    oid: int
    text: str | None


def relation_comments(catalog: Catalog) -> Iterator[tuple[int, int, str]]:
    """Of COMMENT ON: the relation's OID, a column's number or 0, and the text."""
    for relations in (catalog.tables, catalog.views, catalog.sequences):
        for relation_id, relation in relations.items():
            if relation.comment is not None:
                yield relation_oid(relation_id), 0, relation.comment
    for table in catalog.tables.values():
        for number, column in enumerate(table.visible_columns, start=1):
            if column.comment is not None:
                yield relation_oid(table.id), number, column.comment


def column_key(oid: int, number: int) -> int:
    """What stands for a column where one number has to."""
    return oid * COLUMNS_EACH + number


def object_texts(catalog: Catalog) -> Iterator[ObjectText]:
    """All answers of the system functions that look an object up by its OID.

    `pg_catalog.dqe_object_text` has them as rows, so that such a call over a column becomes a
    join: pg_get_constraintdef, pg_get_indexdef, pg_get_viewdef, pg_get_partkeydef, regclass
    (the name as `oid::regclass::text` writes it), pg_get_userbyid, obj_description of relations
    and col_description, whose OIDs are `column_key`s.
    """
    yield ObjectText("pg_get_userbyid", OWNER_OID, OWNER_NAME)
    for oid, number, text in relation_comments(catalog):
        if number:
            yield ObjectText("col_description", column_key(oid, number), text)
        else:
            yield ObjectText("obj_description", oid, text)
    for table in catalog.tables.values():
        oid = relation_oid(table.id)
        yield ObjectText("regclass", oid, regclass_text(table.schema, table.name))
        yield ObjectText("pg_get_partkeydef", oid, partition_key_definition(table))
        for index in shown_indexes(table):
            yield ObjectText("regclass", index.oid, regclass_text(table.schema, index.name))
            yield ObjectText("pg_get_indexdef", index.oid, index_definition(table, index))
        for unique in unique_constraints(table):
            definition = constraint_definition(table, unique)
            yield ObjectText("pg_get_constraintdef", constraint_oid(table, unique), definition)
        for key in table.foreign_keys:
            definition = foreign_key_definition(catalog, table, key)
            yield ObjectText("pg_get_constraintdef", constraint_oid(table, key), definition)
        for check in table.checks:
            text = constraint_definition(table, check)
            yield ObjectText("pg_get_constraintdef", constraint_oid(table, check), text)
    for view in catalog.views.values():
        oid = relation_oid(view.id)
        yield ObjectText("regclass", oid, regclass_text(view.schema, view.name))
        query = view.query.rstrip().rstrip(";")
        yield ObjectText("pg_get_viewdef", oid, f" {query};")
    for sequence in catalog.sequences.values():
        name = regclass_text(sequence.schema, sequence.name)
        yield ObjectText("regclass", relation_oid(sequence.id), name)


def regclass_text(schema: str, name: str) -> str:
    """A relation's name as PostgreSQL prints it: without the schema where it is in the path."""
    if schema in ("public", "pg_catalog"):
        return quoted(name)
    return f"{quoted(schema)}.{quoted(name)}"


def all_types() -> Iterator[SqlType]:
    """Every type a client may meet, arrays behind their elements."""
    for kind in Kind:
        if kind in (Kind.ARRAY, ANY.kind):
            continue
        sql_type = SqlType(kind)
        yield sql_type
        if type_oid(array_of(sql_type)):
            yield array_of(sql_type)
