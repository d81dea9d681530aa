"""Small answers made here, not by a query: the rows of SHOW, EXPLAIN and the like."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pyarrow as pa

from executor.execution import Result
from planner.plan import ResultColumn
from storage.types import TEXT, SqlType, arrow_type


def columns_of(*names: str, types: Sequence[SqlType] | None = None) -> tuple[ResultColumn, ...]:
    """Result columns with these names, text unless types are given."""
    given = types if types is not None else [TEXT] * len(names)
    return tuple(
        ResultColumn(name, sql_type, (name,)) for name, sql_type in zip(names, given, strict=True)
    )


async def one_batch(batch: pa.RecordBatch) -> AsyncIterator[pa.RecordBatch]:
    yield batch


def rows_result(
    tag: str, columns: tuple[ResultColumn, ...], rows: Sequence[Sequence[object]]
) -> Result:
    """An answer of a few rows."""
    arrays = [
        pa.array([row[index] for row in rows], arrow_type(column.type))
        for index, column in enumerate(columns)
    ]
    batch = pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])
    return Result(tag, columns, one_batch(batch))
