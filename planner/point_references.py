"""What foreign keys ask of a statement over single rows: which rows its new ones refer to, and
where rows that refer to its deleted ones would be.

    a new row, or one whose referring columns changed   the target's key, to be locked and there
    a row that is gone                                  an index to rows that refer to it

Whatever is refused here, and whatever is found to break a key or to ask for an action, goes the
usual way (`executor.foreign_keys`), with the same outcome.

Left out: DEFERRABLE keys, those that refer to another unique constraint than the primary key,
changes of columns that others refer to, referring columns without an index, columns stored
differently from those they refer to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from catalog.fragment_schemas import ANCHOR_GROUP, fragment_schema, store_name
from catalog.model import Catalog, ColumnId, ForeignKey, Table
from planner.index_reads import ways_for
from planner.row_expressions import NotByRow
from storage.row_tables import RowTables
from storage.types import Kind, SqlType

_FAMILIES: tuple[frozenset[Kind], ...] = (
    frozenset({Kind.INT2, Kind.INT4, Kind.INT8}),
    frozenset({Kind.TEXT, Kind.VARCHAR}),
    *(frozenset({kind}) for kind in (Kind.UUID, Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ)),
)


@dataclass(frozen=True, slots=True)
class Reference:
    """Rows refer by values at these places, in the order of the target's key."""

    target: Table
    tables: RowTables
    places: tuple[int, ...]
    match_full: bool


@dataclass(frozen=True, slots=True)
class Referred:
    """Rows of `table` that refer to a row have its values at these places in the first of
    `columns`, those of an index."""

    table: Table
    tables: RowTables
    columns: tuple[ColumnId, ...]
    places: tuple[int, ...]


def references_of(
    table: Table, places: Mapping[ColumnId, int], catalog: Catalog
) -> tuple[Reference, ...]:
    """Of all the table's foreign keys; `places` are those of its columns in a stored row."""
    return tuple(_reference(table, key, places, catalog) for key in table.foreign_keys)


def _reference(
    table: Table, key: ForeignKey, places: Mapping[ColumnId, int], catalog: Catalog
) -> Reference:
    target = catalog.tables[key.target]
    _check_kind(key)
    if set(key.target_columns) != set(target.key) or len(key.columns) != len(target.key):
        raise NotByRow("a key that refers to another one than the primary key")
    _check_stored(target, catalog)
    pairs = list(zip(key.columns, key.target_columns, strict=True))
    for own, other in pairs:
        if not _same_form(table.column(own).type, target.column(other).type):
            raise NotByRow("columns stored differently")
    by_target = {other: places[own] for own, other in pairs}
    ordered = tuple(by_target[column] for column in target.key)
    return Reference(target, _tables(target), ordered, key.match_full)


def referred_of(
    table: Table, places: Mapping[ColumnId, int], catalog: Catalog
) -> tuple[Referred, ...]:
    """Of all foreign keys that refer to the table."""
    return tuple(
        _referred(table, referring, key, places, catalog)
        for referring, key in _referring(table, catalog)
    )


def _referring(table: Table, catalog: Catalog) -> Iterator[tuple[Table, ForeignKey]]:
    for table_id in table.referenced_by:
        referring = catalog.tables[table_id]
        for key in referring.foreign_keys:
            if key.target == table.id:
                yield referring, key


def _referred(
    table: Table,
    referring: Table,
    key: ForeignKey,
    places: Mapping[ColumnId, int],
    catalog: Catalog,
) -> Referred:
    _check_kind(key)
    _check_stored(referring, catalog)
    target_of = dict(zip(key.columns, key.target_columns, strict=True))
    for own, other in target_of.items():
        if not _same_form(referring.column(own).type, table.column(other).type):
            raise NotByRow("columns stored differently")
    for way in ways_for(referring, set(key.columns), ()):
        if way.equal == len(key.columns) and way.group in (None, ANCHOR_GROUP):
            values = tuple(places[target_of[column]] for column in way.columns[: way.equal])
            return Referred(referring, _tables(referring), way.columns, values)
    raise NotByRow("referring columns without an index")


def _check_kind(key: ForeignKey) -> None:
    if key.deferrable:
        raise NotByRow("a key that may be looked after at the end of the transaction")


def _check_stored(table: Table, catalog: Catalog) -> None:
    if not table.access_method.in_row_store or table.id in catalog.recuts:
        raise NotByRow("a table that is not in the row store")


def _same_form(one: SqlType, other: SqlType) -> bool:
    return any(one.kind in family and other.kind in family for family in _FAMILIES)


def _tables(table: Table) -> RowTables:
    return RowTables(fragment_schema(table, table.parts[0].fragments[ANCHOR_GROUP]))


def index_names(referred: Referred) -> tuple[str, ...]:
    """The index's columns as stores name them."""
    return tuple(store_name(column) for column in referred.columns)
