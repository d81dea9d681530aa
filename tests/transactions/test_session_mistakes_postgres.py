"""What goes wrong with blocks, savepoints and settings: SQLSTATE and message are PostgreSQL's."""

from __future__ import annotations

from pathlib import Path

import pytest
from beside_postgres import play_each

SETUP = """
    1: drop schema public cascade; create schema public
    1: create table t (id int primary key, v int)
    1: insert into t select i, i * 10 from generate_series(1, 5) i
"""

SCRIPTS = {
    "prepared transactions": """
        1: prepare transaction 'x'
        1: begin; insert into t values (9, 9)
        1: prepare transaction 'x'
        1: select count(*) from t
        1: begin
        1: select 1/0
        1: prepare transaction 'x'
        1: commit
        1: commit prepared 'x'
        1: rollback prepared 'x'
        1: begin
        1: commit prepared 'x'
        1: rollback
        1: begin
        1: rollback prepared 'x'
        1: prepare transaction 'y'
        1: insert into t values (9, 9); prepare transaction 'y'
        1: select count(*) from t
        1: prepare transaction as select 7
        1: execute transaction
        1: show max_prepared_transactions
        1: select * from pg_prepared_xacts
    """,
    "savepoints": """
        1: savepoint a
        1: release a
        1: rollback to a
        1: begin
        1: release a
        1: select 1
        1: rollback to a
        1: savepoint b
        1: commit
        1: begin; savepoint a; savepoint b; release a
        1: rollback to b
        1: rollback
        1: begin; savepoint a; insert into t values (9,9); savepoint a; insert into t values
           (10,10); rollback to a
        1: release a
        1: rollback to a
        1: select count(*) from t
        1: commit
        1: begin; begin
        1: commit
        1: commit
        1: rollback
        1: abort
        1: end
        1: commit and chain
        1: rollback and no chain
        1: begin; insert into t values (1,1)
        1: insert into t values (20,1)
        1: savepoint x
        1: rollback to savepoint nope
        1: commit
        1: select count(*) from t
        1: start transaction read only; insert into t values (30,1)
        1: rollback
        1: begin read only; update t set v=1; rollback
        1: rollback
        1: begin read only; select nextval('x')
        1: rollback
        1: begin read only; create table z (a int)
        1: rollback
        1: begin read only; set transaction read write
        1: insert into t values (31,1)
        1: select 1
        1: rollback
        1: begin read only; select 1; set transaction read write
        1: rollback
        1: begin; select 1; set transaction isolation level serializable
        1: rollback
        1: set transaction isolation level serializable
        1: set local v = 1
        1: begin isolation level chaos
        1: begin isolation level serializable, isolation level read committed
        1: rollback
        1: set transaction_isolation = 'nonsense'
        1: rollback
        1: lock table t
        1: lock table nope
        1: begin; lock table t in nonsense mode
        1: rollback
        1: begin; lock table nope
        1: rollback
        1: begin; vacuum t
        1: rollback
        1: begin; discard all
        1: rollback
    """,
    "settings": """
        1: set lock_timeout = 'abc'
        1: set lock_timeout = -1
        1: set lock_timeout = '1 parsec'
        1: set idle_in_transaction_session_timeout = 'x'
        1: set idle_in_transaction_session_timeout = -5
        1: set default_transaction_isolation = 'x'
        1: set default_transaction_read_only = 'maybe'
        1: set nonsense = 1
        1: show nonsense
        1: reset nonsense
        1: set transaction_read_only = 'maybe'
        1: set time zone 'Nowhere/City'
        1: set search_path = nowhere
        1: set client_min_messages = 'shout'
        1: set work_mem = 'x'
        1: set synchronous_commit = 'perhaps'
        1: set lock_timeout to default
        1: set session characteristics as transaction isolation level nonsense
        1: set transaction_timeout = 'x'
    """,
    "conflicts": """
        1: begin; update t set v = 1 where id = 1
        2: begin; update t set v = 2 where id = 2
        1~ update t set v = 1 where id = 2
        2 code: set lock_timeout = 0
        2: rollback
        1=
        1: commit
        1: begin isolation level repeatable read; select count(*) from t
        2: delete from t where id = 3
        1: rollback
        1: begin isolation level repeatable read; select count(*) from t
        2: delete from t where id = 4
        1: select * from t where id = 4 for update
        1: rollback
        1: begin isolation level repeatable read; select count(*) from t
        2: update t set v = 100 where id = 5
        1: delete from t where id = 5
        1: rollback
        1: begin isolation level serializable; select sum(v) from t
        2: begin isolation level serializable; select sum(v) from t
        1: update t set v = v + 1 where id = 1
        2: update t set v = v + 1 where id = 2
        1: commit
        2 code: commit
        2: rollback
        1: set lock_timeout = '50ms'
        2: begin; update t set v = 2 where id = 1
        1: update t set v = 3 where id = 1
        1: begin; lock table t in share mode nowait
        1: rollback
        2: rollback
    """,
}


@pytest.mark.slow
def test_every_step_as_in_postgresql(tmp_path: Path) -> None:
    play_each(tmp_path, SETUP, SCRIPTS)
