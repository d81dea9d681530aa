"""ON CONFLICT in transactions that keep their snapshot: every step as in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from beside_postgres import play_each

SETUP = """
    1: drop schema public cascade; create schema public
    1: create table c (k int primary key, v int)
    1: insert into c values (1, 1), (2, 2), (3, 3), (4, 4)
"""

SCRIPTS = {
    "rows that others removed, changed and made since, by single rows": """
        1: begin isolation level repeatable read; select * from c order by k
        2: delete from c where k = 1
        2: update c set v = 9 where k = 2
        2: insert into c values (5, 5)
        2: delete from c where k = 3
        2: insert into c values (3, 77)
        1: savepoint s
        1: insert into c values (1, 10) on conflict (k) do update set v = 11 returning *
        1: savepoint s
        1: insert into c values (2, 10) on conflict (k) do update set v = 11 returning *
        1: rollback to s
        1: insert into c values (2, 10) on conflict do nothing returning *
        1: rollback to s
        1: insert into c values (5, 10) on conflict do nothing
        1: rollback to s
        1: insert into c values (5, 10) on conflict (k) do update set v = 1
        1: rollback to s
        1: insert into c values (3, 10) on conflict (k) do update set v = 1
        1: rollback to s
        1: insert into c values (4, 10), (1, 12) on conflict (k) do nothing
        1: insert into c select g, 0 from generate_series(1, 1) g on conflict (k) do nothing
        1: commit
        1: select * from c order by k
    """,
    "the same of rows of a query": """
        1: begin isolation level repeatable read; select * from c order by k
        2: delete from c where k = 1
        2: update c set v = 9 where k = 2
        2: insert into c values (5, 5)
        1: savepoint s
        1: insert into c select g, 10 from generate_series(1, 1) g
           on conflict (k) do update set v = 11
        1: savepoint s
        1: insert into c select g, 10 from generate_series(2, 2) g
           on conflict (k) do update set v = 11
        1: rollback to s
        1: insert into c select g, 10 from generate_series(2, 2) g on conflict (k) do nothing
        1: rollback to s
        1: insert into c select g, 10 from generate_series(5, 5) g on conflict (k) do nothing
        1: rollback to s
        1: commit
        1: select * from c order by k
    """,
    "whoever removes a row is waited for": """
        1: begin isolation level repeatable read; select * from c order by k
        2: begin; delete from c where k = 2
        1~ insert into c values (2, 10) on conflict (k) do update set v = 11 returning *
        2: commit
        1=
        1: commit
        1: select * from c order by k
        1: begin isolation level repeatable read; select * from c order by k
        2: begin; delete from c where k = 2
        1~ insert into c select g, 10 from generate_series(2, 2) g
           on conflict (k) do update set v = 11
        2: commit
        1=
        1: commit
        1: select * from c order by k
    """,
}


@pytest.mark.slow
def test_every_step_as_in_postgresql(tmp_path: Path) -> None:
    play_each(tmp_path, SETUP, SCRIPTS)
