"""System relations: their columns, and rows given as dicts made whole.

A row source yields dicts with the columns it knows; the others get what an empty PostgreSQL
catalog would show: 0 for numbers and oids, false, an empty "char", else NULL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from catalog.liveness import ReplicaTroubles
from catalog.model import Catalog, NodeId, TabletId
from catalog.replica_results import ReplicaResult
from storage.transaction_facts import NO_FACTS, TransactionFacts
from storage.types import Kind, SqlType, array_of, arrow_type

Row = Mapping[str, object]

NO_NODE = NodeId(0)

_DEFAULTS: dict[Kind, object] = {
    Kind.BOOL: False,
    Kind.INT2: 0,
    Kind.INT4: 0,
    Kind.INT8: 0,
    Kind.FLOAT4: 0.0,
    Kind.OID: 0,
    Kind.REGPROC: 0,
    Kind.REGTYPE: 0,
    Kind.CHAR: "",
}


@dataclass(frozen=True, slots=True)
class SystemRelation:
    """A virtual table: where it stands and what its columns are."""

    schema: str
    name: str
    columns: tuple[tuple[str, SqlType], ...]


@dataclass(frozen=True, slots=True)
class SystemContext:
    """What system tables tell of besides the catalog; all of it may be left out.

    `leaders`, `live_nodes`, `catalog_voters`, `tablet_bytes` (what each node's replicas occupy) and
    `replica_troubles`, `silent_s` and `log_bytes` are this node's hints. `settings` are rows of
    pg_settings: name -> (value, category, description). `check_results` and `transactions` were
    asked of all nodes for this very statement, at `now_ms`.
    """

    catalog: Catalog
    node_id: NodeId = NO_NODE
    database: str = "dqe"
    user: str = "dqe"
    live_nodes: tuple[NodeId, ...] = ()
    catalog_voters: tuple[NodeId, ...] = ()
    leaders: Mapping[TabletId, NodeId] = field(default_factory=dict)
    tablet_bytes: Mapping[NodeId, Mapping[int, int]] = field(default_factory=dict)
    settings: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    replica_troubles: Mapping[NodeId, ReplicaTroubles] = field(default_factory=dict)
    silent_s: Mapping[NodeId, float] = field(default_factory=dict)
    log_bytes: Mapping[NodeId, int] = field(default_factory=dict)
    check_results: Sequence[ReplicaResult] = ()
    transactions: TransactionFacts = NO_FACTS
    now_ms: int = 0


def columns_of(text: str) -> tuple[tuple[str, SqlType], ...]:
    """The columns that a text of `system_tables.columns` lists."""
    found: list[tuple[str, SqlType]] = []
    for run in text.split(";"):
        type_name, *names = run.split()
        found.extend((name, _type_of(type_name)) for name in names)
    return tuple(found)


def _type_of(name: str) -> SqlType:
    if name.endswith("[]"):
        return array_of(SqlType(Kind(name[:-2])))
    return SqlType(Kind(name))


def table_of(relation: SystemRelation, rows: Iterable[Row]) -> pa.Table:
    """The rows as an Arrow table with the relation's columns, names and types."""
    complete = list(rows)
    arrays = {}
    for name, sql_type in relation.columns:
        default = _DEFAULTS.get(sql_type.kind)
        values = [row.get(name, default) for row in complete]
        arrays[name] = pa.array(values, type=arrow_type(sql_type))
    return pa.table(arrays)
