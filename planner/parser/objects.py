"""Schemas, views, indexes, and DROP."""

from __future__ import annotations

from cluster.errors import DqeError, FeatureNotSupported
from planner.parser import grammar
from planner.parser.builder import build_query, names_in_parentheses, object_name, source
from planner.parser.indexes import create_index, drop_index
from planner.parser.keywords import words
from planner.parser.sequences import create_sequence
from planner.parser.tables import create_table
from planner.parser.tokens import Cursor
from planner.statements import (
    CreateSchema,
    CreateView,
    DropSchema,
    DropSequence,
    DropTable,
    DropView,
    ObjectName,
    RenameSchema,
    Statement,
)


def create(cursor: Cursor, start: int) -> Statement:
    """CREATE of any kind of object."""
    cursor.expect("CREATE")
    if cursor.key == "TABLE":
        return create_table(cursor, start)
    if cursor.key in _TEMPORARY or cursor.key in ("LOCAL", "GLOBAL"):
        return _create_temporary(cursor, start)
    if cursor.key == "SCHEMA":
        return _create_schema(cursor, start)
    if cursor.key == "SEQUENCE":
        return create_sequence(cursor, start)
    if cursor.key == "INDEX" or (cursor.key == "UNIQUE" and cursor.peek() == "INDEX"):
        return create_index(cursor, start)
    or_replace = cursor.accept("OR", "REPLACE")
    temporary = cursor.accept_any(_TEMPORARY) is not None
    if cursor.key == "VIEW":
        return _create_view(cursor, start, or_replace, temporary)
    raise _creation_refused(cursor)


def alter_schema(cursor: Cursor, start: int) -> Statement:
    """SCHEMA name RENAME TO new."""
    cursor.expect("SCHEMA")
    name = cursor.name()
    if cursor.key == "OWNER":
        raise FeatureNotSupported(
            "ALTER SCHEMA ... OWNER is not supported", position=cursor.position
        )
    cursor.expect("RENAME", "TO")
    return RenameSchema(name=name, new_name=cursor.name(), **source(cursor, start))


_TEMPORARY = ("TEMP", "TEMPORARY")


def _create_temporary(cursor: Cursor, start: int) -> Statement:
    """A table or view of the session; LOCAL and GLOBAL mean nothing, as in PostgreSQL."""
    cursor.accept_any(("LOCAL", "GLOBAL"))
    cursor.expect_any(*_TEMPORARY)
    if cursor.key == "TABLE":
        return create_table(cursor, start, temporary=True)
    if cursor.key == "VIEW":
        return _create_view(cursor, start, or_replace=False, temporary=True)
    if cursor.key == "SEQUENCE":
        return create_sequence(cursor, start, temporary=True)
    raise _creation_refused(cursor)


def _creation_refused(cursor: Cursor) -> DqeError:
    if cursor.key == "UNLOGGED":
        return FeatureNotSupported(
            "unlogged tables are not supported",
            hint="WITH (durability = 'async') gives up the most durability.",
            position=cursor.position,
        )
    if not cursor.at_word or cursor.key not in _KINDS:
        return cursor.error()
    return FeatureNotSupported(f"CREATE {cursor.key} is not supported", position=cursor.position)


# Kinds of objects that PostgreSQL has and that are refused here by name.
_KINDS = words(
    """ACCESS AGGREGATE CAST COLLATION CONVERSION DATABASE DOMAIN EVENT EXTENSION FOREIGN FUNCTION
    GROUP INDEX LANGUAGE MATERIALIZED OPERATOR POLICY PROCEDURE PUBLICATION RECURSIVE ROLE RULE
    SERVER STATISTICS SUBSCRIPTION TABLESPACE TEXT TRANSFORM TRIGGER TYPE UNIQUE USER
    OWNED"""
)


def _create_schema(cursor: Cursor, start: int) -> Statement:
    cursor.expect("SCHEMA")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    if cursor.key == "AUTHORIZATION":
        raise FeatureNotSupported(
            "CREATE SCHEMA ... AUTHORIZATION is not supported", position=cursor.position
        )
    name = cursor.name()
    if cursor.key not in (";", ""):
        raise FeatureNotSupported(
            "CREATE SCHEMA with further clauses is not supported", position=cursor.position
        )
    return CreateSchema(**source(cursor, start), name=name, if_not_exists=if_not_exists)


def _create_view(cursor: Cursor, start: int, or_replace: bool, temporary: bool) -> Statement:
    cursor.expect("VIEW")
    view = object_name(cursor)
    columns = names_in_parentheses(cursor) if cursor.key == "(" else None
    if cursor.key == "WITH":
        raise FeatureNotSupported("view options are not supported", position=cursor.position)
    cursor.expect("AS")
    query_start = cursor.index
    grammar.query(cursor)
    tree = build_query(cursor, cursor.slice(query_start))
    query_text = cursor.text_from(query_start)
    if cursor.key == "WITH":
        raise FeatureNotSupported("WITH CHECK OPTION is not supported", position=cursor.position)
    return CreateView(
        **source(cursor, start),
        view=view,
        columns=columns,
        query=tree,
        query_text=query_text,
        or_replace=or_replace,
        temporary=temporary,
    )


def drop(cursor: Cursor, start: int) -> Statement:
    """DROP TABLE, VIEW, SCHEMA, INDEX, SEQUENCE."""
    cursor.expect("DROP")
    if cursor.key not in ("TABLE", "VIEW", "SCHEMA", "INDEX", "SEQUENCE"):
        if not cursor.at_word or cursor.key not in _KINDS:
            cursor.fail()
        raise FeatureNotSupported(f"DROP {cursor.key} is not supported", position=cursor.position)
    if cursor.key == "INDEX":
        return drop_index(cursor, start)
    kind = cursor.key
    cursor.advance()
    if_exists = cursor.accept("IF", "EXISTS")
    names = [object_name(cursor)]
    while cursor.accept(","):
        names.append(object_name(cursor))
    cascade = cursor.accept_any(("CASCADE", "RESTRICT")) == "CASCADE"
    return _dropped(cursor, start, kind, tuple(names), if_exists, cascade)


def _dropped(
    cursor: Cursor,
    start: int,
    kind: str,
    names: tuple[ObjectName, ...],
    if_exists: bool,
    cascade: bool,
) -> Statement:
    fields = source(cursor, start)
    if kind == "TABLE":
        return DropTable(**fields, tables=names, if_exists=if_exists, cascade=cascade)
    if kind == "VIEW":
        return DropView(**fields, views=names, if_exists=if_exists, cascade=cascade)
    if kind == "SEQUENCE":
        return DropSequence(**fields, sequences=names, if_exists=if_exists, cascade=cascade)
    schemas = tuple(str(name) for name in names)
    return DropSchema(**fields, names=schemas, if_exists=if_exists, cascade=cascade)
