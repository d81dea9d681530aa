"""One statement under way: what it runs with, and what its handler answers.

The session makes an `Execution` for each statement and hands it to the handler of the
statement's kind (`executor.statements`):

    async def run_insert(execution: Execution, statement: Insert) -> Result: ...

A handler plans with `execution.context`, reads with `execution.run`, tells the client things
with `execution.notice`, and answers with a `Result`. Whatever it opened it closes itself, or
hands to the `Result` to be closed with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from executor.messages import RefreshedRows
from executor.past_tables import check_tables
from executor.services import ExecutorServices
from planner.context import PlannerContext
from planner.datum import Datum
from planner.plan import QueryPlan, ResultColumn
from storage.types import SqlType

if TYPE_CHECKING:
    from executor.coordinator import Coordinator, QueryRun
    from executor.session_transaction import SessionTransaction


@dataclass(frozen=True, slots=True)
class Notice:
    """What the client is told beside the answer; `fields` are those of `DqeError.to_fields`."""

    severity: str  # NOTICE, WARNING, INFO
    fields: Mapping[str, str | int]


class CopyIn(Protocol):
    """COPY FROM STDIN: the wire feeds it, and ends it in one of two ways."""

    binary: bool
    column_count: int

    async def feed(self, data: bytes) -> None: ...

    async def finish(self) -> str:
        """Loads what came; the command tag."""
        ...

    async def fail(self, message: str) -> None:
        """The client gave up: nothing of it is loaded."""
        ...


class CopyOut(Protocol):
    """COPY TO STDOUT: messages as they go to the client, an element each."""

    binary: bool
    column_count: int

    def messages(self) -> AsyncIterator[pa.BinaryArray]: ...


# Among the settings of a stage that reads system tables: whose definitions it sees.
DEFINES = "\x00defines"


async def _no_batches() -> AsyncIterator[pa.RecordBatch]:
    return
    yield


async def _nothing() -> None:
    return


@dataclass(slots=True)
class Result:
    """A statement's answer. `columns` is None where it has no rows; their batches' columns are
    those of `columns`. `tag` is final once the batches have been read."""

    tag: str
    columns: tuple[ResultColumn, ...] | None = None
    rows: AsyncIterator[pa.RecordBatch] | None = None
    copy_in: CopyIn | None = None
    copy_out: CopyOut | None = None
    on_close: Callable[[], Awaitable[None]] = _nothing

    def batches(self) -> AsyncIterator[pa.RecordBatch]:
        """The rows, once."""
        return self.rows if self.rows is not None else _no_batches()

    async def close(self) -> None:
        """Ends what still runs; may be called again."""
        on_close, self.on_close = self.on_close, _nothing
        await on_close()


@dataclass(slots=True)
class Execution:
    """What one statement runs with.

    `context` holds the catalog at the version of `timestamp`, the snapshot. `values` are the
    parameters' with `parameter_types`, both empty without parameters. `deadline_s` is how long
    the statement may take from now on, None without a limit. `transaction` is the session's that
    the statement is part of, None for one that commits by itself.
    """

    services: ExecutorServices
    coordinator: Coordinator
    context: PlannerContext
    timestamp: int
    parameter_types: tuple[SqlType | None, ...] = ()
    values: Sequence[Datum] = ()
    notices: list[Notice] = field(default_factory=list)
    deadline_s: float | None = None
    transaction: SessionTransaction | None = None
    # Of some relations only these rows, at a later snapshot (`executor.row_locking`).
    refreshed: tuple[RefreshedRows, ...] = ()
    # Whether a SERIALIZABLE transaction validates what is read. Locks keep what is not.
    notes_reads: bool = True
    # The timestamp is one that users asked for; whoever has a replica may answer.
    is_past: bool = False

    def notice(self, message: str, severity: str = "NOTICE", **fields: str) -> None:
        """Tells the client something beside the answer; `fields` as of DqeError."""
        self.notices.append(Notice(severity, {"message": message, **fields}))

    async def run(self, plan: QueryPlan, schemas: dict[int, bytes] | None = None) -> QueryRun:
        """Starts a plan at the statement's snapshot; its caller reads or closes it. `schemas`
        are those of a plan that may have run before (`executor.plan_cache`)."""
        settings = self.context.settings
        if self.is_past:
            check_tables(self.context.catalog, plan.tables, self.timestamp)
        if not any(stage.system_scans for stage in plan.stages):
            settings = stage_settings(settings)
        elif self.transaction is not None and self.transaction.definitions.any:
            settings = {**settings, DEFINES: str(self.transaction.definitions.transaction_id)}
        own = None
        if self.transaction is not None:
            own = self.transaction.own_changes()
            if self.notes_reads:
                self.transaction.note_reads(plan)
        return await self.coordinator.run_query(
            plan, self.timestamp, settings, self.deadline_s, own, self.refreshed, schemas
        )


def stage_settings(settings: Mapping[str, str]) -> Mapping[str, str]:
    """The session's settings that change what a stage's SQL means on a node. (System tables
    show them all.)"""
    time_zone = settings.get("timezone", "UTC")
    return {} if time_zone == "UTC" else {"timezone": time_zone}
