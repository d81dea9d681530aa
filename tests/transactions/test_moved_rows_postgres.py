"""Rows that others move to another part, delete or rename: every step as in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from beside_postgres import play_each

SETUP = """
    1: drop schema public cascade; create schema public
    1: create table p (id int, v int, primary key (id)) partition by range (id)
    1: create table low partition of p for values from (0) to (100)
    1: create table high partition of p for values from (100) to (200)
    1: create table q (id int primary key, w text)
    1: insert into p select i, i * 10 from generate_series(1, 5) i
    1: insert into q select i, 'w' || i from generate_series(1, 5) i
"""

SCRIPTS = {
    "update of a moved row by its key": """
        1: begin; update p set id = 101 where id = 1
        2~ update p set v = 0 where id = 1
        3~ delete from p where id = 1
        1: commit
        2=
        3=
        1: select * from p order by id
    """,
    "update of a moved row by a scan": """
        1: begin; update p set id = 101 where id = 1
        2~ update p set v = 0 where v < 15
        3~ delete from p where v + 0 = 10
        1: commit
        2=
        3=
        1: select * from p order by id
    """,
    "locks of a moved row": """
        1: begin; update p set id = id + 100 where id < 3
        2~ select * from p where id = 1 for update
        3~ select * from p where v < 25 order by id for no key update
        4~ select p.id from p join q on p.id = q.id where w = 'w2' for key share
        1: commit
        2=
        3=
        4=
    """,
    "a move that is undone": """
        1: begin; savepoint s; update p set id = 101 where id = 1
        2~ update p set v = v + 1 where id = 1 returning *
        1: rollback to s
        2=
        1: commit
        1: select * from p order by id
    """,
    "merge with a moved row": """
        1: begin; update p set id = 101 where id = 1
        2~ merge into p using q on p.id = q.id when matched then update set v = 0 when not matched
           then insert values (150, 0)
        1: commit
        2=
    """,
    "what is in conflict with a moved row": """
        1: begin; update p set id = 101 where id = 1
        2~ insert into p values (1, 7) on conflict (id) do update set v = 8
        1: commit
        2=
        1: select * from p order by id
    """,
    "a kept snapshot": """
        2: begin isolation level repeatable read; select count(*) from p
        3: begin isolation level repeatable read; select count(*) from p
        4: begin isolation level repeatable read; select count(*) from p
        1: update p set id = 101 where id = 1
        1: delete from p where id = 2
        1: update p set v = 0 where id = 3
        2: update p set v = 1 where id = 1
        2: rollback
        3: delete from p where id = 2
        3: rollback
        4: update p set v = 1 where id = 3
        4: rollback
    """,
    "a kept snapshot and scans": """
        2: begin isolation level repeatable read; select count(*) from p
        3: begin isolation level repeatable read; select count(*) from p
        4: begin isolation level repeatable read; select count(*) from p
        5: begin isolation level repeatable read; select count(*) from p
        6: begin isolation level repeatable read; select count(*) from p
        1: update p set id = 101 where id = 1
        1: delete from p where id = 2
        1: update p set v = 0 where id = 3
        2: update p set v = 1 where v + 0 = 10
        2: rollback
        3: delete from p where v + 0 = 20
        3: rollback
        4: update p set v = 1 where v + 0 = 30
        4: rollback
        5: select * from p where v + 0 = 20 for update
        5: rollback
        6: select * from p where id = 2 for update
        6: rollback
    """,
    "a kept snapshot that waits": """
        1: begin; delete from p where id = 2; update p set id = 101 where id = 1
        2: begin isolation level repeatable read; select count(*) from p
        3: begin isolation level repeatable read; select count(*) from p
        4: begin isolation level repeatable read; select count(*) from p
        2~ update p set v = 1 where id = 2
        3~ update p set v = 1 where id = 1
        4~ merge into p using q on p.id = q.id and q.id = 2 when matched then update set v = 0
        1: commit
        2=
        3=
        4=
    """,
    "a deleted row that is there again": """
        1: begin; delete from p where id = 2; insert into p values (2, 7)
        2~ update p set v = 1 where v = 20
        1: commit
        2=
        1: select * from p order by id
    """,
    "another key in the same part": """
        1: begin; update p set id = 51 where id = 1
        2~ update p set v = 1 where id = 1
        1: commit
        2=
        1: select * from p order by id
    """,
    "references to a moved row": """
        pg: create table r (p int references p, id int, primary key (p, id))
        dqe: create table r (p int references p, id int, primary key (p, id)) partition by range (p)
           (partition a values from (0) to (100), partition b values from (100) to (200))
           colocate with p
        1: select 1
        1: begin; update p set id = 101 where id = 1
        2~ insert into r values (1, 1)
        1: commit
        2=
    """,
}


@pytest.mark.slow
def test_rows_that_moved_are_told_as_in_postgres(tmp_path: Path) -> None:
    play_each(tmp_path, SETUP, SCRIPTS)
