"""Catalog, DuckDB and PostgreSQL for the binder's tests, and values in PostgreSQL's text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot import exp

from catalog.model import (
    AccessMethod,
    Catalog,
    ColocationId,
    Column,
    ColumnGroup,
    ColumnId,
    Durability,
    Fragment,
    FragmentId,
    NodeId,
    Part,
    PartBounds,
    PartitionMethod,
    Table,
    TableId,
    TabletId,
    UniqueConstraint,
    View,
)
from cluster.errors import DivisionByZero
from planner import udfs
from planner.binder import bind_query
from planner.bound import BoundQuery
from planner.context import PlannerContext
from planner.dialect import duckdb_sql, parse_query
from planner.macros import SETUP_SQL
from planner.plan import HostOperation, ResultColumn
from planner.types import named_type, numeric_of
from storage.types import Kind, SqlType, arrow_type, duckdb_type

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def sql_type(text: str) -> SqlType:
    """`numeric(10,2)`, `varchar(5)`, `int4[]` ..."""
    base, _, modifiers = text.partition("(")
    if not modifiers:
        return named_type(base)
    numbers = [int(n) for n in modifiers.rstrip(")").split(",")]
    if base == "numeric":
        return numeric_of(numbers[0], numbers[1] if len(numbers) > 1 else 0)
    return SqlType({"varchar": Kind.VARCHAR, "char": Kind.BPCHAR}[base], length=numbers[0])


def make_table(number: int, definition: str, key: Sequence[str] = ()) -> Table:
    """A table of one part from `name(column type, ...)`."""
    name, _, rest = definition.partition("(")
    columns = []
    for place, part in enumerate(_split(rest.rstrip()[:-1])):
        column, _, written = part.strip().partition(" ")
        columns.append(Column(ColumnId(place + 1), column, sql_type(written.strip())))
    ids = tuple(c.id for c in columns if c.name in key)
    others = tuple(c.id for c in columns if c.name not in key)
    fragment = Fragment(FragmentId(number), 0, TabletId(number))
    return Table(
        id=TableId(number),
        schema="public",
        name=name.strip(),
        columns=tuple(columns),
        key=ids,
        hidden_row_id=False,
        primary_key=UniqueConstraint(f"{name}_pkey", ids) if ids else None,
        unique=(),
        checks=(),
        method=PartitionMethod.NONE,
        partition_columns=(),
        groups=(ColumnGroup(0, "main", others),),
        parts=(Part(0, "p0", PartBounds(), (fragment,)),),
        colocation_id=ColocationId(number),
        access_method=AccessMethod.COLUMNAR,
        replicas=1,
        durability=Durability.QUORUM,
    )


def _split(text: str) -> list[str]:
    parts, depth, current = [], 0, ""
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += character
    return [*parts, current]


def make_context(
    tables: Sequence[Table] = (), views: Sequence[View] = (), **settings: str
) -> PlannerContext:
    catalog = Catalog(
        tables={table.id: table for table in tables}, views={view.id: view for view in views}
    )
    session = {"user": "postgres", "database": "postgres"}
    return PlannerContext(catalog, NodeId(1), NOW, NOW, settings, session)


def make_duckdb(tables: Sequence[Table] = ()) -> duckdb.DuckDBPyConnection:
    """A DuckDB as a node has it, with empty tables."""
    connection = duckdb.connect(":memory:", config={"threads": "1"})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET default_null_order = 'nulls_last_on_asc_first_on_desc'")
    udfs.register(connection)
    for statement in SETUP_SQL:
        connection.execute(statement)
    for table in tables:
        columns = ", ".join(f'"{c.name}" {duckdb_type(c.type)}' for c in table.columns)
        connection.execute(f'CREATE TABLE "{table.name}" ({columns})')
    return connection


def runnable_sql(bound: BoundQuery) -> str:
    """The bound tree as text over tables of the catalog's names."""
    tree = bound.tree.copy()
    for node in tree.find_all(exp.Table):
        relation = node.meta.get("relation")
        if relation is not None:
            node.set("this", exp.Identifier(this=relation.source.name, quoted=True))
    return duckdb_sql(tree)


def run(
    sql: str, context: PlannerContext, connection: duckdb.DuckDBPyConnection, **options: Any
) -> list[tuple[str | None, ...]]:
    """Binds, runs, and shows every value in PostgreSQL's text."""
    bound = bind_query(parse_query(sql), context, **options)
    reader = connection.sql(runnable_sql(bound)).to_arrow_table()
    check_types(bound, reader)
    columns = [_texts(column, reader) for column in bound.columns]
    return list(zip(*columns, strict=True)) if columns else [()] * reader.num_rows


def check_types(bound: BoundQuery, table: pa.Table) -> None:
    """What DuckDB gave is what the binder said it would."""
    for column in bound.columns:
        if column.operation is not HostOperation.COLUMN or column.type.kind is Kind.ANY:
            continue
        found, wanted = table.schema.field(column.operands[0]).type, arrow_type(column.type)
        if not _alike(found, wanted):
            raise AssertionError(f"{column.name}: {found} for {column.type}, not {wanted}")


def _alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_list(found) and pa.types.is_list(wanted):
        return _alike(found.value_type, wanted.value_type)
    text = (pa.types.is_string, pa.types.is_large_string)
    if any(t(wanted) for t in text):
        found = found.storage_type if isinstance(found, pa.BaseExtensionType) else found
        return any(t(found) for t in text)
    if isinstance(wanted, pa.BaseExtensionType):  # uuid comes as text unless told otherwise
        return pa.types.is_string(found) or found == wanted
    if pa.types.is_timestamp(wanted) and pa.types.is_timestamp(found):
        return (wanted.tz is None) == (found.tz is None)
    return bool(found == wanted)


def _texts(column: ResultColumn, table: pa.Table) -> list[str | None]:
    values = [table.column(name).to_pylist() for name in column.operands]
    if column.operation is HostOperation.NUMERIC_DIVIDE:
        return [_divided(a, b, table, column) for a, b in zip(*values, strict=True)]
    return [value_text(value, column.type) for value in values[0]]


def _divided(a: Any, b: Any, table: pa.Table, column: ResultColumn) -> str | None:
    """A stand-in for the coordinator: enough digits to compare with."""
    if a is None or b is None:
        return None
    if b == 0:
        raise DivisionByZero("division by zero")
    return format(Context(prec=60).divide(Decimal(a), Decimal(b)), "f")


def value_text(value: Any, sql_type: SqlType) -> str | None:
    """PostgreSQL's text of a value."""
    if value is None:
        return None
    match sql_type.kind:
        case Kind.BOOL:
            return "t" if value else "f"
        case Kind.FLOAT4 | Kind.FLOAT8:
            return _float_text(value)
        case Kind.NUMERIC:
            plain = format(value, "f")
            bare = sql_type.precision is None
            return plain.rstrip("0").rstrip(".") if bare and "." in plain else plain
        case Kind.ARRAY:
            assert sql_type.element is not None
            return "{" + ",".join(_item_text(item, sql_type.element) for item in value) + "}"
    return _other_text(value)


def _item_text(value: Any, element: SqlType) -> str:
    text = value_text(value, element)
    if text is None:
        return "NULL"
    if text == "" or text.upper() == "NULL" or any(c in text for c in '{},"\\ '):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def _float_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = repr(value)
    return text.removesuffix(".0")


def _other_text(value: Any) -> str:
    match value:
        case bytes():
            return "\\x" + value.hex()
        case datetime():
            naive = value.replace(tzinfo=None)
            text = naive.isoformat(" ")
            text = text.rstrip("0") if "." in text else text
            return text + ("+00" if value.tzinfo is not None else "")
        case time():
            text = value.isoformat()
            return text.rstrip("0") if "." in text else text
        case date():
            return value.isoformat()
        case timedelta():
            return str(value)
        case _ if isinstance(value, tuple) and len(value) == 3:
            months, days, nanoseconds = value
            return interval_text(months, days, nanoseconds // 1000)
        case dict():
            return "(" + ",".join("" if v is None else _other_text(v) for v in value.values()) + ")"
    return str(value)


def interval_text(months: int, days: int, micros: int) -> str:
    """PostgreSQL's style for intervals."""
    years = int(months / 12)
    out, negative = "", False
    for count, unit in ((years, "year"), (months - years * 12, "mon"), (days, "day")):
        if count:
            sign = "+" if negative and count > 0 else ""
            out += f"{' ' if out else ''}{sign}{count} {unit}{'' if count == 1 else 's'}"
            negative = count < 0
    if micros or not out:
        seconds, rest = divmod(abs(micros), 1_000_000)
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        clock += f".{rest:06d}".rstrip("0") if rest else ""
        sign = "-" if micros < 0 else ("+" if negative else "")
        out += f"{' ' if out else ''}{sign}{clock}"
    return out


def rounded(text: str, digits: int) -> Decimal:
    """A number to so many digits."""
    return Context(prec=digits, rounding=ROUND_HALF_UP).create_decimal(text)
