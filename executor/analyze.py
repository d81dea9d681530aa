"""ANALYZE: rows, and for each column NULLs, distinct values, least, greatest and width.

One plan a table: every node that holds fragments reads them once and sends a summary, the
coordinator merges. Distinct values are counted by HyperLogLog with 1024 registers (error 3 %),
whose registers merge across nodes: a register keeps the least `hash >> 10` of the values whose
`hash & 1023` is its number, which is a grouping DuckDB does fast, and from which the usual
"most leading zeros" follows (Flajolet et al., 2007).

Left out: samples and histograms; the cost is a scan of the table. `executor.load_watch` says
when statistics are taken without being asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from catalog.commands import SetStatistics
from catalog.datums import ORDERED_KINDS, datum_from_text, text_of_datum
from catalog.model import (
    Catalog,
    Column,
    ColumnId,
    ColumnStatistics,
    Fragment,
    NodeId,
    Table,
    TableStatistics,
    View,
)
from cluster.errors import DqeError, UndefinedColumn
from executor.execution import Execution, Result
from executor.services import ExecutorServices
from executor.stage_sql import quoted
from planner.ddl_names import find_relation, find_table
from planner.plan import (
    Exchange,
    ExchangeKind,
    PlanNote,
    QueryPlan,
    ResultColumn,
    Scan,
    ScanColumn,
    ScanFragment,
    Stage,
    StageColumn,
    StageInput,
)
from planner.statements import Analyze, ObjectName, Vacuum
from storage.types import FLOAT8, INT8, TEXT, Kind, SqlType, type_length_bytes

if TYPE_CHECKING:
    from executor.coordinator import Coordinator

REGISTERS = 1024
_HASH_BITS = 64 - 10
# Texts in statistics only order values roughly; long ones would bloat the catalog.
BOUND_CHARACTERS = 256
_NUMERIC_BYTES = 16.0
_ELEMENT_BYTES = 8

# What a row of the summary is.
_PART_ROWS, _COLUMN, _REGISTER = 0, 1, 2
_OUTPUT: tuple[tuple[str, SqlType], ...] = (
    ("kind", INT8),
    ("id", INT8),
    ("register", INT8),
    ("value", INT8),
    ("filled", INT8),
    ("width", FLOAT8),
    ("low", TEXT),
    ("high", TEXT),
)


# -- statements -------------------------------------------------------------------------------


async def run_analyze(execution: Execution, statement: Analyze) -> Result:
    """ANALYZE of the tables named, or of all."""
    for table, columns in _targets(execution, statement.tables):
        if statement.verbose:
            execution.notice(f'analyzing "{table.schema}.{table.name}"', "INFO")
        await analyze_table(
            execution.services, execution.coordinator, table, execution.timestamp, columns
        )
    return Result("ANALYZE")


async def run_vacuum(execution: Execution, statement: Vacuum) -> Result:
    """VACUUM: stores reclaim space by themselves, so only ANALYZE is left of it."""
    targets = list(_targets(execution, statement.tables))
    if statement.analyze:
        for table, columns in targets:
            await analyze_table(
                execution.services, execution.coordinator, table, execution.timestamp, columns
            )
    return Result("VACUUM")


def _targets(
    execution: Execution, named: Sequence[tuple[ObjectName, tuple[str, ...] | None]]
) -> Iterable[tuple[Table, tuple[Column, ...] | None]]:
    if not named:
        yield from ((table, None) for table in execution.context.catalog.tables.values())
        return
    for name, column_names in named:
        if isinstance(find_relation(execution.context, name), View):
            execution.notice(
                f'skipping "{name.name}" --- cannot analyze non-tables or special system tables',
                "WARNING",
            )
            continue
        table = find_table(execution.context, name)
        yield table, None if column_names is None else _columns_named(table, column_names)


def _columns_named(table: Table, names: Sequence[str]) -> tuple[Column, ...]:
    columns = []
    for name in names:
        column = table.column_named(name)
        if column is None:
            raise UndefinedColumn(f'column "{name}" of relation "{table.name}" does not exist')
        columns.append(column)
    return tuple(columns)


# -- the work ---------------------------------------------------------------------------------


async def analyze_table(
    services: ExecutorServices,
    coordinator: Coordinator,
    table: Table,
    timestamp: int,
    columns: Sequence[Column] | None = None,
) -> TableStatistics:
    """Measures the table at the timestamp and tells the catalog; other columns than those
    given keep what was known of them."""
    catalog = services.catalog.current
    measured = tuple(columns) if columns is not None else table.columns
    plan = statistics_plan(table, measured, catalog, services.node_id, _live(services))
    run = await coordinator.run_query(plan, timestamp, {})
    summary = _Summary(table)
    try:
        async for batch in run.batches():
            summary.add(batch)
    finally:
        await run.close()
    known = catalog.statistics.get(table.id)
    statistics = summary.statistics(measured, known.columns if known is not None else {})
    if table.id in catalog.tables:  # else it is still its transaction's alone
        await services.catalog.execute(SetStatistics(table.id, statistics))
    return statistics


def _live(services: ExecutorServices) -> tuple[NodeId, ...]:
    return services.catalog.liveness.live_nodes()


def statistics_plan(
    table: Table,
    columns: Sequence[Column],
    catalog: Catalog,
    coordinator: NodeId,
    live_nodes: Sequence[NodeId],
) -> QueryPlan:
    """One stage a node that holds fragments, and one that puts their rows together."""
    held = _fragments_by_node(table, catalog, coordinator, live_nodes)
    stages = [
        _node_stage(number, node_id, table, columns, fragments)
        for number, (node_id, fragments) in enumerate(held.items())
    ]
    output = tuple(StageColumn(name, sql_type) for name, sql_type in _OUTPUT)
    inputs = tuple(StageInput(stage.exchange.id, output) for stage in stages)
    root = Stage(
        id=len(stages),
        sql=" UNION ALL ".join(f'FROM "@input:{item.exchange_id}"' for item in inputs),
        nodes=(coordinator,),
        scans=(),
        system_scans=(),
        inputs=inputs,
        output=output,
        exchange=Exchange(len(stages), ExchangeKind.RESULT),
    )
    return QueryPlan(
        stages=(*stages, root),
        columns=tuple(ResultColumn(name, sql_type, (name,)) for name, sql_type in _OUTPUT),
        catalog_version=catalog.version,
        tables=(table.id,),
        explanation=PlanNote("Analyze", root.id),
    )


# (ordinal of the part, fragment)
_Held = list[tuple[int, Fragment]]


def _fragments_by_node(
    table: Table, catalog: Catalog, coordinator: NodeId, live_nodes: Sequence[NodeId]
) -> dict[NodeId, _Held]:
    """Every fragment once, at this node where it has a replica, else at one that is live."""
    held: dict[NodeId, _Held] = {}
    for part in table.parts:
        for fragment in part.fragments:
            replicas = catalog.tablets[fragment.tablet_id].serving
            live = [node for node in replicas if node in live_nodes]
            node_id = coordinator if coordinator in replicas else (live or replicas)[0]
            held.setdefault(node_id, []).append((part.ordinal, fragment))
    return dict(sorted(held.items()))


def _node_stage(
    number: int, node_id: NodeId, table: Table, columns: Sequence[Column], held: _Held
) -> Stage:
    scans: list[Scan] = []
    selects: list[str] = []
    wanted = {column.id for column in columns}
    for group in table.groups:
        fragments = [fragment for _, fragment in held if fragment.group_id == group.id]
        own = [
            table.column(column_id)
            for column_id in (*(table.key if group.id == 0 else ()), *group.columns)
            if column_id in wanted
        ]
        if fragments and own:
            scans.append(_scan(len(scans), table, own, fragments))
            selects += [_column_sql(scans[-1].id, column) for column in own]
            selects += [_registers_sql(scans[-1].id, column) for column in own]
    for ordinal, fragment in held:
        if fragment.group_id == 0:
            scans.append(_scan(len(scans), table, (), [fragment]))
            selects.append(_part_sql(scans[-1].id, ordinal))
    return Stage(
        id=number,
        sql=" UNION ALL ".join(selects) or _nothing_sql(),
        nodes=(node_id,),
        scans=tuple(scans),
        system_scans=(),
        inputs=(),
        output=tuple(StageColumn(name, sql_type) for name, sql_type in _OUTPUT),
        exchange=Exchange(number, ExchangeKind.GATHER),
    )


def _scan(
    scan_id: int, table: Table, columns: Sequence[Column], fragments: Sequence[Fragment]
) -> Scan:
    return Scan(
        id=scan_id,
        table_id=table.id,
        columns=tuple(ScanColumn(_name(c), f"c{c.id}", c.type) for c in columns),
        fragments=(tuple(ScanFragment(f.id, f.tablet_id) for f in fragments),),
    )


def _name(column: Column) -> str:
    return f"c{column.id}"


def _row_sql(values: Mapping[str, str]) -> str:
    """The select list of a summary row; what is not given is NULL."""
    types = {INT8: "BIGINT", FLOAT8: "DOUBLE", TEXT: "VARCHAR"}
    return ", ".join(
        f"({values.get(name, 'NULL')})::{types[sql_type]} AS {quoted(name)}"
        for name, sql_type in _OUTPUT
    )


def _nothing_sql() -> str:
    return f"SELECT {_row_sql({})} WHERE false"


def _part_sql(scan_id: int, ordinal: int) -> str:
    row = {"kind": str(_PART_ROWS), "id": str(ordinal), "value": "count(*)"}
    return f'SELECT {_row_sql(row)} FROM "@scan:{scan_id}"'


def _column_sql(scan_id: int, column: Column) -> str:
    name = quoted(_name(column))
    row = {
        "kind": str(_COLUMN),
        "id": str(column.id),
        "value": "count(*)",
        "filled": f"count({name})",
        "width": _width_sql(column.type, name),
    }
    if column.type.kind in ORDERED_KINDS and column.type.kind is not Kind.BYTEA:
        row["low"] = f"left(min({name})::VARCHAR, {BOUND_CHARACTERS})"
        row["high"] = f"left(max({name})::VARCHAR, {BOUND_CHARACTERS})"
    return f'SELECT {_row_sql(row)} FROM "@scan:{scan_id}"'


def _width_sql(sql_type: SqlType, name: str) -> str:
    """The bytes of all values together."""
    if sql_type.kind is Kind.ARRAY:
        return f"sum(len({name})) * {_ELEMENT_BYTES}"
    if sql_type.kind is Kind.NUMERIC:
        return f"count({name}) * {_NUMERIC_BYTES}"
    if sql_type.kind is Kind.BYTEA:
        return f"sum(octet_length({name}))"
    length = type_length_bytes(sql_type)
    return f"count({name}) * {length}" if length > 0 else f"sum(strlen({name}))"


def _registers_sql(scan_id: int, column: Column) -> str:
    name = quoted(_name(column))
    row = {
        "kind": str(_REGISTER),
        "id": str(column.id),
        "register": "h & 1023",
        "value": "min(h >> 10)",
    }
    hashes = f'SELECT hash({name}) AS h FROM "@scan:{scan_id}" WHERE {name} IS NOT NULL'
    return f"SELECT {_row_sql(row)} FROM ({hashes}) GROUP BY h & 1023"


# -- merging ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _ColumnSummary:
    rows: int = 0
    filled: int = 0
    width_bytes: float = 0.0
    lows: list[str] = field(default_factory=list)
    highs: list[str] = field(default_factory=list)
    registers: dict[int, int] = field(default_factory=dict)


class _Summary:
    """What the nodes sent, put together."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._part_rows = dict.fromkeys((part.ordinal for part in table.parts), 0)
        self._columns: dict[int, _ColumnSummary] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        for row in batch.to_pylist():
            if row["kind"] == _PART_ROWS:
                self._part_rows[row["id"]] += row["value"]
                continue
            column = self._columns.setdefault(row["id"], _ColumnSummary())
            if row["kind"] == _REGISTER:
                register, value = row["register"], row["value"]
                column.registers[register] = min(column.registers.get(register, value), value)
            else:
                column.rows += row["value"]
                column.filled += row["filled"]
                column.width_bytes += row["width"] or 0.0
                column.lows += [row["low"]] if row["low"] is not None else []
                column.highs += [row["high"]] if row["high"] is not None else []

    def statistics(
        self, measured: Sequence[Column], known: Mapping[ColumnId, ColumnStatistics]
    ) -> TableStatistics:
        columns = dict(known)
        for column in measured:
            summary = self._columns.get(column.id)
            if summary is not None:
                columns[column.id] = _column_statistics(column, summary)
        part_rows = tuple(rows for _, rows in sorted(self._part_rows.items()))
        return TableStatistics(rows=sum(part_rows), part_rows=part_rows, columns=columns)


def _column_statistics(column: Column, summary: _ColumnSummary) -> ColumnStatistics:
    filled = summary.filled
    return ColumnStatistics(
        distinct=distinct_values(summary.registers, filled),
        null_fraction=1 - filled / summary.rows if summary.rows else 0.0,
        low=_extreme(column, summary.lows, least=True),
        high=_extreme(column, summary.highs, least=False),
        width_bytes=summary.width_bytes / filled if filled else 0.0,
    )


def _extreme(column: Column, texts: Sequence[str], *, least: bool) -> str | None:
    try:
        datums = [datum_from_text(column.type, text) for text in texts]
    except DqeError:
        # A text that was cut off, or a spelling of DuckDB's own: no bound is known then.
        return None
    if not datums:
        return None
    # All datums of one column are of one Python type, which orders as PostgreSQL does.
    chosen = min(datums) if least else max(datums)
    return text_of_datum(column.type, chosen)


def distinct_values(registers: Mapping[int, int], filled: int) -> int:
    """HyperLogLog's estimate from each register's least hash, never above the values counted."""
    if not registers:
        return 0
    empty = REGISTERS - len(registers)
    ranks = (_HASH_BITS + 1 - value.bit_length() for value in registers.values())
    alpha = 0.7213 / (1 + 1.079 / REGISTERS)
    estimate = alpha * REGISTERS**2 / (sum(2.0**-rank for rank in ranks) + empty)
    if estimate <= 2.5 * REGISTERS and empty:
        estimate = REGISTERS * math.log(REGISTERS / empty)
    return max(1, min(round(estimate), filled))
