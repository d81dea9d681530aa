"""A table cut anew: Citus' two functions, and a primary key for a table that had none.

Column groups stay as they are: a scheme without groups keeps the table's.
"""

from __future__ import annotations

from collections.abc import Sequence

from catalog import commands
from catalog.definition import PartDefinition, SchemeDefinition
from catalog.model import PartitionMethod, Table
from cluster.errors import FeatureNotSupported, InvalidTableDefinition, UndefinedColumn
from planner.context import PlannerContext
from planner.ddl_names import find_table
from planner.ddl_plan import ChangeCatalog
from planner.statements import Distribute


def plan_distribute(statement: Distribute, context: PlannerContext) -> ChangeCatalog:
    """`create_distributed_table` and `create_reference_table`."""
    table = find_table(context, statement.table)
    if statement.column is None:
        scheme = SchemeDefinition(method=PartitionMethod.REPLICATED)
        return _recut(table, scheme, statement)
    if statement.colocate_none:
        raise FeatureNotSupported(
            "colocate_with => 'none' is not supported",
            hint="Give a shard_count that no other table has.",
        )
    if table.column_named(statement.column) is None:
        raise UndefinedColumn(
            f'column "{statement.column}" of relation "{table.name}" does not exist'
        )
    scheme = SchemeDefinition(
        method=PartitionMethod.HASH,
        columns=(statement.column,),
        part_count=statement.part_count,
        colocate_with=_colocated(statement, context),
    )
    return _recut(table, scheme, statement)


def _recut(table: Table, scheme: SchemeDefinition, statement: Distribute) -> ChangeCatalog:
    command = commands.PrepareRecut(table.id, scheme)
    return ChangeCatalog((command,), "SELECT 1", statement.notices)


def _colocated(statement: Distribute, context: PlannerContext) -> tuple[str, str] | None:
    if statement.colocate_with is None:
        return None
    host = find_table(context, statement.colocate_with)
    return host.schema, host.name


def scheme_with_key(table: Table, key: Sequence[str]) -> SchemeDefinition:
    """How a table without a primary key is cut once `key` is its primary key.

    A cut the user chose stays, and is refused if the key lacks its columns; the default one, by
    the hidden row id, becomes the default of a table with a primary key.
    """
    if set(_column_names(table)) <= set(key):
        return _present_scheme(table)
    if table.partition_columns == table.key:
        return SchemeDefinition()
    raise FeatureNotSupported(
        f'primary key of "{table.name}" must contain the partition key',
        hint=f"Add {', '.join(_column_names(table))} to the key, or cut the table by a column"
        " of the key.",
    )


def _column_names(table: Table) -> tuple[str, ...]:
    return tuple(table.column(column).name for column in table.partition_columns)


def _present_scheme(table: Table) -> SchemeDefinition:
    is_hash = table.method is PartitionMethod.HASH
    return SchemeDefinition(
        method=table.method,
        columns=_column_names(table),
        part_count=len(table.parts) if is_hash else None,
        parts=() if is_hash or not table.partition_columns else _parts(table),
        replicas=table.replicas if table.method is not PartitionMethod.REPLICATED else None,
        durability=table.durability,
        placement=table.placement,
    )


def _parts(table: Table) -> tuple[PartDefinition, ...]:
    if not table.parts:
        raise InvalidTableDefinition(f'table "{table.name}" has no partitions yet')
    return tuple(
        PartDefinition(
            part.name,
            low=part.bounds.range_low,
            high=part.bounds.range_high,
            values=part.bounds.list_values,
            is_default=part.bounds.is_default,
            placement=part.placement,
        )
        for part in table.parts
    )
