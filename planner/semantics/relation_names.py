"""Relations that a text names, where the text is known only as the query runs.

`relname::regclass` and `pg_get_serial_sequence(relname, attname)` over columns look their texts
up in lists of the catalog at hand: every spelling of every relation, with and without quotes,
with its schema, and without where the search path finds it. A constant name is resolved when it
is bound, and told wrong there; `pg_get_serial_sequence` of any other name that does not exist
is NULL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlglot import exp

from catalog.model import Sequence, TableId
from catalog.system_tables import objects
from cluster.errors import UndefinedColumn, UndefinedTable
from planner.bound import type_of
from planner.functions import Call, Catalogue
from planner.semantics import build
from planner.semantics.environment import Environment
from planner.semantics.rules import define
from planner.semantics.system import SYSTEM_OIDS, relation_oid
from planner.types import category
from storage.types import INT8, TEXT, Kind, SqlType, array_of


def name_cast(value: exp.Expr, target: SqlType, environment: Environment) -> exp.Expr | None:
    """A cast from a text to regclass: 42P01 where it names no relation; None for other casts."""
    if target.kind is not Kind.REGCLASS or category(type_of(value)) != "S":
        return None
    named = dict(_spelled(_relations(environment), environment))
    keys = build.texts(list(named))
    oids = build.list_of([build.integer(oid, INT8) for oid in named.values()], array_of(INT8))
    return build.cast_as(build.call("pg_oid_of_name", value, keys, oids, type=INT8), target)


def _relations(environment: Environment) -> dict[tuple[str, str], int]:
    """Schema and name of everything in pg_class, with its OID."""
    catalog = environment.context.catalog
    found = {("pg_catalog", name): oid for name, oid in SYSTEM_OIDS.items()}
    found |= {(v.schema, v.name): objects.relation_oid(v.id) for v in catalog.views.values()}
    found |= {(s.schema, s.name): objects.relation_oid(s.id) for s in catalog.sequences.values()}
    for table in catalog.tables.values():
        found[table.schema, table.name] = objects.relation_oid(table.id)
        for index in objects.shown_indexes(table):
            found[table.schema, index.name] = index.oid
    return found


def _spelled(
    relations: Mapping[tuple[str, str], int], environment: Environment
) -> Iterator[tuple[str, int]]:
    """Each spelling with its relation; of those in several schemas the path's first comes last."""
    for (schema, name), oid in relations.items():
        for before in _spellings(schema):
            yield from ((f"{before}.{each}", oid) for each in _spellings(name))
    for schema in reversed(environment.search_path):
        for (found_in, name), oid in relations.items():
            if found_in == schema:
                yield from ((each, oid) for each in _spellings(name))


def _spellings(name: str) -> set[str]:
    return {objects.quoted(name), '"' + name.replace('"', '""') + '"'}


def _serial_sequence(call: Call) -> exp.Expr:
    """pg_get_serial_sequence(table, column): the sequence that goes with the column."""
    table, column = call.arguments
    environment = call.casts.environment
    table_text, column_text = build.literal_text(table), build.literal_text(column)
    if table_text is not None and column_text is not None:
        return _of_constants(table_text, column_text, environment)
    answers = dict(_serial_columns(environment))
    keys, names = build.texts(list(answers)), build.texts(list(answers.values()))
    return build.call("pg_serial_sequence", table, column, keys, names, type=call.type)


def _of_constants(written: str, column_name: str, environment: Environment) -> exp.Expr:
    oid = relation_oid(written, environment)
    catalog = environment.context.catalog
    table = None if oid is None else catalog.tables.get(TableId(oid - objects.FIRST_OID))
    if table is None:
        raise UndefinedTable(f'relation "{written}" does not exist')
    column = table.column_named(column_name)
    if column is None:
        raise UndefinedColumn(f'column "{column_name}" of relation "{table.name}" does not exist')
    for sequence in catalog.sequences.values():
        if sequence.owner == (table.id, column.id):
            return build.text(_qualified(sequence))
    return build.null(TEXT)


def _serial_columns(environment: Environment) -> Iterator[tuple[str, str]]:
    """Each spelling of a table, a blank, a column of it: the column's sequence."""
    catalog = environment.context.catalog
    owned: dict[int, list[tuple[str, str]]] = {}
    for sequence in catalog.sequences.values():
        table = catalog.tables.get(sequence.owner[0]) if sequence.owner is not None else None
        if sequence.owner is not None and table is not None:
            column = table.column(sequence.owner[1])
            answer = (column.name, _qualified(sequence))
            owned.setdefault(objects.relation_oid(table.id), []).append(answer)
    relations = {name: oid for name, oid in _relations(environment).items() if oid in owned}
    for spelling, oid in _spelled(relations, environment):
        yield from ((f"{spelling} {column}", sequence) for column, sequence in owned[oid])


def _qualified(sequence: Sequence) -> str:
    return f"{objects.quoted(sequence.schema)}.{objects.quoted(sequence.name)}"


def register(catalogue: Catalogue) -> None:
    """pg_get_serial_sequence."""
    define(catalogue, "pg_get_serial_sequence(text, text) -> text", _serial_sequence)
