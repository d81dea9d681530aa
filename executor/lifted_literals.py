"""Texts of simple queries with their literals put aside, so that those of one shape share a plan.

    select v from t where k = 5   ->   select v from t where k = $1   and  ("5",)

One regular expression finds what must be a literal; a text with anything that might hide one, or
make something else of it (quoted names, comments, dollars, backslashes, strings of other kinds), is
left alone. A shape tells the types of its numbers apart, so each has the type that it would have
where it stood; a string has none, like a parameter of no given type. Whoever uses a shape sees to
it that a literal is only put where the parser would have had it: `executor.point_plans` lets it be
what a key column is compared with, `executor.point_writes` a value of an expression.
"""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import count

from cluster.errors import DqeError
from planner.parser import parse
from planner.point import LiteralKinds
from planner.row_casts import numeric_literal_type
from planner.statements import Statement
from storage.row_closures import NotByRow
from storage.types import INT4, INT8, SqlType, numeric_shape

# Longer texts are not looked at for literals.
LONGEST_LIFTED_CHARACTERS = 1024

# Stands for a literal in a shape, with the letter of its kind behind it: a string, a number that
# is an int4, one that is an int8, and with its digits one that is a numeric. No text has it:
# strings of the protocol end at their first zero.
MARK = "\0"
_STRING, _INT4 = f"{MARK}s", f"{MARK}n"
_MARKED = re.compile(f"{MARK}(?:[snl]|d[0-9.]+;)")
# A number without a sign or a plain string. Neither begins within a word, nor does a number end
# in one.
_LITERAL = re.compile(r"(?<![\w.])([0-9]+(?:\.[0-9]+)?)(?![\w.])|(?<![\w&'])'((?:[^']|'')*)'(?!')")
# What may hide a literal, or make one of something else, is not looked into.
_HIDING = ('"', "$", "\\", "--", "/*", MARK)
# A whole number of so many digits is an int4 whatever they are.
_INT4_DIGITS = 9

Lifted = tuple[str, LiteralKinds, list[str]]


def lifted(sql: str) -> Lifted | None:
    """The text's shape, the types of its literals (None for a string) and themselves; None for a
    text that has none, or that is left alone."""
    if len(sql) > LONGEST_LIFTED_CHARACTERS:
        return None
    pieces = _LITERAL.split(sql)
    if len(pieces) == 1:
        return None
    for hiding in _HIDING:
        if hiding in sql:
            return None
    shape = [pieces[0]]
    kinds: list[SqlType | None] = []
    values: list[str] = []
    for place in range(1, len(pieces), 3):
        number, string, rest = pieces[place : place + 3]
        if number is None:
            shape += (_STRING, rest)
            kinds.append(None)
            values.append(string.replace("''", "'") if "'" in string else string)
            continue
        if len(number) <= _INT4_DIGITS and number.isdigit():
            shape += (_INT4, rest)
            kinds.append(INT4)
        else:
            mark, kind = _large(number)
            if kind is None:
                return None
            shape += (mark, rest)
            kinds.append(kind)
        values.append(number)
    text = "".join(shape)
    # A quote that is left opens a string of another kind, with what looked like literals in it.
    return None if "'" in text else (text, tuple(kinds), values)


def _large(number: str) -> tuple[str, SqlType | None]:
    """The mark and type of a number that may be more than an int4; no type for one so long that
    only the usual way knows it (manual 4.1.2.6)."""
    if number.isdigit():
        value = int(number)
        if value < 2**31:
            return _INT4, INT4
        return f"{MARK}l", INT8 if value < 2**63 else None
    try:
        kind = numeric_literal_type(Decimal(number))
    except NotByRow:
        return "", None
    precision, scale = numeric_shape(kind)
    return f"{MARK}d{precision}.{scale};", kind


def statement_of(shape: str) -> Statement | None:
    """The one statement of a shape, its literals being `$1`, `$2`, ...; None where it is none."""
    numbers = count(1)
    try:
        statements = parse(_MARKED.sub(lambda _: f"${next(numbers)}", shape))
    except DqeError:
        return None  # the text itself will say why
    return statements[0] if len(statements) == 1 and not statements[0].notices else None
