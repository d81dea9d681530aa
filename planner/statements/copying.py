"""COPY, in both directions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlglot import exp

from planner.statements.common import ObjectName, SourceExpression, Statement


class CopyFormat(StrEnum):
    TEXT = "text"
    CSV = "csv"
    BINARY = "binary"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """COPY's options with the defaults of the format filled in (PostgreSQL manual, COPY).

    `header` is "no", "yes" or "match". `force_*` None is the option left out; ("*",) is all.
    """

    format: CopyFormat = CopyFormat.TEXT
    delimiter: str = "\t"
    null: str = "\\N"
    default: str | None = None
    header: str = "no"
    quote: str = '"'
    escape: str = '"'
    force_quote: tuple[str, ...] | None = None
    force_not_null: tuple[str, ...] | None = None
    force_null: tuple[str, ...] | None = None
    encoding: str = "utf8"
    freeze: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFrom(Statement):
    """COPY table FROM; `path` None is STDIN."""

    table: ObjectName
    columns: tuple[str, ...] | None
    path: str | None
    options: CopyOptions
    where: SourceExpression | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyTo(Statement):
    """COPY TO of a table (`table`) or a query (`query`, at `as_of`); `path` None is STDOUT."""

    table: ObjectName | None
    columns: tuple[str, ...] | None
    query: exp.Query | None
    path: str | None
    options: CopyOptions
    as_of: SourceExpression | None = None
