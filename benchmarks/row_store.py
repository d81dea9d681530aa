"""What the row store costs and gives, alone and under a cluster.

    python -m benchmarks.row_store [--scale 0.1] [--nodes 3] [--runs 3] [--data DIR]
                                   [--store-only]

The first table is of the store by itself, in one thread, by the time the process spent: reads by
key, small changes with history, each a commit and some sharing one, with the bytes they write; a
load, scans. The second is of a cluster: COPY of lineitem into
a columnar, a hybrid and a row table, until it is acknowledged; the 22 TPC-H queries over columnar
and over hybrid tables, right after the load and once the row stores are built.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import report
from benchmarks.tpch_data import QUERY_NUMBERS, create_table, query
from dqe.local_cluster import LocalCluster
from dqe.tpch import TABLES, generate
from storage import types
from storage.fragments import (
    END_OF_TIME,
    AccessMethod,
    FragmentChange,
    FragmentSchema,
    StoreColumn,
    UniqueKey,
)
from storage.operations import AlterOperation, CommitOperation, Operation
from storage.row_store import RowStore
from storage.types import Kind, SqlType

ACCOUNTS = 100_000
CHANGES = 3_000
# Entries that share a transaction, as a second's do at twenty a second.
TOGETHER = 20


def main() -> int:
    """Runs it and prints the tables."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="dqe-rows-") as temporary:
        directory = Path(temporary)
        (directory / "data").mkdir()
        files = generate(arguments.scale, Path(arguments.data or directory / "data"))
        results = {"store": _store_alone(directory, files["lineitem"])}
        if not arguments.store_only:
            results |= _in_cluster(arguments, directory, files)
    print(f"written to {report.write_json('row_store', results)}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--data", default="", help="a directory that keeps the generated rows")
    parser.add_argument("--store-only", action="store_true")
    return parser.parse_args()


# The store alone.


def _store_alone(directory: Path, lineitem: Path) -> dict[str, float]:
    store = RowStore(7, directory / "7.rows")
    accounts, lines = _accounts(), _Lineitem(lineitem)
    store.apply([AlterOperation([accounts, lines.schema], 1)], 1)
    found = {"load accounts, rows/s": ACCOUNTS / _spent_s(lambda: _load_accounts(store))}
    keys = [(random.randrange(ACCOUNTS),) for _ in range(20_000)]
    found["read by key, now, us"] = _each_us(keys, lambda key: store.get(1, key, END_OF_TIME))
    found |= _small_changes(store)
    found["read by key, an old version, us"] = _each_us(keys, lambda key: store.get(1, key, 10))
    starts = [random.randrange(ACCOUNTS - 100) for _ in range(1_000)]
    found["read a range of 100 keys, us"] = _each_us(
        starts, lambda s: store.scan(1, low=(s, True), high=(s + 100, False))
    )
    found["load lineitem, rows/s"] = lines.row_count / _spent_s(lambda: lines.load(store))
    scan = store.snapshot()
    names = lines.schema.names
    whole_s = _spent_s(lambda: scan.rows_at(2, names, END_OF_TIME))
    some_s = _spent_s(lambda: scan.rows_at(2, names[:3], END_OF_TIME))
    scan.close()
    found["scan lineitem to Arrow, rows/s"] = lines.row_count / whole_s
    found["scan three of its columns, rows/s"] = lines.row_count / some_s
    store.close()
    rows = [[name, f"{value:,.1f}"] for name, value in found.items()]
    report.print_table("The row store alone, by processor time", ["work", ""], rows)
    return found


def _spent_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _each_us(items: list[Any], work: Callable[[Any], object]) -> float:
    def all_of_them() -> None:
        for item in items:
            work(item)

    return _spent_s(all_of_them) / len(items) * 1e6


def _accounts() -> FragmentSchema:
    columns = (
        StoreColumn("c1", types.INT8),
        StoreColumn("c2", types.INT4),
        StoreColumn("c3", types.INT4),
        StoreColumn("c4", SqlType(Kind.BPCHAR, length=84)),
    )
    unique = (UniqueKey("accounts_pkey", ("c1",)),)
    return FragmentSchema(1, columns, ("c1",), unique, "accounts", AccessMethod.ROW)


def _account_rows(ids: list[int]) -> pa.RecordBatch:
    count = len(ids)
    arrays = [
        pa.array(ids, pa.int64()),
        pa.array([1] * count, pa.int32()),
        pa.array([0] * count, pa.int32()),
        pa.array(["x" * 84] * count),
    ]
    return pa.RecordBatch.from_arrays(arrays, names=["c1", "c2", "c3", "c4"])


def _load_accounts(store: RowStore) -> None:
    change = FragmentChange(1, insert_rows=_account_rows(list(range(ACCOUNTS))))
    store.apply([CommitOperation(10, [change], 2)], 2)


def _small_changes(store: RowStore) -> dict[str, float]:
    updates, inserts = [], []
    for number in range(CHANGES):
        rows = _account_rows(random.sample(range(ACCOUNTS), 3))
        updates.append(FragmentChange(1, rows.select(["c1"]), rows))
        first = ACCOUNTS + 3 * number
        inserts.append(FragmentChange(1, insert_rows=_account_rows([first, first + 1, first + 2])))

    def operation(change: FragmentChange) -> tuple[list[Operation], int]:
        index = store.position.applied_index + 1
        return [CommitOperation(10 + index, [change], index)], index

    def commit(change: FragmentChange) -> None:
        store.apply(*operation(change))

    def take_in(change: FragmentChange) -> None:
        store.take_in(*operation(change))
        if store.position.applied_index % TOGETHER == 0:
            store.settle()

    half = CHANGES // 2
    found = {}
    for name, changes in (("update", updates), ("insert", inserts)):
        for how, work, some in (
            ("a commit each", commit, changes[:half]),
            (f"{TOGETHER} a commit", take_in, changes[half:]),
        ):
            written = _written_bytes()
            found[f"{name} three rows, {how}, us"] = _each_us(some, work)
            store.settle()
            found[f"{name} three rows, {how}, bytes"] = (_written_bytes() - written) / half
    return found


def _written_bytes() -> int:
    """What this process has given to the system to write so far."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


class _Lineitem:
    """The rows of lineitem as one fragment."""

    def __init__(self, path: Path) -> None:
        table = pq.read_table(path).combine_chunks()
        columns = tuple(
            StoreColumn(f"c{i}", _sql_type(field.type)) for i, field in enumerate(table.schema)
        )
        unique = (UniqueKey("lineitem_pkey", ("c0", "c3")),)
        self.schema = FragmentSchema(2, columns, ("c0", "c3"), unique, "lineitem", AccessMethod.ROW)
        arrays = [column.combine_chunks() for column in table.columns]
        self._rows = pa.RecordBatch.from_arrays(arrays, schema=self.schema.arrow_schema())
        self.row_count = table.num_rows

    def load(self, store: RowStore) -> None:
        """In one commit, as after a COPY."""
        index = store.position.applied_index + 1
        change = FragmentChange(2, insert_rows=self._rows)
        store.apply([CommitOperation(10**6, [change], index)], index)


def _sql_type(arrow_type: pa.DataType) -> SqlType:
    if pa.types.is_decimal(arrow_type):
        return SqlType(Kind.NUMERIC, precision=arrow_type.precision, scale=arrow_type.scale)
    if pa.types.is_date32(arrow_type):
        return types.DATE
    return {pa.int64(): types.INT8, pa.int32(): types.INT4}.get(arrow_type, types.TEXT)


# In a cluster.


def _in_cluster(
    arguments: argparse.Namespace, directory: Path, files: dict[str, Path]
) -> dict[str, Any]:
    rates: dict[str, float] = {}
    times: dict[str, dict[str, float]] = {}
    for method in (AccessMethod.COLUMNAR, AccessMethod.HYBRID, AccessMethod.ROW):
        with (
            LocalCluster(arguments.nodes, directory / str(method)) as cluster,
            psycopg.connect(cluster.url, autocommit=True) as connection,
        ):
            rates[method] = _load(connection, method, files)
            if method.in_columnar_store:
                times[method] = {
                    "right after the load": _total_s(connection, 1),
                    "later": _total_s(connection, arguments.runs),
                }
    rows = [[method, f"{rate:,.0f}"] for method, rate in rates.items()]
    title = f"COPY of lineitem from Parquet, scale {arguments.scale:g}"
    report.print_table(title, ["access method", "rows/s"], rows)
    names = list(next(iter(times.values())))
    rows = [[m, *(f"{found[name]:.2f}" for name in names)] for m, found in times.items()]
    title = f"TPC-H, scale {arguments.scale:g}: 22 queries, seconds"
    report.print_table(title, ["access method", *names], rows)
    return {"scale": arguments.scale, "copy rows/s": rates, "tpch s": times}


def _load(
    connection: psycopg.Connection[Any], method: AccessMethod, files: dict[str, Path]
) -> float:
    """Makes and fills all tables; lineitem's rate."""
    for table in TABLES:
        connection.execute(f"{create_table(table, 'hash')} USING {method}".encode())
        began = time.perf_counter()
        copied = connection.execute(f"COPY {table} FROM '{files[table]}' (FORMAT parquet)".encode())
        elapsed_s = time.perf_counter() - began
    connection.execute(b"ANALYZE")
    return copied.rowcount / elapsed_s


def _total_s(connection: psycopg.Connection[Any], runs: int) -> float:
    """The sum over all queries of their medians."""
    total_s = 0.0
    for number in QUERY_NUMBERS:
        times_s = []
        for _ in range(runs):
            began = time.perf_counter()
            connection.execute(query(number).encode()).fetchall()
            times_s.append(time.perf_counter() - began)
        total_s += statistics.median(times_s)
    return total_s


if __name__ == "__main__":
    sys.exit(main())
