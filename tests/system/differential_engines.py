"""Runs the same SQL on dqe and on PostgreSQL, and compares what comes back."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import pq

_FLOATS = (700, 701)
_NUMERIC = 1700
_RELATIVE_ERROR = 1e-9
# Inside expressions a numeric division has 16 digits behind the point (docs/sql.md).
_NUMERIC_ERROR = Decimal("1e-12")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement gave: rows in text form with their types, or an SQLSTATE."""

    rows: tuple[tuple[str | None, ...], ...] = ()
    types: tuple[int, ...] = ()
    tag: str = ""
    sqlstate: str = ""
    message: str = ""


class Engine:
    """One connection to either engine."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.ask("set timezone = 'UTC'")

    def ask(self, sql: str, parameters: Sequence[str | None] | None = None) -> Answer:
        """The answer to one statement; with parameters, whose types it must find, prepared."""
        raw = self.connection.pgconn
        if parameters is None:
            result = raw.exec_(sql.encode())
        else:
            values = [None if p is None else p.encode() for p in parameters]
            result = raw.exec_params(sql.encode(), values)
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            error = psycopg.errors.error_from_result(result)
            return Answer(sqlstate=error.sqlstate or "", message=str(error))
        rows = tuple(
            tuple(_text(result.get_value(r, c)) for c in range(result.nfields))
            for r in range(result.ntuples)
        )
        types = tuple(result.ftype(c) for c in range(result.nfields))
        return Answer(rows, types, (result.command_status or b"").decode())

    def must(self, sql: str) -> Answer:
        """The answer to a statement that cannot fail."""
        answer = self.ask(sql)
        assert not answer.sqlstate, f"{sql}\n{answer.sqlstate} {answer.message}"
        return answer

    def copy(self, sql: str, data: str) -> None:
        """COPY FROM STDIN."""
        with self.connection.cursor() as cursor, cursor.copy(sql.encode()) as copy:
            copy.write(data)

    def close(self) -> None:
        self.connection.close()


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def difference(ours: Answer, theirs: Answer, ordered_by: Sequence[int]) -> str | None:
    """What is wrong with our answer; None where it is PostgreSQL's."""
    if theirs.sqlstate == "0A000":
        return None  # a full join that PostgreSQL cannot do
    if theirs.sqlstate or ours.sqlstate:
        # Rows may fail in several ways, and which comes first is nobody's promise.
        both_data = ours.sqlstate[:2] == theirs.sqlstate[:2] == "22"
        if ours.sqlstate == theirs.sqlstate or both_data:
            return None
        return (
            f"errors differ: ours {ours.sqlstate or 'none'} {ours.message}, "
            f"PostgreSQL's {theirs.sqlstate or 'none'} {theirs.message}"
        )
    if ours.types != theirs.types:
        return f"types differ: ours {ours.types}, PostgreSQL's {theirs.types}"
    if ours.tag != theirs.tag:
        return f"tags differ: ours {ours.tag}, PostgreSQL's {theirs.tag}"
    mine = [_keyed(row, ours.types) for row in ours.rows]
    wanted = [_keyed(row, theirs.types) for row in theirs.rows]
    if not _same_rows(sorted(mine, key=_order), sorted(wanted, key=_order)):
        return _row_difference(ours, theirs)
    if not _same_rows(
        *([tuple(r[i] for i in ordered_by) for r in rows] for rows in (mine, wanted))
    ):
        return f"the order differs:\n{ours.rows[:10]}\n{theirs.rows[:10]}"
    return None


def _keyed(row: tuple[str | None, ...], types: Sequence[int]) -> tuple[Any, ...]:
    """Values that compare by meaning: numbers as numbers, all else as text."""
    return tuple(_value(text, oid) for text, oid in zip(row, types, strict=True))


def _value(text: str | None, oid: int) -> Any:
    if text is None:
        return None
    if oid in _FLOATS:
        return float(text)
    return Decimal(text) if oid == _NUMERIC else text


def _order(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((v is None, _rounded(v)) for v in row)


def _rounded(value: Any) -> Any:
    """What hardly differs sorts alike."""
    if value is None:
        return ""
    if isinstance(value, float):
        return -math.inf if math.isnan(value) else float(f"{value:.8g}")
    return float(f"{value:.10g}") if isinstance(value, Decimal) else value


def _same_rows(mine: Sequence[tuple[Any, ...]], wanted: Sequence[tuple[Any, ...]]) -> bool:
    return len(mine) == len(wanted) and all(
        _same(a, b)
        for row, other in zip(mine, wanted, strict=True)
        for a, b in zip(row, other, strict=True)
    )


def _same(mine: Any, wanted: Any) -> bool:
    if isinstance(mine, float) and isinstance(wanted, float):
        both_nan = math.isnan(mine) and math.isnan(wanted)
        return both_nan or math.isclose(mine, wanted, rel_tol=_RELATIVE_ERROR, abs_tol=1e-12)
    if isinstance(mine, Decimal) and isinstance(wanted, Decimal):
        return abs(mine - wanted) <= _NUMERIC_ERROR * max(1, abs(wanted))
    return bool(mine == wanted)


def _row_difference(ours: Answer, theirs: Answer, shown: int = 8) -> str:
    extra = list((Counter(ours.rows) - Counter(theirs.rows)).elements())
    missing = list((Counter(theirs.rows) - Counter(ours.rows)).elements())
    return (
        f"{len(ours.rows)} rows, PostgreSQL has {len(theirs.rows)}\n"
        f"only ours: {extra[:shown]}\nonly PostgreSQL's: {missing[:shown]}"
    )
