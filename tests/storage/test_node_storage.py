"""A node's storage: its data directory, restarts with a real log, checkpoints, snapshots."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from storage_doubles import SMALL, Oracle, delete, fragment, insert, run, update

from cluster.errors import (
    CannotConnectNow,
    DataCorrupted,
    ObjectNotInPrerequisiteState,
    SnapshotTooOld,
)
from cluster.raft.host import RaftHost
from cluster.raft.log import Configuration
from cluster.rpc import RpcNode
from cluster.runtime import ProductionRuntime
from cluster.transport import TcpTransport
from storage import node as node_module
from storage.fragments import AccessMethod, FragmentChange
from storage.identity import DataDirectory, write_durably
from storage.node import NodeStorage
from storage.tablet import Tablet


class Node:
    """One node's storage with its Raft host, tablets of one replica."""

    def __init__(self, runtime: ProductionRuntime, storage: NodeStorage, host: RaftHost) -> None:
        self.runtime = runtime
        self.storage = storage
        self.host = host
        self.oracle = Oracle()
        self.transactions = 0

    @classmethod
    async def start(cls, runtime: ProductionRuntime, directory: Path) -> Node:
        storage = await NodeStorage.open(runtime, directory, limits=SMALL)
        storage.set_identity("cluster", 1)
        rpc = RpcNode(runtime, TcpTransport(), cluster_id=lambda: "cluster", node_id=lambda: 1)
        host = RaftHost(runtime, rpc, storage.log, 1, lambda _: None)
        await host.start()
        return cls(runtime, storage, host)

    async def open(self, tablet_id: int) -> Tablet:
        tablet = await self.storage.open_tablet(tablet_id)
        group = await self.host.open_group(tablet_id, tablet, Configuration.of([1]))
        tablet.attach(group)
        return tablet

    async def write(self, tablet: Tablet, *changes: FragmentChange) -> int:
        self.transactions += 1
        name = self.oracle.now() * 1000 + self.transactions
        for change in changes:
            await tablet.stage(name, change)
        return await tablet.write(name, self.oracle.now(), self.oracle.draw)

    async def count(self, *reads: tuple[int, int], at: int | None = None) -> list[int]:
        timestamp = self.oracle.now() if at is None else at
        snapshot = await self.storage.open_snapshot(reads, timestamp, 5.0)
        try:
            counts = []
            for tablet_id, fragment_id in reads:
                relation = snapshot.relation_sql(tablet_id, fragment_id, ["c1"])
                rows = snapshot.cursor.execute(f"SELECT count(*) FROM {relation}").fetchall()
                counts.append(rows[0][0])
            return counts
        finally:
            snapshot.close()

    async def stop(self) -> None:
        await self.host.close()
        await self.storage.close()

    async def kill(self, copy_to: Path) -> None:
        """Leaves in `copy_to` what a killed process would leave behind."""
        shutil.copytree(self.storage.path, copy_to)
        await self.stop()


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_killed_node_comes_back_with_what_it_acknowledged(
    tmp_path: Path, checkpoint: bool
) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        node = await Node.start(runtime, tmp_path / "a")
        first, second = await node.open(7), await node.open(8)
        await first.alter([fragment(12), fragment(13)], 1)
        await second.alter([fragment(22)], 1)
        await node.write(first, insert(*((i, "a") for i in range(100))))
        if checkpoint:
            await first.checkpoint()
        await node.write(first, delete(5), insert((1000, "b"), fragment_id=13))
        await node.write(second, insert((1, "c"), fragment_id=22))
        last = node.oracle.last
        await node.kill(tmp_path / "b")

        node = await Node.start(runtime, tmp_path / "b")
        node.oracle.last = last
        assert node.storage.stored_tablets() == [7, 8]
        assert set(node.host.logged_groups) == {7, 8}
        first, second = await node.open(7), await node.open(8)
        assert await node.count((7, 12), (7, 13), (8, 22)) == [99, 1, 1]
        sizes = {s.tablet_id: s for s in await node.storage.sizes()}
        assert [f.rows for f in sizes[7].fragments] == [99, 1]
        assert sizes[8].file_bytes > 0
        await node.stop()

    run(main)


def test_a_clean_stop_leaves_nothing_to_replay(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        node = await Node.start(runtime, tmp_path / "a")
        tablet = await node.open(7)
        await tablet.alter([fragment(12)], 1)
        for i in range(5):
            await node.write(tablet, insert((i, "a")))
        applied = tablet.applied_index
        await node.stop()
        node = await Node.start(runtime, tmp_path / "a")
        tablet = await node.storage.open_tablet(7)
        assert tablet.durable_index == tablet.applied_index == applied
        await node.stop()

    run(main)


def test_a_dropped_tablet_leaves_no_file(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        node = await Node.start(runtime, tmp_path / "a")
        tablet = await node.open(7)
        await tablet.alter([fragment(12)], 1)
        await node.host.drop_group(7)
        await node.storage.drop_tablet(7)
        assert node.storage.stored_tablets() == []
        with pytest.raises(CannotConnectNow, match="tablet 7 is not on this node"):
            await node.count((7, 12))
        await node.stop()

    run(main)


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        node = await Node.start(runtime, tmp_path / "a")
        tablet = await node.open(7)
        await tablet.alter([fragment(12)], 1)
        with pytest.raises(ObjectNotInPrerequisiteState, match="fragment 99 of tablet 7"):
            await node.count((7, 12), (7, 99))
        await node.write(tablet, insert((1, "a")))
        horizon = node.oracle.now()
        await tablet.set_horizon(horizon)
        with pytest.raises(SnapshotTooOld):
            await node.count((7, 12), at=horizon - 1)
        assert await node.count((7, 12), at=horizon) == [1]
        await node.stop()

    run(main)


def test_old_snapshots_are_ended_and_due_checkpoints_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        node = await Node.start(runtime, tmp_path / "a")
        tablet = await node.open(7)
        await tablet.alter([fragment(12)], 1)
        await node.storage.checkpoint_due()
        assert tablet.durable_index == 0  # young and small
        monkeypatch.setattr(node_module, "CHECKPOINT_BYTES", 0)
        await node.storage.checkpoint_due()
        assert tablet.durable_index == tablet.applied_index
        assert not tablet.has_unsaved
        snapshot = await node.storage.open_snapshot([(7, 12)], node.oracle.now(), 5.0)
        node.storage.expire_snapshots(older_than_s=0.0)
        with pytest.raises(SnapshotTooOld):
            snapshot.check_alive()
        snapshot.close()
        await node.stop()

    run(main)


def test_a_damaged_store_is_rebuilt_from_the_log_or_fenced(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        node = await Node.start(runtime, tmp_path / "a")
        await node.open(7)
        await node.stop()
        path = tmp_path / "a" / "tablets" / "7.duckdb"
        damaged = b"\xff" * 4096 + path.read_bytes()[4096:]
        path.write_bytes(damaged)
        node = await Node.start(runtime, tmp_path / "a")
        begun_anew = await node.storage.open_tablet(7)
        assert begun_anew.applied_index == 0
        # The log's owner finds that it does not reach back so far.
        await node.storage.fence_tablet(7, DataCorrupted("its log begins at 3"))
        with pytest.raises(DataCorrupted, match="tablet 7 cannot be read on node 1"):
            node.storage.tablet(7)
        assert path.read_bytes() == damaged, "what may yet be mended is kept"
        await node.stop()

    run(main)


def test_small_states_are_kept_whole(tmp_path: Path) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        storage = await NodeStorage.open(runtime, tmp_path / "a", limits=SMALL)
        kept = storage.kept_file("catalog")
        assert kept.load() is None
        await kept.save(3, b"three")
        await kept.save(4, b"four")
        assert storage.kept_file("catalog").load() == (4, b"four")
        path = tmp_path / "a" / "state" / "catalog"
        content = path.read_bytes()
        for position in range(len(content)):
            torn = bytearray(content)
            torn[position] ^= 1
            path.write_bytes(bytes(torn))
            with pytest.raises(DataCorrupted):
                kept.load()
        await storage.close()

    run(main)


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    held = DataDirectory.open(tmp_path / "a")
    code = (
        "import sys, pathlib; from storage.identity import DataDirectory\n"
        "try: DataDirectory.open(pathlib.Path(sys.argv[1]))\n"
        "except Exception as error: print(error.sqlstate, error.message, error.detail)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert answer.startswith("55000 data directory")
    assert "is in use by another process" in answer
    assert str(os.getpid()) in answer
    held.close()
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path / "a")
    assert directory.is_new
    directory.set_identity("one", 3)
    directory.expect_cluster("one")
    with pytest.raises(ObjectNotInPrerequisiteState, match="belongs to another cluster"):
        directory.expect_cluster("two")
    with pytest.raises(ObjectNotInPrerequisiteState, match="belongs to node 3, not to node 4"):
        directory.set_identity("one", 4)
    directory.close()
    again = DataDirectory.open(tmp_path / "a")
    assert (again.identity.cluster_id, again.identity.node_id) == ("one", 3)
    again.close()
    identity = tmp_path / "a" / "identity.json"
    write_durably(identity, msgspec.json.encode({"format": 99, "cluster_id": "one", "node_id": 3}))
    with pytest.raises(ObjectNotInPrerequisiteState, match="another version of dqe"):
        DataDirectory.open(tmp_path / "a")
    identity.write_bytes(b"{")
    with pytest.raises(DataCorrupted):
        DataDirectory.open(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "photos").mkdir()
    with pytest.raises(ObjectNotInPrerequisiteState, match="is no data directory of dqe"):
        DataDirectory.open(tmp_path / "b")


def test_no_flipped_bit_makes_another_node(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path / "a")
    directory.set_identity("one", 3, 9)
    directory.close()
    file = tmp_path / "a" / "identity.json"
    whole = file.read_bytes()
    refused = 0
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        try:
            opened = DataDirectory.open(tmp_path / "a")
        except (DataCorrupted, ObjectNotInPrerequisiteState):
            refused += 1
        else:
            told = opened.identity
            assert (told.cluster_id, told.node_id, told.log_id) == ("one", 3, 9)
            opened.close()
    assert refused > 7 * len(whole)


def test_writers_and_readers_over_two_tablets(tmp_path: Path) -> None:
    """Readers beside writers, background application and checkpoints: counts only grow."""

    async def main(runtime: ProductionRuntime) -> None:
        node = await Node.start(runtime, tmp_path / "a")
        tablets = [await node.open(7), await node.open(8)]
        for tablet in tablets:
            await tablet.alter([fragment(12, unique=False)], 1)
        done = asyncio.Event()

        async def write(tablet: Tablet, first: int) -> None:
            for i in range(40):
                await node.write(tablet, insert((first + i, "x")))

        async def keep() -> None:
            while not done.is_set():
                for tablet in tablets:
                    await tablet.checkpoint()
                await asyncio.sleep(0.005)

        async def read() -> None:
            seen = [0, 0]
            while not done.is_set():
                acknowledged = node.oracle.now()
                counts = await node.count((7, 12), (8, 12), at=acknowledged)
                assert counts >= seen
                assert await node.count((7, 12), (8, 12), at=acknowledged) == counts
                seen = counts

        others = [asyncio.ensure_future(keep()), asyncio.ensure_future(read())]
        await asyncio.gather(*(write(t, 1000 * k) for t in tablets for k in range(3)))
        done.set()
        await asyncio.gather(*others)
        assert await node.count((7, 12), (8, 12)) == [120, 120]
        await node.stop()

    run(main)


ROWS = 2000


@pytest.mark.parametrize("method", [AccessMethod.HYBRID, AccessMethod.COLUMNAR, AccessMethod.ROW])
def test_updates_do_not_grow_the_stores(tmp_path: Path, method: AccessMethod) -> None:
    """Once their history may go."""

    async def main(runtime: ProductionRuntime) -> None:
        node = await Node.start(runtime, tmp_path / "a")
        tablet = await node.open(7)
        await tablet.alter([replace(fragment(12), method=method)], 1)
        await node.write(tablet, insert(*((key, "0") for key in range(ROWS))))
        bytes_after: list[int] = []
        for number in range(1, 25):
            await node.write(tablet, update(*((key, str(number)) for key in range(ROWS))))
            await tablet.set_horizon(node.oracle.now())
            await tablet.checkpoint()
            while await tablet.prune(300):
                pass
            await tablet.checkpoint()
            bytes_after.append(node.storage.tablet_bytes()[7])
        (size,) = await tablet.sizes()
        assert (size.rows, size.history_rows) == (ROWS, 0)
        assert max(bytes_after[12:]) <= 1.5 * max(bytes_after[:6]), bytes_after
        assert await node.count((7, 12)) == [ROWS]
        await node.stop()

    run(main)
