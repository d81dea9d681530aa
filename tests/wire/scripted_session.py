"""A session for the wire tests: answers from DuckDB, with a few scripted statements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from cluster.errors import (
    BadCopyFileFormat,
    DqeError,
    QueryCanceled,
    SerializationFailure,
    SyntaxError_,
    UndefinedTable,
)
from dqe.wire.backend import QuickStatements
from planner.plan import ResultColumn
from planner.statements import Statement
from storage import types as t

_ARROW_TO_SQL = {
    pa.bool_(): t.BOOL,
    pa.bool8(): t.BOOL,
    pa.int16(): t.INT2,
    pa.int32(): t.INT4,
    pa.int64(): t.INT8,
    pa.float32(): t.FLOAT4,
    pa.float64(): t.FLOAT8,
    pa.string(): t.TEXT,
    pa.binary(): t.BYTEA,
    pa.date32(): t.DATE,
    pa.time64("us"): t.TIME,
    pa.timestamp("us"): t.TIMESTAMP,
    pa.uuid(): t.UUID,
    pa.month_day_nano_interval(): t.INTERVAL,
}

DEFAULTS = {
    "server_version": "18.0 (dqe)",
    "client_encoding": "UTF8",
    "timezone": "UTC",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
}


def sql_type_of(arrow: pa.DataType) -> t.SqlType:
    if pa.types.is_list(arrow):
        inner = sql_type_of(arrow.value_type)
        return inner if inner.kind is t.Kind.ARRAY else t.array_of(inner)
    if pa.types.is_decimal(arrow):
        return t.SqlType(t.Kind.NUMERIC, precision=arrow.precision, scale=arrow.scale)
    if pa.types.is_timestamp(arrow) and arrow.tz:
        return t.TIMESTAMPTZ
    return _ARROW_TO_SQL[arrow]


@dataclass
class ScriptedResult:
    tag: str = ""
    columns: tuple[ResultColumn, ...] | None = None
    rows: Sequence[pa.RecordBatch] = ()
    copy_in: ScriptedCopyIn | None = None
    copy_out: ScriptedCopyOut | None = None

    async def batches(self) -> AsyncIterator[pa.RecordBatch]:
        for batch in self.rows:
            yield batch
        self.tag = f"SELECT {sum(b.num_rows for b in self.rows)}"

    async def close(self) -> None:
        pass


@dataclass
class ScriptedCopyIn:
    """Counts lines; a line `bad` is an error."""

    binary: bool = False
    column_count: int = 1
    received: bytearray = field(default_factory=bytearray)
    failed_with: str | None = None

    async def feed(self, data: bytes) -> None:
        self.received += data
        if b"bad\n" in self.received:
            raise BadCopyFileFormat("bad line", where="COPY t, line 2")

    async def finish(self) -> str:
        lines = self.received.count(b"\n")
        return f"COPY {lines}"

    async def fail(self, message: str) -> None:
        self.failed_with = message


@dataclass
class ScriptedCopyOut:
    lines: Sequence[bytes]
    binary: bool = False
    column_count: int = 1

    async def messages(self) -> AsyncIterator[pa.BinaryArray]:
        yield pa.array(self.lines, pa.binary())


@dataclass
class ScriptedPrepared:
    statement: Statement | None
    parameters: tuple[t.SqlType, ...]
    columns: tuple[ResultColumn, ...] | None


class NothingQuick:
    """Has everything go the usual way."""

    in_block = False

    def plan_of(self, prepared: Any) -> None:
        return None

    def plan_of_text(self, sql: str) -> None:
        return None

    def run_now(self, plan: Any, values: Sequence[Any], then: Any) -> bool:
        return False

    async def run(self, plan: Any, values: Sequence[Any]) -> None:
        return None


class ScriptedSession:
    def __init__(self, settings: Mapping[str, str]) -> None:
        self.quick: QuickStatements = NothingQuick()
        self.settings = DEFAULTS | {k.lower(): v for k, v in settings.items()}
        self.connection = duckdb.connect()
        self.connection.execute("set arrow_lossless_conversion=true")
        self.connection.execute("set timezone='UTC'")
        self.transaction_status = "I"
        self.cancelled = asyncio.Event()
        self.closed = False
        self.last_copy: ScriptedCopyIn | None = None
        self._notices: list[tuple[str, Mapping[str, str | int]]] = []
        # What `execute` was told of statements to come, None at the end of a message.
        self.more: list[bool | None] = []
        self.refuse_commit = False
        self.idle: tuple[float, DqeError] | None = None

    async def parse(self, sql: str) -> list[Statement]:
        pieces = [p for p in sql.split(";") if p.strip()]
        if any("syntax" in p for p in pieces):
            raise SyntaxError_('syntax error at or near "syntax"', position=1 + sql.index("syntax"))
        return [Statement(text=p, offset=0) for p in pieces]

    async def prepare(
        self, statement: Statement, parameter_types: Sequence[t.SqlType | None]
    ) -> ScriptedPrepared:
        count = statement.text.count("$")
        given = [*parameter_types, *([None] * count)][:count]
        types = tuple(p or t.TEXT for p in given)
        if statement.text.strip().lower().startswith(("select", "values")):
            nulls = [None] * count
            schema = self._run(statement.text, nulls, types).schema
            return ScriptedPrepared(statement, types, _columns(schema))
        return ScriptedPrepared(statement, types, None)

    async def execute(
        self,
        statement: Statement | ScriptedPrepared,
        parameters: Sequence[str | None] = (),
        *,
        more: bool = False,
    ) -> ScriptedResult:
        self.more.append(more)
        prepared = statement if isinstance(statement, ScriptedPrepared) else None
        text = (prepared.statement if prepared else statement).text.strip()  # type: ignore[union-attr]
        if text == "missing":
            raise UndefinedTable('relation "missing" does not exist', position=15)
        if text == "notice":
            self._notices.append(("NOTICE", {"sqlstate": "00000", "message": "hello"}))
            return ScriptedResult("NOTICE")
        if text.startswith(("BEGIN", "COMMIT")):
            self.transaction_status = "T" if text.startswith("BEGIN") else "I"
            return ScriptedResult(text.split()[0])
        if text == "wait":
            self.cancelled.clear()
            await self.cancelled.wait()
            raise QueryCanceled("canceling statement due to user request")
        if text.startswith("copy in"):
            self.last_copy = ScriptedCopyIn()
            return ScriptedResult(copy_in=self.last_copy)
        if text.startswith("copy out"):
            return ScriptedResult("COPY 2", copy_out=ScriptedCopyOut([b"a\n", b"b\n"]))
        if not text.lower().startswith(("select", "values")):
            return ScriptedResult("DONE")
        table = self._run(text, parameters, prepared.parameters if prepared else ())
        return ScriptedResult("", _columns(table.schema), table.to_batches(max_chunksize=1000))

    def _run(
        self, sql: str, parameters: Sequence[str | None], types: Sequence[t.SqlType]
    ) -> pa.Table:
        for index, sql_type in enumerate(types, 1):
            sql = sql.replace(f"${index}", f"(${index}::{t.duckdb_type(sql_type)})")
        return self.connection.sql(sql, params=list(parameters)).to_arrow_table()

    def take_notices(self) -> list[tuple[str, Mapping[str, str | int]]]:
        taken, self._notices = self._notices, []
        return taken

    def take_parameter_changes(self) -> list[tuple[str, str]]:
        return []

    def setting(self, name: str) -> str:
        return self.settings.get(name, "")

    def fail_transaction(self) -> None:
        pass

    def idle_limit(self) -> tuple[float, DqeError] | None:
        return self.idle

    async def end_implicit(self) -> None:
        self.more.append(None)
        if self.refuse_commit:
            self.refuse_commit = False
            raise SerializationFailure("could not serialize access")

    async def within_statement(self, work: Callable[[], Awaitable[Any]]) -> Any:
        return await work()

    def cancel(self) -> None:
        self.cancelled.set()

    async def close(self) -> None:
        self.closed = True


def _columns(schema: pa.Schema) -> tuple[ResultColumn, ...]:
    return tuple(ResultColumn(f.name, sql_type_of(f.type), (f.name,)) for f in schema)
