"""The queries and changes that keep a foreign key, as SQL texts, and the statements they make.

Rows at hand (the values that new rows refer to, the keys that are gone) are a relation of their
own, `KEYS`: its columns are `k0`, `k1`, ... in the order of the foreign key's columns, for changed
keys also `n0`, `n1`, ... with the new values, and `row`, a number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

from sqlglot import exp

from catalog.model import ColumnId, ForeignKey, ReferentialAction, Table
from planner.bound import GIVEN_SCHEMA
from planner.parser import parse
from planner.parser.expressions import quote_name
from planner.statements import Delete, Query, Update

TreeT = TypeVar("TreeT", bound=exp.Query)
KEYS = "@keys"
ROW = "row"
_KEYS = quote_name(KEYS)


@lru_cache(maxsize=256)
def parsed(text: str) -> Query | Update | Delete:
    """The statement, with `KEYS` in it meaning the rows at hand."""
    (statement,) = parse(text)
    if isinstance(statement, Query):
        return dataclasses.replace(statement, tree=_with_rows_at_hand(statement.tree))
    assert isinstance(statement, Update | Delete)
    return dataclasses.replace(statement, source=_with_rows_at_hand(statement.source))


def _with_rows_at_hand(tree: TreeT) -> TreeT:
    tree = tree.copy()
    for relation in tree.find_all(exp.Table):
        if relation.name == KEYS:
            relation.set("db", exp.to_identifier(GIVEN_SCHEMA, quoted=True))
    return tree


def old_name(place: int) -> str:
    """The column of `KEYS` with the values that the key's column at this place refers to."""
    return f"k{place}"


def new_name(place: int) -> str:
    """The same of the values that they become."""
    return f"n{place}"


def _relation(table: Table, alias: str) -> str:
    return f"{quote_name(table.schema)}.{quote_name(table.name)} AS {alias}"


def _column(table: Table, column_id: ColumnId) -> str:
    return quote_name(table.column(column_id).name)


def _equal(table: Table, alias: str, columns: Sequence[ColumnId]) -> str:
    return " AND ".join(
        f"{alias}.{_column(table, column)} = k.{old_name(place)}"
        for place, column in enumerate(columns)
    )


def referenced_rows(target: Table, key: ForeignKey, identity: Sequence[ColumnId]) -> str:
    """The rows that values at hand refer to: what identifies each, then the values' number."""
    items = ", ".join(f"p.{_column(target, column)}" for column in identity)
    return (
        f"SELECT {items}, k.{ROW} FROM {_relation(target, 'p')}, {_KEYS} AS k"
        f" WHERE {_equal(target, 'p', key.target_columns)}"
    )


def keys_still_there(target: Table, key: ForeignKey) -> str:
    """The numbers of those keys at hand that some row still has."""
    return (
        f"SELECT k.{ROW} FROM {_relation(target, 'p')}, {_KEYS} AS k"
        f" WHERE {_equal(target, 'p', key.target_columns)}"
    )


def referring_rows(table: Table, key: ForeignKey, *, every: bool = False) -> str:
    """The numbers of keys at hand that a row refers to; without `every` one is enough."""
    return (
        f"SELECT {'DISTINCT ' if every else ''}k.{ROW} FROM {_relation(table, 'c')}, {_KEYS} AS k"
        f" WHERE {_equal(table, 'c', key.columns)}{'' if every else ' LIMIT 1'}"
    )


def orphans(table: Table, target: Table, key: ForeignKey) -> str:
    """A row that refers to nothing, if there is one: its values."""
    own = [_column(table, column) for column in key.columns]
    others = [_column(target, column) for column in key.target_columns]
    given = " AND ".join(f"c.{name} IS NOT NULL" for name in own)
    same = " AND ".join(f"p.{b} = c.{a}" for a, b in zip(own, others, strict=True))
    mixed = ""
    if key.match_full and len(own) > 1:
        some = " OR ".join(f"c.{name} IS NOT NULL" for name in own)
        mixed = f" OR (({some}) AND NOT ({given}))"
    return (
        f"SELECT {', '.join(f'c.{name}' for name in own)} FROM {_relation(table, 'c')}"
        f" WHERE ({given} AND NOT EXISTS (SELECT 1 FROM {_relation(target, 'p')} WHERE {same}))"
        f"{mixed} LIMIT 1"
    )


def duplicates(table: Table, columns: Sequence[ColumnId]) -> str:
    """Values of these columns that several rows have, if there are some."""
    names = [_column(table, column) for column in columns]
    listed = ", ".join(names)
    given = " AND ".join(f"{name} IS NOT NULL" for name in names)
    return (
        f"SELECT {listed} FROM {_relation(table, 'c')} WHERE {given}"
        f" GROUP BY {listed} HAVING count(*) > 1 LIMIT 1"
    )


def action_text(table: Table, key: ForeignKey, action: ReferentialAction, *, gone: bool) -> str:
    """What is done to the rows that refer to the keys at hand, which are gone or others now."""
    where = f"FROM {_KEYS} AS k WHERE {_equal(table, 'c', key.columns)}"
    if action is ReferentialAction.CASCADE and gone:
        return f"DELETE FROM {_relation(table, 'c')} {where.replace('FROM', 'USING', 1)}"
    if action is ReferentialAction.CASCADE:
        pairs = [(c, f"k.{new_name(place)}") for place, c in enumerate(key.columns)]
    else:
        word = "NULL" if action is ReferentialAction.SET_NULL else "DEFAULT"
        named = key.set_columns if gone and key.set_columns else key.columns
        pairs = [(column, word) for column in named]
    values = ", ".join(f"{_column(table, column)} = {value}" for column, value in pairs)
    return f"UPDATE {_relation(table, 'c')} SET {values} {where}"
