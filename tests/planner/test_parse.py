"""Query strings to statements, and what is refused, in PostgreSQL's words."""

from __future__ import annotations

import pytest

from catalog.model import AccessMethod, Durability, PartitionMethod
from cluster.errors import (
    DqeError,
    FeatureNotSupported,
    InvalidParameterValue,
    ProgramLimitExceeded,
    SyntaxError_,
)
from planner import statements as s
from planner.parser import parse


def one(sql: str) -> s.Statement:
    (statement,) = parse(sql)
    return statement


def test_several_statements_keep_their_text_and_place() -> None:
    first, second = parse(" select 1 ;; select 'a;b' -- ;\n;")
    assert (first.text, first.offset) == ("select 1", 1)
    assert (second.text, second.offset) == ("select 'a;b'", 13)
    assert parse("") == parse(" ; -- nothing\n") == []


def test_an_error_anywhere_keeps_all_statements_from_running() -> None:
    with pytest.raises(SyntaxError_) as caught:
        parse("select 1; selct 2")
    assert caught.value.message == 'syntax error at or near "selct"'
    assert caught.value.position == 11


def test_parsed_texts_are_cached() -> None:
    assert parse("select 42")[0] is parse("select 42")[0]


# Messages and positions as PostgreSQL 18 gives them.
SYNTAX_ERRORS = [
    ("select a,, b", ",", 10),
    ("select a,", "", 10),
    ("select a b c", "c", 12),
    ("select 1 2", "2", 10),
    ("select f(a,)", ")", 12),
    ("select (1", "", 10),
    ("select 1)", ")", 9),
    ("select + from t", "from", 10),
    ("select a in () from t", ")", 14),
    ("select a as from t", "t", 18),
    ("select distinct from t", "from", 17),
    ("select * from t where", "", 22),
    ("select * from t group by", "", 25),
    ("select * from t join u", "", 23),
    ("select * from t join u on", "", 26),
    ("select * from t,", "", 17),
    ("select * from t t2 t3", "t3", 20),
    ("select * from t order by 1 asc desc", "desc", 32),
    ("select * from t limit 1 2", "2", 25),
    ("select * from t limit 1 limit 2", "limit", 25),
    ("select * except (a) from t", "a", 18),
    ("select top 5 a from t", "5", 12),
    ("select a = b = c", "=", 14),
    ("select 'a' 'b'", "'b'", 12),
    ("select case when 1 end", "end", 20),
    ("delete t where a", "t", 8),
    ("insert into t values", "", 21),
    ("insert into t (a,) values (1)", ")", 18),
    ("update t set", "", 13),
    ("update t set a = 1,", "", 20),
    ("create table t (a)", "", 19),
    ("create table t (a, b int)", "int", 22),
    ("create table t (a int,)", ")", 23),
    ("create table t (a int primary)", "primary", 23),
    ("begin isolation", "isolation", 7),
    ("table", "", 6),
    ("with a as (select 1)", "", 21),
    ("select @ from t", "from", 10),
    ("select `a`", "`", 8),
    ("select a == b", "=", 11),
    ("frobnicate", "frobnicate", 1),
]


@pytest.mark.parametrize(("sql", "near", "position"), SYNTAX_ERRORS)
def test_syntax_errors_name_the_token_and_its_place(sql: str, near: str, position: int) -> None:
    with pytest.raises(SyntaxError_) as caught:
        parse(sql)
    words = f'at or near "{near}"' if near else "at end of input"
    assert caught.value.message == f"syntax error {words}"
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select 'abc", 'unterminated quoted string at or near "\'abc"'),
        ('select "abc', 'unterminated quoted identifier at or near ""abc"'),
        ("select 1 /* x", 'unterminated /* comment at or near "/* x"'),
        ("select $q$ x", 'unterminated dollar-quoted string at or near "$q$ x"'),
        ("select 12abc", 'trailing junk after numeric literal at or near "12abc"'),
        ("values (default)", "DEFAULT is not allowed in this context"),
    ],
)
def test_lexical_errors(sql: str, message: str) -> None:
    with pytest.raises(SyntaxError_) as caught:
        parse(sql)
    assert caught.value.message == message


ACCEPTED = [
    "select",
    "select from t",
    "select all a from only t as x (p, q)",
    "select not a = not b, -1 ^ 2, a between 1 and 2 and c, x is not distinct from y",
    "select a::int[], cast(b as numeric(12, 2)), interval '1' day, date '2020-01-01', 'a'\n'b'",
    "select count(*) filter (where a), sum(b) over (partition by c order by d rows 1 preceding)",
    "select a from t group by rollup (a, b), cube (c), grouping sets ((a), ())",
    "select * from (t join u on a = b) natural join v, lateral (select 1) l, f(1) as g(x int)",
    "select * from ((select 1) union (select 2)) x where (select 1) = any (array[1, 2])",
    "select ((select 1) + 2), (t).a, (f(x)).*, arr[1:2][3], a.b.c",
    "with recursive r as (select 1 union all select 2) select * from r fetch first row only",
    "select $1, $2 + $1 from t where a in ($3,$4)",
    "table t",
    "(select 1) order by 1 limit all offset 2 rows",
    "select 1 end",
]


@pytest.mark.parametrize("sql", ACCEPTED)
def test_queries_of_many_forms(sql: str) -> None:
    assert isinstance(one(sql), s.Query)


@pytest.mark.parametrize(
    "sql",
    [
        "listen x",
        "with x as (insert into t values (1) returning *) select * from x",
        "create table t (a int, b int generated always as (a) virtual)",
        "create index i on t (lower(a))",
        "create index i on t (a) where a > 1",
        "create index i on t (a) include (b)",
        "create index i on t using gin (a)",
        "create table t (a int references u match partial)",
        "alter table t add unique (a) not valid",
        "copy t from program 'ls'",
        "copy t from stdin (on_error ignore)",
        "update t set a[1] = 2",
        'create table t (a text collate "de_DE")',
        "explain (format xml) select 1",
    ],
)
def test_what_postgresql_has_and_dqe_has_not_is_refused_as_such(sql: str) -> None:
    with pytest.raises(FeatureNotSupported):
        parse(sql)


def test_deep_nesting_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(ProgramLimitExceeded):
        parse("select " + "(" * 5000 + "1" + ")" * 5000)


def test_values_are_a_query_with_postgresqls_column_names() -> None:
    statement = one("values (1, 'a'), (2, 'b') order by 2")
    assert isinstance(statement, s.Query)
    assert statement.tree.sql("postgres") == (
        "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS \"*VALUES*\"(column1, column2) ORDER BY 2"
    )


def test_create_table_with_every_clause() -> None:
    statement = one(
        "create table if not exists s.orders (id bigint, c text default 'x' || 'y' not null,"
        " total numeric(12,2) constraint positive check (total > 0), primary key (id))"
        " partition by hash (id) partitions 6"
        " column groups (core (total), cold (c) with (region = 'eu'))"
        " colocate with customers using hybrid"
        " with (replicas = 3, durability = 'quorum', nodes = '1, 2')"
    )
    assert isinstance(statement, s.CreateTable)
    clauses = statement.clauses
    assert str(statement.table) == "s.orders"
    assert statement.if_not_exists
    assert clauses.partition is not None
    assert clauses.partition.method is PartitionMethod.HASH
    assert clauses.partition.part_count == 6
    assert clauses.groups is not None
    assert [(g.name, g.columns) for g in clauses.groups] == [("core", ("total",)), ("cold", ("c",))]
    assert clauses.groups[1].placement == s.PlacementClause(region="eu")
    assert clauses.colocate_with is not None
    assert clauses.access_method is AccessMethod.HYBRID
    assert (clauses.replicas, clauses.durability) == (3, Durability.QUORUM)
    assert clauses.placement == s.PlacementClause(nodes=(1, 2))
    _, text_column, total = statement.elements
    assert isinstance(text_column, s.ColumnClause)
    assert text_column.default is not None
    assert text_column.default.text == "'x' || 'y'"
    assert text_column.not_null
    assert isinstance(total, s.ColumnClause)
    assert total.type == s.TypeName("numeric", (12, 2), 0, total.type.position)
    assert [(c.kind, c.name, c.columns) for c in statement.constraints] == [
        (s.ConstraintKind.CHECK, "positive", ("total",)),
        (s.ConstraintKind.PRIMARY_KEY, None, ("id",)),
    ]


def test_range_and_list_parts() -> None:
    ranged = one(
        "create table t (d date) partition by range (d) ("
        " partition p0 values from (minvalue) to ('2020-01-01') with (zone = 'a'),"
        " partition p1 values from ('2020-01-01') to (maxvalue), partition rest default)"
    )
    assert isinstance(ranged, s.CreateTable)
    assert ranged.clauses.partition is not None
    first, second, rest = ranged.clauses.partition.parts or ()
    assert first.range_low == (s.BoundWord.MINVALUE,)
    assert first.placement == s.PlacementClause(zone="a")
    assert second.range_high == (s.BoundWord.MAXVALUE,)
    assert rest.is_default
    listed = one(
        "create table t (c text) partition by list (c) (partition p values in ('a', null))"
    )
    assert isinstance(listed, s.CreateTable)
    assert listed.clauses.partition is not None
    (part,) = listed.clauses.partition.parts or ()
    assert [v.text for v in part.list_values or ()] == ["'a'", "null"]


@pytest.mark.parametrize(
    ("clause", "error"),
    [
        ("partitions 6", SyntaxError_),
        ("partition by hash (a) partitions 0", InvalidParameterValue),
        ("partition by magic (a)", InvalidParameterValue),
        ("partition by hash (lower(a))", FeatureNotSupported),
        ("partition by list (a) (partition p values from (1) to (2))", SyntaxError_),
        ("using parquet", DqeError),
        ("with (colour = 'red')", InvalidParameterValue),
        ("with (replicas = 0)", InvalidParameterValue),
        ("with (replicas = 1, replicas = 2)", InvalidParameterValue),
        ("with (durability = 'maybe')", InvalidParameterValue),
        ("with (nodes = 'one')", InvalidParameterValue),
        ("using row using row", SyntaxError_),
    ],
)
def test_bad_clauses(clause: str, error: type[DqeError]) -> None:
    with pytest.raises(error) as caught:
        parse(f"create table t (a int) {clause}")
    assert caught.value.position is not None


def test_names_are_folded_and_cut_to_63_bytes() -> None:
    statement = one(["select 1", 'create view "MiXed" as select 1'][1])
    assert isinstance(statement, s.CreateView)
    assert statement.view.name == "MiXed"
    assert one("drop table ABC").tables[0].name == "abc"  # type: ignore[attr-defined]
    long = one(f"create schema {'x' * 70}")
    assert isinstance(long, s.CreateSchema)
    assert long.name == "x" * 63
    assert long.notices == (f'identifier "{"x" * 70}" will be truncated to "{"x" * 63}"',)


def test_copy_options_in_both_forms() -> None:
    new = one("copy t (a) from stdin with (format csv, header, delimiter '|', force_null (a))")
    old = one("copy t (a) from stdin csv header delimiter '|' force null a")
    assert isinstance(new, s.CopyFrom)
    assert isinstance(old, s.CopyFrom)
    assert new.options == old.options
    assert new.options.null == ""
    assert one("copy t from stdin with (freeze on)").options.freeze  # type: ignore[attr-defined]
    out = one("copy (select 1) to '/tmp/x' (format binary)")
    assert isinstance(out, s.CopyTo)
    assert (out.path, out.options.format) == ("/tmp/x", s.CopyFormat.BINARY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("(delimiter ',,')", "COPY delimiter must be a single one-byte character"),
        ("(delimiter 'a')", 'COPY delimiter cannot be "a"'),
        ("(format csv, quote '|', delimiter '|')", "COPY delimiter and quote must be different"),
        ("(format binary, header)", "cannot specify HEADER in BINARY mode"),
        ("(quote '|')", "COPY QUOTE requires CSV mode"),
        ("(format csv, format text)", "conflicting or redundant options"),
        ("(format xml)", 'COPY format "xml" not recognized'),
        ("(nonsense 1)", 'option "nonsense" not recognized'),
        ("(format csv, force_quote *)", "COPY FORCE_QUOTE cannot be used with COPY FROM"),
    ],
)
def test_bad_copy_options(options: str, message: str) -> None:
    with pytest.raises(DqeError) as caught:
        parse(f"copy t from stdin {options}")
    assert caught.value.message == message


def test_changes_are_taken_apart() -> None:
    insert = one("with x as (select 1) insert into t (a) select * from x on conflict do nothing")
    assert isinstance(insert, s.Insert)
    assert insert.on_conflict is not None
    assert insert.source is not None
    assert insert.source.sql("postgres") == "WITH x AS (SELECT 1) SELECT * FROM x"
    update = one("update t u set a = default, (b, c) = (1, 2) from v where u.a = v.a returning *")
    assert isinstance(update, s.Update)
    assert update.alias == "u"
    assert [a.columns for a in update.assignments] == [("a",), ("b", "c")]
    assert update.assignments[0].value is None
    assert update.source.sql("postgres") == "SELECT 1 FROM v WHERE u.a = v.a"
    delete = one("delete from t using u where t.a = u.a")
    assert isinstance(delete, s.Delete)
    assert delete.source.sql("postgres") == "SELECT 1 FROM u WHERE t.a = u.a"


def test_citus_functions_are_statements_only_alone() -> None:
    found = one("select create_distributed_table('s.t', 'C', shard_count := 8)")
    assert found == s.Distribute(
        text=found.text,
        offset=0,
        function="create_distributed_table",
        table=s.ObjectName("t", "s"),
        column="C",
        part_count=8,
    )
    assert isinstance(one("select create_reference_table('t')"), s.Distribute)
    assert isinstance(one("select create_reference_table('t'), 1"), s.Query)


def test_session_statements() -> None:
    assert one("set local search_path to a, 'B'") == s.SetVariable(
        text="set local search_path to a, 'B'",
        offset=0,
        name="search_path",
        value="a, B",
        local=True,
    )
    assert one("set time zone -7").value == "-7"  # type: ignore[attr-defined]
    assert one("show transaction isolation level").name == (  # type: ignore[attr-defined]
        "transaction_isolation"
    )
    begin = one("start transaction isolation level repeatable read, read only")
    assert isinstance(begin, s.Begin)
    assert begin.modes == s.TransactionModes("repeatable read", True, None)
    assert isinstance(one("rollback to savepoint a"), s.RollbackToSavepoint)
    fetched = one("fetch forward all in c")
    assert isinstance(fetched, s.Fetch)
    assert (fetched.cursor, fetched.count) == ("c", None)
    prepared = one("prepare p (int, text) as insert into t values ($1, $2)")
    assert isinstance(prepared, s.Prepare)
    assert isinstance(prepared.statement, s.Insert)
    explain = one("explain (analyze, costs off, format json) select 1")
    assert isinstance(explain, s.Explain)
    assert (explain.analyze, explain.costs, explain.format) == (True, False, "json")


@pytest.mark.parametrize(
    ("text", "direction", "count"),
    [
        ("fetch c", "forward", 1),
        ("fetch 5 from c", "forward", 5),
        ("fetch -5 from c", "forward", -5),
        ("fetch all in c", "forward", None),
        ("move backward all in c", "backward", None),
        ("fetch backward 2 c", "backward", 2),
        ("fetch prior from c", "forward", -1),
        ("fetch last from c", "absolute", -1),
        ("fetch absolute -3 from c", "absolute", -3),
        ("fetch relative 0 from c", "relative", 0),
        ("fetch first", "forward", 1),  # a cursor of that name
    ],
)
def test_directions_of_fetch(text: str, direction: str, count: int | None) -> None:
    (statement,) = parse(text)
    assert isinstance(statement, s.Fetch)
    assert (statement.direction, statement.count) == (direction, count)


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("row", AccessMethod.ROW),
        ("COLUMNAR", AccessMethod.COLUMNAR),
        ("heap", AccessMethod.HYBRID),
        ("DEFAULT", None),
    ],
)
def test_alter_table_set_access_method(text: str, method: AccessMethod | None) -> None:
    statement = one(f"ALTER TABLE t SET ACCESS METHOD {text}")
    assert isinstance(statement, s.AlterTable)
    assert statement.actions == (s.SetAccessMethod(method),)
