"""From when on tables may be read, and the horizon, as commands leave them."""

from __future__ import annotations

from catalog_cluster import CatalogCluster, range_part

from catalog import commands as c
from catalog.definition import ColumnDefinition, SchemeDefinition
from catalog.model import PartitionMethod
from catalog.state import CatalogState
from storage.types import INT8


def test_a_table_is_readable_from_its_making() -> None:
    cluster = CatalogCluster()
    cluster.issued = 70
    table = cluster.table()
    assert cluster.catalog.readable_from == {table.id: 70}
    cluster.issued = 80
    cluster.run(c.RenameTable("public", "t", "public", "u"))
    cluster.run(c.SetColumnDefault(table.id, "v", "1"))
    assert cluster.catalog.readable_from == {table.id: 70}, "its rows lie where they lay"
    cluster.run(c.DropTable((("public", "u"),)))
    assert cluster.catalog.readable_from == {}


def test_a_table_that_was_rewritten_is_readable_from_there() -> None:
    cluster = CatalogCluster()
    cluster.issued = 70
    table, other = cluster.table(), cluster.table("other")
    cluster.issued = 80
    cluster.run(c.AddColumn(table.id, ColumnDefinition("w", INT8)))
    assert cluster.catalog.readable_from[table.id] == 70, "the rows are copied yet"
    cluster.issued = 90
    version = cluster.catalog.tables[table.id].schema_version
    cluster.run(c.FinishRecut(table.id, version))
    assert cluster.catalog.readable_from == {table.id: 90, other.id: 70}


def test_rows_that_went_with_a_part_are_missing_before() -> None:
    cluster = CatalogCluster()
    cluster.issued = 70
    table = cluster.table(scheme=SchemeDefinition(PartitionMethod.RANGE, ("k",)))
    cluster.issued = 80
    for number in range(2):
        cluster.run(c.AttachPart(table.id, range_part(f"p{number}", number * 10, number * 10 + 9)))
    assert cluster.catalog.readable_from == {table.id: 70}, "what came takes nothing away"
    cluster.run(c.RaiseCeiling(500))
    cluster.run(c.DetachPart(table.id, "p0"))
    assert cluster.catalog.readable_from == {table.id: 500}, "somebody may have read them at 400"


def test_a_command_without_a_timestamp_counts_from_the_ceiling() -> None:
    cluster = CatalogCluster()
    cluster.run(c.RaiseCeiling(500))
    table = cluster.table()
    assert cluster.catalog.readable_from == {table.id: 500}


def test_the_horizon_only_rises_and_goes_with_a_snapshot() -> None:
    cluster = CatalogCluster()
    version = cluster.catalog.version
    for horizon in (5, 9, 7):
        cluster.run(c.AdvanceHorizon(horizon))
    assert cluster.state.horizon == 9
    assert cluster.catalog.version == version, "no plan depends on it"
    copy = CatalogState()
    copy.replace_by(cluster.state.encode())
    assert copy.horizon == 9
