"""LIKE, SIMILAR TO and regular expressions.

DuckDB's LIKE has no escape character unless told; PostgreSQL's is the backslash. Regular
expressions run in RE2: no lookaround, no back references (docs/sql.md); the escapes that
PostgreSQL spells otherwise are translated where the pattern is a constant.
"""

from __future__ import annotations

import re

from sqlglot import exp

from cluster.errors import OtherError, SyntaxError_
from planner.semantics import build
from planner.semantics.casts import Casts, padded
from planner.types import Coercion
from storage.types import BOOL, TEXT

OPERATORS = frozenset({"~~", "~~*", "~", "~*", "similar to"})


def match(
    name: str, left: exp.Expr, right: exp.Expr, escape: exp.Expr | None, casts: Casts
) -> exp.Expr:
    """`left name right`, a boolean; names starting with `!` are negated."""
    if name.startswith("!"):
        return build.negation(match(name[1:], left, right, escape, casts))
    # Patterns are the only operators of char(n) that see its trailing blanks.
    left = casts.coerce(padded(left), TEXT, Coercion.IMPLICIT)
    right = casts.coerce(right, TEXT, Coercion.IMPLICIT)
    if name in ("~", "~*"):
        flags = "s" if name == "~" else "si"
        pattern = regular_expression(right)
        return build.call("regexp_matches", left, pattern, build.text(flags), type=BOOL)
    if name == "similar to":
        return build.call(
            "regexp_full_match", left, similar_pattern(right, escape), build.text("s"), type=BOOL
        )
    return _like(exp.Like if name == "~~" else exp.ILike, left, right, escape)


def _like(
    node: type[exp.Expr], left: exp.Expr, right: exp.Expr, escape: exp.Expr | None
) -> exp.Expr:
    matched = build.binary(node, left, right, BOOL)
    pattern = build.literal_text(right)
    character = "\\" if escape is None else build.literal_text(escape)
    if character is None:
        raise SyntaxError_("ESCAPE must be a constant")
    if len(character) > 1:
        raise OtherError(
            "22025",
            "invalid escape string",
            hint="Escape string must be empty or one character.",
        )
    if not character or (pattern is not None and character not in pattern):
        return matched
    if pattern is not None and pattern.endswith(character) and not pattern.endswith(character * 2):
        raise OtherError("22025", "LIKE pattern must not end with escape character")
    return build.typed(exp.Escape(this=matched, expression=build.text(character)), BOOL)


# PostgreSQL's escapes that RE2 spells otherwise.
_ESCAPES = {
    r"\y": r"\b",
    r"\m": r"\b",
    r"\M": r"\b",
    r"\Y": r"\B",
    r"\Z": r"\z",
}


def regular_expression(node: exp.Expr) -> exp.Expr:
    """A pattern as RE2 reads it."""
    written = build.literal_text(node)
    if written is None:
        return node
    return build.text(re2_pattern(written))


def re2_pattern(pattern: str) -> str:
    """PostgreSQL's advanced regular expression in RE2's spelling."""
    if pattern.startswith("***:"):
        pattern = pattern[4:]
    elif pattern.startswith("***="):
        return re.escape(pattern[4:])
    return re.sub(r"\\.", lambda m: _ESCAPES.get(m.group(), m.group()), pattern, flags=re.DOTALL)


def similar_pattern(node: exp.Expr, escape: exp.Expr | None) -> exp.Expr:
    """SIMILAR TO's pattern as a regular expression."""
    written = build.literal_text(node)
    character = "\\" if escape is None else build.literal_text(escape)
    if written is not None and character is not None:
        return build.text(similar_to_regex(written, character))
    arguments = (node, escape or build.text("\\"))
    return build.call("pg_similar_pattern", *arguments, type=TEXT)


_SIMILAR = {"%": ".*", "_": ".", ".": r"\.", "^": r"\^", "$": r"\$", "\\": r"\\"}


def similar_to_regex(pattern: str, escape: str) -> str:
    """The regular expression that SIMILAR TO's pattern means."""
    out: list[str] = []
    at, bracket = 0, False
    while at < len(pattern):
        character = pattern[at]
        if escape and character == escape:
            at += 1
            out.append(re.escape(pattern[at : at + 1]))
        elif bracket:
            bracket = character != "]"
            out.append(r"\\" if character == "\\" else character)
        elif character == "[":
            bracket = True
            out.append(character)
        elif character == "(":
            out.append("(?:")
        else:
            out.append(_SIMILAR.get(character, character))
        at += 1
    return "(?:" + "".join(out) + ")"


def unescape_unicode(text: str) -> str:
    """U&'...' and unistr()."""
    plain = text.replace("\\\\", "\x00")
    plain = re.sub(r"\\\+([0-9a-fA-F]{6})", lambda m: chr(int(m[1], 16)), plain)
    plain = re.sub(r"\\u?([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), plain)
    return plain.replace("\x00", "\\")
