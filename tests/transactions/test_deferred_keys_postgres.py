"""DEFERRABLE and NOT VALID foreign keys, and SET CONSTRAINTS: every step as in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from beside_postgres import play_each

SETUP = """
    1: drop schema public cascade; create schema public
    1: create table p (id int primary key, n int)
    dqe: create table c (id int, p int constraint c_p references p deferrable initially deferred,
       primary key (id, p)) partition by hash (p) colocate with p
    pg: create table c (id int, p int constraint c_p references p deferrable initially deferred,
       primary key (id, p))
    dqe: create table d (id int, p int constraint d_p references p deferrable,
       primary key (id, p)) partition by hash (p) colocate with p
    pg: create table d (id int, p int constraint d_p references p deferrable, primary key (id, p))
    1: insert into p values (1, 1), (2, 2), (3, 3)
"""

SCRIPTS = {
    "the end of the transaction": """
        1: begin; insert into c values (1, 10)
        1: insert into p values (10, 10)
        1: commit
        1: begin; insert into c values (2, 20)
        1: commit
        1: select * from c order by id
        1: insert into c values (3, 30)
        1: begin; insert into c values (4, 40), (5, 1); delete from c where p = 40
        1: commit
        1: begin; insert into c values (6, 60); update c set p = 2 where id = 6; commit
        1: begin; delete from p where id = 1
        1: insert into p values (1, 100)
        1: commit
        1: begin; delete from p where id = 1
        1: commit
        1: select * from p order by id
        1: insert into c values (7, 70); insert into p values (70, 0)
        1: insert into c values (8, 80); select 1
        1: select * from c order by id
    """,
    "SET CONSTRAINTS": """
        1: begin; insert into d values (1, 10)
        1: rollback
        1: begin; set constraints d_p deferred
        1: insert into d values (1, 10)
        1: set constraints d_p immediate
        1: rollback
        1: begin; set constraints all deferred; insert into d values (1, 11), (2, 12)
        1: insert into p values (11, 0), (12, 0); set constraints all immediate
        1: insert into d values (3, 13)
        1: rollback
        1: begin; set constraints c_p immediate
        1: insert into c values (1, 10)
        1: rollback
        1: begin; set constraints c_p, d_p deferred; insert into c values (9, 3)
        1: delete from p where id = 3
        1: set constraints c_p immediate
        1: rollback
        1: begin; set constraints nope deferred
        1: rollback
        1: begin; set constraints p_pkey deferred
        1: rollback
        1: set constraints all deferred
        1: set constraints d_p later
    """,
    "savepoints": """
        1: begin; savepoint a; insert into c values (1, 10); rollback to a; commit
        1: begin; insert into c values (1, 10); savepoint a; insert into p values (10, 0)
        1: rollback to a
        1: commit
        1: begin; insert into c values (1, 10); savepoint a; insert into p values (10, 0)
        1: set constraints all immediate
        1: rollback to a
        1: commit
        1: begin; savepoint a; set constraints c_p immediate; rollback to a
        1: insert into c values (1, 10)
        1: insert into p values (10, 0); commit
        1: begin; insert into c values (2, 20); savepoint b; select 1 / 0
        1: rollback to b
        1: insert into p values (20, 0); commit
        1: select * from c order by id
    """,
    "other sessions": """
        1: begin; insert into c values (1, 1)
        2: delete from p where id = 1
        1: commit
        1: begin; insert into c values (2, 2)
        2: begin; delete from p where id = 2
        1~ commit
        2: commit
        1=
        1: begin; insert into c values (3, 3); set constraints all immediate
        2~ delete from p where id = 3
        1: commit
        2=
        1: begin; delete from p where id = 3
        2: begin; insert into c values (4, 3)
        2~ commit
        1: commit
        2=
        1: select count(*) from c
    """,
    "NOT VALID": """
        1: create table f (id int, p int, primary key (id, p))
        dqe: drop table f
        dqe: create table f (id int, p int, primary key (id, p))
           partition by hash (p) colocate with p
        1: insert into f values (1, 1), (2, 50)
        1: alter table f add constraint f_p foreign key (p) references p
        1: alter table f add constraint f_p foreign key (p) references p not valid
        1: insert into f values (3, 60)
        1: insert into f values (3, 2)
        1: delete from p where id = 2
        1: alter table f validate constraint f_p
        1: select conname, convalidated, condeferrable, pg_get_constraintdef(oid) from pg_constraint
           where contype = 'f' order by 1
        1: begin; delete from f where p = 50; alter table f validate constraint f_p; commit
        1: select conname, convalidated from pg_constraint where contype = 'f' order by 1
        1: alter table f validate constraint f_p
        1: alter table f validate constraint nope
        1: alter table p add constraint big check (id < 3) not valid
        1: select convalidated from pg_constraint where conname = 'big'
        1: alter table p validate constraint big
        1: insert into p values (70, 1)
        1: select constraint_name, is_deferrable, initially_deferred
           from information_schema.table_constraints
           where constraint_type = 'FOREIGN KEY' order by 1
    """,
    "how it is written": """
        1: create table x (a int references p not deferrable initially deferred)
        1: create table x (a int references p deferrable not deferrable)
        1: create table x (a int references p initially deferred initially immediate)
        1: alter table c add constraint u unique (p, id) not valid
    """,
}


@pytest.mark.slow
def test_every_step_as_in_postgresql(tmp_path: Path) -> None:
    play_each(tmp_path, SETUP, SCRIPTS)
