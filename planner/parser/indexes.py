"""CREATE, ALTER and DROP INDEX, REINDEX."""

from __future__ import annotations

from cluster.errors import FeatureNotSupported
from planner.parser.builder import object_name, source
from planner.parser.clauses import collation
from planner.parser.tokens import Cursor
from planner.statements import (
    AlterIndex,
    CreateIndex,
    DropIndex,
    IndexedColumn,
    ObjectName,
    Reindex,
    Statement,
)


def create_index(cursor: Cursor, start: int) -> Statement:
    """Take CREATE [UNIQUE] INDEX from the word UNIQUE or INDEX on."""
    unique = cursor.accept("UNIQUE")
    cursor.expect("INDEX")
    concurrently = cursor.accept("CONCURRENTLY")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    name = None if cursor.key == "ON" and not if_not_exists else cursor.name()
    cursor.expect("ON")
    cursor.accept("ONLY")
    table = object_name(cursor)
    if cursor.accept("USING"):
        _method(cursor)
    columns = _columns(cursor)
    _parameters(cursor)
    return CreateIndex(
        **source(cursor, start),
        name=name,
        table=table,
        columns=columns,
        unique=unique,
        if_not_exists=if_not_exists,
        concurrently=concurrently,
    )


def _method(cursor: Cursor) -> None:
    position = cursor.position
    method = cursor.name()
    # A hash index finds equal values; a tree finds them, too.
    if method not in ("btree", "hash"):
        raise FeatureNotSupported(
            f'access method "{method}" is not supported for indexes',
            hint="Indexes are btrees.",
            position=position,
        )


def _columns(cursor: Cursor) -> tuple[IndexedColumn, ...]:
    cursor.expect("(")
    columns = [_column(cursor)]
    while cursor.accept(","):
        columns.append(_column(cursor))
    cursor.expect(")")
    return tuple(columns)


def _column(cursor: Cursor) -> IndexedColumn:
    position = cursor.position
    if cursor.key == "(" or cursor.peek() == "(":
        raise FeatureNotSupported(
            "indexes over expressions are not supported",
            hint="Make a generated column of the expression, and an index over that.",
            position=position,
        )
    name = cursor.name()
    if cursor.accept("COLLATE"):
        collation(cursor)
    if cursor.at_word and cursor.key not in ("ASC", "DESC", "NULLS"):
        object_name(cursor)  # an operator class: the order is the type's own in any case
    descending = cursor.accept_any(("ASC", "DESC")) == "DESC"
    nulls_first = descending
    if cursor.accept("NULLS"):
        nulls_first = cursor.expect_any("FIRST", "LAST") == "FIRST"
    return IndexedColumn(name, position, descending, nulls_first)


def _parameters(cursor: Cursor) -> None:
    """What may follow the columns."""
    if cursor.key == "INCLUDE":
        raise FeatureNotSupported(
            "indexes with INCLUDE columns are not supported",
            hint="An index finds rows, which are read from their table: leave INCLUDE out.",
            position=cursor.position,
        )
    if cursor.accept("NULLS"):
        if cursor.key == "NOT":
            raise FeatureNotSupported(
                "NULLS NOT DISTINCT is not supported", position=cursor.position
            )
        cursor.expect("DISTINCT")
    for word, what, hint in (
        ("WITH", "storage parameters of an index", "Leave WITH out: there is nothing to set."),
        ("TABLESPACE", "tablespaces", "An index lies where its table lies."),
        ("WHERE", "partial indexes", "Leave WHERE out: an index over all rows finds these, too."),
    ):
        if cursor.key == word:
            verb = "is" if what.startswith("a ") else "are"
            raise FeatureNotSupported(
                f"{what} {verb} not supported", hint=hint, position=cursor.position
            )


def drop_index(cursor: Cursor, start: int) -> Statement:
    """Take DROP INDEX from the word INDEX on."""
    cursor.expect("INDEX")
    concurrently = cursor.accept("CONCURRENTLY")
    if_exists = cursor.accept("IF", "EXISTS")
    names: list[ObjectName] = [object_name(cursor)]
    while cursor.accept(","):
        names.append(object_name(cursor))
    cascade = cursor.accept_any(("CASCADE", "RESTRICT")) == "CASCADE"
    return DropIndex(
        **source(cursor, start),
        indexes=tuple(names),
        if_exists=if_exists,
        cascade=cascade,
        concurrently=concurrently,
    )


def alter_index(cursor: Cursor, start: int) -> Statement:
    """Take ALTER INDEX from the word INDEX on."""
    cursor.expect("INDEX")
    if_exists = cursor.accept("IF", "EXISTS")
    index = object_name(cursor)
    if not cursor.accept("RENAME", "TO"):
        raise FeatureNotSupported(
            "this form of ALTER INDEX is not supported", position=cursor.position
        )
    new_name = cursor.name()
    return AlterIndex(**source(cursor, start), index=index, new_name=new_name, if_exists=if_exists)


def reindex(cursor: Cursor, start: int) -> Statement:
    """REINDEX [CONCURRENTLY] of an index, a table, a schema or the database."""
    cursor.expect("REINDEX")
    if cursor.accept("("):
        cursor.expect_any("CONCURRENTLY", "VERBOSE")
        while cursor.accept(","):
            cursor.expect_any("CONCURRENTLY", "VERBOSE")
        cursor.expect(")")
    kind = cursor.expect_any("INDEX", "TABLE", "SCHEMA", "DATABASE", "SYSTEM").lower()
    cursor.accept("CONCURRENTLY")
    optional = kind in ("database", "system")
    name = None if optional and not cursor.at_word else object_name(cursor)
    return Reindex(**source(cursor, start), kind=kind, name=name)
