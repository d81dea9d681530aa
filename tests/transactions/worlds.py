"""A few real nodes in one process, and sessions on them, for tests of transactions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import DqeError
from cluster.runtime import ProductionRuntime, run_production
from dqe.configuration import NodeConfiguration
from dqe.node import Node
from executor.formatting.text import text_columns
from executor.session import Session
from storage.deadlocks import WaitEdge

Row = tuple[str | None, ...]
# What a statement gets that is to wait, and waits for no lock.
WAITING_S = 2.0


def in_order(sql: str, rows: Sequence[Row]) -> list[Row]:
    """The rows as two runs of the statement must have them: in order where it asks for one."""
    return list(rows) if "order by" in sql.lower() else sorted(rows, key=repr)


class Client:
    """What a psql user sees: rows as text, the last tag."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.tag = ""

    async def ask(self, sql: str, parameters: Sequence[str | None] | None = None) -> list[Row]:
        """The rows of the last statement; the statements of one text are one message."""
        rows: list[Row] = []
        try:
            statements = await self.session.parse(sql)
            for place, statement in enumerate(statements, 1):
                runnable: Any = statement
                if parameters is not None:
                    runnable = await self.session.prepare(statement)
                more = place < len(statements)
                result = await self.session.execute(runnable, parameters or (), more=more)
                try:
                    rows = []
                    async for batch in result.batches():
                        assert result.columns is not None
                        types = [column.type for column in result.columns]
                        texts = text_columns(batch, types)
                        rows += zip(*(text.to_pylist() for text in texts), strict=True)
                    if result.copy_in is not None and parameters is None:
                        await result.copy_in.feed(self.copied)
                        result.tag = await result.copy_in.finish()
                    self.tag = result.tag
                finally:
                    await result.close()
            await self.session.end_implicit()
        except DqeError:
            self.session.fail_transaction()
            raise
        return rows

    copied = b""

    async def refused(self, sql: str, error: type[DqeError]) -> DqeError:
        with pytest.raises(error) as found:
            await self.ask(sql)
        return found.value

    def later(self, sql: str) -> asyncio.Task[list[Row]]:
        """The same under way, for what has to wait for another session."""
        return asyncio.ensure_future(self.ask(sql))

    @property
    def status(self) -> str:
        return self.session.transaction_status

    @property
    def notices(self) -> list[str]:
        return [f"{severity}: {f['message']}" for severity, f in self.session.take_notices()]


class World:
    """The nodes; sessions opened here are closed with them."""

    def __init__(self, runtime: ProductionRuntime, nodes: list[Node]) -> None:
        self.runtime = runtime
        self.nodes = nodes
        self._clients: list[Client] = []
        self._known: set[tuple[int, int, int]] = set()

    async def client(self, at: int = 0, **settings: str) -> Client:
        session = await self.nodes[at]._open_session(len(self._clients) + 1, "alice", settings)
        assert isinstance(session, Session)
        client = Client(session)
        self._clients.append(client)
        return client

    async def clients(self, count: int) -> list[Client]:
        """One on each node in turn."""
        return [await self.client(i % len(self.nodes)) for i in range(count)]

    def staged(self) -> list[int]:
        """Transactions that the first node's catalog holds definitions of."""
        parts = self.nodes[0]._parts
        assert parts is not None
        return list(parts.services.catalog.current.staged)

    async def waits(self, task: asyncio.Task[Any]) -> None:
        """Until somebody waits for a lock who did not before, which is to be the task.

        One that waits for something else, or has waited before, gets a while for it.
        """
        until_s = self.runtime.monotonic() + WAITING_S
        while not (new := self._waits() - self._known) and self.runtime.monotonic() < until_s:
            assert not task.done(), task
            await asyncio.sleep(0.005)
        self._known.update(sorted(new)[:1])
        assert not task.done(), task

    def _waits(self) -> set[tuple[int, int, int]]:
        return {(edge.waiter, edge.tablet_id, edge.number) for edge in self.wait_edges()}

    def wait_edges(self) -> list[WaitEdge]:
        """Who waits for whom at any tablet."""
        return [
            edge
            for node in self.nodes
            for tablet in node.parts.storage.tablets.values()
            for edge in tablet.wait_edges()
        ]

    async def close(self) -> None:
        for client in self._clients:
            await client.session.close()


@contextlib.asynccontextmanager
async def world(runtime: ProductionRuntime, directory: Path, count: int) -> AsyncIterator[World]:
    nodes: list[Node] = []
    try:
        for number in range(count):
            join = (nodes[0].rpc_address,) if nodes else ()
            configuration = NodeConfiguration(
                directory / f"node{number}",
                "127.0.0.1:0",
                "127.0.0.1:0",
                join,
                memory_limit_mib=256,
                threads=1,
            )
            node = Node(configuration, runtime)
            nodes.append(node)
            await node.start()
            assert node._parts is not None
            # Statistics gathered in the background would outlive the test.
            node._parts.coordinator.load_watch.changed = lambda *_: None  # type: ignore[method-assign]
        opened = World(runtime, nodes)
        try:
            yield opened
        finally:
            await opened.close()
    finally:
        for node in reversed(nodes):
            await node.stop()


def in_world(directory: Path, test: Callable[[World], Awaitable[None]], count: int = 1) -> None:
    """Runs the test against fresh nodes."""

    async def main(runtime: ProductionRuntime) -> None:
        async with asyncio.timeout(120):
            async with world(runtime, directory, count) as opened:
                await test(opened)

    run_production(main)
