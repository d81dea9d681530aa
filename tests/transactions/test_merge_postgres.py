"""MERGE beside other sessions: rows are locked one by one, and every step ends as in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from beside_postgres import play_each

SETUP = """
    1: drop schema public cascade; create schema public
    1: create table t (id int primary key, v int default 7, w text)
    1: create table s (id int primary key, d int)
    1: insert into t select i, i * 10, 'old' from generate_series(1, 5) i
    1: insert into s values (1, 1), (2, 2), (3, 3), (6, 6)
"""

SCRIPTS = {
    "rows beside those of others": """
        1: begin; update t set v = 0 where id = 5
        2: merge into t using s on t.id = s.id when matched then update set v = t.v + s.d
           when not matched then insert values (s.id, s.d, 'new')
        2: select * from t order by id
        1: commit
        1: begin; merge into t using (values (1)) x(id) on t.id = x.id when matched then delete
        2: update t set v = 1 where id = 2
        2~ merge into t using s on t.id = s.id when matched and t.v < 0 then do nothing
           when matched and s.id < 3 then update set w = 'merged'
        1: rollback
        2=
        2: select * from t order by id
    """,
    "another clause for the newest version": """
        1: begin; update t set v = 1000 where id = 2
        2~ merge into t using s on t.id = s.id when matched and v > 500 then delete
           when matched then update set v = v + d, w = 'up'
           when not matched then insert (id, w) values (s.id, 'new')
           returning merge_action(), t.*, s.d
        1: commit
        2=
        2: select * from t order by id
        1: begin; update t set w = 'done' where id = 3
        2~ merge into t using s on t.id = s.id when matched and w <> 'done' then update set v = -1
        1: commit
        2=
        2: select * from t order by id
    """,
    "a row that matches no more": """
        1: begin; update t set v = 99 where id = 3; delete from t where id = 1
        2~ merge into t using s on t.id = s.id and t.v < 50 when matched then update set w = 'hit'
           when not matched by source and t.id > 4 then update set w = 'alone'
           when not matched and s.id < 3 then insert values (s.id, s.d, 'again')
           returning merge_action(), *
        1: commit
        2=
        2: select * from t order by id
        1: begin; update t set v = v + 1
        2~ merge into t using s on t.id = s.id when matched then delete
           when not matched by source then update set w = 'left', v = t.v * 2
           returning merge_action(), t.id, t.v, d
        1: commit
        2=
        2: select * from t order by id
    """,
    "a row that matches no more and is there": """
        1: begin; update t set v = 99 where id = 3
        2~ merge into t using s on t.id = s.id and t.v < 50 when matched then update set w = 'hit'
           when not matched by source then update set w = 'alone'
           when not matched and s.id <> 3 then insert values (s.id, s.d, 'new')
        1: commit
        2=
        2: select * from t order by id
    """,
    "new rows of others": """
        1: begin; insert into t values (6, 66, 'first')
        2~ merge into t using s on t.id = s.id when matched then update set v = 0
           when not matched then insert values (s.id, s.d, 'second')
        1: commit
        2=
        2: select * from t order by id
        1: begin; delete from t where id = 6; insert into s values (7, 7), (8, 8)
        2: begin; insert into t values (7, 0, 'x')
        1~ merge into t using s on t.id = s.id
           when not matched then insert values (s.id, s.d, 'third')
        2: rollback
        1=
        1: commit
        2: select * from t order by id
    """,
    "higher levels": """
        1: begin isolation level repeatable read; select count(*) from s
        2: update t set v = 1 where id = 2
        1: merge into t using s on t.id = s.id when matched and s.id = 1 then delete
        1: merge into t using s on t.id = s.id when matched then update set v = 3
        1: rollback
        1: begin isolation level serializable; select count(*) from s
        2: update t set v = 1 where id = 3
        1: merge into t using s on t.id = s.id when matched then update set v = 3
        1: rollback
    """,
    "RETURNING and mistakes": """
        1: begin; merge into t as a using s on a.id = s.id when matched and s.id = 1 then delete
           when matched then update set v = s.d when not matched then insert values (s.id, 1, 'n')
           returning merge_action() as what, a.id, a.v, a.w, s.*
        1: rollback
        1: begin; merge into t using s on t.id = s.id when matched and s.id = 1 then delete
           when matched then do nothing when not matched then insert (id) values (s.id)
           returning *
        1: rollback
        1: merge into t using (select 1 as id, 2 as d union all select 1, 3) s on t.id = s.id
           when matched then update set v = s.d
        1: merge into t using s on t.id = s.id when matched then update set id = s.id + 1
        1: merge into t using s on t.id = s.id when matched then update set zz = 1
        1: merge into t using s on t.id = s.id when matched then update set v = 1 returning zz
        1: begin; merge into t using s on t.id = s.id when matched and s.id = 3
           then update set id = 33 returning merge_action(), t.id, s.id
        1: select * from t order by id
        1: rollback
        1: begin; merge into t using (select id, d as id2, d as id2 from s) x on t.id = x.id
           when matched then update set v = -1
        1: rollback
        1: with x as (select id from s where d < 3) merge into t using x on t.id = x.id
           when matched then delete returning t.id
    """,
    "keys that others refer to": """
        1: create table c (id int primary key, t int)
        dqe: drop table c
        dqe: alter table t add constraint n check (v < 2000)
        pg: alter table t add constraint n check (v < 2000)
        dqe: create table c (id int primary key, t int) replicated
        1: begin; merge into t using s on t.id = s.id when matched and s.id = 1 then
           update set v = 3000
        1: rollback
        2: begin; select * from t where id = 2 for key share
        1: merge into t using s on t.id = s.id when matched then update set v = 5
        1~ merge into t using s on t.id = s.id when matched and s.id = 2 then delete
        2: commit
        1=
    """,
}


@pytest.mark.slow
def test_every_step_as_in_postgresql(tmp_path: Path) -> None:
    play_each(tmp_path, SETUP, SCRIPTS)
