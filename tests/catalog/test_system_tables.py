"""What psql, drivers and ORMs find in the system tables."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest
from catalog_cluster import CatalogCluster

from catalog import commands as c
from catalog.definition import (
    CheckDefinition,
    ColumnDefinition,
    GroupDefinition,
    SchemeDefinition,
    TableDefinition,
    UniqueDefinition,
)
from catalog.model import Catalog, NodeId, PartitionMethod, Placement, TableStatistics
from catalog.system_tables import SystemContext, find_system_table, rows, system_relations
from catalog.system_tables.objects import FIRST_OID, format_type, quoted
from cluster.errors import UndefinedTable
from storage.types import INT4, INT8, TEXT, Kind, SqlType, array_of, arrow_type


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    cluster = CatalogCluster(3)
    cluster.run(
        c.CreateTable(
            TableDefinition(
                "public",
                "t",
                (
                    ColumnDefinition("k", INT8),
                    ColumnDefinition(
                        "v", SqlType(Kind.VARCHAR, length=10), not_null=True, default="'x'"
                    ),
                    ColumnDefinition("n", SqlType(Kind.NUMERIC, precision=12, scale=2)),
                    ColumnDefinition("a", array_of(INT4)),
                ),
                UniqueDefinition(("k",)),
                (UniqueDefinition(("k", "v")),),
                (CheckDefinition("n > 0", columns=("n",)),),
                SchemeDefinition(
                    PartitionMethod.HASH,
                    ("k",),
                    part_count=6,
                    groups=(GroupDefinition("core", ("v",)), GroupDefinition("cold", ("a",))),
                ),
            )
        )
    )
    cluster.run(c.CreateSchema("s"))
    cluster.run(c.CreateTable(TableDefinition("s", "Heap", (ColumnDefinition("x", TEXT),))))
    t = cluster.catalog.find_table("t")
    assert t is not None
    cluster.run(c.SetStatistics(t.id, TableStatistics(12, part_rows=(2,) * 6)))
    cluster.run(
        c.CreateView("public", "v", "SELECT k, n FROM t;", (("k", INT8),), depends_on=(t.id,))
    )
    return cluster.catalog


@pytest.fixture(scope="module")
def ask(catalog: Catalog) -> duckdb.DuckDBPyConnection:
    """The system tables in DuckDB, as views of one schema each."""
    connection = duckdb.connect()
    for schema in ("pg", "info", "dqe"):
        connection.execute(f"CREATE SCHEMA {schema}")
    short = {"pg_catalog": "pg", "information_schema": "info", "dqe": "dqe"}
    for relation in system_relations():
        table = rows(catalog, relation.schema, relation.name, SystemContext(catalog, NodeId(1)))
        connection.register("rows", table)
        target = f"{short[relation.schema]}.{relation.name}"
        connection.execute(f"CREATE TABLE {target} AS SELECT * FROM rows")
        connection.unregister("rows")
    return connection


def test_every_relation_has_its_columns_and_types(catalog: Catalog) -> None:
    relations = system_relations()
    assert len(relations) > 100
    for relation in relations:
        table = rows(catalog, relation.schema, relation.name)
        expected = pa.schema([(name, arrow_type(t)) for name, t in relation.columns])
        assert table.schema == expected, relation.name


def test_relations_are_found_by_name() -> None:
    assert find_system_table(None, "pg_class") == find_system_table("pg_catalog", "pg_class")
    assert find_system_table("dqe", "nodes") is not None
    assert find_system_table("public", "pg_class") is None
    with pytest.raises(UndefinedTable):
        rows(Catalog(), "pg_catalog", "nope")


def test_tables_views_and_indexes_are_listed(ask: duckdb.DuckDBPyConnection) -> None:
    found = ask.execute(
        "SELECT n.nspname, c.relname, c.relkind FROM pg.pg_class c"
        " JOIN pg.pg_namespace n ON n.oid = c.relnamespace ORDER BY 1, 2"
    ).fetchall()
    assert found == [
        ("public", "t", "r"),
        ("public", "t_k_v_key", "i"),
        ("public", "t_pkey", "i"),
        ("public", "v", "v"),
        ("s", "Heap", "r"),
    ]


def test_columns_are_those_a_user_sees(ask: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
    found = ask.execute(
        "SELECT a.attname, a.atttypid, a.atttypmod, a.attnotnull, d.adbin"
        " FROM pg.pg_attribute a JOIN pg.pg_class c ON c.oid = a.attrelid"
        " LEFT JOIN pg.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
        " WHERE c.relname IN ('t', 'Heap') ORDER BY c.relname DESC, a.attnum"
    ).fetchall()
    shown = [(name, format_type(oid, mod), nn, default) for name, oid, mod, nn, default in found]
    assert shown == [
        ("k", "bigint", True, None),
        ("v", "character varying(10)", True, "'x'"),
        ("n", "numeric(12,2)", False, None),
        ("a", "integer[]", False, None),
        ("x", "text", False, None),
    ]


def test_index_and_constraints_of_a_table(ask: duckdb.DuckDBPyConnection) -> None:
    found = ask.execute(
        "SELECT c2.relname, i.indisprimary, con.contype, i.indkey, d.text, x.text"
        " FROM pg.pg_index i JOIN pg.pg_class c2 ON c2.oid = i.indexrelid"
        " LEFT JOIN pg.pg_constraint con ON con.conindid = i.indexrelid"
        " LEFT JOIN pg.dqe_object_text d ON d.oid = con.oid"
        " LEFT JOIN pg.dqe_object_text x ON x.oid = i.indexrelid"
        "  AND x.function = 'pg_get_indexdef' ORDER BY 2 DESC"
    ).fetchall()
    assert [row[:5] for row in found] == [
        ("t_pkey", True, "p", [1], "PRIMARY KEY (k)"),
        ("t_k_v_key", False, "u", [1, 2], "UNIQUE (k, v)"),
    ]
    assert found[0][5] == "CREATE UNIQUE INDEX t_pkey ON public.t USING btree (k)"
    check = ask.execute("SELECT conname, conbin FROM pg.pg_constraint WHERE contype = 'c'")
    assert check.fetchall() == [("t_n_check", "n > 0")]


def test_how_a_table_is_cut_is_shown(ask: duckdb.DuckDBPyConnection) -> None:
    options = ask.execute("SELECT reloptions FROM pg.pg_class WHERE relname = 't'").fetchone()
    assert options == (["partition_by=HASH (k)", "partitions=6", "column_groups=core+cold"],)
    parts = ask.execute(
        "SELECT count(*), count(DISTINCT tablet_id), sum(estimated_rows) FROM dqe.fragments"
        " WHERE table_name = 't'"
    ).fetchone()
    assert parts == (12, 6, 24)
    groups = ask.execute(
        "SELECT DISTINCT column_group, columns FROM dqe.fragments WHERE table_name = 't' ORDER BY 1"
    ).fetchall()
    assert groups == [("cold", "k, a"), ("core", "k, v, n")]
    key = ask.execute("SELECT partition_key FROM dqe.tables WHERE table_name = 'Heap'").fetchone()
    assert key == ("HASH (row id)",)


def test_nodes_and_tablets(ask: duckdb.DuckDBPyConnection) -> None:
    found = ask.execute(
        "SELECT node_id, region, live, leaders FROM dqe.nodes ORDER BY 1"
    ).fetchall()
    assert [row[:3] for row in found] == [(1, "eu", True), (2, "us", False), (3, "eu", False)]
    tablets = ask.execute("SELECT count(*) FROM dqe.tablets").fetchone()
    assert tablets == (sum(row[3] for row in found),)


def test_information_schema(ask: duckdb.DuckDBPyConnection) -> None:
    columns = ask.execute(
        "SELECT column_name, data_type, udt_name, is_nullable, numeric_precision,"
        " character_maximum_length FROM info.columns WHERE table_name = 't'"
        " ORDER BY ordinal_position"
    ).fetchall()
    assert columns == [
        ("k", "bigint", "int8", "NO", 64, None),
        ("v", "character varying", "varchar", "NO", None, 10),
        ("n", "numeric", "numeric", "YES", 12, None),
        ("a", "ARRAY", "_int4", "YES", None, None),
    ]
    kinds = ask.execute(
        "SELECT table_name, table_type FROM info.tables ORDER BY table_name"
    ).fetchall()
    assert kinds == [("Heap", "BASE TABLE"), ("t", "BASE TABLE"), ("v", "VIEW")]
    keys = ask.execute(
        "SELECT constraint_name, column_name FROM info.key_column_usage ORDER BY 1 DESC, 2"
    ).fetchall()
    assert keys == [("t_pkey", "k"), ("t_k_v_key", "k"), ("t_k_v_key", "v")]


def test_types_know_their_arrays(ask: duckdb.DuckDBPyConnection) -> None:
    broken = ask.execute(
        "SELECT t.typname FROM pg.pg_type t LEFT JOIN pg.pg_type a ON a.oid = t.typarray"
        " WHERE t.typarray <> 0 AND (a.oid IS NULL OR a.typelem <> t.oid)"
    ).fetchall()
    assert broken == []
    doubled = ask.execute("SELECT oid FROM pg.pg_type GROUP BY oid HAVING count(*) > 1")
    assert doubled.fetchall() == []


def test_oids_are_stable_and_distinct(catalog: Catalog, ask: duckdb.DuckDBPyConnection) -> None:
    t = catalog.find_table("t")
    assert t is not None
    oids = [row[0] for row in ask.execute("SELECT oid FROM pg.pg_class").fetchall()]
    assert len(set(oids)) == len(oids)
    assert FIRST_OID + t.id in oids


def test_view_definition_and_names(ask: duckdb.DuckDBPyConnection) -> None:
    texts = dict(
        ask.execute(
            "SELECT function, text FROM pg.dqe_object_text WHERE function IN"
            " ('pg_get_viewdef', 'pg_get_partkeydef') AND text LIKE '%k%'"
        ).fetchall()
    )
    assert texts == {"pg_get_viewdef": " SELECT k, n FROM t;", "pg_get_partkeydef": "HASH (k)"}
    names = ask.execute("SELECT text FROM pg.dqe_object_text WHERE function = 'regclass'")
    assert {row[0] for row in names.fetchall()} == {"t", "t_pkey", "t_k_v_key", "v", 's."Heap"'}


def test_user_is_a_role(catalog: Catalog) -> None:
    context = SystemContext(catalog, NodeId(1), user="ann")
    names = rows(catalog, "pg_catalog", "pg_roles", context).column("rolname").to_pylist()
    assert names == ["dqe", "ann"]


@pytest.mark.parametrize(
    ("name", "shown"), [("abc", "abc"), ("Abc", '"Abc"'), ("a b", '"a b"'), ("1a", '"1a"')]
)
def test_names_are_quoted_where_needed(name: str, shown: str) -> None:
    assert quoted(name) == shown


def test_placement_is_shown_with_the_tablet() -> None:
    cluster = CatalogCluster(3)
    scheme = SchemeDefinition(PartitionMethod.NONE, placement=Placement(region="us"))
    cluster.table(scheme=scheme)
    table = rows(cluster.catalog, "dqe", "tablets")
    assert table.column("region").to_pylist() == ["us"]
