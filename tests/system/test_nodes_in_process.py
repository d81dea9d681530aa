"""Whole nodes in this process, with real files and sockets: whose directory it is, and damage."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvloop

from catalog.log_witness import TELL_S
from cluster.disk import DiskFile, OsDisk
from cluster.errors import DataCorrupted, ObjectNotInPrerequisiteState
from cluster.runtime import ProductionRuntime
from dqe.configuration import NodeConfiguration
from dqe.local_cluster import free_port
from dqe.machine import OsMachine
from dqe.node import Node
from storage.duckdb_node import BLOCK_SIZE_BYTES, DuckDbLimits, Setup
from storage.node import NodeStorage

pytestmark = pytest.mark.slow

FILE_HEADERS_BYTES = 3 * 4096


class FillingDisk(OsDisk):
    """Has no room left once `full` is set."""

    full = False

    def open(self, path: str, *, create: bool = False) -> DiskFile:
        return _FileOn(self, super().open(path, create=create))


class _FileOn:
    """A file on a `FillingDisk`: what does not fit is written half."""

    def __init__(self, disk: FillingDisk, file: DiskFile) -> None:
        self._disk, self._file = disk, file
        self.size, self.read, self.sync = file.size, file.read, file.sync
        self.truncate, self.close = file.truncate, file.close

    def write(self, offset: int, data: bytes) -> None:
        if self._disk.full:
            self._file.write(offset, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._file.write(offset, data)


class Machine(OsMachine):
    """Notes what would have ended the process; its disk can be filled."""

    def __init__(self, runtime: ProductionRuntime) -> None:
        super().__init__(runtime)
        self.disk = FillingDisk()
        self.ended_by: list[BaseException] = []

    async def open_storage(
        self, directory: Path, limits: DuckDbLimits, setup: Setup
    ) -> NodeStorage:
        return await NodeStorage.open(
            self._runtime,
            directory,
            limits=limits,
            setup=setup,
            on_log_failure=self.end_process,
            log_disk=self.disk,
        )

    def end_process(self, error: BaseException) -> None:
        self.ended_by.append(error)


class Running:
    """One node that runs."""

    def __init__(self, directory: Path, join: tuple[str, ...], ports: tuple[int, int]) -> None:
        self.directory = directory
        self.runtime = ProductionRuntime()
        self.machine = Machine(self.runtime)
        configuration = NodeConfiguration(
            directory,
            listen=f"127.0.0.1:{ports[0]}",
            pg=f"127.0.0.1:{ports[1]}",
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
        async with asyncio.timeout(90):
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
        self.ports: dict[str, tuple[int, int]] = {}

    async def start(self, name: str) -> Running:
        join = tuple(node.node.rpc_address for node in self.nodes.values())
        ports = self.ports.setdefault(name, (free_port(), free_port()))
        node = Running(self.path / name, join, ports)
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
        # Of two voters neither can be missed.
        catalog = self.nodes["n1"].node.parts.services.catalog
        while len(catalog.group.configuration.voters) < 3:
            await asyncio.sleep(0.01)
        await self.ask("CREATE TABLE c (id int PRIMARY KEY, v text) REPLICATED")
        await self.ask("INSERT INTO c SELECT g, 'row ' || g FROM generate_series(1, 2000) g")
        return self

    async def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return await self.nodes["n1"].ask(sql)


class Clients:
    """Each writes and reads rows of its own, again at another node where that fails."""

    def __init__(self, three: Three, count: int) -> None:
        self._three = three
        self.done = [0] * count
        self.retries = 0
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(count)]

    async def _run(self, number: int) -> None:
        while True:
            await self._write(number, self.done[number] + 1)
            self.done[number] += 1

    async def _write(self, number: int, value: int) -> None:
        """Says what the row is to be, so that a statement may be made twice."""
        error: psycopg.Error | None = None
        for attempt in range(200):
            node = list(self._three.nodes.values())[(number + attempt) % len(self._three.nodes)]
            try:
                await node.ask(f"UPDATE c SET v = '{value}' WHERE id = {number + 1}")
                found = await node.ask(f"SELECT v FROM c WHERE id = {number + 1}")
            except psycopg.Error as failure:
                error = failure
                self.retries += 1
                await asyncio.sleep(0.1)
                continue
            assert found == [(str(value),)], f"wrote {value}, read {found}"
            return
        raise AssertionError(f"no node took the statement: {error}")

    async def goes_on(self) -> None:
        """Returns once every client has got an answer to a statement made after now."""
        wanted = [done + 2 for done in self.done]
        async with asyncio.timeout(60):
            while any(done < least for done, least in zip(self.done, wanted, strict=True)):
                self.check()
                await asyncio.sleep(0.05)

    def check(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()

    async def stop(self) -> None:
        self.check()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def run(path: Path, scenario: Callable[[Three], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        three = Three(path)
        try:
            async with asyncio.timeout(300):
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
        await asyncio.sleep(3 * TELL_S)
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
        async with asyncio.timeout(90):
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


def test_node_with_a_full_disk_ends_and_the_others_go_on(tmp_path: Path) -> None:
    name = "n1"  # it leads the catalog

    async def scenario(three: Three) -> None:
        clients = Clients(three, 2)
        await clients.goes_on()
        full = three.nodes[name]
        full.machine.disk.full = True
        async with asyncio.timeout(90):
            while not full.machine.ended_by:
                clients.check()
                await asyncio.sleep(0.05)
        # The process would be gone by now.
        await three.stop(name)
        await clients.goes_on()
        await three.start(name)
        await clients.goes_on()
        await clients.stop()
        await three.nodes[name].until(
            "SELECT DISTINCT verdict FROM dqe.replica_checks", [("equal",)]
        )

    run(tmp_path, scenario)
