"""The two databases that play a schedule: sessions, and which of their statements wait.

A statement waits when a lock that it asks for is held by a session that is idle in its
transaction, or by one that waits itself. PostgreSQL tells by `pg_blocking_pids`, the nodes in
this process by the requests in their leaders' memory. What stands in a circle does not count: that
is a deadlock, which ends by itself. So nothing here goes by the clock, but for a limit beyond which
a side counts as stuck.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import psycopg
from postgres_support import Postgres
from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus
from schedules import Message
from worlds import World

from executor.session import Session

# Whom a session waits for.
Waits = Mapping[str, frozenset[str]]
STUCK_S = 20.0
SEEN_AGAIN_S = 0.02
# What PostgreSQL calls a part and its constraints, dqe calls by the table.
_PART = re.compile(r"_(low|high)(?=[_\"])")


class Outcome(NamedTuple):
    """What a message came to: the last statement's tag and rows, or an error."""

    tag: str
    rows: tuple[tuple[str | None, ...], ...] = ()
    state: str = ""
    words: str = ""

    def __str__(self) -> str:
        if self.state:
            return f"{self.state} {self.words}"
        return f"{self.tag} {[*self.rows]}" if self.rows else self.tag


class Side(Protocol):
    """One of the databases."""

    name: str
    connections: dict[str, psycopg.Connection[Any]]

    def uri(self, session: str) -> str: ...

    def opened(self, session: str) -> None: ...

    def cancel(self, session: str) -> None: ...

    async def waits(self, unfinished: frozenset[str]) -> Waits: ...


class Sessions:
    """A side's sessions, and their statements under way."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._threads = ThreadPoolExecutor(8)
        self._running: dict[str, asyncio.Future[Outcome]] = {}
        self.blockers: Waits = {}

    async def open(self, session: str) -> None:
        connection = await self._on_thread(psycopg.connect, self.side.uri(session))
        self.side.connections[session] = connection
        self.side.opened(session)

    def start(self, session: str, message: Message) -> None:
        pgconn = self.side.connections[session].pgconn
        self._running[session] = self._on_thread(_asked, pgconn, message)

    def status(self, session: str) -> TransactionStatus:
        return TransactionStatus(self.side.connections[session].pgconn.transaction_status)

    @property
    def waiting(self) -> frozenset[str]:
        return frozenset(self._running)

    async def settle(self) -> dict[str, Outcome]:
        """Until whoever is not done waits; the outcomes of those that are done now."""
        ends_s = asyncio.get_running_loop().time() + STUCK_S
        seen: Waits | None = None
        while True:
            unfinished = frozenset(s for s, task in self._running.items() if not task.done())
            waits = await self.side.waits(unfinished) if unfinished else {}
            still = all(not self._running[session].done() for session in unfinished)
            if still and unfinished <= _at_rest(waits):
                if not unfinished or waits == seen:
                    self.blockers = waits
                    break
                # Seen a second time: what one tablet tells may be older than what another does.
                seen = waits
                await asyncio.sleep(SEEN_AGAIN_S)
                continue
            seen = None
            if asyncio.get_running_loop().time() > ends_s:
                raise TimeoutError(f"{self.side.name} goes on with {sorted(unfinished)}: {waits}")
            await asyncio.sleep(0.001)
        done = {s: task for s, task in self._running.items() if task.done()}
        self._running = {s: task for s, task in self._running.items() if s not in done}
        return {session: task.result() for session, task in done.items()}

    async def rows(self, session: str, message: Message) -> Outcome:
        """A statement that waits for nobody."""
        return await self._on_thread(_asked, self.side.connections[session].pgconn, message)

    async def close(self) -> None:
        """Cancels what is under way and leaves."""
        while unfinished := [s for s, task in self._running.items() if not task.done()]:
            for session in unfinished:
                self.side.cancel(session)
            await asyncio.wait([self._running[s] for s in unfinished], timeout=0.5)
        for connection in self.side.connections.values():
            await self._on_thread(connection.close)
        self.side.connections.clear()
        self._threads.shutdown()

    def _on_thread(self, function: Callable[..., Any], *given: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *given)


def _at_rest(waits: Waits) -> frozenset[str]:
    """Sessions that wait for others which nobody but the schedule can set going again."""
    resting: set[str] = set()
    while (
        more := {
            session
            for session, holders in waits.items()
            if holders and all(holder in resting or holder not in waits for holder in holders)
        }
        - resting
    ):
        resting |= more
    return frozenset(resting)


def _asked(pgconn: Any, message: Message) -> Outcome:
    if message.extended:
        values = [value.encode() for value in message.parameters]
        result = pgconn.exec_params(message.text.encode(), values)
    else:
        result = pgconn.exec_(message.text.encode())
    if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        state = result.error_field(DiagnosticField.SQLSTATE) or b""
        words = result.error_field(DiagnosticField.MESSAGE_PRIMARY) or result.error_message
        return Outcome("", (), state.decode() or "no answer", _PART.sub("", words.decode()))
    rows = [
        tuple(
            None if (value := result.get_value(row, column)) is None else value.decode()
            for column in range(result.nfields)
        )
        for row in range(result.ntuples)
    ]
    if "order by" not in message.text:
        rows.sort(key=repr)
    return Outcome((result.command_status or b"").decode(), tuple(rows))


class PostgresSide:
    """A PostgreSQL server."""

    name = "PostgreSQL"

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self.connections: dict[str, psycopg.Connection[Any]] = {}

    def uri(self, session: str) -> str:
        return self._postgres.uri_of("postgres")

    def opened(self, session: str) -> None:
        self.connections[session].autocommit = True
        self.connections[session].execute("set deadlock_timeout = '20ms'")

    def cancel(self, session: str) -> None:
        pid = self.connections[session].info.backend_pid
        self._postgres.rows(f"select pg_cancel_backend({pid})")

    async def waits(self, unfinished: frozenset[str]) -> Waits:
        pids = {c.info.backend_pid: session for session, c in self.connections.items()}
        asked = ", ".join(str(pid) for pid, session in pids.items() if session in unfinished)
        text = f"select pid, unnest(pg_blocking_pids(pid)) from unnest(array[{asked}]) pid"
        found = await asyncio.to_thread(self._postgres.rows, text)
        waits: dict[str, set[str]] = {session: set() for session in unfinished}
        for pid, holder in found:
            assert pid is not None
            assert holder is not None
            waits[pids[int(pid)]].add(pids.get(int(holder), f"process {holder}"))
        return {session: frozenset(holders) for session, holders in waits.items()}


class DqeSide:
    """Nodes in this process; every session is at the next node."""

    name = "dqe"

    def __init__(self, world: World) -> None:
        self._world = world
        self.connections: dict[str, psycopg.Connection[Any]] = {}
        self._sessions: dict[str, Session] = {}

    def uri(self, session: str) -> str:
        node = self._world.nodes[len(self.connections) % len(self._world.nodes)]
        host, port = node.pg_address.rsplit(":", 1)
        return f"host={host} port={port} user=alice dbname=dqe"

    def opened(self, session: str) -> None:
        node = self._world.nodes[(len(self.connections) - 1) % len(self._world.nodes)]
        _, opened = node._server._sessions[self.connections[session].info.backend_pid]
        assert isinstance(opened, Session)
        self._sessions[session] = opened

    def cancel(self, session: str) -> None:
        self._sessions[session].cancel()

    async def waits(self, unfinished: frozenset[str]) -> Waits:
        """Whoever is named `transaction n` or `undo of s` is not at rest."""
        edges = self._world.wait_edges()
        names = self._transactions()
        for waiter in sorted({edge.waiter for edge in edges} - names.keys()):
            # A statement by itself, whose transaction no session tells of.
            alone = sorted(unfinished - set(names.values()))
            names[waiter] = alone[0] if alone else f"transaction {waiter}"
        waits: dict[str, set[str]] = {session: set() for session in unfinished}
        for edge in edges:
            holder = names.get(edge.holder, f"transaction {edge.holder}")
            if holder not in self._sessions or self._undoes(holder):
                waits[holder := f"undo of {holder}"] = set()
            waits.setdefault(names[edge.waiter], set()).add(holder)
        return {session: frozenset(holders) for session, holders in waits.items()}

    def _transactions(self) -> dict[int, str]:
        """The transactions of blocks that have changed or locked something."""
        found: dict[int, str] = {}
        for name in self.connections:
            transaction = self._sessions[name].state.block.transaction
            if transaction is not None and transaction._opened is not None:
                found[transaction._opened.id] = name
        return found

    def _undoes(self, name: str) -> bool:
        transaction = self._sessions[name].state.block.transaction
        undoing = None if transaction is None else transaction._undoing
        return undoing is not None and not undoing.done()
