"""Scores outside corpora (../shared/corpora, see its README) against a running cluster.

Three kinds: SQLite's sqllogictest files, GlareDB's scripts (the records a PostgreSQL 15 passes),
and statements of PostgreSQL's regression suite, which run side by side on a real PostgreSQL: the
same rows, or the same SQLSTATE. A corpus' score is the share of its records that come out right;
records that fail for lack of a feature count against it like wrong ones, but are told apart.

    python tests/system/corpora.py glaredb|sqlite|regress URL [PART OF A FILE NAME ...]

prints every failure. The regression suite needs PostgreSQL's URL in CONFORMANCE_POSTGRES.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psql_script import Statement, split_script
from sqllogic import Mismatch, parse, read_as_text, run_record

ROOT = Path(__file__).parent.parent.parent.parent / "shared" / "corpora"
STATEMENT_TIMEOUT = "20s"
# Plans look different here; digits are always as many as it takes to read the number back.
_OF_ANOTHER_SYSTEM = re.compile(r"\s*(explain\b|set\s+extra_float_digits\b)", re.IGNORECASE)


@dataclass(slots=True)
class Score:
    """How many records came out right, and what was said about the others."""

    name: str
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.passed + len(self.failures)

    @property
    def share(self) -> float:
        return self.passed / self.total if self.total else 1.0

    def fail(self, kind: str, text: str) -> None:
        self.kinds[kind] += 1
        self.failures.append(f"[{kind}] {text}")

    def add(self, other: Score) -> None:
        self.passed += other.passed
        self.failures += other.failures
        self.kinds += other.kinds

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.kinds.most_common())
        return f"{self.name}: {self.passed} of {self.total} ({self.share:.1%}) {kinds}"


def connect(url: str) -> psycopg.Connection[Any]:
    """A connection on which no statement lasts long."""
    connection = psycopg.connect(url, autocommit=True)
    connection.execute(f"set statement_timeout = '{STATEMENT_TIMEOUT}'".encode())
    return connection


def glaredb_files() -> list[Path]:
    folder = ROOT / "glaredb"
    return [folder / name for name in sorted(_glaredb_expectations()) if (folder / name).exists()]


def _glaredb_expectations() -> dict[str, dict[str, list[int]]]:
    path = ROOT / "glaredb" / "passed-by-postgresql-15.json"
    loaded: dict[str, dict[str, list[int]]] = json.loads(path.read_text())
    return loaded


def run_glaredb(url: str, path: Path) -> Score:
    """The `pos` records of a file; the others run too, for what they leave behind."""
    name = str(path.relative_to(ROOT / "glaredb"))
    counted = set(_glaredb_expectations()[name]["pos"])
    score = Score(name)
    with connect(url) as connection:
        for record in parse(path):
            try:
                run_record(connection, record, a_value_a_line=False, numbers_by_value=True)
            except Mismatch as mismatch:
                if record.line in counted:
                    score.fail(mismatch.kind, f"{name} {mismatch}")
            else:
                score.passed += record.line in counted
        drop_everything(connection)
    return score


def run_sqlite(url: str, path: Path, every: int = 1) -> Score:
    """A file's records, of its queries every n-th."""
    score = Score(path.name)
    seen = 0
    with connect(url) as connection:
        for record in parse(path):
            if record.kind == "query":
                seen += 1
                if seen % every:
                    continue
            try:
                run_record(connection, record, a_value_a_line=True)
            except Mismatch as mismatch:
                score.fail(mismatch.kind, f"{path.name} {mismatch}")
            else:
                score.passed += 1
        drop_everything(connection)
    return score


def drop_everything(connection: psycopg.Connection[Any]) -> None:
    """Removes what a file left in any schema but the system's."""
    relations = connection.execute(
        "select table_schema, table_name, table_type from information_schema.tables "
        "where table_schema not in ('pg_catalog', 'information_schema', 'dqe') "
        "and table_schema not like 'pg_temp%' order by table_type desc"
    ).fetchall()
    for schema, name, kind in relations:
        what = "view" if kind == "VIEW" else "table"
        connection.execute(f'drop {what} if exists "{schema}"."{name}" cascade'.encode())
    schemas = connection.execute(
        "select schema_name from information_schema.schemata where schema_name not in "
        "('pg_catalog', 'information_schema', 'dqe', 'public') and schema_name not like 'pg_%'"
    ).fetchall()
    for (schema,) in schemas:
        connection.execute(f'drop schema if exists "{schema}" cascade'.encode())


def regress_files() -> list[Path]:
    """`test_setup` first: the others use its tables."""
    files = sorted((ROOT / "postgres" / "regress" / "sql").glob("*.sql"))
    return sorted(files, key=lambda path: path.stem != "test_setup")


def run_regress(url: str, postgres_url: str, path: Path) -> Score:
    """Every statement on both; what `psql` alone understands is left out."""
    score = Score(path.stem)
    with closing(connect(url)) as connection, closing(connect(postgres_url)) as postgres:
        for statement in split_script(path.read_text(), str(ROOT / "postgres" / "regress")):
            if _OF_ANOTHER_SYSTEM.match(statement.sql):
                continue
            wanted = outcome(postgres, statement)
            found = outcome(connection, statement)
            if (kind := _difference(wanted, found, statement)) is None:
                score.passed += 1
            else:
                said = f"{path.stem}:{statement.line}: {statement.sql[:600]}"
                score.fail(kind, f"{said}\nwanted {_brief(wanted)}\nfound  {_brief(found)}")
    return score


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a statement did: its rows as text, or its error."""

    rows: tuple[tuple[str | None, ...], ...] | None
    names: tuple[str, ...] = ()
    sqlstate: str = ""
    message: str = ""


def outcome(connection: psycopg.Connection[Any], statement: Statement) -> Outcome:
    cursor = psycopg.ClientCursor(connection)
    read_as_text(cursor)
    try:
        if statement.copy_data is not None:
            with cursor.copy(statement.sql.encode()) as copy:
                copy.write(statement.copy_data)
            return Outcome(None)
        if re.match(r"copy\b.*\bto\s+stdout", statement.sql, re.IGNORECASE | re.DOTALL):
            with cursor.copy(statement.sql.encode()) as copy:
                lines = b"".join(bytes(block) for block in copy).decode().split("\n")
            return Outcome(tuple((line,) for line in lines))
        cursor.execute(statement.sql.encode())
        if cursor.description is None:
            return Outcome(None)
        rows = tuple(tuple(map(_text, row)) for row in cursor.fetchall())
        return Outcome(rows, tuple(column.name for column in cursor.description))
    except psycopg.Error as error:
        return Outcome(None, (), error.sqlstate or "?", str(error).split("\n")[0])


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _difference(wanted: Outcome, found: Outcome, statement: Statement) -> str | None:
    """The kind of failure, or None if both did the same."""
    if found.sqlstate:
        if found.sqlstate == wanted.sqlstate:
            return None
        return f"{found.sqlstate} for {wanted.sqlstate or 'success'}"
    if wanted.sqlstate:
        return f"success for {wanted.sqlstate}"
    if wanted.rows is None or found.rows is None:
        return None if wanted.rows == found.rows else "wrong"
    if wanted.names != found.names:
        return "names"
    ordered = re.search(r"\border\s+by\b", statement.sql, re.IGNORECASE) is not None
    if wanted.rows == found.rows:
        return None
    if not ordered and sorted(map(repr, wanted.rows)) == sorted(map(repr, found.rows)):
        return None
    return "order" if sorted(map(repr, wanted.rows)) == sorted(map(repr, found.rows)) else "wrong"


def _brief(result: Outcome) -> str:
    if result.sqlstate:
        return f"{result.sqlstate} {result.message}"
    return "done" if result.rows is None else f"{result.names} {str(result.rows)[:1500]}"


def main(arguments: Sequence[str]) -> None:
    corpus, url, *parts = arguments
    total = Score(corpus)
    for score in _scores(corpus, url, parts):
        print(*score.failures, sep="\n\n")
        print(f"=== {score}", flush=True)
        total.add(score)
    print(f"=== all {total}")


def _scores(corpus: str, url: str, parts: Sequence[str]) -> Iterator[Score]:
    def chosen(paths: list[Path]) -> list[Path]:
        return [p for p in paths if not parts or any(part in str(p) for part in parts)]

    if corpus == "glaredb":
        yield from (run_glaredb(url, path) for path in chosen(glaredb_files()))
    elif corpus == "sqlite":
        every = int(os.environ.get("CONFORMANCE_EVERY", "1"))
        paths = sorted((ROOT / "sqlite").rglob("*.test"))
        yield from (run_sqlite(url, path, every) for path in chosen(paths))
    else:
        postgres_url = os.environ["CONFORMANCE_POSTGRES"]
        yield from (run_regress(url, postgres_url, path) for path in chosen(regress_files()))


if __name__ == "__main__":
    main(sys.argv[1:])
