"""A stage's SQL as one node runs it: scan names replaced by what the node's store holds.

Inputs keep their names: the executor registers them under `@input:<exchange id>`. System
scans are registered under `@scan:<id>` in the same way. Only scans of fragments are replaced
in the text, because a view for each would cost a statement each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from executor.messages import LocalScan
from executor.partition import with_places
from planner.plan import Exchange, ExchangeKind, ScanColumn, ScanFragment
from storage.types import duckdb_type

# String literals are matched so as to be skipped: what a user wrote in one is not a name.
_TOKENS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"""")

# The column of a relation of which only the number of rows is wanted.
ROW_COLUMN = "@row"

RelationSql = Callable[[ScanFragment, tuple[str, ...]], str]


def scan_name(scan_id: int) -> str:
    return f"@scan:{scan_id}"


def input_name(exchange_id: int) -> str:
    return f"@input:{exchange_id}"


def quoted(name: str) -> str:
    """The name as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def stage_sql(
    sql: str,
    scans: Sequence[LocalScan],
    exchange: Exchange,
    places: int,
    relation_sql: RelationSql,
) -> str:
    """The statement to run; with the place column last where the exchange is by hash."""
    relations = {quoted(scan_name(local.scan.id)): scan_sql(local, relation_sql) for local in scans}
    text = replace_names(sql, relations) if relations else sql
    if exchange.kind is ExchangeKind.HASH:
        return with_places(text, exchange.keys, places)
    return text


def replace_names(sql: str, replacements: Mapping[str, str]) -> str:
    """Replaces quoted identifiers, and nothing inside literals or other identifiers."""
    return _TOKENS.sub(lambda match: replacements.get(match.group(), match.group()), sql)


def scan_sql(local: LocalScan, relation_sql: RelationSql) -> str:
    """A parenthesised SELECT over the node's fragments, with the names the stage uses."""
    columns = local.scan.columns
    if not local.fragments:
        return f"(SELECT {_empty_columns(columns)} WHERE false)"
    store_columns = tuple(column.store_name for column in columns)
    names = _renamed(columns)
    parts = [
        f"SELECT {names} FROM {relation_sql(fragment, store_columns)} AS stored"
        for fragment in local.fragments
    ]
    return "(" + " UNION ALL ".join(parts) + ")"


def _renamed(columns: Sequence[ScanColumn]) -> str:
    if not columns:
        return f"1 AS {quoted(ROW_COLUMN)}"
    return ", ".join(
        f"stored.{quoted(column.store_name)} AS {quoted(column.name)}" for column in columns
    )


def _empty_columns(columns: Sequence[ScanColumn]) -> str:
    if not columns:
        return f"1 AS {quoted(ROW_COLUMN)}"
    return ", ".join(
        f"NULL::{duckdb_type(column.type)} AS {quoted(column.name)}" for column in columns
    )
