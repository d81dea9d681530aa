"""CREATE and ALTER SEQUENCE, and the options of identity columns."""

from __future__ import annotations

import dataclasses

from cluster.errors import FeatureNotSupported, SyntaxError_
from planner.parser.builder import object_name, source
from planner.parser.tokens import NUMBER, Cursor
from planner.parser.types import type_name
from planner.statements import (
    NO_LIMIT,
    AlterSequence,
    CreateSequence,
    ObjectName,
    SequenceOptions,
    Statement,
)


def create_sequence(cursor: Cursor, start: int, *, temporary: bool = False) -> Statement:
    """Take CREATE SEQUENCE from the word SEQUENCE on."""
    cursor.expect("SEQUENCE")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    name = object_name(cursor)
    options = sequence_options(cursor)
    if options.restart is not None:
        cursor.fail()
    return CreateSequence(
        **source(cursor, start),
        sequence=name,
        options=options,
        if_not_exists=if_not_exists,
        temporary=temporary,
    )


def alter_sequence(cursor: Cursor, start: int) -> Statement:
    """Take ALTER SEQUENCE from the word SEQUENCE on."""
    cursor.expect("SEQUENCE")
    if_exists = cursor.accept("IF", "EXISTS")
    name = object_name(cursor)
    new_name = None
    options = SequenceOptions()
    if cursor.accept("RENAME", "TO"):
        new_name = cursor.name()
    elif cursor.key in ("SET", "OWNER"):
        raise FeatureNotSupported(
            f"ALTER SEQUENCE ... {cursor.key} is not supported", position=cursor.position
        )
    else:
        options = sequence_options(cursor)
        if options == SequenceOptions():
            cursor.fail()
    return AlterSequence(
        **source(cursor, start),
        sequence=name,
        options=options,
        if_exists=if_exists,
        new_name=new_name,
    )


def sequence_options(cursor: Cursor) -> SequenceOptions:
    """Take options in any order, each at most once."""
    found: dict[str, object] = {}
    while True:
        position = cursor.position
        taken = _option(cursor)
        if taken is None:
            return dataclasses.replace(SequenceOptions(), **found)  # type: ignore[arg-type]
        for name, value in taken.items():
            if name in found:
                raise SyntaxError_("conflicting or redundant options", position=position)
            found[name] = value


def _option(cursor: Cursor) -> dict[str, object] | None:
    if cursor.accept("AS"):
        return {"type": type_name(cursor)}
    if cursor.accept("INCREMENT"):
        cursor.accept("BY")
        return {"increment": _number(cursor)}
    if cursor.accept("MINVALUE"):
        return {"minimum": _number(cursor)}
    if cursor.accept("MAXVALUE"):
        return {"maximum": _number(cursor)}
    if cursor.accept("START"):
        cursor.accept("WITH")
        return {"start": _number(cursor)}
    if cursor.accept("RESTART"):
        given = cursor.accept("WITH") or cursor.key in (NUMBER, "-", "+")
        return {"restart": _number(cursor) if given else True}
    if cursor.accept("CACHE"):
        return {"cache": _number(cursor)}
    if cursor.accept("CYCLE"):
        return {"cycle": True}
    if cursor.accept("NO"):
        word = cursor.expect_any("MINVALUE", "MAXVALUE", "CYCLE")
        if word == "CYCLE":
            return {"cycle": False}
        return {"minimum" if word == "MINVALUE" else "maximum": NO_LIMIT}
    if cursor.accept("OWNED", "BY"):
        return _owner(cursor)
    return None


def _owner(cursor: Cursor) -> dict[str, object]:
    if cursor.accept("NONE"):
        return {"disowned": True}
    position = cursor.position
    parts = [cursor.name()]
    while cursor.accept("."):
        parts.append(cursor.label())
    if len(parts) < 2:
        raise SyntaxError_(
            "invalid OWNED BY option",
            hint="Specify OWNED BY table.column or OWNED BY NONE.",
            position=position,
        )
    *schema, table, column = parts
    name = ObjectName(table, schema[-1] if schema else None, position)
    return {"owner": (name, column)}


def _number(cursor: Cursor) -> int:
    negative = cursor.accept("-")
    if not negative:
        cursor.accept("+")
    position = cursor.position
    text = cursor.token.text
    if cursor.key != NUMBER or not text.isdigit():
        cursor.fail()
    cursor.advance()
    value = -int(text) if negative else int(text)
    if not -(2**63) <= value < 2**63:
        raise SyntaxError_(f"value {value} is out of range for type bigint", position=position)
    return value
