"""Whole nodes in this process, with real files and sockets: whose directory it is, and damage."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvloop

from catalog.log_witness import TELL_S
from cluster.errors import DataCorrupted, ObjectNotInPrerequisiteState
from cluster.runtime import ProductionRuntime
from dqe.configuration import NodeConfiguration
from dqe.local_cluster import free_port
from dqe.machine import OsMachine
from dqe.node import Node
from storage.duckdb_node import BLOCK_SIZE_BYTES

pytestmark = pytest.mark.slow

FILE_HEADERS_BYTES = 3 * 4096


class Machine(OsMachine):
    """Notes what would have ended the process."""

    def __init__(self, runtime: ProductionRuntime) -> None:
        super().__init__(runtime)
        self.ended_by: list[BaseException] = []

    def end_process(self, error: BaseException) -> None:
        self.ended_by.append(error)


class Running:
    """One node that runs."""

    def __init__(self, directory: Path, join: tuple[str, ...]) -> None:
        self.directory = directory
        self.runtime = ProductionRuntime()
        self.machine = Machine(self.runtime)
        configuration = NodeConfiguration(
            directory,
            listen=f"127.0.0.1:{free_port()}",
            pg=f"127.0.0.1:{free_port()}",
            join=join,
            memory_limit_mib=256,
            threads=1,
        )
        self.node = Node(configuration, self.runtime, self.machine)

    async def start(self) -> Running:
        await self.node.start()
        return self

    async def stop(self) -> None:
        await self.node.stop()
        await self.runtime.close()

    async def ask(self, sql: str) -> list[tuple[Any, ...]]:
        url = f"postgresql://dqe@{self.node.pg_address}/dqe"
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as session:
            cursor = await session.execute(sql.encode())
            return await cursor.fetchall() if cursor.description else []

    async def until(self, sql: str, answer: list[tuple[Any, ...]]) -> None:
        """Asks until that is the answer; errors meanwhile do not count."""
        async with asyncio.timeout(30):
            while True:
                try:
                    if await self.ask(sql) == answer:
                        return
                except psycopg.Error:
                    pass
                await asyncio.sleep(0.2)


class Three:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.nodes: dict[str, Running] = {}

    async def start(self, name: str) -> Running:
        join = tuple(node.node.rpc_address for node in self.nodes.values())
        node = Running(self.path / name, join)
        try:
            await node.start()
        except BaseException:
            await node.stop()
            raise
        self.nodes[name] = node
        return node

    async def stop(self, name: str) -> None:
        await self.nodes.pop(name).stop()

    async def set_up(self) -> Three:
        for name in ("n1", "n2", "n3"):
            await self.start(name)
        await self.ask("CREATE TABLE c (id int PRIMARY KEY, v text) REPLICATED")
        await self.ask("INSERT INTO c SELECT g, 'row ' || g FROM generate_series(1, 2000) g")
        return self

    async def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return await self.nodes["n1"].ask(sql)


def run(path: Path, scenario: Callable[[Three], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        three = Three(path)
        try:
            async with asyncio.timeout(120):
                await scenario(await three.set_up())
        finally:
            for name in list(three.nodes):
                await three.stop(name)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_older_copy_and_emptied_log_are_refused_an_empty_directory_joins(tmp_path: Path) -> None:
    async def scenario(three: Three) -> None:
        await three.stop("n3")
        shutil.copytree(tmp_path / "n3", tmp_path / "copy")
        await three.start("n3")
        await three.ask("UPDATE c SET v = 'new' WHERE id <= 100")
        await asyncio.sleep(2 * TELL_S)
        await three.stop("n3")
        shutil.move(tmp_path / "n3", tmp_path / "newest")
        shutil.copytree(tmp_path / "copy", tmp_path / "n3")
        with pytest.raises(ObjectNotInPrerequisiteState, match="older copy of itself") as refused:
            await three.start("n3")
        assert "remembers this node's log up to position" in str(refused.value.detail)
        shutil.rmtree(tmp_path / "n3" / "wal")
        with pytest.raises(DataCorrupted, match="has lost its write-ahead log"):
            await three.start("n3")
        shutil.rmtree(tmp_path / "n3")
        node = await three.start("n3")
        assert node.node.node_id == 4
        await node.until("SELECT count(*) FROM c WHERE v = 'new'", [(100,)])
        await three.stop("n3")
        # What the node really was comes back as itself.
        shutil.rmtree(tmp_path / "n3")
        shutil.move(tmp_path / "newest", tmp_path / "n3")
        node = await three.start("n3")
        assert node.node.node_id == 3

    run(tmp_path, scenario)


def test_two_processes_on_copies_of_one_directory_end(tmp_path: Path) -> None:
    async def scenario(three: Three) -> None:
        await three.stop("n3")
        shutil.copytree(tmp_path / "n3", tmp_path / "twin")
        one = await three.start("n3")
        other = await three.start("twin")
        async with asyncio.timeout(30):
            while not (one.machine.ended_by or other.machine.ended_by):
                await asyncio.sleep(0.1)
        [error, *_] = [*one.machine.ended_by, *other.machine.ended_by]
        assert "says it is node 3, too" in str(error) or "older copy" in str(error)

    run(tmp_path, scenario)


def test_flipped_bytes_in_a_store_are_never_an_answer(tmp_path: Path) -> None:
    async def scenario(three: Three) -> None:
        chance = random.Random(1)
        whole = [(2000, 2000 * 2001 // 2, 2000)]
        sql = "SELECT count(*), sum(id), count(DISTINCT v) FROM c"
        seen = 0
        for _ in range(4):
            await three.stop("n2")
            store = max((tmp_path / "n2/tablets").glob("*.duckdb"), key=lambda p: p.stat().st_size)
            data = bytearray(store.read_bytes())
            for start in range(FILE_HEADERS_BYTES, len(data), BLOCK_SIZE_BYTES):
                data[start + chance.randrange(8, 4000)] ^= 1 << chance.randrange(8)
            store.write_bytes(data)
            node = await three.start("n2")
            try:
                assert await node.ask(sql) == whole
            except psycopg.errors.DataCorrupted:
                seen += 1
            await node.until(sql, whole)
            await node.until("SELECT DISTINCT verdict FROM dqe.replica_checks", [("equal",)])
        assert seen or "damaged" in "".join(p.name for p in (tmp_path / "n2/tablets").iterdir())

    run(tmp_path, scenario)
