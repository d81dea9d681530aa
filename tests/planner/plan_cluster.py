"""A cluster without a cluster: plans run over DuckDB connections, one a node.

`PlanCluster` makes tables from their DDL through the real catalog, cuts rows as the real
routing does, and keeps each fragment in the connection of the node that holds it. A twin
connection holds everything whole. `run` interprets a `QueryPlan` stage by stage; `answer` asks
the twin the bound tree. It is unkind where the executor may be: an input that is not rescannable
can be read once, and rows are hashed by type and value, so that keys of two types do not meet.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cmp_to_key
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot import exp

from catalog.bounds import route
from catalog.commands import AddNode, CreateCluster, Envelope
from catalog.model import (
    Catalog,
    ColumnStatistics,
    NodeId,
    PartitionMethod,
    Table,
    TableStatistics,
)
from catalog.state import CatalogState
from cluster.errors import DqeError
from planner.algebra_scalars import copy_tree
from planner.binder import bind_query
from planner.bound import BoundQuery, BoundRelation
from planner.context import PlannerContext
from planner.ddl_tables import plan_create_table
from planner.dialect import duckdb_sql
from planner.duckdb_faults import runnable
from planner.macros import SETUP_SQL
from planner.optimizer import plan_query
from planner.parser import parse
from planner.plan import ExchangeKind, QueryPlan, Scan, Stage
from planner.statements import CreateTable, Query
from planner.udfs import register
from storage.types import Kind, arrow_type, duckdb_type

NOW = datetime(2026, 1, 15, 12, 30, tzinfo=UTC)


def connection() -> duckdb.DuckDBPyConnection:
    """A DuckDB as a node sets it up."""
    con = duckdb.connect()
    con.execute("SET threads = 1")
    con.execute("SET arrow_lossless_conversion = true")
    con.execute("SET default_null_order = 'nulls_last_on_asc_first_on_desc'")
    register(con)
    for statement in SETUP_SQL:
        con.execute(statement)
    return con


@dataclass
class PlanCluster:
    """Nodes 1 to `size`, tables, and the twin that has it all."""

    size: int = 3
    coordinator: int = 1
    state: CatalogState = field(default_factory=CatalogState)
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._apply(CreateCluster("test", "n1:1", "n1:2"))
        for number in range(2, self.size + 1):
            self._apply(AddNode(f"n{number}:1", f"n{number}:2"))
        self.nodes = {NodeId(n): connection() for n in range(1, self.size + 1)}
        self.twin = connection()

    @property
    def catalog(self) -> Catalog:
        return self.state.catalog

    def _apply(self, command: Any) -> None:
        outcome = self.state.apply_envelope(Envelope(f"c{self.catalog.version}", command))
        if isinstance(outcome, DqeError):
            raise outcome

    def context(self) -> PlannerContext:
        return PlannerContext(
            self.catalog,
            NodeId(self.coordinator),
            NOW,
            NOW,
            {"timezone": "UTC", "search_path": "public", **self.settings},
            {"user": "test", "database": "dqe"},
        )

    def create(self, ddl: str) -> None:
        """Creates the tables of the DDL, here and in the twin."""
        for statement in parse(ddl):
            assert isinstance(statement, CreateTable)
            for command in plan_create_table(statement, self.context()).commands:
                self._apply(command)
        for table in self.catalog.tables.values():
            columns = ", ".join(f'"{c.name}" {duckdb_type(c.type)}' for c in table.visible_columns)
            self.twin.execute(f'CREATE TABLE IF NOT EXISTS "{table.name}" ({columns})')

    def table(self, name: str) -> Table:
        found = self.catalog.find_table(name)
        assert found is not None
        return found

    def load(self, name: str, rows: pa.Table, *, statistics: bool = True) -> None:
        """Puts rows (in the order of the visible columns) into the twin and the fragments."""
        table = self.table(name)
        schema = pa.schema([(c.name, arrow_type(c.type)) for c in table.visible_columns])
        rows = rows.rename_columns(schema.names).cast(schema)
        self.twin.register("loading", rows)
        self.twin.execute(f'INSERT INTO "{name}" SELECT * FROM loading')
        self.twin.unregister("loading")
        self._cut(table, rows)
        if statistics:
            self._measure(table)

    def _cut(self, table: Table, rows: pa.Table) -> None:
        stored = {c.id: rows.column(c.name) for c in table.visible_columns}
        if table.hidden_row_id:
            key = pa.array(range(rows.num_rows), type=arrow_type(table.column(table.key[0]).type))
            stored[table.key[0]] = pa.chunked_array([key])
        ordinals = pa.array([0] * rows.num_rows)
        if table.method not in (PartitionMethod.NONE, PartitionMethod.REPLICATED):
            keys = [stored[c] for c in table.partition_columns]
            ordinals = pa.array(route(table, keys, rows.num_rows))
        for part in table.parts:
            mask = pa.compute.equal(ordinals, part.ordinal)
            for fragment in part.fragments:
                columns = table.group_columns(fragment.group_id)
                arrays = [stored[c.id] for c in columns]
                piece = pa.table(arrays, names=[f"c{c.id}" for c in columns]).filter(mask)
                for node in self.catalog.tablets[fragment.tablet_id].replicas:
                    con = self.nodes[node]
                    con.register("loading", piece)
                    con.execute(f"CREATE TABLE f{fragment.id} AS SELECT * FROM loading")
                    con.unregister("loading")

    def _measure(self, table: Table) -> None:
        def value(sql: str) -> Any:
            return self.twin.execute(f'SELECT {sql} FROM "{table.name}"').fetchall()[0][0]

        rows = value("count(*)")
        columns = {}
        for column in table.visible_columns:
            name = f'"{column.name}"'
            simple = column.type.kind not in (Kind.JSON, Kind.JSONB, Kind.ARRAY, Kind.INTERVAL)
            columns[column.id] = ColumnStatistics(
                value(f"count(DISTINCT {name})"),
                value(f"coalesce(avg(({name} IS NULL)::INT), 0)"),
                value(f"min({name})::VARCHAR") if simple else None,
                value(f"max({name})::VARCHAR") if simple else None,
                0.0,
            )
        self.catalog.statistics[table.id] = TableStatistics(rows, (), columns)

    # Asking

    def bind(self, sql: str) -> BoundQuery:
        (statement,) = parse(sql)
        assert isinstance(statement, Query)
        return bind_query(statement.tree, self.context())

    def plan(self, sql: str) -> QueryPlan:
        return plan_query(self.bind(sql), self.context())

    def answer(self, sql: str) -> list[tuple[Any, ...]]:
        """What the whole data in one DuckDB says to the bound tree."""
        bound = self.bind(sql)

        def replace(node: exp.Expr) -> exp.Expr | None:
            relation = node._meta.get("relation") if node._meta else None
            if not isinstance(node, exp.Table) or not isinstance(relation, BoundRelation):
                return None
            alias = exp.TableAlias(this=exp.Identifier(this=node.alias_or_name, quoted=True))
            return exp.Table(
                this=exp.Identifier(this=relation.source.name, quoted=True), alias=alias
            )

        text = duckdb_sql(runnable(copy_tree(bound.tree, replace)))
        found = self.twin.cursor().execute(text)
        names = [d[0] for d in found.description]
        return _rows(found.fetchall(), names, bound.columns)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """What the distributed plan says."""
        return self.run(self.plan(sql))

    def run(self, plan: QueryPlan) -> list[tuple[Any, ...]]:
        """Interprets the plan."""
        result = self.run_stages(plan)
        return _rows(
            [tuple(r.values()) for r in _pylist(result)], result.column_names, plan.columns
        )

    def run_stages(self, plan: QueryPlan) -> pa.Table:
        sent: dict[int, dict[NodeId, pa.Table]] = {}
        readers = {i.exchange_id: stage for stage in plan.stages for i in stage.inputs}
        for stage in plan.stages:
            outputs = [self._run_stage(stage, place, sent) for place in range(len(stage.nodes))]
            if stage.exchange.kind is ExchangeKind.RESULT:
                return pa.concat_tables(outputs)
            sent[stage.exchange.id] = _exchanged(stage, outputs, readers[stage.exchange.id].nodes)
        raise AssertionError("a plan ends in its root stage")

    def _run_stage(
        self, stage: Stage, place: int, sent: dict[int, dict[NodeId, pa.Table]]
    ) -> pa.Table:
        node = stage.nodes[place]
        con = self.nodes[node].cursor()
        for scan in stage.scans:
            text = self._scan_sql(scan, place, node)
            con.execute(f'CREATE OR REPLACE TEMP VIEW "@scan:{scan.id}" AS {text}')
        for read in stage.inputs:
            rows = sent[read.exchange_id][node]
            assert rows.column_names == [c.name for c in read.columns]
            con.register(
                f"@input:{read.exchange_id}",
                rows if read.rescannable else rows.to_reader(),
            )
        try:
            made = con.sql(stage.sql)
            result: pa.Table = made.to_arrow_table()
        except duckdb.Error as error:
            error.add_note(stage.sql)
            raise
        assert result.column_names == [c.name for c in stage.output], stage.sql
        return result

    def _scan_sql(self, scan: Scan, place: int, node: NodeId) -> str:
        columns = ", ".join(f'"{c.store_name}" AS "{c.name}"' for c in scan.columns)
        texts: list[str] = []
        for fragment in scan.fragments[place]:
            assert node in self.catalog.tablets[fragment.tablet_id].replicas
            texts.append(f"SELECT {columns} FROM f{fragment.fragment_id}")
        if not texts:
            nothing = ", ".join(f'NULL::{duckdb_type(c.type)} AS "{c.name}"' for c in scan.columns)
            return f"SELECT {nothing} WHERE false"
        return " UNION ALL ".join(texts)


def _exchanged(
    stage: Stage, outputs: Sequence[pa.Table], readers: tuple[NodeId, ...]
) -> dict[NodeId, pa.Table]:
    exchange = stage.exchange
    together = pa.concat_tables(outputs)
    if exchange.kind is ExchangeKind.BROADCAST:
        return dict.fromkeys(readers, together)
    if exchange.kind is ExchangeKind.HASH:
        assert exchange.keys
        keys = [together.column(k) for k in exchange.keys]
        targets = [
            hash(tuple((str(k.type), k[i].as_py()) for k in keys)) % len(readers)
            for i in range(together.num_rows)
        ]
        wanted = pa.array(targets, type=pa.int64())
        return {
            node: together.filter(pa.compute.equal(wanted, number))
            for number, node in enumerate(readers)
        }
    assert len(readers) == 1
    if exchange.kind is ExchangeKind.MERGE:
        together = _merged(stage, outputs)
    return {readers[0]: together}


def _merged(stage: Stage, outputs: Sequence[pa.Table]) -> pa.Table:
    """Sorted streams merged; rows of one stream keep their order, sorted or not."""

    def compare(a: dict[str, Any], b: dict[str, Any]) -> int:
        for key in stage.exchange.sort:
            x, y = a[key.column], b[key.column]
            if x == y:
                continue
            if x is None or y is None:
                return -1 if (x is None) is key.nulls_first else 1
            return -1 if (x < y) is not key.descending else 1
        return 0

    rows = heapq.merge(*(_pylist(o) for o in outputs), key=cmp_to_key(compare))
    return pa.Table.from_pylist(list(rows), schema=outputs[0].schema)


def _pylist(table: pa.Table) -> list[dict[str, Any]]:
    return table.to_pylist()


def _rows(
    rows: Sequence[tuple[Any, ...]], names: Sequence[str], columns: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """The operands of the client's columns, comparable."""
    places = [names.index(o) for c in columns for o in c.operands]
    return [tuple(_plain(row[p]) for p in places) for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) + 0.0 if abs(value) < 1e6 else float(f"{value:.9g}")
    if isinstance(value, Decimal):
        return round(value, 9).normalize() + 0
    return value


def unordered(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """Rows as a multiset."""
    return sorted(map(repr, rows))
