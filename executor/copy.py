"""COPY, the statement: from and to the client or a file of the node the client is connected to.

Parquet files are read by column names; all other formats by place. Left out: COPY PROGRAM,
ON_ERROR and DEFAULT markers (refused), Parquet over STDIN and STDOUT (refused).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.model import Column
from cluster.errors import (
    BadCopyFileFormat,
    DatatypeMismatch,
    DqeError,
    FeatureNotSupported,
    InvalidName,
    IoError,
    UndefinedColumn,
    UndefinedFile,
)
from executor.copy_binary import BinaryRows
from executor.copy_binary_write import joined
from executor.copy_in import CopyInput, CopyLoad, RowReader, listed
from executor.copy_out import CopyOutput, RowWriter
from executor.copy_rows import BLOCK_BYTES, ReadBatch, TextRows, check_option_columns
from executor.execution import Execution, Result
from executor.formatting.text import TextSettings
from executor.writes import transaction
from executor.writes_rows import RowEvaluator, conformed
from planner.binder import bind_query
from planner.optimizer import plan_query
from planner.plan import QueryPlan
from planner.statements import CopyFormat, CopyFrom, CopyTo
from planner.write_plan import CopyFromPlan
from planner.writes import copied_query, plan_copy_from

PARQUET_BATCH_ROWS = 65_536


async def run_copy_from(execution: Execution, statement: CopyFrom) -> Result:
    """COPY FROM; from STDIN the result's `copy_in` is fed by the client."""
    if statement.options.default is not None:
        raise FeatureNotSupported("COPY option DEFAULT is not supported")
    plan = plan_copy_from(statement, execution.context)
    columns = [plan.table.column(c) for c in plan.columns]
    check_option_columns(plan.table, columns, statement.options)
    if statement.path is None:
        return await _from_client(execution, statement, plan)
    async with transaction(execution) as opened:
        evaluator = RowEvaluator(execution.services.storage.duckdb.cursor)
        try:
            load = CopyLoad(execution, plan, opened, evaluator)
            if statement.options.format is CopyFormat.PARQUET:
                await _load_parquet(execution, statement.path, columns, load)
            else:
                reader = _reader(execution, statement, plan, evaluator)
                await _load_file(execution, statement.path, reader, load)
            return Result(await load.commit())
        finally:
            evaluator.close()


def _reader(
    execution: Execution, statement: CopyFrom, plan: CopyFromPlan, evaluator: RowEvaluator
) -> RowReader:
    if statement.options.format is CopyFormat.BINARY:
        return BinaryRows(plan)
    time_zone = execution.context.settings.get("timezone", "UTC")
    return TextRows(plan, statement.options, evaluator, time_zone)


async def _from_client(execution: Execution, statement: CopyFrom, plan: CopyFromPlan) -> Result:
    if statement.options.format is CopyFormat.PARQUET:
        raise FeatureNotSupported(
            "Parquet cannot be copied from STDIN", hint="Name a file of the server."
        )
    stack = AsyncExitStack()
    evaluator = RowEvaluator(execution.services.storage.duckdb.cursor)
    stack.callback(evaluator.close)
    opened = await stack.enter_async_context(transaction(execution))
    copy_input = CopyInput(
        execution,
        CopyLoad(execution, plan, opened, evaluator),
        _reader(execution, statement, plan, evaluator),
        stack,
        binary=statement.options.format is CopyFormat.BINARY,
        column_count=len(plan.columns),
    )
    return Result("COPY", copy_in=copy_input, on_close=copy_input.close)


# ---------------------------------------------------------------------------------------
# Files


async def _load_file(execution: Execution, path: str, reader: RowReader, load: CopyLoad) -> None:
    runtime = execution.services.runtime
    file = await runtime.run_blocking(_opened, path)
    try:
        while data := await runtime.run_blocking(file.read, BLOCK_BYTES):
            for batch in await runtime.run_blocking(listed, reader, data):
                await load.take(batch)
        for batch in await runtime.run_blocking(listed, reader, None):
            await load.take(batch)
    finally:
        file.close()


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise _cannot_open(path, "reading", error) from None


def _cannot_open(path: str, purpose: str, error: OSError) -> DqeError:
    message = f'could not open file "{path}" for {purpose}: {error.strerror}'
    if isinstance(error, FileNotFoundError):
        return UndefinedFile(
            message,
            hint="COPY with a file name reads and writes files of the server. You may want a"
            " client-side facility such as psql's \\copy.",
        )
    return IoError(message)


async def _load_parquet(
    execution: Execution, path: str, columns: list[Column], load: CopyLoad
) -> None:
    runtime = execution.services.runtime
    file = await runtime.run_blocking(_opened_parquet, path)
    try:
        batches = _parquet_batches(file, columns)
        while (batch := await runtime.run_blocking(next, batches, None)) is not None:
            await load.take(batch)
    finally:
        file.close()


def _opened_parquet(path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except OSError as error:
        raise _cannot_open(path, "reading", error) from None
    except pa.ArrowInvalid as error:
        raise BadCopyFileFormat(f'"{path}" is not a Parquet file', detail=str(error)) from None


def _parquet_batches(file: pq.ParquetFile, columns: list[Column]) -> Iterator[ReadBatch]:
    names = [column.name for column in columns]
    missing = [name for name in names if name not in file.schema_arrow.names]
    if missing:
        raise UndefinedColumn(
            f'the Parquet file has no column "{missing[0]}"',
            detail=f"Its columns are {', '.join(file.schema_arrow.names)}.",
        )
    row = 1
    for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=names):
        arrays = [_converted(batch.column(column.name), column) for column in columns]
        yield ReadBatch(arrays, batch.num_rows, first_row=row)
        row += batch.num_rows


def _converted(array: pa.Array, column: Column) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    try:
        return conformed(array, column)
    except pa.ArrowInvalid as error:
        raise DatatypeMismatch(
            f'a value of column "{column.name}" does not fit type {column.type}',
            detail=str(error),
        ) from None
    except pa.ArrowNotImplementedError:
        raise DatatypeMismatch(
            f'column "{column.name}" is of type {column.type} but the file has {array.type}'
        ) from None


# ---------------------------------------------------------------------------------------
# COPY TO


async def run_copy_to(execution: Execution, statement: CopyTo) -> Result:
    """COPY TO; to STDOUT the result's `copy_out` gives the bytes."""
    tree = copied_query(statement, execution.context)
    bound = bind_query(
        tree,
        execution.context,
        parameters=execution.parameter_types,
        values=execution.values or None,
    )
    plan = plan_query(bound, execution.context)
    if statement.path is None:
        return await _to_client(execution, statement, plan)
    return await _to_file(execution, statement, plan)


def _settings(execution: Execution) -> TextSettings:
    settings = execution.context.settings
    return TextSettings(
        time_zone=settings.get("timezone", "UTC"),
        interval_style=settings.get("intervalstyle", "postgres"),
        bytea_output=settings.get("bytea_output", "hex"),
    )


async def _to_client(execution: Execution, statement: CopyTo, plan: QueryPlan) -> Result:
    if statement.options.format is CopyFormat.PARQUET:
        raise FeatureNotSupported(
            "Parquet cannot be copied to STDOUT", hint="Name a file of the server."
        )
    run = await execution.run(plan)
    writer = RowWriter(run.columns, statement.options, _settings(execution))
    output = CopyOutput(
        writer,
        run.batches(),
        binary=statement.options.format is CopyFormat.BINARY,
        column_count=len(run.columns),
    )
    result = Result("COPY", copy_out=output, on_close=run.close)
    output.on_end = lambda rows: setattr(result, "tag", f"COPY {rows}")
    return result


async def _to_file(execution: Execution, statement: CopyTo, plan: QueryPlan) -> Result:
    path = statement.path
    assert path is not None
    if not os.path.isabs(path):
        raise InvalidName("relative path not allowed for COPY to file")
    run = await execution.run(plan)
    try:
        if statement.options.format is CopyFormat.PARQUET:
            rows = await _write_parquet(execution, path, run.batches())
        else:
            writer = RowWriter(run.columns, statement.options, _settings(execution))
            output = CopyOutput(writer, run.batches(), binary=False, column_count=0)
            rows = await _write_file(execution, path, output)
    finally:
        await run.close()
    return Result(f"COPY {rows}")


async def _write_file(execution: Execution, path: str, output: CopyOutput) -> int:
    runtime = execution.services.runtime
    file = await runtime.run_blocking(_created, path)
    try:
        async for rows in output.messages():
            await runtime.run_blocking(file.write, joined(rows))
    finally:
        await runtime.run_blocking(file.close)
    return output.rows


def _created(path: str) -> BinaryIO:
    try:
        return open(path, "wb")
    except OSError as error:
        raise _cannot_open(path, "writing", error) from None


async def _write_parquet(
    execution: Execution, path: str, batches: AsyncIterator[pa.RecordBatch]
) -> int:
    runtime = execution.services.runtime
    file = await runtime.run_blocking(_created, path)
    writer: pq.ParquetWriter | None = None
    rows = 0
    try:
        async for batch in batches:
            if writer is None:
                writer = pq.ParquetWriter(file, batch.schema)
            rows += batch.num_rows
            await runtime.run_blocking(writer.write_batch, batch)
    finally:
        if writer is not None:
            await runtime.run_blocking(writer.close)
        file.close()
    return rows
