"""Schedules that are known to tell databases apart: every step as in PostgreSQL.

rows looked at again     what a statement makes of a row that changed while it waited for it
new keys                 inserts and ON CONFLICT beside rows that come and go
rows that refer          foreign keys beside inserts, deletes and changes of both tables
locks                    which modes go together, who is next, what savepoints give back
higher levels            what a kept snapshot refuses
"""

from __future__ import annotations

from pathlib import Path

import pytest
from beside_postgres import play_each

SETUP = """
    1: drop schema public cascade; create schema public
    1: create table t (id int primary key, v int, g int)
    1: create table s (id int primary key, v int)
    1: insert into t select i, i * 10, i % 2 from generate_series(1, 5) i
    1: insert into s select i, i from generate_series(1, 5) i
"""

ROWS = {
    "the newest version counts": """
        1: begin; update t set v = v + 1 where id = 1
        2~ update t set v = v * 2 where id = 1 returning v
        3~ update t set v = v * 3 + 1 where id = 1 returning v
        1: commit
        2=
        3=
        1: select * from t order by id
    """,
    "a row that matches no more, one that only matches now": """
        1: begin; update t set v = 100 where id = 1; update t set v = 11 where id = 5
        2~ update t set g = 7 where v < 15 returning *
        3~ delete from t where v < 15 and g + 0 = 1
        1: commit
        2=
        3=
        1: select * from t order by id
    """,
    "a row that matched, does not, and does again": """
        1: begin; update t set v = 1000 where id = 1
        2~ update t set g = g + 1 where v < 500 and id < 3
        1: rollback
        2=
        1: select * from t order by id
    """,
    "what it is joined with stays": """
        1: begin; update t set v = v + 1 where id < 3; update s set v = v + 100
        2~ update t set v = t.v + s.v from s where s.id = t.id and t.id < 4 returning t.*, s.v
        1: commit
        2=
        1: begin; update t set g = 9 where id = 4
        2~ delete from t using s where s.id = t.id and s.v > 102 and t.g < 5 returning t.id
        1: commit
        2=
        1: select * from t order by id
    """,
    "subqueries read at the snapshot": """
        1: begin; update t set v = 500 where id = 1; update s set v = 77 where id = 1
        2~ update t set v = (select sum(v) from t) + (select v from s where id = 1) where id = 1
        1: commit
        2=
        1: select v from t where id = 1
        1: begin; update t set v = 3 where id = 2; insert into s values (20, 0)
        2~ update t set g = 8 where id = 2 and not exists (select 1 from s where id = 20)
        1: commit
        2=
        1: select * from t where id = 2
    """,
    "a deleted row whose key is there again": """
        1: begin; delete from t where id = 2; insert into t values (2, 7, 7)
        2~ select * from t where v = 20 for update
        3~ delete from t where v = 20 and g = 0
        1: commit
        2=
        3=
        1: select * from t where id = 2
    """,
    "rows that are not there yet": """
        1: begin; insert into t values (6, 60, 0); update t set g = 5 where id = 1
        2: update t set v = 0 where id = 6
        2: delete from t where id = 6 returning id
        2: select * from t where id = 6 for update
        2: update t set v = 0 where id = 1 and g = 5
        2: select * from t where id = 1 and g = 5 for update
        2: begin; update t set v = 1 where id = 9; select * from t where id = 10 for update
        1: insert into t values (9, 90, 0), (10, 100, 0)
        1: commit
        2: update t set v = v + 1 where id in (6, 9, 10) returning *
        2: commit
    """,
    "a CTE that locks, and one that does not": """
        1: begin; update t set v = 11 where id = 1; delete from t where id = 2
        2~ with c as (select id, v from t where id < 4 for update)
           update s set v = c.v from c where c.id = s.id returning s.*
        1: commit
        2=
        1: begin; update t set v = 12 where id = 1
        2: with c as (select id, v from t where id < 4)
           update s set v = c.v from c where c.id = s.id returning s.*
        1: commit
        1: select * from s order by id
    """,
}

KEYS = {
    "two of one key": """
        1: begin; insert into t values (6, 1, 1)
        2~ insert into t values (6, 2, 2)
        1: rollback
        2=
        1: begin; insert into t values (7, 1, 1)
        2~ insert into t values (7, 2, 2)
        1: commit
        2=
        1: select * from t where id > 5 order by id
    """,
    "ON CONFLICT and a row to come": """
        1: begin; insert into t values (6, 1, 1)
        2~ insert into t values (6, 2, 2) on conflict (id) do update set v = t.v + excluded.v
           returning *
        1: commit
        2=
        1: begin; insert into t values (7, 1, 1)
        2~ insert into t values (7, 2, 2) on conflict (id) do update set v = t.v + excluded.v
           returning *
        1: rollback
        2=
        1: begin; insert into t values (8, 1, 1)
        2~ insert into t values (8, 2, 2) on conflict (id) do nothing returning *
        1: commit
        2=
        1: begin; insert into t values (9, 1, 1)
        2~ insert into t values (9, 2, 2) on conflict (id) do nothing returning *
        1: rollback
        2=
    """,
    "ON CONFLICT and a row that goes": """
        1: begin; delete from t where id = 1; update t set v = -1 where id = 2
        2~ insert into t values (1, 2, 2) on conflict (id) do update set v = 0 returning *
        3~ insert into t values (2, 5, 5) on conflict (id) do update set v = t.v + excluded.v
           where t.v < 0 returning *
        1: commit
        2=
        3=
        1: begin; delete from t where id = 3
        2~ insert into t values (3, 2, 2) on conflict (id) do update set v = 0 returning *
        1: rollback
        2=
        1: select * from t order by id
    """,
    "what ON CONFLICT leaves locked": """
        1: begin; insert into t values (1, 0, 0), (6, 0, 0) on conflict (id) do nothing
        2: update t set v = 9 where id = 1
        1: insert into t values (2, 5, 5) on conflict (id) do update set v = excluded.v
        2: select * from t where id = 2 for key share nowait
        2: select * from t where id = 2 for update nowait
        1: insert into t values (3, 5, 5) on conflict (id) do update set v = 1 where t.v < 0
        2: select * from t where id = 3 for update nowait
        1: commit
    """,
    "keys that change": """
        1: begin; update t set id = 9 where id = 1
        2~ insert into t values (9, 0, 0)
        3~ insert into t values (1, 0, 0)
        1: commit
        2=
        3=
        1: begin; update t set id = 10 where id = 2
        2~ update t set id = 10 where id = 3
        1: rollback
        2=
        1: select * from t order by id
    """,
    "another unique column": """
        1: create table u (a int, id int, w int, primary key (a, id), unique (a, w))
        1: insert into u values (1, 1, 1), (1, 2, 2)
        1: begin; update u set w = 5 where id = 1
        2~ insert into u values (1, 3, 5)
        3~ insert into u values (1, 4, 1)
        1: commit
        2=
        3=
        1: begin; delete from u where id = 2
        2~ update u set w = 2 where id = 1
        1: rollback
        2=
        1: begin; update u set w = 8 where id = 2
        2: begin
        2~ insert into u values (1, 9, 2)
        1: commit
        2=
        1: delete from u where id = 2
        2: commit
        1: select * from u order by id
    """,
}

# Rows of c lie with those of p that they refer to; a row of d refers to the replicated r.
REFERRING = """
    1: create table p (id int primary key, v int)
    pg: create table c (p int references p {action}, id int, v int, primary key (p, id))
    dqe: create table c (p int references p {action}, id int, v int, primary key (p, id))
       partition by hash (p) colocate with p
    pg: create table r (id int primary key, v int)
    dqe: create table r (id int primary key, v int) replicated
    1: create table d (id int primary key, r int references r {action}, v int)
    1: insert into p values (1, 1), (2, 2), (3, 3); insert into r values (1, 1), (2, 2), (3, 3)
    1: insert into c values (1, 1, 1), (2, 1, 1); insert into d values (1, 1, 1), (2, 2, 2)
"""

REFERENCES = {
    "an insert and a delete of what it refers to": """
        1: begin; insert into c values (3, 1, 1); insert into d values (3, 3, 3)
        2~ delete from p where id = 3
        3~ delete from r where id = 3
        1: commit
        2=
        3=
        1: begin; delete from c where p = 3; delete from p where id = 3
        2~ insert into c values (3, 2, 2)
        1: commit
        2=
        1: begin; delete from d where r = 3; delete from r where id = 3
        2~ insert into d values (4, 3, 3)
        1: rollback
        2=
        1: select * from c order by p, id
        1: select * from d order by id
    """,
    "changes of the values beside": """
        1: begin; insert into c values (1, 5, 5); insert into d values (5, 1, 5)
        2: update p set v = 10 where id = 1; update r set v = 10 where id = 1
        2: begin; insert into c values (1, 6, 6); insert into d values (6, 1, 6)
        3~ update p set id = 9 where id = 1
        1: commit
        2: commit
        3=
        1: begin; update p set v = 11 where id = 1
        2: insert into c values (1, 7, 7)
        2~ insert into p values (1, 5) on conflict (id) do nothing
        1: commit
        2=
        1: begin; insert into p values (1, 5) on conflict (id) do update set v = excluded.v
        2: insert into c values (1, 8, 8)
        1: commit
    """,
    "an update that refers to another row": """
        1: begin; update d set r = 3 where id = 1
        2~ delete from r where id = 3
        3: update d set v = 9 where id = 2
        1: rollback
        2=
        1: update d set r = 3 where id = 1
        1: select * from d order by id
    """,
}
CASCADES = {
    "a cascade waits for rows of its own": """
        1: begin; update c set v = 9 where p = 1; update d set v = 9 where id = 2
        2~ delete from p where id = 1
        3~ delete from r where id = 2
        1: commit
        2=
        3=
        1: select * from c order by p, id
        1: select * from d order by id
    """,
    "a cascade takes rows that have come": """
        1: begin; insert into c values (1, 9, 9); insert into d values (9, 1, 9)
        2~ delete from p where id = 1
        3~ delete from r where id = 1
        1: commit
        2=
        3=
        1: select * from c order by p, id
        1: select * from d order by id
    """,
    "a row under a cascade": """
        1: begin; delete from p where id = 1; delete from r where id = 1
        2~ update c set v = 5 where p = 1
        3~ update d set v = 5 where r = 1 and v = 1
        1: commit
        2=
        3=
        1: begin; delete from p where id = 2
        2~ insert into c values (2, 2, 2)
        1: rollback
        2=
    """,
}

LOCKS = {
    "who shares waits for nobody": """
        1: begin; select id from t where id = 1 for share
        2: begin; select id from t where id = 1 for share
        3: select id from t where id = 1 for key share
        3~ update t set v = 1 where id = 1
        1: commit
        2: commit
        3=
    """,
    "modes of rows": """
        1: begin; select id from t where id = 1 for key share; select id from t where id = 2
           for share; select id from t where id = 3 for no key update
        2: update t set v = 0 where id = 1
        2: select id from t where id = 1 for update nowait
        2: select id from t where id = 2 for key share nowait
        2: select id from t where id = 2 for no key update nowait
        2: select id from t where id = 3 for key share nowait
        2: select id from t where id = 3 for share nowait
        2: select id from t order by id for no key update skip locked
        2: select id from t order by id limit 2 for update skip locked
        2~ update t set id = 11 where id = 1
        1: commit
        2=
    """,
    "savepoints give back": """
        1: begin; select id from t where id = 1 for share; savepoint a; update t set v = 0
           where id < 3; savepoint b; delete from t where id = 3
        2~ update t set v = 7 where id = 3
        3~ update t set v = 7 where id = 2
        1: rollback to b
        2=
        1: rollback to a
        3=
        2: select id from t where id = 1 for share nowait
        2: select id from t where id = 1 for update nowait
        1: commit
        1: select * from t order by id
    """,
    "a failed statement gives back": """
        1: begin; update t set v = 0 where id = 1; savepoint a
        1: update t set v = 1 / (v - 20) where id = 2
        2: update t set v = 5 where id = 2
        2~ update t set v = 5 where id = 1
        1: commit
        2=
        1: select * from t order by id
    """,
    "tables": """
        1: begin; lock table t in share mode
        2: select id from t where id = 1 for share
        2: begin; lock table t in share mode nowait
        2: rollback
        3~ insert into t values (6, 0, 0)
        1: commit
        3=
        1: begin; update t set v = 0 where id = 1
        2: begin; lock table t in row exclusive mode nowait
        2: lock table t in share mode nowait
        2: rollback
        2: begin; lock table t in share row exclusive mode nowait
        2: rollback
        2~ truncate s, t
        1: rollback
        2=
        1: select count(*) from t
    """,
    "the next of a queue": """
        1: begin; select id from t where g = 1 order by v desc limit 1 for update skip locked
        2: begin; select id from t where g = 1 order by v desc limit 1 for update skip locked
        3: delete from t where id = (select id from t where g = 1 order by v desc limit 1 for
           update skip locked) returning id
        3: select id from t where g = 1 order by v desc limit 1 for update skip locked
        1: delete from t where id = 5
        1: commit
        2: rollback
        3: select id from t where g = 1 order by v desc limit 1 for update skip locked
    """,
}

LEVELS = {
    "rows that were not meant": """
        1: begin isolation level repeatable read; select count(*) from t
        2: update t set v = 11 where id = 1; delete from t where id = 2; insert into t values
           (6, 60, 0)
        1: update t set g = 0 where id = 1 and v = 11
        1: update t set g = 0 where id = 6
        1: delete from t where id = 2 and v = 0
        1: select * from t where id in (1, 2, 6) order by id
        1: savepoint a
        1: update t set g = 0 where id = 1
        1: rollback to a
        1: delete from t where id = 2
        1: rollback to a
        1: select * from t where id = 1 for share
        1: rollback to a
        1: update t set v = 0 where id = 3
        1: commit
        1: select * from t order by id
    """,
    "keys that came": """
        1: begin isolation level repeatable read; select count(*) from t
        2: insert into t values (6, 60, 0)
        1: savepoint a
        1: insert into t values (6, 61, 1)
        1: rollback to a
        1: insert into t values (6, 61, 1) on conflict (id) do nothing
        1: rollback to a
        1: insert into t values (6, 61, 1) on conflict (id) do update set v = 0
        1: rollback
    """,
    "who waits and is too late": """
        2: begin isolation level repeatable read; select count(*) from t
        3: begin isolation level serializable; select count(*) from s
        1: begin; update t set v = 0 where id = 1; update t set v = 0 where id = 2
        2~ update t set v = 1 where id = 1
        3~ update t set v = 1 where id = 2
        1: rollback
        2=
        3=
        2: commit
        3: commit
        1: select * from t order by id
    """,
    "two that count and add": """
        1: begin isolation level serializable; select count(*) from t where g = 1
        2: begin isolation level serializable; select count(*) from t where g = 1
        1: insert into t values (6, 0, 1)
        2: insert into t values (7, 0, 1)
        1: commit
        2 code: commit
        2: rollback
        1: select id from t order by id
    """,
    "who only reads": """
        1: begin isolation level serializable; select sum(v) from t
        2: begin isolation level serializable read only; select sum(v) from t
        1: update t set v = 0 where id = 1
        1: commit
        2: select sum(v) from t
        2: commit
        1: begin; update t set v = 5 where id = 1
        2: begin isolation level serializable, read only, deferrable; select v from t where id = 1
        1: commit
        2: select v from t where id = 1
        2: update t set v = 6 where id = 1
        2: rollback
    """,
    "skew over rows that refer": """
        1: create table p (id int primary key, v int)
        pg: create table c (p int references p, id int, primary key (p, id))
        dqe: create table c (p int references p, id int, primary key (p, id))
           partition by hash (p) colocate with p
        1: insert into p values (1, 1), (2, 2)
        1: begin isolation level serializable; select count(*) from c where p = 1
        2: begin isolation level serializable; select v from p where id = 1
        1: update p set v = 0 where id = 1
        2: insert into c values (1, 1)
        1: commit
        2 code: commit
        2: rollback
        1: select * from c
    """,
}


@pytest.mark.slow
def test_every_step_as_in_postgresql(tmp_path: Path) -> None:
    play_each(tmp_path, SETUP, ROWS | KEYS | LOCKS | LEVELS)


@pytest.mark.slow
def test_rows_that_refer_step_by_step_as_in_postgresql(tmp_path: Path) -> None:
    setup = SETUP + REFERRING
    scripts = {name: setup.format(action="") + text for name, text in REFERENCES.items()}
    cascading = setup.format(action="on delete cascade on update cascade")
    scripts |= {name: cascading + text for name, text in CASCADES.items()}
    play_each(tmp_path, "", scripts)
