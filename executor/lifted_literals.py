"""Texts of simple queries with their literals put aside, so that those of one shape share a plan.

    select v from t where k = 5   ->   select v from t where k = $1   and  ("5",)

One regular expression finds what must be a literal; a text with anything that might hide one, or
make something else of it (quoted names, comments, dollars, backslashes, strings of other kinds), is
left alone. Whoever uses a shape sees to it that a literal is only put where the parser would have
had it: `executor.point_plans` lets it be what a key column is compared with, and nothing else.
"""

from __future__ import annotations

import re

from planner.point import LiteralKinds

# Longer texts are not looked at for literals.
LONGEST_LIFTED_CHARACTERS = 1024

# Stands for a literal in a shape, with a letter behind it for its kind. No text has it: strings
# of the protocol end at their first zero.
MARK = "\0"
# A whole number or a plain string. Neither begins within a word, nor does a number end in one.
_LITERAL = re.compile(r"(?<![\w.])([0-9]+)(?![\w.])|(?<![\w&])'([^']*)'(?!')")
# What may hide a literal, or make one of something else, is not looked into.
_HIDING = ('"', "$", "\\", "--", "/*", MARK)


def lifted(sql: str) -> tuple[str, LiteralKinds, list[str]] | None:
    """The text's shape, the kinds of its literals (whether they are strings) and themselves;
    None for a text that has none, or that is left alone."""
    if len(sql) > LONGEST_LIFTED_CHARACTERS:
        return None
    pieces = _LITERAL.split(sql)
    if len(pieces) == 1:
        return None
    for hiding in _HIDING:
        if hiding in sql:
            return None
    shape = [pieces[0]]
    kinds: list[bool] = []
    values: list[str] = []
    for place in range(1, len(pieces), 3):
        number, string, rest = pieces[place : place + 3]
        is_string = number is None
        shape.append("\0s" if is_string else "\0n")
        shape.append(rest)
        kinds.append(is_string)
        values.append(string if is_string else number)
    text = "".join(shape)
    # A quote that is left opens a string of another kind, with what looked like literals in it.
    return None if "'" in text else (text, tuple(kinds), values)
