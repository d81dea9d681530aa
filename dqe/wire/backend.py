"""What the wire server needs of a session: the shapes of `executor.session`, as protocols.

The server knows sessions only by these, so its tests run against a small session of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from cluster.errors import DqeError
from planner.plan import ResultColumn
from planner.statements import Statement
from storage.types import SqlType

T = TypeVar("T")


class CopyInTarget(Protocol):
    """COPY FROM STDIN under way; `finish` returns the command tag."""

    binary: bool
    column_count: int

    async def feed(self, data: bytes) -> None: ...
    async def finish(self) -> str: ...
    async def fail(self, message: str) -> None: ...


class CopyOutSource(Protocol):
    """COPY TO STDOUT under way; an element of the arrays is a CopyData message."""

    binary: bool
    column_count: int

    def messages(self) -> AsyncIterator[pa.BinaryArray]: ...


class Result(Protocol):
    """A statement's answer. `tag` counts once the batches are exhausted."""

    @property
    def tag(self) -> str: ...
    @property
    def columns(self) -> tuple[ResultColumn, ...] | None: ...
    @property
    def copy_in(self) -> CopyInTarget | None: ...
    @property
    def copy_out(self) -> CopyOutSource | None: ...
    def batches(self) -> AsyncIterator[pa.RecordBatch]: ...
    async def close(self) -> None: ...


class Prepared(Protocol):
    """A statement bound once; `columns` None when it returns no rows."""

    @property
    def statement(self) -> Statement | None: ...
    @property
    def parameters(self) -> tuple[SqlType, ...]: ...
    @property
    def columns(self) -> tuple[ResultColumn, ...] | None: ...


class QuickPlan(Protocol):
    """What the session knows of a statement that it can answer by a short way."""

    @property
    def columns(self) -> tuple[ResultColumn, ...] | None: ...
    @property
    def kept(self) -> dict[Hashable, Any]:
        """Where the wire keeps what it has found out for these columns."""
        ...


class QuickAnswered(Protocol):
    """A short statement's answer: its tag, and its rows as plain values
    (`storage.row_values`), None without columns."""

    @property
    def tag(self) -> str: ...
    @property
    def rows(self) -> list[list[Any]] | None: ...


class QuickStatements(Protocol):
    """The session's short way for single rows by key and the ends of blocks; None means: not now,
    not this one, take the usual way. Nothing has happened then."""

    @property
    def in_block(self) -> bool:
        """Whether there is a transaction that statements are part of."""
        ...

    def plan_of(self, prepared: Any) -> QuickPlan | None: ...
    def plan_of_text(self, sql: str) -> tuple[QuickPlan, Sequence[Any]] | None: ...
    def run_now(
        self,
        plan: Any,
        values: Sequence[Any],
        then: Callable[[QuickAnswered | Exception | None], None],
    ) -> QuickAnswered | bool:
        """The answer where it is at hand; raises the statement's error. True where it is on its
        way: `then` gets it, the error, or None for the usual way. False: not now."""
        ...

    async def run(self, plan: Any, values: Sequence[Any]) -> QuickAnswered | None:
        """The answer; raises the statement's error."""
        ...


class Session(Protocol):
    """One client's session (see `executor.session`).

    The connection sets the two callbacks: DEALLOCATE also means statements that came by Parse,
    and pg_prepared_statements lists them.
    """

    forget_protocol_prepared: Callable[[str | None], bool]
    protocol_prepared: Callable[[], Mapping[str, Any]]

    @property
    def quick(self) -> QuickStatements: ...

    @property
    def transaction_status(self) -> str: ...
    async def parse(self, sql: str) -> list[Statement]: ...
    async def prepare(
        self, statement: Statement, parameter_types: Sequence[SqlType | None]
    ) -> Prepared: ...
    async def execute(
        self, statement: Any, parameters: Sequence[str | None] = (), *, more: bool = False
    ) -> Result:
        """Runs a Statement, or what `prepare` gave with its parameters; `more` follow in the
        same transaction, if no block is open, until `end_implicit`."""
        ...

    async def end_implicit(self) -> None:
        """Commits what ran with `more` outside of a block."""
        ...

    async def within_statement(self, work: Callable[[], Awaitable[T]]) -> T:
        """Does the work of a COPY: `cancel` and the time limit reach it (57014)."""
        ...

    def cursor_columns(self, name: str) -> tuple[ResultColumn, ...] | None:
        """The columns of a cursor of DECLARE; None when there is none of that name."""
        ...

    def idle_limit(self) -> tuple[float, DqeError] | None:
        """How long the client may be idle now, and the error that ends the session then."""
        ...

    def take_notices(self) -> list[tuple[str, Mapping[str, str | int]]]: ...
    def take_parameter_changes(self) -> list[tuple[str, str]]: ...
    def setting(self, name: str) -> str: ...
    def fail_transaction(self) -> None: ...
    def cancel(self) -> None: ...
    async def close(self) -> None: ...
