"""What nodes say to each other to run a query.

`RunTasks` is one call a node: it carries all tasks of that node and lasts as long as they do,
so its answer brings the statistics, its error is the query's, and giving it up cancels them.
`OpenExchange` opens a stream from a producing task to one consuming task; its messages are a
schema (`executor.outbox.SCHEMA_HEADER`) and then batches, and it ends when the consumer's
inbox has taken all, or wants no more.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pyarrow as pa

from catalog.model import NodeId
from planner.plan import (
    Exchange,
    ExchangeKind,
    Scan,
    ScanFragment,
    SortKey,
    Stage,
    StageInput,
    SystemScan,
)
from storage.fragments import OwnChanges

RUN_TASKS = "executor.run_tasks"
OPEN_EXCHANGE = "executor.open_exchange"

# The consumer of the root's rows is no stage but the coordinator's client.
RESULT_READER = -1


class Producers(msgspec.Struct, frozen=True):
    """How many tasks fill an exchange, and the order it is to be read in, if any."""

    exchange_id: int
    count: int
    sort: tuple[SortKey, ...] = ()


class Reader(msgspec.Struct, frozen=True):
    """A stage that reads an exchange, and its nodes in the plan's order."""

    stage_id: int
    nodes: tuple[NodeId, ...]


class LocalScan(msgspec.Struct, frozen=True):
    """A scan as one node needs it: its own fragments only."""

    scan: Scan
    fragments: tuple[ScanFragment, ...]


class Task(msgspec.Struct, frozen=True):
    """A stage on one node."""

    stage_id: int
    sql: str
    scans: tuple[LocalScan, ...]
    system_scans: tuple[SystemScan, ...]
    inputs: tuple[StageInput, ...]
    producers: tuple[Producers, ...]
    exchange: Exchange
    readers: tuple[Reader, ...]


class RefreshedRows(msgspec.Struct, frozen=True):
    """Of one relation (`Scan.relation`) a query reads only the rows with these keys, in their
    versions at a later timestamp. `keys` is an Arrow stream of the table's key columns, by
    which columns of every group are found."""

    relation: str
    timestamp: int
    keys: bytes

    @classmethod
    def of(cls, relation: str, timestamp: int, keys: pa.Table) -> RefreshedRows:
        """The message for these keys."""
        return cls(relation, timestamp, _to_ipc(keys))

    def all_keys(self) -> pa.Table:
        """The key columns, by their names in the store."""
        return pa.ipc.open_stream(self.keys).read_all()


def _to_ipc(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    data: bytes = sink.getvalue().to_pybytes()
    return data


class RunTasks(msgspec.Struct, frozen=True):
    """All tasks of one query on one node.

    `timestamp` is the snapshot; `catalog_version` must be reached before anything is read.
    `settings` are those that change what SQL means. `deadline_s` bounds waiting for data that
    is not there yet (a tablet's pending transactions, the catalog). `own` is the transaction
    whose uncommitted changes the query sees. `schemas` are those of the exchanges, Arrow
    schemas encoded, as far as an earlier run of the plan has told them.
    """

    query_id: str
    coordinator: NodeId
    timestamp: int
    catalog_version: int
    settings: dict[str, str]
    deadline_s: float
    tasks: tuple[Task, ...]
    own: OwnChanges | None = None
    refreshed: tuple[RefreshedRows, ...] = ()
    schemas: dict[int, bytes] = {}


class TaskStatistics(msgspec.Struct, frozen=True):
    """What a task did: rows and bytes it put out, bytes of them that left the node, bytes of
    its inputs that waited on disk, milliseconds from its start to its last row. `answered` tells
    of how many tablets who made it possible to read them (`storage.closed.Answered`)."""

    stage_id: int
    node_id: NodeId
    rows: int
    bytes: int
    sent_bytes: int
    spilled_bytes: int
    elapsed_ms: float
    answered: dict[str, int] = {}


class TasksDone(msgspec.Struct, frozen=True):
    """The answer to RunTasks: what the tasks did, and the schemas of their exchanges."""

    statistics: tuple[TaskStatistics, ...]
    schemas: dict[int, bytes] = {}


class OpenExchange(msgspec.Struct, frozen=True):
    """Rows of one task for one consuming task."""

    query_id: str
    exchange_id: int
    reader_stage_id: int
    producer: NodeId


def task_of(
    stage: Stage, node_id: NodeId, producers: dict[int, Producers], readers: tuple[Reader, ...]
) -> Task:
    """The stage as that node is to run it."""
    place = stage.nodes.index(node_id)
    return Task(
        stage_id=stage.id,
        sql=stage.sql,
        scans=tuple(_local_scan(scan, place) for scan in stage.scans),
        system_scans=stage.system_scans,
        inputs=stage.inputs,
        producers=tuple(producers[item.exchange_id] for item in stage.inputs),
        exchange=stage.exchange,
        readers=readers,
    )


def _local_scan(scan: Scan, place: int) -> LocalScan:
    bare = replace(scan, fragments=())
    return LocalScan(bare, scan.fragments[place])


def readers_of(stage: Stage, stages: tuple[Stage, ...], coordinator: NodeId) -> tuple[Reader, ...]:
    """Who reads the stage's exchange: the stages that name it, or the client."""
    if stage.exchange.kind is ExchangeKind.RESULT:
        return (Reader(RESULT_READER, (coordinator,)),)
    return tuple(
        Reader(other.id, other.nodes)
        for other in stages
        if any(item.exchange_id == stage.exchange.id for item in other.inputs)
    )
