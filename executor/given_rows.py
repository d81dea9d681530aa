"""Rows at hand as a relation of a query: those that a statement is about to write, joined with
those that are there.

The coordinator keeps them under a name of their own while the block runs; a plan reads them
like a system table, and may send them to where the data is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from executor.execution import Execution
from planner.bound import GIVEN_SCHEMA, SystemTable
from storage.types import SqlType


@contextmanager
def given(
    execution: Execution, name: str, rows: pa.Table, types: tuple[SqlType, ...]
) -> Iterator[Execution]:
    """The execution with the rows as relation `name` of `GIVEN_SCHEMA`, its columns of these
    types."""
    kept = execution.services.given_rows
    token = str(execution.services.ids.next())
    columns = tuple(zip(rows.schema.names, types, strict=True))
    relation = SystemTable(GIVEN_SCHEMA, token, columns, float(rows.num_rows))
    context = dataclasses.replace(
        execution.context, given={**execution.context.given, name: relation}
    )
    kept[token] = rows
    try:
        yield dataclasses.replace(execution, context=context)
    finally:
        del kept[token]
