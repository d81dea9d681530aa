"""What each command does, what it refuses, and that replicas stay equal."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from catalog_cluster import CatalogCluster, range_part

from catalog import commands as c
from catalog.changes.tables import DEFAULT_ACCESS_METHOD
from catalog.codec import encode_envelope
from catalog.commands import Envelope
from catalog.definition import (
    CheckDefinition,
    ColumnDefinition,
    GroupDefinition,
    PartDefinition,
    SchemeDefinition,
    TableDefinition,
    UniqueDefinition,
)
from catalog.fragment_schemas import tablet_schemas
from catalog.model import (
    HIDDEN_ROW_ID_NAME,
    RING_SIZE,
    AccessMethod,
    Durability,
    NodeId,
    NodeState,
    PartitionMethod,
    Placement,
    Table,
    TableStatistics,
)
from catalog.state import CatalogState, CatalogStateMachine
from cluster.errors import (
    DependentObjectsStillExist,
    DqeError,
    DuplicateColumn,
    DuplicateSchema,
    DuplicateTable,
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidParameterValue,
    InvalidSchemaName,
    InvalidTableDefinition,
    ObjectNotInPrerequisiteState,
    SerializationFailure,
    UndefinedColumn,
    UndefinedTable,
    WrongObjectType,
)
from cluster.raft.log import Entry, EntryKind
from storage.types import FLOAT8, INT4, INT8, TEXT


def tablets_of(table: Table) -> list[int]:
    return [part.fragments[0].tablet_id for part in table.parts]


def homes_of(cluster: CatalogCluster, table: Table) -> list[int]:
    return [cluster.catalog.tablets[t].replicas[0] for t in tablets_of(table)]


def hashed(count: int | None = None, **wishes: object) -> SchemeDefinition:
    return SchemeDefinition(PartitionMethod.HASH, ("k",), part_count=count, **wishes)  # type: ignore[arg-type]


# --- Cutting -------------------------------------------------------------------------------


def test_table_with_primary_key_is_hashed_on_its_first_column_one_part_a_node() -> None:
    cluster = CatalogCluster(3)
    table = cluster.table(columns=(("a", INT8), ("k", TEXT)), key=("k", "a"))
    assert table.method is PartitionMethod.HASH
    assert [table.column(i).name for i in table.partition_columns] == ["k"]
    assert sorted(homes_of(cluster, table)) == [1, 2, 3]
    lows = [part.bounds.ring_low for part in table.parts]
    highs = [part.bounds.ring_high for part in table.parts]
    assert lows[0] == 0
    assert highs == [*lows[1:], RING_SIZE]


def test_table_without_primary_key_gets_a_hidden_row_id() -> None:
    table = CatalogCluster().table(key=None)
    assert table.hidden_row_id
    assert [column.name for column in table.visible_columns] == ["k", "v"]
    assert table.column(table.key[0]).name == HIDDEN_ROW_ID_NAME
    assert table.column_named(HIDDEN_ROW_ID_NAME) is None
    assert table.partition_columns == table.key


def test_unique_constraint_beside_the_key_chooses_a_common_column_or_one_part() -> None:
    cluster = CatalogCluster()
    common = cluster.table("t", key=("k", "v"), unique=(("v",),))
    assert [common.column(i).name for i in common.partition_columns] == ["v"]
    apart = cluster.table("u", key=("k",), unique=(("v",),))
    assert apart.method is PartitionMethod.NONE
    assert len(apart.parts) == 1
    floats = cluster.table("f", columns=(("k", FLOAT8),), key=("k",))
    assert floats.method is PartitionMethod.NONE


def test_key_without_the_partition_column_is_refused() -> None:
    with pytest.raises(FeatureNotSupported) as caught:
        CatalogCluster().table(scheme=SchemeDefinition(PartitionMethod.HASH, ("v",)))
    assert caught.value.sqlstate == "0A000"
    assert caught.value.detail == (
        'PRIMARY KEY constraint on table "t" lacks column "v" which is part of the partition key.'
    )
    assert caught.value.hint


def test_column_groups_take_the_rest_into_the_first() -> None:
    table = CatalogCluster().table(
        columns=(("k", INT8), ("a", TEXT), ("b", TEXT), ("c", TEXT)),
        scheme=hashed(2, groups=(GroupDefinition("core", ("a",)), GroupDefinition("cold", ("b",)))),
    )
    names = [[table.column(i).name for i in group.columns] for group in table.groups]
    assert names == [["a", "c"], ["b"]]
    for part in table.parts:
        tablets = {fragment.tablet_id for fragment in part.fragments}
        assert len(part.fragments) == 2
        assert len(tablets) == 1
    assert [column.name for column in table.group_columns(1)] == ["k", "b"]


def test_column_group_with_a_place_of_its_own_lies_in_own_tablets() -> None:
    cluster = CatalogCluster(3)
    cold = GroupDefinition("cold", ("v",), Placement(region="us"))
    table = cluster.table(scheme=hashed(3, groups=(GroupDefinition("core", ()), cold)))
    for part in table.parts:
        core_fragment, cold_fragment = part.fragments
        assert core_fragment.tablet_id != cold_fragment.tablet_id
        assert cluster.catalog.tablets[cold_fragment.tablet_id].replicas == (2,)


@pytest.mark.parametrize(
    ("groups", "error"),
    [
        ((GroupDefinition("g", ("nope",)),), UndefinedColumn),
        ((GroupDefinition("g", ("k",)),), InvalidTableDefinition),
        ((GroupDefinition("g", ("v",)), GroupDefinition("h", ("v",))), InvalidTableDefinition),
        ((GroupDefinition("g", ("v",)), GroupDefinition("g", ())), InvalidTableDefinition),
    ],
)
def test_bad_column_groups_are_refused(
    groups: tuple[GroupDefinition, ...], error: type[DqeError]
) -> None:
    with pytest.raises(error):
        CatalogCluster().table(scheme=hashed(2, groups=groups))


# --- Placing -------------------------------------------------------------------------------


def test_parts_are_spread_evenly_over_nodes_and_tables() -> None:
    cluster = CatalogCluster(3)
    counts: Counter[int] = Counter()
    for number, parts in enumerate((4, 5, 7)):
        table = cluster.table(f"t{number}", scheme=hashed(parts))
        homes = Counter(homes_of(cluster, table))
        assert max(homes.values()) - min(homes.values()) <= 1
        counts.update(homes)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_hash_tables_of_like_keys_share_tablets() -> None:
    cluster = CatalogCluster()
    first = cluster.table("a", columns=(("k", INT8), ("v", INT8)), scheme=hashed(6))
    second = cluster.table("b", columns=(("k", INT4), ("v", INT8)), scheme=hashed(6))
    other_count = cluster.table("c", scheme=hashed(5))
    other_type = cluster.table("d", columns=(("k", TEXT), ("v", INT8)), scheme=hashed(6))
    assert tablets_of(first) == tablets_of(second)
    assert first.colocation_id == second.colocation_id
    assert not set(tablets_of(first)) & set(tablets_of(other_count) + tablets_of(other_type))


def test_colocate_with_takes_the_others_cut() -> None:
    cluster = CatalogCluster()
    base = cluster.table("base", scheme=hashed(5))
    table = cluster.table("t", scheme=SchemeDefinition(colocate_with=("public", "base")))
    assert tablets_of(table) == tablets_of(base)
    assert [part.bounds for part in table.parts] == [part.bounds for part in base.parts]
    with pytest.raises(InvalidTableDefinition, match='cannot co-locate "u" with "base"'):
        cluster.table("u", scheme=hashed(4, colocate_with=("public", "base")))
    with pytest.raises(InvalidTableDefinition, match="cannot co-locate"):
        cluster.table(
            "u",
            columns=(("k", TEXT),),
            scheme=SchemeDefinition(colocate_with=("public", "base")),
        )
    with pytest.raises(UndefinedTable):
        cluster.table("u", scheme=hashed(5, colocate_with=("public", "nope")))
    with pytest.raises(InvalidTableDefinition, match="replicas cannot be given"):
        cluster.table("u", scheme=hashed(5, colocate_with=("public", "base"), replicas=2))


def test_placement_is_honoured_or_refused_with_what_exists() -> None:
    cluster = CatalogCluster(3)
    table = cluster.table("t", scheme=hashed(4, placement=Placement(region="eu")))
    assert set(homes_of(cluster, table)) == {1, 3}
    with pytest.raises(InvalidParameterValue) as caught:
        cluster.table("u", scheme=hashed(4, placement=Placement(region="mars")))
    assert caught.value.message == 'no active node is in region "mars"'
    assert caught.value.detail == (
        "Active nodes are 1 (region eu, zone none), 2 (region us, zone none),"
        " 3 (region eu, zone none)."
    )
    with pytest.raises(InvalidParameterValue, match="node 9 is not an active node"):
        cluster.table("u", scheme=hashed(4, placement=Placement(nodes=(9,))))  # type: ignore[arg-type]
    assert cluster.catalog.find_table("u") is None


def test_list_part_bound_to_a_region() -> None:
    cluster = CatalogCluster(3)
    parts = (
        PartDefinition("eu", values=("DE",), placement=Placement(region="eu")),
        PartDefinition("us", values=("US",), placement=Placement(region="us")),
    )
    scheme = SchemeDefinition(PartitionMethod.LIST, ("k",), parts=parts)
    table = cluster.table("t", columns=(("k", TEXT),), scheme=scheme)
    eu, us = homes_of(cluster, table)
    assert eu in (1, 3)
    assert us == 2


def test_replicated_table_is_on_every_node_also_on_those_that_join() -> None:
    cluster = CatalogCluster(2)
    table = cluster.table(scheme=SchemeDefinition(PartitionMethod.REPLICATED))
    tablet_id = tablets_of(table)[0]
    before = cluster.catalog.tablets[tablet_id]
    assert (set(before.replicas), before.voters) == ({1, 2}, 1)
    assert before.founders == before.replicas[:1]
    cluster.run(c.AddNode("host3:1", "host3:2"))
    after = cluster.catalog.tablets[tablet_id]
    assert (set(after.replicas), after.voters) == ({1, 2, 3}, 3)
    assert after.founders == before.founders
    assert after.epoch > before.epoch


def test_replicas_go_to_different_nodes() -> None:
    cluster = CatalogCluster(3)
    table = cluster.table(scheme=hashed(3, replicas=3))
    for tablet_id in tablets_of(table):
        tablet = cluster.catalog.tablets[tablet_id]
        assert set(tablet.replicas) == {1, 2, 3}
        assert tablet.voters == 3
    assert sorted(homes_of(cluster, table)) == [1, 2, 3]
    with pytest.raises(InvalidParameterValue, match="cannot place 4 replicas on 3 active nodes"):
        cluster.table("u", scheme=hashed(3, replicas=4))


def test_default_is_three_replicas_where_three_nodes_are() -> None:
    assert cluster_table_replicas(2) == {1}
    assert cluster_table_replicas(3) == {3}
    assert cluster_table_replicas(5) == {3}


def cluster_table_replicas(nodes: int) -> set[int]:
    cluster = CatalogCluster(nodes)
    table = cluster.table(scheme=hashed(6))
    assert table.default_replicas
    return {len(cluster.catalog.tablets[t].replicas) for t in tablets_of(table)}


def test_default_takes_what_a_placement_allows_and_a_wish_does_not() -> None:
    cluster = CatalogCluster(4)
    west = Placement(region="us")
    table = cluster.table(scheme=hashed(2, placement=west))
    assert [cluster.catalog.tablets[t].replicas for t in tablets_of(table)] == [(2, 4), (4, 2)]
    with pytest.raises(InvalidParameterValue, match="cannot place 3 replicas on 2 active nodes"):
        cluster.table("u", scheme=hashed(2, placement=west, replicas=3))


def test_nodes_that_do_not_answer_are_placed_on_last() -> None:
    cluster = CatalogCluster(4)
    cluster.avoided = (NodeId(2),)
    table = cluster.table(scheme=hashed(4))
    assert all(2 not in cluster.catalog.tablets[t].replicas for t in tablets_of(table))
    cluster.avoided = (NodeId(2), NodeId(3))
    other = cluster.table("u", scheme=hashed(6))
    for tablet_id in tablets_of(other):
        assert cluster.catalog.tablets[tablet_id].replicas[0] in (1, 4)


def test_durability_decides_who_votes() -> None:
    cluster = CatalogCluster(3)
    table = cluster.table(scheme=hashed(3, durability=Durability.ASYNC))
    assert voters_of(cluster, table) == {1}
    assert all(len(cluster.catalog.tablets[t].founders) == 1 for t in tablets_of(table))
    cluster.run(c.SetTableDurability(table.id, Durability.SYNC))
    assert voters_of(cluster, table) == {3}
    assert {cluster.catalog.tablets[t].durability for t in tablets_of(table)} == {Durability.SYNC}
    again = cluster.run(c.SetTableDurability(table.id, Durability.SYNC))
    assert not again.changed


def test_durability_of_tables_that_share_tablets_changes_together() -> None:
    cluster = CatalogCluster(3)
    table = cluster.table(scheme=hashed(3))
    other = cluster.table("u", scheme=hashed(3))
    done = cluster.run(c.SetTableDurability(table.id, Durability.SYNC))
    assert cluster.catalog.tables[other.id].durability is Durability.SYNC
    assert done.notices == ('durability changes for "u", too, which share its tablets',)


def test_a_count_that_cannot_be_had_is_refused_when_it_is_asked_for() -> None:
    cluster = CatalogCluster(3)
    table = cluster.table(scheme=hashed(3))
    with pytest.raises(InvalidParameterValue, match="cannot place 4 replicas on 3 active nodes"):
        cluster.run(c.SetTableReplicas(table.id, 4))


def voters_of(cluster: CatalogCluster, table: Table) -> set[int]:
    return {cluster.catalog.tablets[t].voters for t in tablets_of(table)}


def test_draining_and_dead_nodes_get_nothing_new() -> None:
    cluster = CatalogCluster(3)
    cluster.run(c.SetNodeState(2, NodeState.DRAINING))  # type: ignore[arg-type]
    assert 2 not in homes_of(cluster, cluster.table(scheme=hashed(6)))


# --- Names, columns, drops -----------------------------------------------------------------


def test_constraint_names_are_postgres() -> None:
    cluster = CatalogCluster()
    cluster.run(
        c.CreateTable(
            TableDefinition(
                "public",
                "t",
                (ColumnDefinition("a", INT8), ColumnDefinition("b", INT8)),
                UniqueDefinition(("a",)),
                unique=(UniqueDefinition(("a", "b")), UniqueDefinition(("a", "b"))),
                checks=(
                    CheckDefinition("b > 0", columns=("b",)),
                    CheckDefinition("b > 1", columns=("b",)),
                    CheckDefinition("a > b", columns=("a", "b")),
                ),
            )
        )
    )
    table = cluster.catalog.find_table("t")
    assert table is not None
    assert table.primary_key is not None
    assert table.primary_key.name == "t_pkey"
    assert [u.name for u in table.unique] == ["t_a_b_key", "t_a_b_key1"]
    assert [check.name for check in table.checks] == ["t_b_check", "t_b_check1", "t_check"]
    assert table.column_named("a").not_null  # type: ignore[union-attr]


def test_tables_and_views_share_names() -> None:
    cluster = CatalogCluster()
    cluster.table()
    with pytest.raises(DuplicateTable, match='relation "t" already exists'):
        cluster.table()
    with pytest.raises(DuplicateTable):
        cluster.run(c.CreateView("public", "t", "SELECT 1", (("x", INT4),)))
    definition = TableDefinition("public", "t", (ColumnDefinition("k", INT8),))
    done = cluster.run(c.CreateTable(definition, if_not_exists=True))
    assert not done.changed
    assert done.notices == ('relation "t" already exists, skipping',)
    with pytest.raises(InvalidSchemaName):
        cluster.run(c.CreateTable(replace(definition, schema="nope")))
    with pytest.raises(InsufficientPrivilege):
        cluster.run(c.CreateTable(replace(definition, schema="pg_catalog")))


def test_column_named_twice_is_refused() -> None:
    with pytest.raises(DuplicateColumn, match='column "a" specified more than once'):
        CatalogCluster().table(columns=(("a", INT4), ("a", INT4)), key=None)


def test_drop_table_takes_its_tablets_but_not_shared_ones() -> None:
    cluster = CatalogCluster()
    first = cluster.table("a", scheme=hashed(3))
    cluster.table("b", scheme=hashed(3))
    cluster.run(c.DropTable((("public", "b"),)))
    assert set(cluster.catalog.tablets) == set(tablets_of(first))
    cluster.run(c.DropTable((("public", "a"),)))
    assert cluster.catalog.tablets == {}
    with pytest.raises(UndefinedTable, match='table "a" does not exist'):
        cluster.run(c.DropTable((("public", "a"),)))
    version = cluster.catalog.version
    done = cluster.run(c.DropTable((("public", "a"),), if_exists=True))
    assert (done.changed, done.version) == (False, version)
    assert done.notices == ('table "a" does not exist, skipping',)


def test_drop_of_several_tables_is_all_or_nothing() -> None:
    cluster = CatalogCluster()
    cluster.table("a")
    with pytest.raises(UndefinedTable):
        cluster.run(c.DropTable((("public", "a"), ("public", "b"))))
    assert cluster.catalog.find_table("a")


def test_views_hold_what_they_read() -> None:
    cluster = CatalogCluster()
    table = cluster.table("t")
    columns = (("k", INT8),)
    made = cluster.run(c.CreateView("public", "v", "SELECT k FROM t", columns, False, (table.id,)))
    assert made.table_id is not None
    cluster.run(c.CreateView("public", "w", "SELECT k FROM v", columns, False, (made.table_id,)))
    with pytest.raises(DependentObjectsStillExist) as caught:
        cluster.run(c.DropTable((("public", "t"),)))
    assert caught.value.message == "cannot drop table t because other objects depend on it"
    with pytest.raises(DependentObjectsStillExist):
        cluster.run(c.DropView((("public", "v"),)))
    with pytest.raises(WrongObjectType, match='"v" is not a table'):
        cluster.run(c.DropTable((("public", "v"),)))
    with pytest.raises(FeatureNotSupported, match="views read it"):
        cluster.run(c.RenameTable("public", "t", "public", "u"))
    done = cluster.run(c.DropTable((("public", "t"),), cascade=True))
    assert done.notices == ("drop cascades to view v", "drop cascades to view w")
    assert cluster.catalog.views == {}


def test_replaced_view_keeps_its_columns() -> None:
    cluster = CatalogCluster()
    cluster.run(c.CreateView("public", "v", "SELECT 1 AS a", (("a", INT4),)))
    grown = (("a", INT4), ("b", TEXT))
    cluster.run(c.CreateView("public", "v", "SELECT 1 AS a, 'x' AS b", grown, or_replace=True))
    assert cluster.catalog.find_view("v").columns == grown  # type: ignore[union-attr]
    for columns in ((("a", INT4),), (("z", INT4), ("b", TEXT)), (("a", TEXT), ("b", TEXT))):
        with pytest.raises(InvalidTableDefinition, match="cannot"):
            cluster.run(c.CreateView("public", "v", "SELECT", columns, or_replace=True))


def test_schemas() -> None:
    cluster = CatalogCluster()
    cluster.run(c.CreateSchema("s"))
    with pytest.raises(DuplicateSchema):
        cluster.run(c.CreateSchema("s"))
    with pytest.raises(DqeError, match="unacceptable schema name"):
        cluster.run(c.CreateSchema("pg_mine"))
    cluster.run(c.CreateTable(TableDefinition("s", "t", (ColumnDefinition("k", INT8),))))
    with pytest.raises(DependentObjectsStillExist):
        cluster.run(c.DropSchema("s"))
    done = cluster.run(c.DropSchema("s", cascade=True))
    assert done.notices == ("drop cascades to table t",)
    assert cluster.catalog.schemas == ("public",)
    assert cluster.catalog.tablets == {}


def finish(cluster: CatalogCluster, table: Table) -> Table:
    """Swaps in what AddColumn or DropColumn prepared; the table as it is then."""
    version = cluster.catalog.tables[table.id].schema_version
    cluster.run(c.FinishRecut(table.id, version))
    return cluster.catalog.tables[table.id]


def test_columns_are_added_renamed_and_dropped() -> None:
    cluster = CatalogCluster()
    table = cluster.table(unique=(("k", "v"),))
    cluster.run(c.AddColumn(table.id, ColumnDefinition("w", TEXT, default="'x'")))
    assert cluster.catalog.tables[table.id] == table
    grown = finish(cluster, table)
    assert [column.name for column in grown.columns] == ["k", "v", "w"]
    assert grown.schema_version == table.schema_version + 1
    assert not set(_fragment_ids(grown)) & set(_fragment_ids(table))
    assert [part.bounds for part in grown.parts] == [part.bounds for part in table.parts]
    with pytest.raises(DuplicateColumn):
        cluster.run(c.AddColumn(table.id, ColumnDefinition("w", TEXT)))
    cluster.run(c.RenameColumn(table.id, "w", "x"))
    cluster.run(c.DropColumn(table.id, "v"))
    shrunk = finish(cluster, table)
    assert [column.name for column in shrunk.columns] == ["k", "x"]
    assert shrunk.unique == ()
    with pytest.raises(InvalidTableDefinition, match="part of the partition key"):
        cluster.run(c.DropColumn(table.id, "k"))
    with pytest.raises(UndefinedColumn, match='column "v" of relation "t" does not exist'):
        cluster.run(c.DropColumn(table.id, "v"))
    assert not cluster.run(c.DropColumn(table.id, "v", if_exists=True)).changed


def test_default_and_not_null_are_set() -> None:
    cluster = CatalogCluster()
    table = cluster.table()
    cluster.run(c.SetColumnDefault(table.id, "v", "7"))
    cluster.run(c.SetColumnNotNull(table.id, "v", True))
    column = cluster.catalog.tables[table.id].column_named("v")
    assert column is not None
    assert (column.default, column.not_null) == ("7", True)
    with pytest.raises(InvalidTableDefinition, match="in a primary key"):
        cluster.run(c.SetColumnNotNull(table.id, "k", False))


def test_table_moves_to_another_schema() -> None:
    cluster = CatalogCluster()
    cluster.table("t")
    cluster.run(c.CreateSchema("s"))
    cluster.run(c.RenameTable("public", "t", "s", "u"))
    assert cluster.catalog.find_table("t") is None
    assert cluster.catalog.find_table("u", "s") is not None


# --- Parts ---------------------------------------------------------------------------------


def test_parts_are_attached_and_detached() -> None:
    cluster = CatalogCluster()
    table = cluster.table(scheme=SchemeDefinition(PartitionMethod.RANGE, ("k",)))
    assert table.parts == ()
    for number in range(3):
        cluster.run(c.AttachPart(table.id, range_part(f"p{number}", number * 10, number * 10 + 10)))
    grown = cluster.catalog.tables[table.id]
    assert grown.colocation_id == table.colocation_id
    assert sorted(homes_of(cluster, grown)) == [1, 2, 3]
    with pytest.raises(DqeError, match='"x" would overlap partition "p0"'):
        cluster.run(c.AttachPart(table.id, range_part("x", 5, 6)))
    with pytest.raises(DuplicateTable):
        cluster.run(c.AttachPart(table.id, range_part("p0", 100, 200)))
    cluster.run(c.DetachPart(table.id, "p0"))
    left = cluster.catalog.tables[table.id]
    assert [(part.ordinal, part.name) for part in left.parts] == [(0, "p1"), (1, "p2")]
    assert len(cluster.catalog.tablets) == 2
    with pytest.raises(UndefinedTable, match="is not a partition of"):
        cluster.run(c.DetachPart(table.id, "p0"))


def test_parts_of_colocated_tables_stay() -> None:
    cluster = CatalogCluster()
    base = cluster.table("a", scheme=hashed(3))
    cluster.table("b", scheme=hashed(3))
    with pytest.raises(FeatureNotSupported, match="co-located"):
        cluster.run(c.DetachPart(base.id, base.parts[0].name))


def test_table_cut_anew_swaps_at_once() -> None:
    cluster = CatalogCluster()
    table = cluster.table(scheme=SchemeDefinition(PartitionMethod.NONE))
    old_tablets = set(cluster.catalog.tablets)
    cluster.run(c.PrepareRecut(table.id, hashed(4)))
    assert cluster.catalog.tables[table.id] == table
    recut = cluster.catalog.recuts[table.id]
    assert len(recut.parts) == 4
    assert [column.id for column in recut.columns] == [column.id for column in table.columns]
    with pytest.raises(ObjectNotInPrerequisiteState):
        cluster.run(c.AddColumn(table.id, ColumnDefinition("w", TEXT)))
    with pytest.raises(SerializationFailure):
        cluster.run(c.FinishRecut(table.id, 99))
    assert table.id in cluster.catalog.recuts
    cluster.run(c.FinishRecut(table.id, table.schema_version))
    done = cluster.catalog.tables[table.id]
    assert done.parts == recut.parts
    assert done.schema_version == table.schema_version + 1
    assert not old_tablets & set(cluster.catalog.tablets)
    assert cluster.catalog.recuts == {}


def test_rows_written_anew_stay_on_their_tablets() -> None:
    cluster = CatalogCluster()
    table = cluster.table("a", scheme=hashed(3))
    cluster.table("b", scheme=hashed(3))
    done = cluster.run(c.AddColumn(table.id, ColumnDefinition("w", TEXT)))
    assert done.notices == ()
    grown = cluster.catalog.recuts[table.id]
    assert tablets_of(grown) == tablets_of(table)
    assert grown.colocation_id == table.colocation_id
    assert not set(_fragment_ids(grown)) & set(_fragment_ids(table))
    for wish in (hashed(3), hashed(3, colocate_with=("public", "b"))):
        cluster.run(c.AbortRecut(table.id))
        cluster.run(c.PrepareRecut(table.id, wish))
        assert tablets_of(cluster.catalog.recuts[table.id]) == tablets_of(table)


def _fragment_ids(table: Table) -> list[int]:
    return [fragment.id for part in table.parts for fragment in part.fragments]


def test_recut_is_dropped_or_prepared_again_without_leftovers() -> None:
    cluster = CatalogCluster()
    table = cluster.table(scheme=SchemeDefinition(PartitionMethod.NONE))
    before = cluster.catalog.tablets
    cluster.run(c.PrepareRecut(table.id, hashed(4)))
    cluster.run(c.PrepareRecut(table.id, SchemeDefinition(PartitionMethod.REPLICATED)))
    assert len(cluster.catalog.tablets) == 2
    cluster.run(c.AbortRecut(table.id))
    assert cluster.catalog.tablets == before
    assert not cluster.run(c.AbortRecut(table.id)).changed
    with pytest.raises(ObjectNotInPrerequisiteState):
        cluster.run(c.FinishRecut(table.id, table.schema_version))


# --- Cluster -------------------------------------------------------------------------------


def test_cluster_is_created_once() -> None:
    cluster = CatalogCluster(1)
    with pytest.raises(ObjectNotInPrerequisiteState):
        cluster.run(c.CreateCluster("other", "a:1", "a:2"))
    assert cluster.catalog.cluster_id == "cluster-1"


def test_node_that_moved_is_found_at_its_new_addresses() -> None:
    cluster = CatalogCluster(2)
    command = c.SetNodeAddresses(2, "new:1", "new:2", region="us")  # type: ignore[arg-type]
    assert cluster.run(command).changed
    assert cluster.catalog.nodes[2].rpc_address == "new:1"  # type: ignore[index]
    version = cluster.catalog.version
    assert not cluster.run(command).changed
    assert cluster.catalog.version == version


def test_statistics_and_settings() -> None:
    cluster = CatalogCluster()
    table = cluster.table()
    cluster.run(c.SetStatistics(table.id, TableStatistics(rows=5)))
    assert cluster.catalog.statistics[table.id].rows == 5
    cluster.run(c.SetClusterSetting("dqe.x", "1"))
    assert cluster.catalog.settings == {"dqe.x": "1"}
    cluster.run(c.SetClusterSetting("dqe.x", None))
    assert cluster.catalog.settings == {}
    cluster.run(c.DropTable((("public", "t"),)))
    assert cluster.catalog.statistics == {}


# --- The log -------------------------------------------------------------------------------


def test_command_proposed_twice_is_applied_once() -> None:
    state = CatalogState()
    first = Envelope("one", c.CreateCluster("x", "a:1", "a:2"))
    second = Envelope("two", c.CreateSchema("s"))
    outcomes = [state.apply_envelope(envelope) for envelope in (first, second, second)]
    assert outcomes[1] == outcomes[2]
    assert state.catalog.version == 2
    refused = Envelope("three", c.CreateSchema("s"))
    errors = [state.apply_envelope(refused) for _ in range(2)]
    assert all(isinstance(error, DuplicateSchema) for error in errors)


def test_failed_command_leaves_the_version_as_it_is() -> None:
    cluster = CatalogCluster()
    before = cluster.catalog
    with pytest.raises(FeatureNotSupported):
        cluster.table(scheme=SchemeDefinition(PartitionMethod.HASH, ("v",)))
    assert cluster.catalog is before


def history() -> list[Envelope]:
    """Commands of many kinds, some of which fail."""
    definition = TableDefinition(
        "public",
        "t",
        (ColumnDefinition("k", INT8), ColumnDefinition("v", TEXT)),
        UniqueDefinition(("k",)),
    )
    steps: list[c.AnyCommand] = [
        c.CreateCluster("x", "a:1", "a:2"),
        c.AddNode("b:1", "b:2"),
        c.AddNode("c:1", "c:2", region="r"),
        c.CreateTable(definition),
        c.CreateTable(definition),
        c.CreateTable(replace(definition, name="u")),
        c.CreateTable(
            replace(definition, name="r", scheme=SchemeDefinition(PartitionMethod.REPLICATED))
        ),
        c.AddNode("d:1", "d:2"),
        c.RaiseCeiling(1000),
        c.CreateView("public", "v", "SELECT 1", (("a", INT4),)),
        c.DropTable((("public", "t"),)),
        c.RaiseCeiling(900),
        c.SetClusterSetting("dqe.x", "1"),
    ]
    return [Envelope(f"c{number}", step) for number, step in enumerate(steps)]


def test_replicas_are_equal_from_the_log_and_from_any_snapshot() -> None:
    entries = [
        Entry(1, index, EntryKind.COMMAND, encode_envelope(envelope))
        for index, envelope in enumerate(history(), start=1)
    ]

    async def check() -> None:
        whole = CatalogStateMachine()
        await whole.apply(entries)
        _, expected = await whole.snapshot()
        assert whole.state.timestamp_ceiling == 1000
        for cut in range(1, len(entries)):
            early, late = CatalogStateMachine(), CatalogStateMachine()
            await early.apply(entries[:cut])
            await late.restore(*await early.snapshot())
            await late.apply(entries[cut:])
            assert await late.snapshot() == (len(entries), expected)

    asyncio.run(check())


def test_entry_that_is_no_command_is_skipped_alike() -> None:
    async def check() -> None:
        machine = CatalogStateMachine()
        good = encode_envelope(history()[0])
        results = await machine.apply(
            [
                Entry(1, 1, EntryKind.NOOP, b""),
                Entry(1, 2, EntryKind.COMMAND, b"\xc1"),
                Entry(1, 3, EntryKind.COMMAND, good),
            ]
        )
        assert isinstance(results[1], DqeError)
        assert machine.applied_index == 3
        assert machine.state.catalog.cluster_id == "x"

    asyncio.run(check())


def test_an_access_method_is_for_the_stores_to_follow() -> None:
    cluster = CatalogCluster(3)
    table = cluster.table(scheme=hashed(3))
    epochs = {t: cluster.catalog.tablets[t].epoch for t in tablets_of(table)}
    assert cluster.run(c.SetAccessMethod(table.id, AccessMethod.ROW)).changed
    assert cluster.catalog.tables[table.id].access_method is AccessMethod.ROW
    for tablet_id, epoch in epochs.items():
        assert cluster.catalog.tablets[tablet_id].epoch == epoch + 1
        schemas = tablet_schemas(cluster.catalog, tablet_id)
        assert {s.method for s in schemas} == {AccessMethod.ROW}
    assert not cluster.run(c.SetAccessMethod(table.id, AccessMethod.ROW)).changed
    cluster.run(c.SetAccessMethod(table.id, None))
    assert cluster.catalog.tables[table.id].access_method is DEFAULT_ACCESS_METHOD
