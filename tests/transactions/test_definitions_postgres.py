"""COMMENT ON, ALTER SCHEMA RENAME and ALTER SEQUENCE, in and out of blocks: as in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from beside_postgres import play
from postgres_support import running_postgres
from worlds import World, in_world

from cluster.errors import FeatureNotSupported, InsufficientPrivilege

SCRIPT = """
    1: create schema s; create table s.t (id int primary key, v int)
    1: create view w as select 1 as one
    1: create sequence n
    1: comment on table s.t is 'a table'
    1: comment on column s.t.v is 'a column''s'
    1: comment on view w is 'a view'
    1: comment on sequence n is 'numbers'
    1: select obj_description('s.t'::regclass), obj_description('w'::regclass, 'pg_class'),
       obj_description('n'::regclass), obj_description('w'::regclass, 'pg_proc'),
       col_description('s.t'::regclass, 2), col_description('s.t'::regclass, 1)
    1: select attname, col_description(attrelid, attnum), obj_description(attrelid)
       from pg_attribute where attrelid = 's.t'::regclass and attnum > 0 order by attnum
    1: select objsubid, description from pg_description where objoid = 's.t'::regclass order by 1
    1: comment on column s.t.zz is 'x'
    1: comment on table s.nope is 'x'
    1: comment on view s.t is 'x'
    1: comment on table w is 'x'
    1: comment on table n is 'x'
    1 code: comment on column n.last_value is 'x'
    1: begin; comment on table s.t is 'another'
    1: select obj_description('s.t'::regclass)
    2: select obj_description('s.t'::regclass)
    1: rollback
    1: select obj_description('s.t'::regclass)
    1: begin; savepoint a; comment on column s.t.id is 'key'; rollback to a; commit
    1: alter table s.t add column n int; alter table s.t alter v type bigint
    1: alter table s.t rename to t2
    1: select col_description('s.t2'::regclass, 1), col_description('s.t2'::regclass, 2),
       obj_description('s.t2'::regclass)
    1: comment on table s.t2 is null
    1: comment on column s.t2.v is ''
    1: select count(*) from pg_description where objoid = 's.t2'::regclass
    1: insert into s.t2 values (1, 2, 3)
    1: alter schema s rename to public
    1: alter schema nope rename to y
    1: alter schema s rename to pg_y
    1: begin; alter schema s rename to z; select * from z.t2
    1: create table z.u (a int); insert into z.t2 values (2, 3, 4)
    2: select * from s.t2
    1: commit
    2: select * from s.t2
    2: select * from z.t2 order by id
    2: select count(*) from z.u
    2: create schema s; create table s.t2 (id int)
"""


SEQUENCES = """
    1: begin; create sequence s; alter sequence s restart with 100
    1: select nextval('s')
    1: alter sequence s increment by 5
    1: select nextval('s'), currval('s')
    1: alter sequence s restart; alter sequence s rename to r
    1: select nextval('r')
    1: create table t (id serial primary key, v int)
    1: alter sequence t_id_seq restart with 50; insert into t (v) values (1), (2)
    1: select * from t order by id
    1: commit
    1: select nextval('r'); insert into t (v) values (3)
    2: select * from t order by id
"""


@pytest.mark.slow
def test_every_step_as_in_postgresql(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        with running_postgres() as postgres:
            await play(world, postgres, SCRIPT)
            await play(world, postgres, SEQUENCES)

    in_world(tmp_path, test, count=2)


def test_a_schema_that_texts_name_keeps_its_name(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one = await world.client()
        await one.ask("create schema s; create table s.t (id int); create sequence s.n")
        await one.ask("create table t (id int default nextval('s.n')); create schema r")
        await one.refused("alter schema s rename to z", FeatureNotSupported)
        await one.ask("alter table t alter id drop default; create view w as select id from s.t")
        await one.refused("alter schema s rename to z", FeatureNotSupported)
        await one.refused("comment on column w.id is 'x'", FeatureNotSupported)
        await one.refused("comment on schema s is 'x'", FeatureNotSupported)
        await one.refused("alter schema s owner to alice", FeatureNotSupported)
        await one.refused("alter schema pg_catalog rename to z", InsufficientPrivilege)
        await one.ask("drop view w; alter schema s rename to z")
        assert await one.ask("select nextval('z.n')") == [("1",)]

    in_world(tmp_path, test)
