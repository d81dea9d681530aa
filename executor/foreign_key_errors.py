"""What a client is told of a foreign key that does not hold, in PostgreSQL's words."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from catalog.model import ColumnId, ForeignKey, Table
from cluster.errors import DqeError, ForeignKeyViolation, RestrictViolation
from executor.formatting.text import text_column
from storage.types import SqlType


def row_texts(batch: pa.RecordBatch, row: int, types: Sequence[SqlType]) -> tuple[str | None, ...]:
    """The values of a row as a client sees them."""
    return tuple(
        text_column(column.slice(row, 1), sql_type)[0].as_py()
        for column, sql_type in zip(batch.columns, types, strict=True)
    )


def key_text(table: Table, columns: Sequence[ColumnId], values: Sequence[str | None]) -> str:
    """`Key (a, b)=(1, 2)`."""
    names = ", ".join(table.column(column).name for column in columns)
    texts = ", ".join("null" if value is None else value for value in values)
    return f"Key ({names})=({texts})"


def not_present(
    table: Table, target: Table, key: ForeignKey, values: Sequence[str | None]
) -> DqeError:
    """A row of the table refers to nothing."""
    if None in values:
        detail = "MATCH FULL does not allow mixing of null and nonnull key values."
    else:
        text = key_text(table, key.columns, values)
        detail = f'{text} is not present in table "{target.name}".'
    return ForeignKeyViolation(
        f'insert or update on table "{table.name}" violates foreign key constraint "{key.name}"',
        detail=detail,
        table=table.name,
        constraint=key.name,
    )


def still_referenced(
    table: Table, target: Table, key: ForeignKey, values: Sequence[str | None], *, restricts: bool
) -> DqeError:
    """A row of the target that is gone is referred to by one of the table."""
    text = key_text(target, key.target_columns, values)
    if restricts:
        return RestrictViolation(
            f'update or delete on table "{target.name}" violates RESTRICT setting of foreign key'
            f' constraint "{key.name}" on table "{table.name}"',
            detail=f'{text} is referenced from table "{table.name}".',
            table=table.name,
            constraint=key.name,
        )
    return ForeignKeyViolation(
        f'update or delete on table "{target.name}" violates foreign key constraint "{key.name}"'
        f' on table "{table.name}"',
        detail=f'{text} is still referenced from table "{table.name}".',
        table=table.name,
        constraint=key.name,
    )
