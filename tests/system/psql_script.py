"""Splits a psql script into the statements a server sees.

Knows quotes, dollar quotes, comments, `COPY ... FROM stdin` with its data, `\\set`, `\\getenv`
and `:'name'`. Statements that depend on what psql makes of an answer (`\\gset`, `\\gexec`,
`\\if`) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/|[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*"
    |(?P<dollar>\$(?:[A-Za-z_]\w*)?\$)|(?P<end>;)|(?P<command>\\[^\n]*)|(?P<open>[(\[])|(?P<shut>[)\]])|\w+|.""",
    re.DOTALL | re.VERBOSE,
)
_COPY_IN = re.compile(r"copy\b.*\bfrom\s+stdin\b", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, with the lines that follow a COPY FROM stdin."""

    line: int
    sql: str
    copy_data: bytes | None = None


def split_script(text: str, source_directory: str) -> Iterator[Statement]:
    variables = {"abs_srcdir": source_directory}
    position, start, depth = 0, 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None
        position = match.end()
        if match["dollar"]:
            close = text.find(match["dollar"], position)
            position = len(text) if close < 0 else close + len(match["dollar"])
        elif match["open"]:
            depth += 1
        elif match["shut"]:
            depth -= 1
        elif match["command"]:
            _run_command(match["command"], variables)
            start, depth = position, 0
        elif match["end"] and depth <= 0:
            sql, line = text[start : match.start()], text.count("\n", 0, start) + 1
            line += len(sql) - len(sql.lstrip()) and sql[: len(sql) - len(sql.lstrip())].count("\n")
            data = None
            if _COPY_IN.match(_bare(sql)):
                data, position = _copy_data(text, position)
            start, depth = position, 0
            filled = _interpolated(_bare(sql), variables)
            if filled:
                yield Statement(line, filled, data)


def _bare(sql: str) -> str:
    """Without comments before and after."""
    return re.sub(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", "", sql, flags=re.DOTALL).rstrip()


def _copy_data(text: str, position: int) -> tuple[bytes, int]:
    first = text.index("\n", position) + 1
    if text.startswith("\\.\n", first):
        return b"", first + 3
    end = text.find("\n\\.\n", first)
    if end < 0 or ";\n" in text[first:end]:
        return b"", position  # a COPY that is expected to fail has no data
    return text[first : end + 1].encode(), end + 4


def _run_command(command: str, variables: dict[str, str]) -> None:
    words = command.split(None, 2)
    if words[0] == "\\set" and len(words) == 3:
        parts = re.findall(r":\w+|'[^']*'|\S+", words[2])
        variables[words[1]] = "".join(
            variables.get(p[1:], "") if p.startswith(":") else p.strip("'") for p in parts
        )


def _interpolated(sql: str, variables: dict[str, str]) -> str:
    return re.sub(
        r":'(\w+)'",
        lambda m: "'" + variables[m[1]] + "'" if m[1] in variables else m[0],
        sql,
    )
