"""COMMENT ON."""

from __future__ import annotations

from cluster.errors import FeatureNotSupported
from planner.parser.builder import object_name, source
from planner.parser.tokens import Cursor
from planner.statements import Comment, ObjectName, Statement

_KINDS = ("TABLE", "VIEW", "SEQUENCE")


def comment(cursor: Cursor, start: int) -> Statement:
    """COMMENT ON {TABLE | VIEW | SEQUENCE | COLUMN} name IS {'text' | NULL}."""
    cursor.expect("COMMENT", "ON")
    kind, column = cursor.key.lower(), None
    if cursor.accept("COLUMN"):
        name, column = _column(cursor)
    elif cursor.accept_any(_KINDS) is not None:
        name = object_name(cursor)
    else:
        if not cursor.at_word:
            cursor.fail()
        raise FeatureNotSupported(
            f"COMMENT ON {cursor.key} is not supported",
            hint="Tables and their columns, views and sequences can have comments.",
            position=cursor.position,
        )
    cursor.expect("IS")
    text = None if cursor.accept("NULL") else cursor.string()
    # An empty text is none, as in PostgreSQL.
    return Comment(
        kind=kind, name=name, column=column, comment=text or None, **source(cursor, start)
    )


def _column(cursor: Cursor) -> tuple[ObjectName, str]:
    position = cursor.position
    parts = [cursor.name()]
    while cursor.accept("."):
        parts.append(cursor.name())
    if not 2 <= len(parts) <= 3:
        cursor.fail()
    schema = parts[0] if len(parts) == 3 else None
    return ObjectName(parts[-2], schema, position), parts[-1]
