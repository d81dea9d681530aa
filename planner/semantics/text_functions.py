"""format(), and the texts of arrays and rows, made in Python."""

from __future__ import annotations

import json
import re

from cluster.errors import (
    InvalidParameterValue,
)
from planner.semantics.text_arrays import read_array

_FORMAT = re.compile(r"%(?:(\d+)\$)?(-)?(\d+|\*(?:\d+\$)?)?([sIL%])|%")


def format_text(template: str, arguments: list[str | None]) -> str:
    """format(): %s, %I, %L, %%, positions and widths."""
    following = 0
    out, end = [], 0
    for match in _FORMAT.finditer(template):
        out.append(template[end : match.start()])
        end = match.end()
        kind = match[4]
        if kind == "%":
            out.append("%")
            continue
        if kind is None:
            raise InvalidParameterValue("unrecognized format() type specifier")
        width, left = match[3], bool(match[2])
        size = 0
        if width and width.startswith("*"):
            size, following = int(arguments[following] or 0), following + 1
        elif width:
            size = int(width)
        place = int(match[1]) - 1 if match[1] else following
        if place >= len(arguments):
            raise InvalidParameterValue("too few arguments for format()")
        following = place + 1
        text = _formatted(kind, arguments[place])
        out.append(text.ljust(abs(size)) if left or size < 0 else text.rjust(size))
    return "".join([*out, template[end:]])


def _formatted(kind: str, value: str | None) -> str:
    if kind == "s":
        return value or ""
    if kind == "L":
        return "NULL" if value is None else "'" + value.replace("'", "''") + "'"
    if value is None:
        raise InvalidParameterValue("null values cannot be formatted as an SQL identifier")
    if re.fullmatch(r"[a-z_][a-z0-9_$]*", value):
        return value
    return '"' + value.replace('"', '""') + '"'


def array_items(text: str) -> list[str | None]:
    """The elements of an array's text, each in its own text."""
    return [None if item is None else str(item) for item in read_array(text)]


def json_row(text: str) -> str:
    """A row or array that DuckDB wrote as JSON, spaced as PostgreSQL writes it."""
    return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
