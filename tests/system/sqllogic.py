"""Runs sqllogictest scripts over a psycopg connection, in two dialects of results.

Ours and GlareDB's: a row a line, values two spaces apart, NULL as `NULL`, an empty text as
`(empty)`. SQLite's: a value a line (or a count and an MD5), integers and floats rounded by the
type string. Records may be limited to engines by `skipif` / `onlyif postgresql`.

`REWRITE_SLT=1` writes what the engine answered into our scripts instead of comparing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

ENGINE = "postgresql"
_HASHED = re.compile(r"(\d+) values hashing to ([0-9a-f]{32})")


@dataclass(slots=True)
class Record:
    """One statement or query with what is expected of it."""

    line: int
    kind: str  # "statement" or "query"
    sql: str
    error: str | None = None  # None: must succeed; "": any error; else an SQLSTATE
    types: str = ""
    sort: str = "nosort"
    expected: list[str] = field(default_factory=list)
    expected_at: tuple[int, int] = (0, 0)


class Mismatch(Exception):
    """A record that did not come out as expected; `kind` is "wrong" or an SQLSTATE."""

    def __init__(self, text: str, kind: str = "wrong") -> None:
        super().__init__(text)
        self.kind = kind


def parse(path: Path) -> Iterator[Record]:
    """The records of a script that apply to PostgreSQL."""
    lines = path.read_text().split("\n")
    position = 0
    while position < len(lines):
        start, words = position, lines[position].split()
        position += 1
        if not words or words[0].startswith("#"):
            continue
        applies = True
        while words and words[0] in ("skipif", "onlyif"):
            applies &= (words[1] == ENGINE) == (words[0] == "onlyif")
            start, words = position, lines[position].split()
            position += 1
        if not words:
            continue
        if words[0] == "halt":
            return
        if words[0] in ("hash-threshold", "control", "include"):
            continue
        block = position
        while position < len(lines) and lines[position].strip():
            position += 1
        if applies:
            yield _record(start + 1, words, lines[block:position], block)


def _record(line: int, words: list[str], body: list[str], block: int) -> Record:
    if "----" in body:
        split = body.index("----")
        sql, expected = body[:split], body[split + 1 :]
        span = (block + split + 1, block + len(body))
    else:
        sql, expected, span = body, [], (block + len(body), block + len(body))
    text = "\n".join(sql)
    if words[0] == "statement":
        error = None if words[1] in ("ok", "count") else (words[2] if len(words) > 2 else "")
        return Record(line, "statement", text, error)
    if len(words) > 1 and words[1] == "error":
        return Record(line, "statement", text, words[2] if len(words) > 2 else "")
    types = words[1] if len(words) > 1 else ""
    sort = words[2] if len(words) > 2 and words[2].endswith("sort") else "nosort"
    return Record(line, "query", text, None, types, sort, expected, span)


def run_record(
    connection: psycopg.Connection[Any],
    record: Record,
    *,
    a_value_a_line: bool,
    numbers_by_value: bool = False,
) -> None:
    """Runs one record; raises Mismatch. `numbers_by_value` takes 1.50 for 1.5."""
    actual = answer(connection, record, a_value_a_line=a_value_a_line)
    if record.kind == "query" and not _same(actual, record, a_value_a_line, numbers_by_value):
        raise Mismatch(
            f"line {record.line}: {record.sql}\nexpected: {record.expected[:20]}\n"
            f"actual:   {actual[:20]}"
        )


def answer(
    connection: psycopg.Connection[Any], record: Record, *, a_value_a_line: bool
) -> list[str]:
    """What the engine says, as lines; raises Mismatch on an unexpected success or failure."""
    cursor = psycopg.ClientCursor(connection)
    read_as_text(cursor)
    try:
        cursor.execute(record.sql.encode())
        rows = cursor.fetchall() if cursor.description is not None else []
    except psycopg.Error as error:
        if record.error is None:
            raise Mismatch(
                f"line {record.line}: {record.sql}\n{error.sqlstate}: {error}",
                error.sqlstate or "?",
            ) from error
        if record.error and record.error != error.sqlstate:
            raise Mismatch(
                f"line {record.line}: {record.sql}\nexpected {record.error}, got "
                f"{error.sqlstate}: {error}"
            ) from error
        return []
    if record.error is not None:
        raise Mismatch(f"line {record.line}: {record.sql}\nexpected an error, but it succeeded")
    return _lines(rows, record, a_value_a_line)


def read_as_text(cursor: psycopg.Cursor[Any]) -> None:
    """Values as the server writes them, not as Python objects."""
    for oid in (16, 17, 20, 21, 23, 26, 114, 700, 701, 1082, 1083, 1114, 1184, 1186, 1700, 2950):
        cursor.adapters.register_loader(oid, psycopg.types.string.TextLoader)
    for info in psycopg.adapters.types:
        if info.array_oid:
            cursor.adapters.register_loader(info.array_oid, psycopg.types.string.TextLoader)
    for oid in (2249, 3802):
        cursor.adapters.register_loader(oid, psycopg.types.string.TextLoader)


def _lines(rows: list[tuple[Any, ...]], record: Record, a_value_a_line: bool) -> list[str]:
    if not a_value_a_line:
        lines = ["  ".join(_shown(v) for v in row) for row in rows]
        return sorted(lines) if record.sort == "rowsort" else lines
    texts = [
        [_sqlite_shown(v, t) for v, t in zip(row, _types(record, row), strict=False)]
        for row in rows
    ]
    if record.sort == "rowsort":
        texts.sort()
    flat = [value for row in texts for value in row]
    return sorted(flat) if record.sort == "valuesort" else flat


def _types(record: Record, row: tuple[Any, ...]) -> str:
    return record.types.ljust(len(row), "T")


def _shown(value: Any) -> str:
    if value is None:
        return "NULL"
    text = {"t": "true", "f": "false"}.get(value, value) if isinstance(value, str) else str(value)
    return text if text != "" else "(empty)"


def _sqlite_shown(value: Any, type_letter: str) -> str:
    if value is None:
        return "NULL"
    if type_letter == "I":
        try:
            return str(int(float(value)))
        except ValueError:
            return "0"  # as SQLite reads a text as an integer
    if type_letter == "R":
        return f"{float(value):.3f}"
    text = str(value)
    return "".join(c if " " <= c <= "~" else "@" for c in text) or "(empty)"


def _same(actual: list[str], record: Record, a_value_a_line: bool, numbers_by_value: bool) -> bool:
    expected = record.expected
    if a_value_a_line and len(expected) == 1 and (match := _HASHED.fullmatch(expected[0])):
        joined = "".join(value + "\n" for value in actual).encode()
        return len(actual) == int(match[1]) and hashlib.md5(joined).hexdigest() == match[2]
    if a_value_a_line:
        return actual == expected
    if record.sort == "rowsort":
        expected = sorted(expected)
    read = _values if numbers_by_value else str.split
    actual_lines, expected_lines = (
        [read(line) for line in actual],
        [read(line) for line in expected],
    )
    if record.sort == "rowsort":
        return sorted(actual_lines, key=repr) == sorted(expected_lines, key=repr)
    return actual_lines == expected_lines


def _values(line: str) -> list[object]:
    return [_value(word) for word in line.split()]


def _value(word: str) -> object:
    """A whole number, a fraction by its first digits (engines print floats to different
    lengths), else the text."""
    try:
        number = float(word)
    except ValueError:
        return word
    return int(number) if number.is_integer() else f"{number:.6g}"


def rewrite(path: Path, answers: dict[int, list[str]], records: list[Record]) -> None:
    """Puts the answers in the place of the expectations."""
    lines = path.read_text().split("\n")
    for record in reversed(records):
        if record.line in answers:
            start, end = record.expected_at
            lines[start:end] = answers[record.line]
    path.write_text("\n".join(lines))
