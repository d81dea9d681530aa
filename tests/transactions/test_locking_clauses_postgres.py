"""FOR UPDATE and its like over joins, views and subqueries: every step as in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from beside_postgres import play_each

SETUP = """
    1: drop schema public cascade; create schema public
    1: create table q (id int primary key, v int, r int)
    1: create table r (id int primary key, w text)
    1: insert into q select i, i * 10, 1 + i % 2 from generate_series(1, 5) i
    1: insert into r values (1, 'one'), (2, 'two')
"""

SCRIPTS = {
    "who does not wait": """
        1: begin; update q set v = 1 where id = 1; delete from q where id = 4
        2: begin; select v from q where id = 2 for update nowait
        2: select v from q where id = 1 for update nowait
        2: rollback
        2: begin; select v from q where id in (3, 4) for share nowait
        2: rollback
        2: begin; select v from q where id = 9 for update nowait
        2: select v from q where v = 10 for update nowait
        2: rollback
        1: commit
        2: begin; select v from q where id = 4 for update nowait
        2: select v from q where id = 1 for update nowait
        2: commit
    """,
    "all tables of a join": """
        1: begin; select q.id, w from q join r on r.id = q.r where q.id = 1 for update
        2: select id from q where id = 1 for update nowait
        2: select id from r where id = 2 for update nowait
        2: select id from r where id = 1 for update nowait
        2: select q.id from q, r where q.r = r.id order by q.id for update skip locked
        1: commit
        1: begin; select q.id from q, r where q.r = r.id and q.id = 1 for update of q for share
           of r
        2: select id from r where id = 2 for share nowait
        2: select id from r where id = 2 for update nowait
        2: select id from q where id = 1 for key share nowait
        1: rollback
    """,
    "changed rows keep their place and what they are joined with": """
        1: begin; update q set v = v + 1 where id in (2, 3); update r set w = 'zwei' where id = 2
        2~ select q.id, v, w from q join r on q.r = r.id order by q.v desc for update of q, r
        1: commit
        2=
        1: begin; update q set r = 2 where id = 2; update q set v = 0 where id = 4
        2~ select q.id, v, w from q join r on q.r = r.id where v > 5 order by q.id for update
        1: commit
        2=
        1: begin; delete from r where id = 1
        2~ select q.id, w from q, r where q.r = r.id order by q.id for share
        1: commit
        2=
    """,
    "a relation that is not locked stays as it was": """
        1: begin; update q set v = 1 where id = 1
        2~ select q.id, v, w, (select max(v) from q) m from q join r on q.r = r.id where q.id =
           1 for update of q
        3: update r set w = 'new'; update q set v = 100 where id = 5
        1: commit
        2=
    """,
    "a table with itself": """
        1: begin; update q set v = 11 where id = 2
        2~ select a.id, a.v, b.id, b.v from q a join q b on a.id = b.id - 1 order by a.id for
           update of a
        1: commit
        2=
        1: begin; update q set v = 12 where id = 2
        2~ select a.id, a.v, b.id, b.v from q a join q b on a.id = b.id - 1 order by a.id for
           update
        1: commit
        2=
    """,
    "a queue's next rows": """
        1: begin; update q set v = 0 where id = (select id from q order by id limit 1 for
           update skip locked) returning id, v
        2: begin; update q set v = 0 where id = (select id from q order by id limit 1 for
           update skip locked) returning id, v
        3: delete from q where id in (select id from q order by id for update skip locked limit
           2) returning id
        3: with c as (select id from q order by id limit 1 for update skip locked) update q set
           v = -1 from c where q.id = c.id returning q.id
        1: commit
        2: rollback
        3: select * from q order by id
        3: with c as (select id from q where v > 5 for update) delete from q using c where c.id
           = q.id returning q.id, q.v
        3: with c as (select id, v from q for update), d as (select * from c where id > 0)
           select count(*), sum(d.v) from d, c where c.id = d.id
        3: insert into q select id + 10, v, r from q where id = 1 for update
        3: select * from q order by id
    """,
    "subqueries and views": """
        1: create view w as select id, v as amount from q where v > 10
        1: create view first (i) as select id from q order by id limit 1
        1: begin; select * from (select id, v from q where id < 4) s where v > 10 order by id
           for update
        2: select id from q order by id for update skip locked
        1: rollback
        1: begin; select amount from w where id = 2 for update
        2: select id from q order by id for update skip locked
        2~ select * from (select * from q where id = 2 for update) s
        1: commit
        2=
        1: begin; select i from first for update
        2: select i from first for update skip locked
        2: select a.i, b.amount from first a, w b where b.id = 5 for no key update of b
        1: commit
        1: begin; select s.id, w from (select id, r from q) s join r on r.id = s.r where s.id =
           1 for update
        2: select id from r order by id for update skip locked
        1: commit
    """,
    "what is read again in a subquery": """
        1: begin; update q set v = 21 where id = 2; update q set v = 3 where id = 3
        2~ select * from (select * from q where v > 15 for update) s order by id
        1: commit
        2=
        1: begin; update q set v = 1000 where id = 4
        2~ select id, amount from (select id, v as amount from q) s where amount > 30 order by
           id for update
        1: commit
        2=
    """,
    "higher levels": """
        1: begin isolation level repeatable read; select count(*) from r
        2: update r set w = 'x' where id = 2
        1: select q.id from q join r on q.r = r.id where q.id = 1 for update
        1: rollback
        1: begin isolation level serializable; select count(*) from r
        2: update q set v = 1 where id = 3
        1: update q set v = 2 where id in (select id from q where id = 3 for update)
        1: rollback
    """,
    "limits": """
        1: begin; select id from q order by id limit 1 for update
        2: select id from q order by id offset 1 limit 2 for update skip locked
        2: select id from q order by id fetch first 2 rows only for update skip locked
        2: select id from q order by id fetch first row only for update skip locked
        2: select q.id from q join r on q.r = r.id order by q.id desc limit 2 for update skip
           locked
        2~ select q.id from q join r on q.r = r.id order by q.id limit 2 for update
        1: commit
        2=
    """,
    "outer joins, functions and values": """
        1: select q.id from q left join r on r.id = q.v order by q.id for update of q
        1: select q.id from q left join r on r.id = q.v for update
        1: select q.id from q right join r on r.id = q.v for update of q
        1: select q.id from q full join r on r.id = q.v for update of r
        1: select q.id from q, generate_series(1, 2) g order by 1 for update
        1: select q.id from q, generate_series(1, 2) g for update of g
        1: select q.id, x from q, (values (1), (2)) v(x) where x = id order by id for update
        1: select 1 from q, (values (1), (2)) v(x) for update of v
        1: with c as (select id from q) select q.id from q, c where c.id = q.id order by 1 for
           update
        1: with c as (select id from q) select q.id from q, c for update of c
        1: select 1 for update
        1: select q.id from (q join r on q.r = r.id) where q.id = 1 for update of r
        1: select 1 from (q join r on q.r = r.id) j for update of j
        1: select id from q for update of z
        1: select id from q for update of public.q
        1: select distinct v from q for update
        1: select v from q group by v for update
        1: select count(*) from q for update
        1: select id, count(*) over () from q for update
        1: select id from q union select id from r for update
        1: select * from (select id from q union select id from r) s for update
        1: select * from (select distinct v from q) s for update
        1: select * from (select count(*) from q) s for update
        1: values (1) for update
        1: select id from (select id from q union (select id from r for update)) s order by id
        1: select id from q where exists (select nothing from r for update)
        1: select id from q where id in (select id from zz for update)
        1: begin read only
        1: select id from q for share
        1: rollback
        1: begin read only
        1: select id from (select id from q for no key update) s
        1: rollback
    """,
}


@pytest.mark.slow
def test_every_step_as_in_postgresql(tmp_path: Path) -> None:
    play_each(tmp_path, SETUP, SCRIPTS)
