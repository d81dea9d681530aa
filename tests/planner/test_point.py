"""Which queries are reads of one row by key, and what they read."""

import pytest
from plan_cluster import PlanCluster

from planner.parser import parse
from planner.point import Parameter, PointRead, point_read
from planner.statements import Query
from storage.types import Kind, SqlType


@pytest.fixture(scope="module")
def cluster() -> PlanCluster:
    made = PlanCluster()
    made.create("create table t (k int primary key, v text, w int) using row")
    made.create("create table two (a bigint, b text, c int, primary key (b, a)) using hybrid")
    made.create(
        "create table cut (k int primary key, v text, w text)"
        " column groups (warm (v), cold (w)) using row"
    )
    made.create('create table "Big" ("K" uuid primary key) using row')
    made.create("create table columns_only (k int primary key) using columnar")
    made.create("create table no_key (k int) using row")
    made.create("create table padded (k char(3) primary key) using row")
    return made


def read_of(cluster: PlanCluster, sql: str, *types: SqlType | None) -> PointRead | None:
    (statement,) = parse(sql)
    assert isinstance(statement, Query)
    return point_read(statement.tree, cluster.context(), types)


@pytest.mark.parametrize(
    ("sql", "key", "names"),
    [
        ("select v from t where k = 5", ("5",), ["v"]),
        ("select v from T where K = -5", ("-5",), ["v"]),
        ("select * from public.t where 5 = k", ("5",), ["k", "v", "w"]),
        ("select x.v as a, k, v from t x where (x.k = '7')", ("7",), ["a", "k", "v"]),
        ("select c from two where a = 1 and b = 'x'", ("x", "1"), ["c"]),
        ("select c from two where b = $2 and (a = $1)", (Parameter(2), Parameter(1)), ["c"]),
        ('select "K" from "Big" where "K" = $1', (Parameter(1),), ["K"]),
        ("select k, w from cut where k = 1", ("1",), ["k", "w"]),
    ],
)
def test_reads_by_key(
    cluster: PlanCluster, sql: str, key: tuple[object, ...], names: list[str]
) -> None:
    read = read_of(cluster, sql)
    assert read is not None
    assert read.key == key
    assert [column.name for column in read.columns] == names
    own = {c.id: c.name for c in read.table.columns}
    group = {own[c.id] for c in read.table.group_columns(read.group)}
    assert {own[c] for c in read.wanted} <= group


@pytest.mark.parametrize(
    "sql",
    [
        "select v from t",
        "select v from t where k > 5",
        "select v from t where k = 5 or k = 6",
        "select v from t where k = 5 and w in (select 1)",
        "select v, k + 1 from t where k = 5 and now() > '2020-01-01'",
        "select v from t where k = w",
        "select v from t where k = 5.0",
        "select v from t where k = 3000000000",
        "select v from t where k = null",
        "select v from t where k = 'x'",
        "select *, w + 1 from t where k = 5",
        "select k + 1 from cut where k = 5",
        "select random() from t where k = 5",
        "select count(*) from t where k = 5",
        "select v from t where k = 5 for update",
        "select v from t where k = 5 limit 1",
        "select distinct v from t where k = 5",
        "select v from t, two where k = 5",
        "select v from only t where k = 5 order by 1",
        "select v from t x (k, v, w) where k = 5",
        "select v from t where t2.k = 5",
        "select unknown from t where k = 5",
        "select ctid from t where k = 5",
        "select relname from pg_class where oid = 5",
        "select * from unknown where k = 5",
        "select c from two where a = 1",
        "select v, w from cut where k = 1",
        "select k from columns_only where k = 5",
        "select k from no_key where k = 5",
        "select k from padded where k = 'a'",
        "select v from t where k = 5 union select 'x'",
        "with t as (select 1 k, 'a' v) select v from t where k = 1",
        "select v from t tablesample system (1) where k = 5",
        "select v from t where not k = 5",
        "select v as a from t where k = 5 group by v",
    ],
)
def test_everything_else_goes_the_usual_way(cluster: PlanCluster, sql: str) -> None:
    assert read_of(cluster, sql) is None


@pytest.mark.parametrize(
    ("sql", "keys"),
    [
        ("select v from t where k in (5, 6, 5)", [("5",), ("6",), ("5",)]),
        ("select v from t where k in ($2, 6)", [(Parameter(2),), ("6",)]),
        ("select c from two where a in (1, 2) and b = 'x'", [("x", "1"), ("x", "2")]),
        ("select c from two where a in (1, 2) and b in ('x', 'y')", 4),
        ("select v from t where k in (5)", [("5",)]),
    ],
)
def test_few_keys(cluster: PlanCluster, sql: str, keys: list[object] | int) -> None:
    read = read_of(cluster, sql, None, None)
    assert read is not None
    found = [read.key, *read.more_keys]
    assert found == keys if isinstance(keys, list) else len(found) == keys


@pytest.mark.parametrize(
    "sql",
    [
        "select v from t where k in (5, w)",
        "select v from t where k in (5, 6.5)",
        "select v from t where k in (5, null)",
        "select v from t where k not in (5, 6)",
        "select v from t where k in (select 5)",
        f"select v from t where k in ({', '.join(map(str, range(17)))})",
    ],
)
def test_other_lists_go_the_usual_way(cluster: PlanCluster, sql: str) -> None:
    assert read_of(cluster, sql) is None


@pytest.mark.parametrize(
    ("sql", "names", "conditions"),
    [
        ("select v from t where k = 5 and w = 1", ["v"], 1),
        ("select v from t where k = 5 and k = 6 and v > 'a'", ["v"], 2),
        ("select v || '' from t where k = 5", ["?column?"], 0),
        ("select w + 1 as z, coalesce(w, 0), v from t where k = 5", ["z", "coalesce", "v"], 0),
        ("select w + $2 from t where k = $1 and w > $3", ["?column?"], 1),
    ],
)
def test_what_is_computed_of_the_row(
    cluster: PlanCluster, sql: str, names: list[str], conditions: int
) -> None:
    read = read_of(cluster, sql)
    assert read is not None
    assert read.computed is not None
    assert [column.name for column in read.columns] == names
    assert len(read.computed.conditions) == conditions


def test_parameters_are_typed_by_the_first_place_that_has_them(cluster: PlanCluster) -> None:
    int4 = SqlType(Kind.INT4)
    read = read_of(cluster, "select w + $2 from t where k = $1 and w > $3")
    assert read is not None
    assert read.parameter_types(()) == (int4, int4, int4)
    # The key's parameter stands elsewhere, too: which place comes first is the binder's to say.
    assert read_of(cluster, "select w + $1 from t where k = $1") is None
    assert read_of(cluster, "select w + $1 from t where k = $1", int4) is not None
    # The scale of a bare numeric is its value's.
    assert (
        read_of(cluster, "select w + $2 from t where k = $1", int4, SqlType(Kind.NUMERIC)) is None
    )


def test_parameters_of_other_families_go_the_usual_way(cluster: PlanCluster) -> None:
    by_key = "select v from t where k = $1"
    assert read_of(cluster, by_key, SqlType(Kind.INT8)) is not None
    assert read_of(cluster, by_key, None) is not None
    assert read_of(cluster, by_key, SqlType(Kind.NUMERIC)) is None
    assert read_of(cluster, by_key, SqlType(Kind.TEXT)) is None


def test_key_values_are_plain_values_or_left_to_the_usual_way(cluster: PlanCluster) -> None:
    read = read_of(cluster, "select c from two where b = $2 and a = $1")
    assert read is not None
    assert read.key_values(["12", "x "]) == ["x ", 12]
    assert read.key_values([12, "x"]) == ["x", 12]
    assert read.key_values([None, "x"]) is None
    assert read.key_values(["1.5", "x"]) is None
    assert read.key_values([str(2**63), "x"]) is None
    assert read.key_values(["१", "x"]) is None  # a digit, but not one of PostgreSQL's


def test_parameters_have_the_types_of_the_key(cluster: PlanCluster) -> None:
    read = read_of(cluster, "select c from two where b = $2 and a = $1")
    assert read is not None
    int8, int4, text = SqlType(Kind.INT8), SqlType(Kind.INT4), SqlType(Kind.TEXT)
    assert read.parameter_types(()) == (int8, text)
    assert read.parameter_types((int4,)) == (int4, text)
    assert read.parameter_types((None, text, int4)) == (int8, text, int4)
    assert read.parameter_types((None, None, None)) is None
    skips = read_of(cluster, "select v from t where k = $2")
    assert skips is not None
    assert skips.parameter_types(()) is None
