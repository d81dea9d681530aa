"""What `planner.bound` promises of a bound tree, and the faces that other parts call."""

from __future__ import annotations

import subprocess
import sysconfig
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from bind_support import make_context, make_duckdb, make_table, run, runnable_sql
from sqlglot import exp

from catalog.model import Table, TableId, View
from cluster.errors import (
    DivisionByZero,
    DqeError,
    InvalidTextRepresentation,
    NumericValueOutOfRange,
    QueryCanceled,
    StringDataRightTruncation,
    UndefinedParameter,
)
from planner.binder import bind_query, bind_scalar
from planner.bound import BoundRelation, type_of
from planner.datum import Datum
from planner.dialect import duckdb_sql, parse_expression, parse_query
from planner.plan import HostOperation
from planner.semantics.errors import translate_duckdb_error
from storage.types import (
    ANY,
    BOOL,
    DATE,
    INT4,
    INT8,
    NUMERIC,
    TEXT,
    Kind,
    SqlType,
    array_of,
)

TABLES = [
    make_table(1, "t(id int4, a int4, c numeric(10,2), d text, ch char(5), e date)", ("id",)),
    make_table(2, "u(id int4, a int4, name varchar(5))", ("id",)),
]
VIEWS = [
    View(
        TableId(9),
        "public",
        "v",
        "SELECT id AS key, a + 1 AS b FROM t",
        (("key", INT4), ("b", INT4)),
    )
]
CONTEXT = make_context(TABLES, VIEWS)

SHAPES = (
    "select * from t",
    "select t.*, x.name from t join u x using (id)",
    "select id from t natural join u",
    "with x as (select id from t) select * from x a, x b",
    "with recursive r(n) as (select 1 union all select n + 1 from r where n < 3) select * from r",
    "select * from v join v w on v.key = w.b",
    "select a, count(*) from t group by 1 order by 2 desc, a",
    "select distinct a + 1 from t order by 1",
    "select a from t union select a from u order by a",
    "select * from t, lateral (select max(u.a) from u where u.id = t.id) m(x)",
    "select (select max(u.a) from u where u.id = t.id) from t",
    "select * from t left join (u join v on u.id = v.key) on t.id = u.id",
    "select id, sum(a) over (partition by d order by e) from t",
    "values (1, 'a'), (2, 'b')",
    "select * from generate_series(1, 3) g, unnest(array[1, 2]) with ordinality",
    "select avg(a), avg(c), sum(c) / 3 from t",
    "select id from t where a in (select a from u) and exists (select 1 from u where u.id = t.id)",
)


@pytest.fixture(scope="module")
def empty() -> duckdb.DuckDBPyConnection:
    """A DuckDB with the tables, and no rows."""
    return make_duckdb(TABLES)


@pytest.mark.parametrize("query", SHAPES)
def test_relations_have_unique_aliases_and_columns_name_one(query: str) -> None:
    bound = bind_query(parse_query(query), CONTEXT)
    relations = [
        n for n in bound.tree.walk() if isinstance(n, (exp.Table, exp.Subquery, exp.Lateral))
    ]
    aliases = [n.alias for n in relations if isinstance(n.parent, (exp.From, exp.Join))]
    assert all(aliases)
    assert len({a.lower() for a in aliases}) == len(aliases)
    known = set(aliases) | {n.alias for n in bound.tree.find_all(exp.Values)}
    for column in bound.tree.find_all(exp.Column):
        if column.find_ancestor(exp.Ordered) is None:
            assert column.table in known, column
    assert not list(bound.tree.find_all(exp.Star)) or "count(*)" in query
    assert not any(join.args.get("using") for join in bound.tree.find_all(exp.Join))


@pytest.mark.parametrize("query", SHAPES)
def test_select_lists_have_unique_aliases_and_types(query: str) -> None:
    bound = bind_query(parse_query(query), CONTEXT)
    for select in bound.tree.find_all(exp.Select):
        names = [item.alias for item in select.expressions]
        assert all(names)
        assert len({n.lower() for n in names}) == len(names)
        for item in select.expressions:
            assert isinstance(item.this.meta.get("type"), SqlType)
            assert type_of(item.this).kind is not Kind.UNKNOWN
    outermost = bound.tree
    while isinstance(outermost, exp.SetOperation):
        outermost = outermost.this
    aliases = {item.alias for item in outermost.expressions}
    assert {name for column in bound.columns for name in column.operands} <= aliases


@pytest.mark.parametrize("query", SHAPES)
def test_base_tables_carry_their_relation(query: str) -> None:
    bound = bind_query(parse_query(query), CONTEXT)
    found = [
        node.meta["relation"] for node in bound.tree.find_all(exp.Table) if "relation" in node.meta
    ]
    assert all(isinstance(relation, BoundRelation) for relation in found)
    assert {relation.name for relation in found} == {r.name for r in bound.relations}
    copied = bound.tree.copy()
    for node in copied.find_all(exp.Table):
        if "relation" in node.meta:
            assert any(node.meta["relation"] is relation for relation in bound.relations)


@pytest.mark.parametrize("query", SHAPES)
def test_the_text_runs_in_duckdb(query: str, empty: duckdb.DuckDBPyConnection) -> None:
    empty.execute(runnable_sql(bind_query(parse_query(query), CONTEXT))).fetchall()


def test_a_division_that_is_an_output_column_is_left_to_the_coordinator() -> None:
    bound = bind_query(parse_query("select a, c / 3 as q, avg(a) from t group by a, c"), CONTEXT)
    operations = [column.operation for column in bound.columns]
    divide = HostOperation.NUMERIC_DIVIDE
    assert operations == [HostOperation.COLUMN, divide, divide]
    assert bound.columns[1].operands == ("q", "q divisor")
    nested = bind_query(parse_query("select c / 3 + 1 from t"), CONTEXT)
    assert nested.columns[0].operation is HostOperation.COLUMN


def test_parameters_take_the_types_of_their_places() -> None:
    bound = bind_query(
        parse_query("select $1 + a, lower($2), $3 from t where e > $4 and c in ($5) limit $6"),
        CONTEXT,
    )
    assert bound.parameters == (INT4, TEXT, TEXT, DATE, NUMERIC, INT8)
    given = bind_query(parse_query("select $1"), CONTEXT, parameters=[array_of(INT4)])
    assert given.parameters == (array_of(INT4),)


@pytest.mark.parametrize(
    ("query", "values", "wanted"),
    [
        ("select $1 + 1", ["5"], "6"),
        ("select $1::int + 1", [5], "6"),
        ("select $1 || 'x'", ["a"], "ax"),
        ("select $1::date + 1", [date(2024, 2, 28)], "2024-02-29"),
        ("select $1::numeric * 2", [Decimal("1.50")], "3.00"),
        ("select $1 is null", [None], "t"),
        ("select 2 = any($1)", [[1, 2]], "t"),
        ("select $1::bytea", [b"\x01"], "\\x01"),
        ("select $1::bool", [True], "t"),
    ],
)
def test_values_become_literals(
    query: str, values: list[Datum], wanted: str, empty: duckdb.DuckDBPyConnection
) -> None:
    rows = run(query, CONTEXT, empty, values=values)
    assert rows == [(wanted,)]


def test_a_parameter_without_value_is_an_error() -> None:
    with pytest.raises(UndefinedParameter):
        bind_query(parse_query("select $2::int"), CONTEXT, values=["1"])


VARCHAR_3 = SqlType(Kind.VARCHAR, length=3)
NUMERIC_4_2 = SqlType(Kind.NUMERIC, precision=4, scale=2)


@pytest.mark.parametrize(
    ("query", "target", "wanted"),
    [
        ("values ('ab')", VARCHAR_3, "ab"),
        ("values ('ab     ')", VARCHAR_3, "ab "),
        ("select '1.239'", NUMERIC_4_2, Decimal("1.24")),
        ("select 1.239", NUMERIC_4_2, Decimal("1.24")),
        ("select 7", TEXT, "7"),
        ("select 2.5", INT4, 3),
        ("select 'abc'::char(5)", SqlType(Kind.BPCHAR, length=5), "abc"),
        ("select distinct 'x'", VARCHAR_3, "x"),
        ("select 1 union select 2.5 order by 1 limit 1", NUMERIC, Decimal(1)),
        ("values ('2024-02-29')", DATE, date(2024, 2, 29)),
    ],
)
def test_expected_types_are_assigned(
    query: str, target: SqlType, wanted: object, empty: duckdb.DuckDBPyConnection
) -> None:
    bound = bind_query(parse_query(query), CONTEXT, expected=[target])
    assert bound.columns[0].type == target
    assert empty.execute(runnable_sql(bound)).fetchone() == (wanted,)


@pytest.mark.parametrize(
    ("query", "target", "error"),
    [
        ("values ('abcd')", VARCHAR_3, StringDataRightTruncation),
        ("select d from t", VARCHAR_3, StringDataRightTruncation),
        ("values ('x')", INT4, InvalidTextRepresentation),
        ("values (123.4)", NUMERIC_4_2, NumericValueOutOfRange),
        ("values (3000000000)", INT4, NumericValueOutOfRange),
    ],
)
def test_what_does_not_fit_its_column_is_refused(
    query: str, target: SqlType, error: type[DqeError]
) -> None:
    connection = make_duckdb(TABLES)
    connection.execute("INSERT INTO t VALUES (1, 1, 1, 'too long', 'a', DATE '2024-01-01')")
    with pytest.raises(error):
        _assigned(query, target, connection)


def _assigned(query: str, target: SqlType, connection: duckdb.DuckDBPyConnection) -> None:
    bound = bind_query(parse_query(query), CONTEXT, expected=[target])
    try:
        connection.execute(runnable_sql(bound)).fetchall()
    except duckdb.Error as failure:
        raise translate_duckdb_error(failure) from failure


def test_bind_scalar_gives_text_over_plain_columns() -> None:
    columns = [("a", INT4), ("d", TEXT)]
    tree = bind_scalar(parse_expression("a / 2 > 1 and d like 'x%'"), columns, CONTEXT)
    assert type_of(tree) == BOOL
    assert duckdb_sql(tree) == '(("a" // 2) > 1) AND ("d" LIKE \'x%\')'
    with pytest.raises(DqeError) as caught:
        bind_scalar(parse_expression("sum(a) > 1"), columns, CONTEXT)
    assert caught.value.sqlstate == "42803"


@pytest.mark.parametrize(
    "check",
    ["exists (select 1)", "a in (select 1)", "a = (select 1)", "a > all (select 1)"],
)
def test_a_check_takes_no_subquery(check: str) -> None:
    with pytest.raises(DqeError) as caught:
        bind_scalar(parse_expression(check), [("a", INT4)], CONTEXT)
    assert caught.value.sqlstate == "0A000"


@pytest.mark.parametrize(
    "query",
    [
        "select 1 from t where (id, a) = (select id, a from u)",
        "select rank(3) within group (order by a) from t",
    ],
)
def test_what_postgresql_alone_can_do_is_refused_as_such(query: str) -> None:
    with pytest.raises(DqeError) as caught:
        bind_query(parse_query(query), CONTEXT)
    assert caught.value.sqlstate == "0A000"


def test_functions_of_duckdb_alone_pass_through() -> None:
    bound = bind_query(parse_query("select list_distinct(array[1, 1])"), CONTEXT)
    assert bound.columns[0].type == ANY
    with pytest.raises(DqeError) as caught:
        bind_query(parse_query("select read_csv_auto('x')"), CONTEXT)
    assert caught.value.sqlstate == "42883"


def test_runtime_errors_have_sqlstates() -> None:
    connection = make_duckdb()
    cases = {
        "select 1 // (select 0)": DivisionByZero,
        "select pg_divide_float(1.0::double, 0)": DivisionByZero,
        "select 'x'::int": InvalidTextRepresentation,
        "select (2147483647 + (select 1))::int": NumericValueOutOfRange,
    }
    for sql, wanted in cases.items():
        with pytest.raises(duckdb.Error) as caught:
            connection.execute(sql).fetchall()
        assert type(translate_duckdb_error(caught.value)) is wanted, sql
    assert isinstance(translate_duckdb_error(duckdb.InterruptException("x")), QueryCanceled)


TPCH = {
    "nation": "n_nationkey int4, n_name char(25), n_regionkey int4, n_comment varchar(152)",
    "region": "r_regionkey int4, r_name char(25), r_comment varchar(152)",
    "part": "p_partkey int4, p_name varchar(55), p_mfgr char(25), p_brand char(10), "
    "p_type varchar(25), p_size int4, p_container char(10), p_retailprice numeric(15,2), "
    "p_comment varchar(23)",
    "supplier": "s_suppkey int4, s_name char(25), s_address varchar(40), s_nationkey int4, "
    "s_phone char(15), s_acctbal numeric(15,2), s_comment varchar(101)",
    "partsupp": "ps_partkey int4, ps_suppkey int4, ps_availqty int4, "
    "ps_supplycost numeric(15,2), ps_comment varchar(199)",
    "customer": "c_custkey int4, c_name varchar(25), c_address varchar(40), c_nationkey int4, "
    "c_phone char(15), c_acctbal numeric(15,2), c_mktsegment char(10), c_comment varchar(117)",
    "orders": "o_orderkey int8, o_custkey int4, o_orderstatus char(1), "
    "o_totalprice numeric(15,2), o_orderdate date, o_orderpriority char(15), o_clerk char(15), "
    "o_shippriority int4, o_comment varchar(79)",
    "lineitem": "l_orderkey int8, l_partkey int4, l_suppkey int4, l_linenumber int4, "
    "l_quantity numeric(15,2), l_extendedprice numeric(15,2), l_discount numeric(15,2), "
    "l_tax numeric(15,2), l_returnflag char(1), l_linestatus char(1), l_shipdate date, "
    "l_commitdate date, l_receiptdate date, l_shipinstruct char(25), l_shipmode char(10), "
    "l_comment varchar(44)",
}
QUERIES = sorted((Path(__file__).parents[2] / "benchmarks" / "tpch_queries").glob("q*.sql"))


@pytest.fixture(scope="module")
def tpch(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """TPC-H at scale 0.01 in a DuckDB set up as a node's."""
    directory = tmp_path_factory.mktemp("tpch")
    command = Path(sysconfig.get_path("scripts")) / "tpchgen-cli"
    subprocess.run(
        [str(command), "parquet", "-s", "0.01", "-o", str(directory)],
        check=True,
        capture_output=True,
    )
    connection = make_duckdb(_tpch_tables())
    for name in TPCH:
        connection.execute(
            f"INSERT INTO {name} SELECT * FROM read_parquet('{directory}/{name}.parquet')"
        )
    return connection


def _tpch_tables() -> list[Table]:
    return [make_table(n, f"{name}({c})") for n, (name, c) in enumerate(TPCH.items(), 1)]


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_tpch_answers_as_duckdb_does(path: Path, tpch: duckdb.DuckDBPyConnection) -> None:
    sql = path.read_text().strip().rstrip(";")
    ours = run(sql, make_context(_tpch_tables()), tpch)
    theirs = tpch.execute(sql).fetchall()
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        for left, right in zip(mine, other, strict=True):
            assert _same(left, right), (mine, other)


def _same(left: str | None, right: object) -> bool:
    if left is None or right is None:
        return left is right
    if isinstance(right, (int, float, Decimal)) and not isinstance(right, bool):
        return abs(float(left) - float(right)) <= 1e-9 * max(1.0, abs(float(right)))
    return left.rstrip() == str(right).rstrip()
