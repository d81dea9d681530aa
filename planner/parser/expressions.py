"""Expressions that the catalog keeps as text: read again, and changed where names change."""

from __future__ import annotations

from functools import lru_cache

from sqlglot import exp

from planner.parser.builder import expression
from planner.parser.keywords import NOT_COLUMN_NAMES
from planner.parser.tokens import Cursor, tokenize


@lru_cache(maxsize=1024)
def parse_expression(text: str) -> exp.Expr:
    """The tree of an expression's text. It is shared: copy it before changing it."""
    cursor = Cursor(text, tokenize(text))
    tree = expression(cursor)
    if not cursor.at_end:
        cursor.fail()
    return tree


def quote_name(name: str) -> str:
    """A name as SQL text that reads back as it, quoted only where it must be."""
    plain = name.replace("_", "a").replace("$", "a")
    is_word = plain.isascii() and plain.isalnum() and not name[0].isdigit() and name[0] != "$"
    if is_word and name == name.lower() and name.upper() not in NOT_COLUMN_NAMES:
        return name
    return '"' + name.replace('"', '""') + '"'


def rename_in_expression(text: str, old: str, new: str) -> str:
    """The text with the column `old` called `new`, everything else as the user wrote it."""
    places: set[tuple[int, int]] = set()
    for column in parse_expression(text).find_all(exp.Column):
        identifier = column.this
        name = identifier.name if identifier.args.get("quoted") else identifier.name.lower()
        if name == old and "start" in identifier.meta:
            places.add((identifier.meta["start"], identifier.meta["end"]))
    for start, end in sorted(places, reverse=True):
        text = text[:start] + quote_name(new) + text[end + 1 :]
    return text
