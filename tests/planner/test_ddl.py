"""Definitions to catalog commands, and what is refused with PostgreSQL's SQLSTATEs."""

from __future__ import annotations

import pytest
from ddl_support import Definitions

from catalog.commands import PrepareRecut
from catalog.definition import UniqueDefinition
from catalog.model import Durability, NodeId, PartitionMethod, Placement
from cluster.errors import DqeError
from planner.ddl_plan import ChangeCatalog, CreateAndFill, DdlPlan


def error_of(definitions: Definitions, sql: str) -> DqeError:
    with pytest.raises(DqeError) as caught:
        definitions.run(sql)
    return caught.value


def test_a_table_with_all_its_parts() -> None:
    definitions = Definitions()
    definitions.run(
        "create table t (a int primary key, b varchar(10) default 'x' not null,"
        " c numeric(12,2) check (c > 0), d timestamptz default now(), e text[] default '{}')"
        " partition by hash (a) partitions 6 column groups (core (b), cold (c, d, e))"
    )
    table = definitions.table("t")
    assert [str(c.type) for c in table.columns] == [
        "integer",
        "character varying(10)",
        "numeric(12,2)",
        "timestamp with time zone",
        "text[]",
    ]
    assert [c.not_null for c in table.columns] == [True, True, False, False, False]
    assert [c.default for c in table.columns] == [None, "'x'", None, "now()", "'{}'"]
    assert [(c.name, c.expression) for c in table.checks] == [("t_c_check", "c > 0")]
    assert table.method is PartitionMethod.HASH
    assert (len(table.parts), len(table.groups)) == (6, 2)


def test_defaults_of_the_clauses() -> None:
    definitions = Definitions()
    definitions.run(
        "create table keyed (k int, v text, primary key (k)); create table bare (v int)"
    )
    keyed, bare = definitions.table("keyed"), definitions.table("bare")
    assert keyed.method is PartitionMethod.HASH
    assert keyed.partition_columns == keyed.key
    assert len(keyed.parts) == 3
    assert bare.hidden_row_id
    assert [c.name for c in bare.visible_columns] == ["v"]


def test_replicas_and_durability_are_changed() -> None:
    definitions = Definitions()
    definitions.run("create table t (a int primary key)")
    definitions.run("alter table t set (replicas = 1, durability = 'sync')")
    table = definitions.table("t")
    assert (table.replicas, table.default_replicas) == (1, False)
    assert table.durability is Durability.SYNC


def test_a_placement_is_taken_back_word_by_word() -> None:
    definitions = Definitions()
    definitions.run("create table t (a int primary key) with (replicas = 1)")

    def placement() -> Placement | None:
        table = definitions.catalog.find_table("t")
        assert table is not None
        tablet = definitions.catalog.tablets[table.parts[0].fragments[0].tablet_id]
        assert tablet.placement == table.placement
        return table.placement

    definitions.run("alter table t set (region = 'eu', nodes = '1,3')")
    assert placement() == Placement("eu", None, (NodeId(1), NodeId(3)))
    definitions.run("alter table t reset (nodes, zone)")
    assert placement() == Placement("eu")
    definitions.run("alter table t reset (region)")
    assert placement() is None


ERRORS = [
    ("create table x (a foo)", "42704", 'type "foo" does not exist'),
    ("create table x (a timestamp(3))", "0A000", None),
    ("create table x (a numeric(50))", "22023", None),
    ("create table x (a varchar(0))", "22023", "length for type varchar must be at least 1"),
    ("create table x (a record)", "42P16", 'column "a" has pseudo-type record'),
    ("create table x (a int, a int)", "42701", 'column "a" specified more than once'),
    ("create table x (a int null not null)", "42601", None),
    ("create table x (a int default 'q')", "22P02", None),
    ("create table x (a int default (select 1))", "0A000", None),
    ("create table x (a int default b)", "0A000", None),
    ("create table x (a int check (b > 0))", "42703", None),
    ("create table x (a int primary key, b int primary key)", "42P16", None),
    ("create table x (a int, primary key (b))", "42703", 'column "b" named in key does not exist'),
    ("create table x (a int primary key, b int) partition by hash (b)", "0A000", None),
    ("create table x (a int unique, b int) partition by hash (b)", "0A000", None),
    ("create table x (a int) partition by range (a)"
     " (partition p values from (1) to (5), partition q values from (4) to (9))", "42P17", None),
    ("create table x (a int) partition by range (a)"
     " (partition p values from (1) to (5), partition q values from (6) to (9))", "42P17", None),
    ("create table x (a int) partition by range (a) (partition p values from (null) to (5))",
     "42P17", None),
    ("create table x (a int) partition by range (a) (partition p values from ('q') to (5))",
     "22P02", None),
    ("create table x (a int) partition by range (a) (partition p values from (1 + 1) to (5))",
     "0A000", None),
    ("create table x (a int) partition by list (b) (partition p values in (1))", "42703", None),
    ("create table x (a int) replicated partition by hash (a)", "42P16", None),
    ("create table x (a int) colocate with nobody", "42P01", None),
    ("create table x (a int) column groups (g (a), h (a))", "42P16", None),
    ("create table t (a int)", "42P07", None),
    ("create table nowhere.x (a int)", "3F000", 'schema "nowhere" does not exist'),
    ("create table pg_catalog.x (a int)", "42501", None),
    ("create table p partition of t for values from (1) to (2)", "42P17", None),
    ("drop table nobody", "42P01", 'table "nobody" does not exist'),
    ("drop index i", "42704", None),
    ("create schema pg_mine", "42939", None),
    ("create view v as select nothing from t", "42703", None),
    ("create view v (a, b) as select 1", "42P16", None),
    ("alter table t add constraint u unique (b)", "0A000", None),
    ("alter table t add primary key (b)", "42P16", None),
    ("alter table t drop constraint nothing", "42704", None),
    ("alter table t set (region = 'eu')", "22023", None),
    ("alter table t reset (durability)", "0A000", None),
    ("alter table t reset (colour)", "22023", 'unrecognized parameter "colour"'),
    ("alter table t alter column q set default 1", "42703", None),
    ("alter table t drop column a", "42P16", None),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "sqlstate", "message"), ERRORS, ids=[e[0][:60] for e in ERRORS])
def test_refused(sql: str, sqlstate: str, message: str | None) -> None:
    definitions = Definitions()
    definitions.run("create table t (a int primary key, b text)")
    error = error_of(definitions, sql)
    assert error.sqlstate == sqlstate, error
    if message is not None:
        assert error.message == message


def test_a_key_without_the_partition_column_says_what_to_do() -> None:
    error = error_of(
        Definitions(), "create table x (a int primary key, b int) partition by hash (b)"
    )
    assert error.hint


def test_bounds_are_kept_in_the_form_of_the_type() -> None:
    definitions = Definitions()
    definitions.run(
        "create table t (d date, primary key (d)) partition by range (d)"
        " (partition p values from (date '2020-1-5') to ('2021-01-01'::date))"
    )
    (part,) = definitions.table("t").parts
    assert part.bounds.range_low[0].text == "2020-01-05"
    definitions.run(
        "create table n (k numeric) partition by list (k) (partition p values in (-1.50))"
    )
    assert definitions.table("n").parts[0].bounds.list_values == ("-1.5",)


def test_parts_come_in_two_steps_and_go_by_name() -> None:
    definitions = Definitions()
    definitions.run(
        "create table t (k int) partition by range (k);"
        "create table low partition of t for values from (minvalue) to (0);"
        "create table rest partition of t default with (region = 'us')"
    )
    assert [part.name for part in definitions.table("t").parts] == ["low", "rest"]
    definitions.run("drop table low")
    assert [part.name for part in definitions.table("t").parts] == ["rest"]


def test_like_copies_what_it_is_told_to() -> None:
    definitions = Definitions()
    definitions.run(
        "create table t (a int primary key, b text default 'x' check (b <> ''));"
        "create table plain (like t); create table whole (like t including all)"
    )
    plain, whole = definitions.table("plain"), definitions.table("whole")
    assert plain.hidden_row_id
    assert [c.default for c in plain.visible_columns] == [None, None]
    assert [c.not_null for c in plain.visible_columns] == [True, False]
    assert whole.primary_key is not None
    assert whole.columns[1].default == "'x'"
    assert [c.expression for c in whole.checks] == ["b <> ''"]


def test_views_mean_the_same_for_every_search_path() -> None:
    definitions = Definitions()
    definitions.run("create schema s; create table s.t (a int); create table public.u (b int);")
    definitions.settings["search_path"] = "s, public"
    definitions.run("create view v (x) as with w as (select 1) select t.a, b from t, u, w")
    view = definitions.catalog.find_view("v", "s")
    assert view is not None
    assert view.query == "with w as (select 1) select t.a, b from s.t, public.u, w"
    assert [(name, str(t)) for name, t in view.columns] == [("x", "integer"), ("b", "integer")]
    error = error_of(definitions, "drop table s.t")
    assert error.sqlstate == "2BP01"
    definitions.run("drop table s.t cascade")
    assert definitions.catalog.find_view("v", "s") is None


def test_what_exists_or_not_is_told_as_postgresql_tells_it() -> None:
    definitions = Definitions()
    definitions.run("create table t (a int)")
    assert definitions.run("create table if not exists t (a int)") == [
        'relation "t" already exists, skipping'
    ]
    assert definitions.run("drop table if exists nobody") == [
        'table "nobody" does not exist, skipping'
    ]
    assert definitions.run("drop index if exists i") == ['index "i" does not exist, skipping']
    assert definitions.run("alter table if exists nobody add column a int") == [
        'relation "nobody" does not exist, skipping'
    ]


def test_renamed_columns_are_renamed_in_checks() -> None:
    definitions = Definitions()
    definitions.run(
        "create table t (a int check (a > 0 and T.A < 10), b text);"
        'alter table t rename column a to "A b"; alter table t rename to u'
    )
    table = definitions.table("u")
    assert table.checks[0].expression == '"A b" > 0 and T."A b" < 10'


def test_dropped_columns_take_their_checks_along() -> None:
    definitions = Definitions()
    definitions.run(
        "create table t (a int check (a > 0), b int check (b > 0), c int);"
        "alter table t drop column a"
    )
    assert [check.expression for check in definitions.table("t").checks] == ["b > 0"]


def recut(plan: DdlPlan) -> PrepareRecut:
    assert isinstance(plan, ChangeCatalog)
    (command,) = plan.commands
    assert isinstance(command, PrepareRecut)
    return command


def test_a_table_as_a_query_says_gets_its_columns() -> None:
    definitions = Definitions()
    definitions.run("create table t (a int, b text)")
    created = definitions.plan("create table u as select a, 'x' as b from t")
    assert isinstance(created, CreateAndFill)
    assert [str(c.type) for c in created.command.definition.columns] == ["integer", "text"]


def test_columns_are_added_with_their_defaults() -> None:
    definitions = Definitions()
    definitions.run("create table t (a int); alter table t add column c int not null default 7")
    column = definitions.table("t").column_named("c")
    assert column is not None
    assert (column.not_null, column.default) == (True, "7")


def test_a_primary_key_added_later_cuts_the_table_by_it() -> None:
    definitions = Definitions()
    definitions.run("create table t (a int, b int) column groups (g (a), h (b))")
    plan = recut(definitions.plan("alter table t add primary key (a)"))
    assert plan.primary_key == UniqueDefinition(("a",))
    assert plan.scheme.method is None
    definitions.run("create table p (a int, b int) partition by hash (b) partitions 4")
    kept = recut(definitions.plan("alter table p add primary key (b, a)"))
    assert (kept.scheme.columns, kept.scheme.part_count) == (("b",), 4)
    assert error_of(definitions, "alter table p add primary key (a)").sqlstate == "0A000"


def test_a_recut_under_a_key_takes_the_key_out_of_the_groups() -> None:
    definitions = Definitions()
    definitions.run("create table t (a int, b int) column groups (g (a), h (b))")
    plan = recut(definitions.plan("alter table t add primary key (a)"))
    definitions.apply(plan)
    table = definitions.table("t")
    assert not table.hidden_row_id
    assert [c.name for c in table.columns] == ["a", "b"]
    assert [[c.name for c in table.group_columns(g.id)] for g in table.groups] == [
        ["a"],
        ["a", "b"],
    ]
    assert table.columns[0].not_null


def test_citus_functions_become_recuts() -> None:
    definitions = Definitions()
    definitions.run("create table t (a int, b int); create table u (a int primary key)")
    plan = recut(
        definitions.plan("select create_distributed_table('t', 'a', colocate_with := 'u')")
    )
    assert plan.scheme.method is PartitionMethod.HASH
    assert plan.scheme.colocate_with == ("public", "u")
    reference = recut(definitions.plan("select create_reference_table('t')"))
    assert reference.scheme.method is PartitionMethod.REPLICATED
    assert error_of(definitions, "select create_distributed_table('t', 'z')").sqlstate == "42703"
