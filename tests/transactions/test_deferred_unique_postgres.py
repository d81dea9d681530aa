"""DEFERRABLE primary keys and unique constraints: every step as in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from beside_postgres import play_each

SETUP = """
    1: drop schema public cascade; create schema public
    1: create table k (id int primary key deferrable initially deferred, v text)
    1: create table t (id int primary key deferrable, v text)
    1: create table u (id int primary key, w int constraint u_w unique deferrable
       initially deferred, x int)
    1: insert into k values (1, 'a'), (2, 'b'), (3, 'c')
    1: insert into t values (1, 'a'), (2, 'b'), (3, 'c')
    1: insert into u values (1, 10, 0), (2, 20, 0), (3, null, 0), (4, null, 0)
"""

SCRIPTS = {
    "the end of the statement": """
        1: update t set id = 3 - id where id < 3
        1: select * from t order by id
        1: update t set id = id + 1
        1: update t set id = 4 where id < 4
        1: begin; insert into t values (4, 'd')
        1: rollback
        1: insert into t values (null, 'd')
        1: insert into t values (5, 'e'), (5, 'f')
        1: select * from t order by id
        1: delete from t where id = 2; insert into t values (2, 'again')
        1: select * from t where id = 2
        1: select v from t where id = 3 for update
    """,
    "the end of the transaction": """
        1: begin; update k set id = 2 where v = 'a'
        1: select * from k order by id, v
        1: update k set id = 1 where v = 'b'
        1: commit
        1: select * from k order by id
        1: begin; update k set id = 3 where v = 'a'
        1: commit
        1: select * from k order by id
        1: begin; insert into k values (3, 'x'); delete from k where v = 'c'; commit
        1: begin; insert into k values (3, 'y'); delete from k where v = 'y'; commit
        1: begin; insert into k values (9, 'y'); insert into k values (9, 'z')
        1: select count(*) from k where id = 9
        1: delete from k where id = 9
        1: commit
        1: insert into k values (1, 'again')
        1: insert into k values (1, 'again'); select 1
        1: insert into k values (8, 'm'); insert into k values (8, 'n'); delete from k where v = 'm'
        1: select * from k order by id
        1: begin; update u set w = 20 where id = 1; update u set w = 10 where id = 2; commit
        1: begin; insert into u values (5, 10, 1); update u set w = null where id = 2; commit
        1: begin; insert into u values (6, 20, 1); update u set x = 7 where id = 6
        1: insert into u values (6, 70, 1)
        1: commit
        1: begin; insert into u values (6, 20, 1)
        1: commit
        1: begin; merge into u using (values (5, 20)) s (id, w) on u.id = s.id
           when matched then update set w = s.w
        1: commit
        1: select * from u order by id
        1: begin; truncate u; insert into u values (1, 20, 0); commit
        1: select * from u order by id
    """,
    "SET CONSTRAINTS": """
        1: begin; set constraints t_pkey deferred; insert into t values (1, 'x')
        1: set constraints t_pkey immediate
        1: rollback
        1: begin; set constraints all immediate
        1: insert into k values (1, 'x')
        1: rollback
        1: begin; insert into k values (1, 'x'); insert into u values (5, 10, 0)
        1: delete from k where v = 'x'
        1: set constraints k_pkey immediate
        1: insert into k values (2, 'x')
        1: rollback
        1: begin; insert into k values (1, 'x'); insert into u values (5, 10, 0)
        1: set constraints k_pkey, u_w immediate
        1: rollback
        1: begin; set constraints u_pkey deferred
        1: rollback
        1: begin; set constraints all deferred; update t set id = 2 where id = 1
        1: update t set id = 1 where v = 'b'
        1: set constraints all immediate
        1: update t set id = 1 where id = 2
        1: rollback
    """,
    "savepoints": """
        1: begin; savepoint a; insert into k values (1, 'x'); rollback to a; commit
        1: begin; insert into k values (1, 'x'); savepoint a; delete from k where v = 'x'
        1: rollback to a
        1: commit
        1: begin; insert into k values (1, 'x'); savepoint a; delete from k where v = 'x'
        1: set constraints all immediate
        1: rollback to a
        1: commit
        1: begin; insert into k values (1, 'x'); savepoint a; select 1 / 0
        1: rollback to a
        1: delete from k where v = 'x'; commit
        1: begin; savepoint a; set constraints all immediate; rollback to a
        1: insert into k values (2, 'x')
        1: commit
        1: select * from k order by id
    """,
    "other sessions": """
        1: begin; insert into u values (5, 50, 1)
        2: begin; insert into u values (6, 50, 2)
        2~ commit
        1: commit
        2=
        1: begin; insert into u values (6, 60, 1)
        2: begin; insert into u values (7, 60, 2)
        2~ commit
        1: rollback
        2=
        1: begin; insert into u values (8, 80, 1)
        2: begin; insert into u values (9, 80, 2)
        1: commit
        2: commit
        1: begin; delete from u where w = 10
        2: begin; insert into u values (9, 10, 2)
        2~ commit
        1: commit
        2=
        1: begin; delete from u where w = 20
        2: begin; insert into u values (10, 20, 2)
        2~ set constraints all immediate
        1: rollback
        2=
        2: rollback
        1: begin; insert into u values (11, 110, 1); insert into u values (12, 60, 1)
        2: begin; insert into u values (13, 110, 2)
        1: commit
        2: commit
        1: begin isolation level repeatable read; select count(*) from u
        2: insert into u values (14, 140, 2)
        1: insert into u values (15, 140, 1)
        1: commit
        1: begin isolation level serializable; insert into u values (16, 160, 1)
        2: begin isolation level serializable; insert into u values (17, 160, 2)
        1: commit
        2: commit
        1: select * from u order by id
    """,
    "definitions": """
        1: create table f (id int references k)
        1: create table f (id int references k (id))
        1: create table f (w int references u (w))
        1: insert into k values (1, 'z') on conflict do nothing
        1: insert into k values (1, 'z') on conflict (id) do nothing
        1: insert into k values (1, 'z') on conflict (id) do update set v = 'z'
        1: insert into k values (1, 'z') on conflict on constraint k_pkey do nothing
        1: insert into u values (99, 70, 0) on conflict do nothing
        1: insert into u values (1, 70, 0) on conflict (w) do nothing
        1: insert into u values (1, 70, 0) on conflict (id) do update set x = 1
        1: insert into u values (9, 20, 0) on conflict (id) do nothing
        1: select id, v from k group by id
        1: select id, x from u group by id order by id
        1: create table x (a int unique initially deferred not deferrable)
        1: create table x (a int, check (a > 0) deferrable)
        1 code: create table x (a int, unique (a) deferrable not deferrable)
        1: create table l (like k including all)
        1: select conname, contype, condeferrable, condeferred, pg_get_constraintdef(oid)
           from pg_constraint where contype in ('p', 'u') and conname not like 'pg%' order by 1
        1: select indexrelid::regclass::text, indimmediate, indisprimary from pg_index
           where indrelid = 'k'::regclass or indrelid = 'u'::regclass order by 1
        1: select constraint_name, is_deferrable, initially_deferred
           from information_schema.table_constraints
           where constraint_type in ('UNIQUE', 'PRIMARY KEY') and table_schema = 'public' order by 1
        1: alter table k alter column id drop not null
        1: alter table k rename constraint k_pkey to k_key
        1: begin; insert into k values (1, 'x'); delete from k where v = 'x'; commit
        1: begin; insert into k values (1, 'x')
        1: commit
        1: alter table k drop constraint k_key
        1: insert into k values (1, 'twice')
        1: alter table k add primary key (id) deferrable initially deferred
        1: delete from k where v = 'twice'
        1: alter table k add primary key (id) deferrable initially deferred
        1: begin; insert into k values (1, 'x')
        1: commit
        1: alter table k add primary key (id)
        1: create table n (a int primary key, b int unique, c int)
        1: insert into n values (1, 1, 1), (2, 2, 1)
        1: alter table n add constraint n_c unique (c) deferrable
        1: update n set c = a
        1: alter table n add constraint n_c unique (c) deferrable
        1: update n set c = 3 - c
        1: select * from n order by a
        1: begin; set constraints n_c deferred; update n set c = 1
        1: commit
        1: create table o (a int primary key, b float8 unique deferrable initially deferred)
        1: begin; insert into o values (1, 1.5), (2, 1.5)
        1: commit
        1: begin; insert into o values (1, 1.5), (2, 1.5); update o set b = 2.5 where a = 2; commit
        1: select * from o order by a
    """,
}


@pytest.mark.slow
def test_every_step_as_in_postgresql(tmp_path: Path) -> None:
    play_each(tmp_path, SETUP, SCRIPTS)
