"""The distributed plan: what the planner hands to the executor.

A query becomes stages. A **stage** is one SQL statement for DuckDB, run once on each of its
nodes; it reads local fragments (scans) and the output of other stages (inputs), and sends its
rows into one **exchange**. Inside `Stage.sql` a scan is spelled as the table name
`"@scan:<k>"` and an input as `"@input:<exchange id>"`; the executor puts there what the node
has. A scan delivers its columns under the names of `ScanColumn.name`.

The plan is data only: it goes over the wire as msgpack, so every type here is a frozen
dataclass over plain values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from catalog.model import FragmentId, NodeId, TableId, TabletId
from storage.read_sets import RowRange
from storage.types import SqlType


class ExchangeKind(StrEnum):
    """How a stage's rows reach the stage that reads them.

    GATHER: all rows to the reader's one node. MERGE: the same, every producer's rows sorted by
    `sort`, and merged so. BROADCAST: all rows to every node of the reader. HASH: each row to
    the reader's node number `hash(keys) % nodes`. RESULT: rows to the client (the root stage,
    which runs on several nodes where the rows have no order).
    """

    GATHER = "gather"
    MERGE = "merge"
    BROADCAST = "broadcast"
    HASH = "hash"
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class SortKey:
    """A sort column by its name in the stage's output."""

    column: str
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True)
class StageColumn:
    """A column of a stage's output: a name unique in the stage and its type."""

    name: str
    type: SqlType


@dataclass(frozen=True, slots=True)
class Exchange:
    """Where a stage's rows go. `keys` are output column names, for HASH."""

    id: int
    kind: ExchangeKind
    keys: tuple[str, ...] = ()
    sort: tuple[SortKey, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanColumn:
    """A column a scan delivers: the name in the SQL, and the column in the store."""

    name: str
    store_name: str
    type: SqlType


@dataclass(frozen=True, slots=True)
class ScanFragment:
    """A fragment to read, in the tablet that holds it."""

    fragment_id: FragmentId
    tablet_id: TabletId


@dataclass(frozen=True, slots=True)
class Scan:
    """The local fragments behind `"@scan:<id>"`, node by node.

    `fragments` has one entry for every node of the stage, in the order of `Stage.nodes`;
    a node with none reads no rows. Where a table is replicated, every node has its own copy.
    `ranges` have all rows that matter to the query, where these are told by values.
    """

    id: int
    table_id: TableId
    columns: tuple[ScanColumn, ...]
    fragments: tuple[tuple[ScanFragment, ...], ...]
    # The place of the statement that reads it, `BoundRelation.name`.
    relation: str = ""
    ranges: tuple[RowRange, ...] = ()


@dataclass(frozen=True, slots=True)
class SystemScan:
    """A system table (pg_catalog, information_schema, dqe) behind `"@scan:<id>"`."""

    id: int
    schema: str
    table: str
    columns: tuple[ScanColumn, ...]


@dataclass(frozen=True, slots=True)
class StageInput:
    """An exchange read by a stage as `"@input:<exchange_id>"`.

    `rescannable` asks the executor to keep the rows (spilling) because the SQL may read them
    more than once; without it the SQL names the input once and the rows stream through.
    """

    exchange_id: int
    columns: tuple[StageColumn, ...]
    rescannable: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """One SQL statement and the nodes it runs on."""

    id: int
    sql: str
    nodes: tuple[NodeId, ...]
    scans: tuple[Scan, ...]
    system_scans: tuple[SystemScan, ...]
    inputs: tuple[StageInput, ...]
    output: tuple[StageColumn, ...]
    exchange: Exchange
    estimated_rows: float = 0.0


class HostOperation(StrEnum):
    """What the coordinator computes on result columns, in Python's decimal arithmetic."""

    COLUMN = "column"  # the column as it is
    NUMERIC_DIVIDE = "numeric_divide"  # PostgreSQL's numeric division of two columns


# Ends the name of a divisor's column.
DIVISOR = " divisor"


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """A column of the answer: its name and type for the client, and how it is made.

    `operands` are column names of the root stage's output: one for COLUMN, dividend and
    divisor for NUMERIC_DIVIDE. `type` ANY takes what the root stage delivers.
    """

    name: str
    type: SqlType
    operands: tuple[str, ...]
    operation: HostOperation = HostOperation.COLUMN


@dataclass(frozen=True, slots=True)
class PlanNote:
    """A node of the plan as EXPLAIN shows it: operators, not stages' SQL.

    `properties` are PostgreSQL's own EXPLAIN keys and ours, in the order to show them.
    `stage_id` is the stage it runs in.
    """

    node_type: str
    stage_id: int
    properties: dict[str, str | int | float | list[str]] = field(default_factory=dict)
    children: tuple[PlanNote, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """A whole query. `stages` are in dependency order, the root (exchange RESULT) last.

    `catalog_version` is what it was planned with. `tables` are those it reads.
    """

    stages: tuple[Stage, ...]
    columns: tuple[ResultColumn, ...]
    catalog_version: int
    tables: tuple[TableId, ...]
    explanation: PlanNote
    estimated_rows: float = 0.0

    @property
    def root(self) -> Stage:
        return self.stages[-1]
