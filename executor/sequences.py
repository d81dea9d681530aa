"""nextval and its like: numbers drawn at the catalog's leader, remembered for their session.

A call stands anywhere in SQL, so it is a function of DuckDB's that runs in Python: on a thread
of a stage, it asks the node's loop and waits. The session it belongs to comes along as a token
with its node's number; on another node the call goes back there, so that currval() and
lastval() know of it.

Invariant: nothing that may call one is evaluated on the loop's own thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.model import NodeId, Sequence, TableId
from catalog.sequence_service import TakeNumbers, check_in_bounds
from cluster.errors import (
    DqeError,
    FeatureNotSupported,
    ObjectNotInPrerequisiteState,
    UndefinedTable,
)
from cluster.rpc import CallContext, RpcNode

if TYPE_CHECKING:
    from catalog.service import CatalogService

METHOD = "executor.sequence"
CALL_DEADLINE_S = 30.0

Numbers = npt.NDArray[np.int64]


class SequenceCall(msgspec.Struct, frozen=True):
    """A call for a session of the answering node; `value` and `called` are setval's."""

    function: str
    session: str
    sequence_id: TableId
    count: int
    value: int = 0
    called: bool = True


class SequenceAnswer(msgspec.Struct, frozen=True):
    numbers: list[int]


@dataclass(slots=True)
class _Session:
    """What a session knows: the last number of each sequence, and numbers drawn ahead."""

    current: dict[TableId, int] = field(default_factory=dict)
    last: TableId | None = None
    ahead: dict[TableId, tuple[Sequence, list[int]]] = field(default_factory=dict)


class Sequences:
    """Sequence functions of one node."""

    def __init__(self, rpc: RpcNode, catalog: CatalogService, node_id: NodeId) -> None:
        self._rpc = rpc
        self._catalog = catalog
        self._node_id = node_id
        self._sessions: dict[str, _Session] = {}
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        rpc.handle(METHOD, SequenceCall, self._serve)

    def forget(self, session: str) -> None:
        """The session has ended, or forgets by itself (DISCARD SEQUENCES)."""
        self._sessions.pop(session, None)

    def close(self) -> None:
        """Lets go of DuckDB."""
        if self._connection is not None:
            self._connection.close()

    # -- functions

    async def next_numbers(self, session: str, sequence_id: TableId, count: int) -> Numbers:
        """So many numbers of the sequence, in order."""
        known = self._session(session)
        found = np.empty(count, dtype=np.int64)
        filled = 0
        while filled < count:
            numbers = await self._draw(known, sequence_id, count - filled)
            found[filled : filled + len(numbers)] = numbers
            filled += len(numbers)
        if count:
            known.current[sequence_id] = int(found[-1])
            known.last = sequence_id
        return found

    async def _draw(self, known: _Session, sequence_id: TableId, count: int) -> list[int]:
        """Some of the next numbers; with CACHE more are drawn than asked for, and kept."""
        sequence = self._sequence(sequence_id)
        kept = known.ahead.pop(sequence_id, None)
        if kept is None or kept[0] != sequence or not kept[1]:
            request = TakeNumbers(sequence_id, max(count, sequence.cache))
            taken = await self._catalog.take_numbers(request)
            last = taken.first + taken.count * taken.increment
            kept = (sequence, list(range(taken.first, last, taken.increment)))
        if len(kept[1]) > count:
            known.ahead[sequence_id] = (sequence, kept[1][count:])
        return kept[1][:count]

    async def set_number(
        self, session: str, sequence_id: TableId, value: int, called: bool
    ) -> None:
        """setval: the next number is the one behind `value`, or `value` itself."""
        sequence = self._sequence(sequence_id)
        check_in_bounds(sequence, value)
        following = value + sequence.increment if called else value
        await self._catalog.take_numbers(TakeNumbers(sequence_id, 0, following))
        known = self._session(session)
        known.ahead.pop(sequence_id, None)
        if called:
            known.current[sequence_id] = value

    def current(self, session: str, sequence_id: TableId) -> int:
        """currval; 55000 where nextval was not called in the session."""
        found = self._session(session).current.get(sequence_id)
        if found is None:
            name = self._sequence(sequence_id).name
            raise ObjectNotInPrerequisiteState(
                f'currval of sequence "{name}" is not yet defined in this session'
            )
        return found

    def last(self, session: str) -> int:
        """lastval."""
        known = self._session(session)
        if known.last is None or self._catalog.current.numbered_sequence(known.last) is None:
            raise ObjectNotInPrerequisiteState("lastval is not yet defined in this session")
        return known.current[known.last]

    def _session(self, session: str) -> _Session:
        return self._sessions.setdefault(session, _Session())

    def _sequence(self, sequence_id: TableId) -> Sequence:
        found = self._catalog.current.numbered_sequence(sequence_id)
        if found is None:
            raise UndefinedTable(f"relation with OID {sequence_id} does not exist")
        return found

    # -- calls from stages

    async def call(self, call: SequenceCall) -> list[int]:
        """The function's values, wherever its session is."""
        node_id = NodeId(int(call.session.partition(":")[0]))
        if node_id == self._node_id:
            return await self._answer(call)
        address = self._catalog.address_of(node_id)
        reply = await self._rpc.call(
            address, METHOD, call, SequenceAnswer, deadline_s=CALL_DEADLINE_S
        )
        return reply.header.numbers

    async def _answer(self, call: SequenceCall) -> list[int]:
        match call.function:
            case "nextval":
                numbers = await self.next_numbers(call.session, call.sequence_id, call.count)
                return [int(number) for number in numbers]
            case "currval":
                return [self.current(call.session, call.sequence_id)] * call.count
            case "lastval":
                return [self.last(call.session)] * call.count
            case "setval":
                await self.set_number(call.session, call.sequence_id, call.value, call.called)
                return [call.value]
        raise FeatureNotSupported(f"there is no sequence function {call.function}")

    async def _serve(
        self, context: CallContext, request: SequenceCall, body: bytes | memoryview
    ) -> SequenceAnswer:
        return SequenceAnswer(await self._answer(request))

    # -- DuckDB

    def define(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Makes the functions known to DuckDB, by a connection that is kept until `close`.

        Their last argument differs by row, so that a call with constants alone is one for each
        row.
        """
        self._connection = connection
        create: Any = connection.create_function
        for name, function, parameters in (
            ("pg_nextval", self._nextval, ["BIGINT", "VARCHAR", "DOUBLE"]),
            ("pg_currval", self._currval, ["BIGINT", "VARCHAR", "DOUBLE"]),
            ("pg_lastval", self._lastval, ["VARCHAR", "DOUBLE"]),
            ("pg_setval", self._setval, ["BIGINT", "VARCHAR", "BIGINT", "BOOLEAN", "DOUBLE"]),
        ):
            create(name, function, parameters, "BIGINT", type="arrow", side_effects=True)

    def _nextval(self, ids: pa.Array, sessions: pa.Array, _row: pa.Array) -> pa.Array:
        return self._constant_call("nextval", ids, sessions)

    def _currval(self, ids: pa.Array, sessions: pa.Array, _row: pa.Array) -> pa.Array:
        return self._constant_call("currval", ids, sessions)

    def _lastval(self, sessions: pa.Array, _row: pa.Array) -> pa.Array:
        return self._constant_call("lastval", pa.repeat(0, len(sessions)), sessions)

    def _constant_call(self, function: str, ids: pa.Array, sessions: pa.Array) -> pa.Array:
        """The binder only makes calls with one sequence and one session."""
        call = SequenceCall(function, sessions[0].as_py(), TableId(ids[0].as_py()), len(ids))
        return pa.array(self._wait(lambda: self.call(call)), type=pa.int64())

    def _setval(
        self,
        ids: pa.Array,
        sessions: pa.Array,
        values: pa.Array,
        called: pa.Array,
        _row: pa.Array,
    ) -> pa.Array:
        columns = [column.to_pylist() for column in (ids, sessions, values, called)]
        for sequence_id, session, value, was_called in zip(*columns, strict=True):
            call = SequenceCall("setval", session, TableId(sequence_id), 1, value, was_called)
            self._wait(lambda call=call: self.call(call))  # type: ignore[misc]
        return values

    def _wait(self, start: Callable[[], Coroutine[Any, Any, list[int]]]) -> list[int]:
        """The coroutine's result, on a thread other than the loop's; errors as our macros
        raise them."""
        if threading.get_ident() == self._loop_thread:
            raise ValueError("[XX000] a sequence function was called where nothing may wait")
        try:
            return asyncio.run_coroutine_threadsafe(start(), self._loop).result()
        except DqeError as error:
            raise ValueError(f"[{error.sqlstate}] {error.message}") from error
