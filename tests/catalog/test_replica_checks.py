"""Replicas that differ or are damaged are found, serve nothing and are rebuilt (rule G6)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import apsw
import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tablet_cluster import Cluster, StoreNode, insertion, run_cluster, write_one

from catalog.commands import CreateTable
from catalog.definition import (
    ColumnDefinition,
    SchemeDefinition,
    TableDefinition,
    UniqueDefinition,
)
from catalog.fragment_schemas import store_name
from catalog.model import Fragment, NodeId, PartitionMethod, Table, TabletId
from catalog.replica_checks import ReplicaChecker
from catalog.replica_verdicts import Answer, Verdict, judge
from cluster.errors import CannotConnectNow, DataCorrupted, SnapshotTooOld
from cluster.raft import retention
from storage.checksum import FragmentChecksum, tablet_checksums
from storage.duckdb_node import BLOCK_SIZE_BYTES
from storage.fragments import END_OF_TIME, AccessMethod, FragmentChange
from storage.tablet import Tablet
from storage.types import INT8, TEXT

# DuckDB's file: three headers, then blocks.
FILE_HEADERS_BYTES = 3 * 4096
ROWS = {number: f"row {number}" for number in range(3000)}
ALL_ROWS = list(ROWS.items())


def sums(digest: str) -> Answer:
    return Answer((FragmentChecksum(1, 5, digest),), "duckdb 2")


def verdicts(answers: list[Answer]) -> list[Verdict]:
    judged = judge({NodeId(n): answer for n, answer in enumerate(answers, 1)})
    return [judged[node_id].verdict for node_id in sorted(judged)]


def test_a_minority_is_one_against_most_of_all_replicas() -> None:
    down = Answer(trouble="down")
    equal, differs, doubt = Verdict.EQUAL, Verdict.DIFFERS, Verdict.IN_DOUBT
    silent = Verdict.NOT_COMPARED
    assert verdicts([sums("a")] * 3) == [equal] * 3
    assert verdicts([sums("a"), sums("b"), sums("a")]) == [equal, differs, equal]
    assert verdicts([sums("a"), sums("b"), down]) == [doubt, doubt, silent]
    assert verdicts([sums("a"), sums("b")]) == [doubt, doubt]
    assert verdicts([sums("a"), sums("b"), sums("c")]) == [doubt] * 3
    assert verdicts([down, down]) == [silent] * 2
    damaged = Answer(trouble="flipped", damaged=True)
    assert verdicts([sums("a"), sums("a"), damaged]) == [equal, equal, Verdict.DAMAGED]


def test_other_engines_are_not_compared() -> None:
    other = Answer((FragmentChecksum(1, 5, "b"),), "duckdb 3")
    assert verdicts([sums("a"), sums("a"), other]) == [
        Verdict.EQUAL,
        Verdict.EQUAL,
        Verdict.NOT_COMPARED,
    ]


@given(st.lists(st.sampled_from([sums("a"), sums("b"), Answer(trouble="x")]), max_size=7))
def test_never_more_than_a_minority_is_held_wrong(answers: list[Answer]) -> None:
    found = verdicts(answers)
    assert 2 * found.count(Verdict.DIFFERS) < max(len(answers), 1)
    right = {a.sums for a, v in zip(answers, found, strict=True) if v is Verdict.EQUAL}
    assert len(right) <= 1


def definition_of_t(scheme: SchemeDefinition, method: AccessMethod) -> TableDefinition:
    columns = (ColumnDefinition("k", INT8), ColumnDefinition("v", TEXT))
    key = UniqueDefinition(("k",))
    return TableDefinition("public", "t", columns, key, scheme=scheme, access_method=method)


class Checked:
    """A cluster with one table on a tablet of three replicas, and a checker a node."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    async def start(
        self, *, fill: bool = True, method: AccessMethod = AccessMethod.COLUMNAR
    ) -> Checked:
        nodes = await self.cluster.start(3)
        self.checkers = {node.id: self._checker(node) for node in nodes}
        if fill:
            scheme = SchemeDefinition(PartitionMethod.REPLICATED)
            await nodes[0].define(CreateTable(definition_of_t(scheme, method)))
            found = nodes[0].catalog.current.find_table("t")
            assert found is not None
            self.table: Table = found
            self.fragment: Fragment = self.table.parts[0].fragments[0]
            self.tablet_id: TabletId = self.fragment.tablet_id
            change = insertion(self.table, self.fragment, ROWS)
            await write_one(nodes[1], self.tablet_id, change, 77)
        await self.until(lambda: self.leader() is not None)
        return self

    def _checker(self, node: StoreNode) -> ReplicaChecker:
        return ReplicaChecker(
            node.runtime, node.rpc, node.storage, node.catalog, node.tablets, node.id
        )

    async def restart(self) -> None:
        await self.cluster.stop()
        await self.start(fill=False)

    def leader(self) -> StoreNode | None:
        for node in self.cluster.nodes:
            group = node.tablets.group(self.tablet_id)
            if group is not None and group.is_leader:
                return node
        return None

    def follower(self) -> StoreNode:
        leader = self.leader()
        return next(node for node in self.cluster.nodes if node is not leader)

    async def until(self, happened: Callable[[], bool]) -> None:
        runtime = self.cluster.nodes[0].runtime
        ends_s = runtime.monotonic() + 60
        while not happened():
            assert runtime.monotonic() < ends_s, "it did not happen in time"
            await runtime.sleep(0.05)

    async def check(self) -> dict[NodeId, tuple[str, bool]]:
        node = self.cluster.nodes[0]
        results = await self.checkers[node.id].check_all()
        assert {r.tablet_id for r in results} == {self.tablet_id}
        return {NodeId(r.node_id): (r.verdict, r.rebuilt) for r in results}

    async def tamper(self, node: StoreNode, statement: str) -> None:
        """Changes the store behind the log's back."""
        await node.read(self.table, self.fragment)  # brings it up
        with node.storage.duckdb.cursor() as cursor:
            cursor.execute(statement.format(f=f"t{self.tablet_id}.f{self.fragment.id}"))

    async def rows(self, node: StoreNode) -> list[tuple[int, str]]:
        return await node.read(self.table, self.fragment)

    async def all_right(self) -> None:
        """Every replica serves the rows that were written, and nothing is amiss."""
        await self.until(lambda: self.leader() is not None)
        await self.until(lambda: not any(n.tablets.out_of_service() for n in self.cluster.nodes))
        for node in self.cluster.nodes:
            assert await self.rows(node) == ALL_ROWS
        assert set((await self.check()).values()) == {("equal", False)}


TAMPERINGS = [
    "DELETE FROM {f} WHERE c{k} = 17",
    "INSERT INTO {f} SELECT * FROM {f} WHERE c{k} = 17",
    "INSERT INTO {f} SELECT * REPLACE ('other' AS c{v}) FROM {f} WHERE c{k} = 5; "
    "DELETE FROM {f} WHERE c{k} = 5 AND c{v} <> 'other'",
]


@pytest.mark.parametrize("statement", TAMPERINGS)
@pytest.mark.parametrize("at_leader", [False, True])
def test_replica_that_differs_is_rebuilt(tmp_path: Path, statement: str, at_leader: bool) -> None:
    async def scenario(cluster: Cluster) -> None:
        checked = await Checked(cluster).start()
        await checked.all_right()
        node = checked.leader() if at_leader else checked.follower()
        assert node is not None
        k, v = (column.id for column in checked.table.columns)
        await checked.tamper(node, statement.replace("{k}", str(k)).replace("{v}", str(v)))
        assert await checked.rows(node) != ALL_ROWS
        found = await checked.check()
        assert found.pop(node.id) == ("differs", True)
        assert set(found.values()) == {("equal", False)}
        if at_leader:
            await checked.until(lambda: checked.leader() not in (None, node))
        await checked.all_right()

    run_cluster(tmp_path, scenario)


HISTORY_TAMPERINGS = [
    "DELETE FROM {h} WHERE c{k} = 17",
    "INSERT INTO {h} SELECT * REPLACE ('other' AS c{v}) FROM {h} WHERE c{k} = 5; "
    "DELETE FROM {h} WHERE c{k} = 5 AND c{v} <> 'other'",
    "INSERT INTO {h} SELECT * REPLACE (end_ts + 1 AS end_ts) FROM {h} WHERE c{k} = 5; "
    "DELETE FROM {h} WHERE c{k} = 5 AND end_ts = (SELECT min(end_ts) FROM {h})",
]


@pytest.mark.parametrize("statement", HISTORY_TAMPERINGS)
@pytest.mark.parametrize("method", [AccessMethod.COLUMNAR, AccessMethod.HYBRID])
def test_history_that_differs_is_found_above_the_horizon(
    tmp_path: Path, statement: str, method: AccessMethod
) -> None:
    """And what is to go is compared no more."""

    async def scenario(cluster: Cluster) -> None:
        checked = await Checked(cluster).start(method=method)
        names = [store_name(column.id) for column in checked.table.columns]
        keys = pa.record_batch([pa.array([5, 17], pa.int64())], names[:1])
        again = insertion(checked.table, checked.fragment, {5: "row 5", 17: "row 17"})
        change = FragmentChange(checked.fragment.id, keys, again.insert_rows)
        before, _ = await cluster.nodes[0].catalog.timestamps.snapshot()
        ended = await write_one(cluster.nodes[0], checked.tablet_id, change, 78)
        await checked.all_right()
        node = checked.follower()
        k, v = (column.id for column in checked.table.columns)
        statement_here = statement.replace("{k}", str(k)).replace("{v}", str(v))
        await checked.tamper(node, statement_here.replace("{h}", "{f}_history"))
        assert await checked.rows(node) == ALL_ROWS, "nobody sees it now"
        found = await checked.check()
        assert found.pop(node.id)[1]
        assert set(found.values()) == {("equal", False)}
        await checked.all_right()
        await checked.tamper(node, statement_here.replace("{h}", "{f}_history"))
        leader = checked.leader()
        assert leader is not None
        await leader.storage.tablet(checked.tablet_id).set_horizon(ended + 1)
        await checked.all_right()
        with pytest.raises(SnapshotTooOld):
            await node.read(checked.table, checked.fragment, before)

    run_cluster(tmp_path, scenario)


def test_replica_is_rebuilt_by_snapshot_where_the_log_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "COMPACT_AT_ENTRIES", 1)

    async def scenario(cluster: Cluster) -> None:
        checked = await Checked(cluster).start()
        for node in cluster.nodes:
            await node.storage.tablet(checked.tablet_id).checkpoint()
        node = checked.follower()
        mark = node.tablets.group(checked.tablet_id)._core.mark  # type: ignore[union-attr]
        assert mark.index > 0
        await checked.tamper(node, "DELETE FROM {f}")
        assert (await checked.check())[node.id] == ("differs", True)
        await checked.all_right()

    run_cluster(tmp_path, scenario)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["missing", "noise"])
def test_store_lost_over_a_restart_comes_from_the_leader_where_the_log_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(retention, "COMPACT_AT_ENTRIES", 1)

    async def scenario(cluster: Cluster) -> None:
        checked = await Checked(cluster).start()
        for node in cluster.nodes:
            await node.storage.tablet(checked.tablet_id).checkpoint()
        path = checked.follower().storage.path / "tablets" / f"{checked.tablet_id}.duckdb"
        await cluster.stop()
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(random.Random(1).randbytes(path.stat().st_size))
        await checked.start(fill=False)
        await checked.all_right()

    run_cluster(tmp_path, scenario)


def test_replica_being_rebuilt_serves_nothing_and_says_why(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        checked = await Checked(cluster).start()
        node = checked.follower()
        let_go = asyncio.Event()
        open_tablet = node.storage.open_tablet

        async def open_later(tablet_id: TabletId) -> Tablet:
            await let_go.wait()
            return await open_tablet(tablet_id)

        node.storage.open_tablet = open_later  # type: ignore[method-assign]
        node.tablets.rebuild(checked.tablet_id, "a test says so")
        assert node.tablets.out_of_service() == {checked.tablet_id: "a test says so"}
        await checked.until(lambda: checked.tablet_id in node.storage.fenced)
        with pytest.raises(CannotConnectNow, match="is being rebuilt on node"):
            await node.read(checked.table, checked.fragment)
        assert node.tablets.out_of_service() == {checked.tablet_id: "a test says so"}
        let_go.set()
        await checked.all_right()

    run_cluster(tmp_path, scenario)


@pytest.mark.slow
@pytest.mark.parametrize("method", [AccessMethod.ROW, AccessMethod.HYBRID])
def test_row_store_that_differs_is_rebuilt(tmp_path: Path, method: AccessMethod) -> None:
    """Alone it differs from the others; beside a columnar store, from that."""

    async def scenario(cluster: Cluster) -> None:
        checked = await Checked(cluster).start(method=method)
        await checked.all_right()
        node = checked.follower()
        [path] = (node.storage.path / "tablets").glob("*.rows")
        with contextlib.closing(apsw.Connection(str(path))) as connection:
            [(table,)] = connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE ?",
                [f"f{checked.fragment.id}"],
            ).fetchall()
            connection.execute(f'DELETE FROM "{table}" WHERE c{checked.table.columns[0].id} = 17')
        found = await checked.check()
        wrong = "damaged" if method is AccessMethod.HYBRID else "differs"
        assert found.pop(node.id) == (wrong, True)
        assert set(found.values()) == {("equal", False)}
        await checked.all_right()

    run_cluster(tmp_path, scenario)


def flip_data(node: StoreNode, fragment: Fragment, seed: int) -> None:
    """Flips a bit in a block of the fragment's rows."""
    chance = random.Random(seed)
    with node.storage.duckdb.cursor() as cursor:
        found = cursor.execute(
            "SELECT DISTINCT block_id FROM pragma_storage_info(?) WHERE block_id >= 0 ORDER BY 1",
            [f"t{fragment.tablet_id}.f{fragment.id}"],
        ).fetchall()
    path = node.storage.path / "tablets" / f"{fragment.tablet_id}.duckdb"
    data = bytearray(path.read_bytes())
    block = chance.choice(found)[0]
    at = FILE_HEADERS_BYTES + block * BLOCK_SIZE_BYTES + chance.randrange(8, 8000)
    data[at] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noticed_by", ["check", "reader"])
def test_flipped_byte_in_a_store_is_an_error_and_then_rebuilt(
    tmp_path: Path, seed: int, noticed_by: str
) -> None:
    async def scenario(cluster: Cluster) -> None:
        checked = await Checked(cluster).start()
        await checked.restart()
        node = checked.follower()
        flip_data(node, checked.fragment, seed)
        timestamp, _ = await node.catalog.timestamps.snapshot()
        if noticed_by == "check":
            assert (await checked.check())[node.id] == ("damaged", True)
        else:
            with pytest.raises(DataCorrupted, match="is damaged on this node"):
                await tablet_checksums(node.runtime, node.storage, checked.tablet_id, timestamp, 10)
            # Its file is read by the keeper, without anybody asking.
            before = node.storage.tablet(checked.tablet_id)
            await checked.until(lambda: node.storage.tablets.get(checked.tablet_id) is not before)
        await checked.all_right()

    run_cluster(tmp_path, scenario)


def flip_row(path: Path, key: int) -> None:
    """Flips a bit in a row where a row store keeps it."""
    data = bytearray(path.read_bytes())
    at = data.index(f"row {key}".encode())
    data[at + 4] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("method", [AccessMethod.ROW, AccessMethod.HYBRID])
@pytest.mark.parametrize("noticed_by", ["check", "scan", "key", "change"])
def test_flipped_byte_in_a_row_store_is_an_error_and_then_rebuilt(
    tmp_path: Path, noticed_by: str, method: AccessMethod
) -> None:
    async def scenario(cluster: Cluster) -> None:
        checked = await Checked(cluster).start(method=method)
        await checked.all_right()
        for node in cluster.nodes:
            await node.storage.tablet(checked.tablet_id).checkpoint()
        node = checked.follower()
        path = node.storage.path / "tablets" / f"{checked.tablet_id}.rows"
        await cluster.stop()
        flip_row(path, 1234)
        await checked.start(fill=False)
        [node] = [n for n in cluster.nodes if path.is_relative_to(n.storage.path)]
        before = node.storage.tablet(checked.tablet_id)
        if noticed_by == "check":
            found = await checked.check()
            assert found.pop(node.id) == ("damaged", True)
            assert set(found.values()) == {("equal", False)}
        elif noticed_by == "change":
            change = insertion(checked.table, checked.fragment, {1234: "row 1234"})
            names = [store_name(column.id) for column in checked.table.columns]
            keys = pa.record_batch([pa.array([1234], pa.int64())], names[:1])
            again = FragmentChange(checked.fragment.id, keys, change.insert_rows)
            with contextlib.suppress(DataCorrupted):  # where it leads
                await write_one(cluster.nodes[0], checked.tablet_id, again, 78)
        elif noticed_by == "key":
            with pytest.raises(DataCorrupted, match="does not match its checksum"):
                await before.read_rows(checked.fragment.id, [(1234,)], END_OF_TIME)
        elif method is AccessMethod.ROW:
            with pytest.raises(DataCorrupted, match="is damaged on this node"):
                await checked.rows(node)
        else:
            assert await checked.rows(node) == ALL_ROWS  # out of the other store
            return
        await checked.until(lambda: node.storage.tablets.get(checked.tablet_id) is not before)
        await checked.all_right()

    run_cluster(tmp_path, scenario)


def test_only_replica_that_is_damaged_comes_back_from_its_log(tmp_path: Path) -> None:
    async def scenario(cluster: Cluster) -> None:
        [node] = await cluster.start(1)
        ReplicaChecker(node.runtime, node.rpc, node.storage, node.catalog, node.tablets, node.id)
        table = await node.table("t", SchemeDefinition(PartitionMethod.NONE))
        fragment = table.parts[0].fragments[0]
        await write_one(node, fragment.tablet_id, insertion(table, fragment, ROWS), 77)
        assert await node.read(table, fragment) == ALL_ROWS
        with node.storage.duckdb.cursor() as cursor:
            cursor.execute(f"DELETE FROM t{fragment.tablet_id}.f{fragment.id}")
        node.tablets.rebuild(fragment.tablet_id, "damaged")
        await node.runtime.sleep(3)
        assert await node.read(table, fragment) == ALL_ROWS
        assert not node.tablets.out_of_service()

    run_cluster(tmp_path, scenario)


def test_checksum_does_not_depend_on_order_but_on_every_value() -> None:
    def digest(rows: str) -> object:
        return duckdb.sql(f"SELECT sum(hash(a, b)) FROM (VALUES {rows}) t(a, b)").fetchall()

    base = digest("(1, 'x'), (2, NULL), (2, NULL)")
    assert base == digest("(2, NULL), (1, 'x'), (2, NULL)")
    for other in (
        "(1, 'x'), (2, NULL)",
        "(1, NULL), (2, 'x'), (2, NULL)",
        "(1, 'y'), (2, NULL), (2, NULL)",
    ):
        assert base != digest(other)
