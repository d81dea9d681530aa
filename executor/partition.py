"""The hash split of a stage's rows among the nodes of the stage that reads them.

DuckDB computes the place of each row while it runs the stage (`with_places`), because its
`hash` runs at 70 M rows/s where numpy cannot hash strings at all; `split` then cuts each
batch by that last column, which is dropped. All producers run the same DuckDB version, and
the hash meets no stored partition, so it may be DuckDB's own.

What a join or a grouping needs of the hash holds for values **of one type** (the planner
casts the keys of both sides to a common type): equal values have equal places, -0.0 = 0.0,
NaN = NaN, NULL has a place of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

PLACE_COLUMN = "@place"
# Places travel as one unsigned 16-bit column.
MAX_PLACES = 65_536


def with_places(sql: str, keys: Sequence[str], places: int) -> str:
    """The query with one column more, at its end: each row's place, `0 <= place < places`."""
    assert keys, "a hash exchange has keys"
    assert 0 < places <= MAX_PLACES
    columns = ", ".join(_quoted(key) for key in keys)
    return f'SELECT *, (hash({columns}) % {places})::USMALLINT AS "{PLACE_COLUMN}" FROM ({sql})'


def with_place_field(schema: pa.Schema) -> pa.Schema:
    """The schema of what `with_places` makes of rows of this one."""
    return schema.append(pa.field(PLACE_COLUMN, pa.uint16()))


def without_place_field(schema: pa.Schema) -> pa.Schema:
    """The schema of what `split` makes of rows of this one."""
    last = len(schema) - 1
    assert schema.field(last).name == PLACE_COLUMN
    return schema.remove(last)


def split(batch: pa.RecordBatch, places: int) -> list[pa.RecordBatch | None]:
    """The batch's rows by place, without the place column; None where a place gets none."""
    last = batch.num_columns - 1
    assert batch.schema.field(last).name == PLACE_COLUMN
    row_places = batch.column(last).to_numpy()
    rows = batch.select(range(last))
    if places == 1:
        return [rows]
    counts = np.bincount(row_places, minlength=places)
    return [_rows_at(rows, row_places, place, int(counts[place])) for place in range(places)]


def _rows_at(
    rows: pa.RecordBatch, row_places: np.ndarray, place: int, count: int
) -> pa.RecordBatch | None:
    if count == 0:
        return None
    if count == rows.num_rows:
        return rows
    # Measured on 120,000 rows of 4 columns: 3.5 ms for a take a place, 5 to 10 for filters.
    return rows.take(pa.array(np.flatnonzero(row_places == place)))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
