"""One stage on one node, on its own thread: DuckDB between the task's inboxes and its sinks.

The thread opens the inputs (waiting for their schemas), runs the SQL lazily on the cursor of
a store snapshot, and sends each batch on as DuckDB yields it. DuckDB pulls inputs from
whichever of its threads needs rows, so those wait in the inbox, without Python's lock.

Invariants:
- When `run` returns no reader is open on the cursor. What was registered on it, and temporary
  tables, belong to the snapshot's transaction and go when the snapshot is closed.
- The error it raises is a DqeError: the one the query was stopped with, if it was stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from cluster.errors import DqeError
from executor.cancellation import Cancellation
from executor.duckdb_calls import Source, open_reader, schema_of
from executor.inbox import TaskInputs
from executor.messages import RefreshedRows, Task
from executor.outbox import TaskOutput
from executor.stage_sql import input_name, quoted, scan_name, stage_sql
from planner.plan import Scan, ScanFragment, StageInput
from planner.semantics.errors import translate_duckdb_error

if TYPE_CHECKING:
    from storage.snapshot import StoreSnapshot

# Rows a batch: large enough that a batch's fixed costs (0.2 ms) vanish, small enough that a
# batch of ordinary rows is a few megabytes.
BATCH_ROWS = 32_768
# An input that is read more than once is kept in memory up to this size.
KEPT_BYTES = 4 * 1024 * 1024


class StageTask:
    """A task with everything it needs; `run` is called once, on a thread."""

    def __init__(
        self,
        task: Task,
        inputs: TaskInputs,
        output: TaskOutput,
        system_rows: Mapping[int, pa.Table],
        settings: Mapping[str, str],
        cancellation: Cancellation,
        refreshed: Sequence[RefreshedRows] = (),
        schema: pa.Schema | None = None,
    ) -> None:
        """`schema` is what consumers get, where an earlier run of the plan has told."""
        self.task = task
        self.inputs = inputs
        self.output = output
        self._system_rows = system_rows
        self._settings = settings
        self._cancellation = cancellation
        self._refreshed = refreshed
        self.schema = schema
        # What the statement reads by DuckDB's names for as long as these are kept.
        self._sources: dict[int, Source] = {}

    def run(self, snapshot: StoreSnapshot) -> None:
        """Runs the stage to its end, or until no consumer wants more; closes the snapshot."""
        try:
            cursor = snapshot.cursor
            with ExitStack() as stack:
                stack.enter_context(self._cancellation.waking(cursor.interrupt))
                # They belong to the connection, and go before it and after what reads them.
                stack.callback(self._sources.clear)
                self._cancellation.check()
                self._apply_settings(cursor)
                self._register(cursor)
                self._send_rows(cursor, self._sql(snapshot), stack)
        except DqeError as error:
            if self._cancellation.error is None:
                snapshot.check_damage(error)  # that a row store has met
            raise self._cancellation.error or error from None
        except (duckdb.Error, OSError, pa.ArrowException) as error:
            if self._cancellation.error is not None:
                raise self._cancellation.error from None
            snapshot.check_alive()
            snapshot.check_damage(error)
            raise translate_duckdb_error(_as_duckdb_error(error)) from error
        finally:
            snapshot.close()
        self.output.finish()

    def _apply_settings(self, cursor: duckdb.DuckDBPyConnection) -> None:
        time_zone = self._settings.get("timezone", "UTC")
        if time_zone != "UTC":
            literal = time_zone.replace("'", "''")
            cursor.execute(f"SET SESSION TimeZone = '{literal}'")

    def _register(self, cursor: duckdb.DuckDBPyConnection) -> None:
        for scan in self.task.system_scans:
            cursor.register(scan_name(scan.id), self._system_rows[scan.id])
        for item in self.task.inputs:
            if item.rescannable:
                self._keep(cursor, item)
            else:
                source = Source(cursor, self._reader(item.exchange_id))
                self._sources[item.exchange_id] = source

    def _reader(self, exchange_id: int) -> pa.RecordBatchReader:
        schema = self.inputs.schema(exchange_id)
        return pa.RecordBatchReader.from_batches(schema, self._read(exchange_id))

    def _keep(self, cursor: duckdb.DuckDBPyConnection, item: StageInput) -> None:
        """Makes an input readable more than once: in memory where it is small, else as a
        temporary table, which DuckDB keeps within its memory limit."""
        exchange_id = item.exchange_id
        schema = self.inputs.schema(exchange_id)
        batches, taken, size_bytes = self._read(exchange_id), [], 0
        for batch in batches:
            taken.append(batch)
            size_bytes += batch.nbytes
            if size_bytes > KEPT_BYTES:
                break
        else:
            table = pa.Table.from_batches(taken, schema)
            self._sources[exchange_id] = Source(cursor, table)
            return
        rows = pa.RecordBatchReader.from_batches(schema, chain(taken, batches))
        source = Source(cursor, rows)
        name = quoted(input_name(exchange_id))
        cursor.execute(f"CREATE TEMP TABLE {name} AS FROM {quoted(source.name)}")

    def _read(self, exchange_id: int) -> Iterator[pa.RecordBatch]:
        """The inbox's batches. DuckDB turns an exception in here into text, so the error is
        kept where `run` finds it."""
        try:
            yield from self.inputs.read(exchange_id)
        except DqeError as error:
            self._cancellation.fail(error)
            raise

    def _sql(self, snapshot: StoreSnapshot) -> str:
        refreshed = {rows.relation: rows for rows in self._refreshed}

        def relation_sql(scan: Scan, fragment: ScanFragment, store_columns: tuple[str, ...]) -> str:
            if scan.relation in refreshed:
                return _refreshed_sql(snapshot, fragment, store_columns, refreshed[scan.relation])
            return snapshot.relation_sql(fragment.tablet_id, fragment.fragment_id, store_columns)

        names = {item.exchange_id: input_name(item.exchange_id) for item in self.task.inputs}
        names.update((exchange_id, source.name) for exchange_id, source in self._sources.items())
        return stage_sql(self.task, relation_sql, names)

    def _send_rows(self, cursor: duckdb.DuckDBPyConnection, sql: str, stack: ExitStack) -> None:
        """Announces the schema before the statement runs: DuckDB tells it with the first rows,
        which for a grouping or a sort come at the very end, and consumers could not even bind
        their own statements before."""
        if self.schema is None:
            self.schema = self.output.delivered(schema_of(cursor, sql))
        self.output.announce(self.schema)
        reader = open_reader(cursor, sql, BATCH_ROWS)
        stack.callback(reader.close)
        wanted = self.output.produced(self.schema)
        same = wanted.equals(reader.schema)
        for batch in reader:
            if not self.output.send(batch if same else batch.cast(wanted)):
                return


def _refreshed_sql(
    snapshot: StoreSnapshot,
    fragment: ScanFragment,
    store_columns: tuple[str, ...],
    refreshed: RefreshedRows,
) -> str:
    """The fragment's rows with one of the keys, in their later versions."""
    keys = refreshed.all_keys()
    given = f"@refreshed:{refreshed.relation}"
    snapshot.cursor.register(given, keys)
    names = keys.schema.names
    relation = snapshot.relation_sql(
        fragment.tablet_id,
        fragment.fragment_id,
        tuple(dict.fromkeys([*store_columns, *names])),
        refreshed.timestamp,
    )
    selected = ", ".join(map(quoted, store_columns)) or "1 AS one"
    same = " AND ".join(f"fresh.{quoted(name)} = keys.{quoted(name)}" for name in names)
    return (
        f"(SELECT {selected} FROM {relation} AS fresh SEMI JOIN {quoted(given)} AS keys ON {same})"
    )


# What Arrow puts before the text of an error that came while rows were read.
_ERROR_CLASSES: tuple[tuple[str, type[duckdb.Error]], ...] = (
    ("Out of Memory Error", duckdb.OutOfMemoryException),
    ("INTERRUPT Error", duckdb.InterruptException),
    ("IO Error", duckdb.IOException),
)


def _as_duckdb_error(error: Exception) -> Exception:
    """DuckDB's own class again: Arrow's C interface passes an error as text in an OSError."""
    for prefix, error_class in _ERROR_CLASSES:
        if not isinstance(error, duckdb.Error) and str(error).startswith(prefix):
            return error_class(str(error))
    return error
