"""psql and pgbench, as installed: every \\d form, scripts, \\copy, pgbench's own statements.

The psql of PostgreSQL 15 stands in Debian; where none is installed, the one that comes with the
test server is used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers import POSTGRES_PROGRAMS

from dqe.local_cluster import LocalCluster

pytestmark = pytest.mark.cluster

# Every listing of psql's manual page, plain and with all it can add.
_LISTINGS = (
    r"\d \d+ \dS \da \dA \dAc \dAf \dAo \dAp \db \dc \dC \dC+ \dconfig \dd \dD \ddp \dE \des \det "
    r"\deu \dew+ \df \dF \dFd \dFp \dFt \dg \dgS+ \di \di+ \dl \dL \dL+ \dm \dn \dn+ \dnS \do \dO "
    r"\dp \dP \dP+ \dPt \dPi \drds \dRp \dRp+ \dRs \ds \dt \dt+ \dti \dtvs \dT \dTS+ \du \du+ \dv "
    r"\dv+ \dx \dx+ \dX \dy \l \l+ \z \conninfo \encoding \lo_list"
)
LISTINGS = _LISTINGS.split()
NAMED = (
    r"\d pt", r"\d+ pt", r"\d pv", r"\d+ pv", r"\d *", r"\dt p*",
    r"\dt *.*", r"\dn pub*", r"\dT int4", r"\df pg_catalog.*", r"\do pg_catalog.+", r"\l dqe",
    r"\sv pv", r"\sv+ pv", r"\dd pt", r"\dconfig+ search_path", r"\d public.*",
)  # fmt: skip


def program(name: str) -> str:
    found = shutil.which(name) or str(POSTGRES_PROGRAMS / name)
    if not Path(found).exists():
        pytest.skip(f"{name} is not installed")
    return found


def psql(
    cluster: LocalCluster, *arguments: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("psql"), cluster.url, "-X", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PGOPTIONS": "", "PAGER": "cat"},
        check=False,
    )


@pytest.fixture
def objects(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "create table pt (id int primary key, name varchar(10) not null default 'x', "
        "n numeric(10,2) check (n > 0), unique (id, name))"
    )
    connection.execute("create view pv as select id, name from pt")


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize("client", ["of the system", "of the test server"])
def test_every_listing_answers(cluster: LocalCluster, client: str) -> None:
    path = shutil.which("psql") if client == "of the system" else POSTGRES_PROGRAMS / "psql"
    if path is None:
        pytest.skip("psql is not installed")
    script = "".join(f"{listing}\n" for listing in (*LISTINGS, *NAMED))
    answer = subprocess.run(
        [str(path), cluster.url, "-X", "-f", "-"],
        input=script,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    complaints = [line for line in answer.stderr.splitlines() if "Did not find any" not in line]
    assert complaints == []


@pytest.mark.usefixtures("objects")
def test_a_table_is_described(cluster: LocalCluster) -> None:
    shown = psql(cluster, "-c", r"\d pt").stdout
    for line in (
        " name   | character varying(10) |           | not null | 'x'",
        '    "pt_pkey" PRIMARY KEY, btree (id)',
        '    "pt_n_check" CHECK (n > 0)',
    ):
        assert line in shown


def test_a_script(cluster: LocalCluster, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("1,one\n2,two\n")
    written = tmp_path / "out.csv"
    script = tmp_path / "script.sql"
    script.write_text(
        "create temp table t (a int, b text);\n"
        f"\\copy t from '{rows}' csv\n"
        "select format('insert into t values (%s, %L)', g, 'made') from generate_series(3, 4) g"
        " \\gexec\n"
        "select count(*) as found from t \\gset\n"
        "\\echo rows: :found\n"
        "select b from t where a = 1 \\crosstabview\n"
        "\\if :found\n\\echo some\n\\endif\n"
        "select * from t order by a limit 1 \\gx\n"
        "prepare p as select $1::int + 1;\nexecute p(41);\n"
        "select $1 || $2 \\bind a b \\g\n"
        "\\watch 0.01 c=1\n"
        f"\\copy (select * from t order by a) to '{written}' csv header\n"
    )
    answer = psql(cluster, "-q", "-At", "-f", str(script))
    assert "rows: 4" in answer.stdout
    assert "42" in answer.stdout
    assert written.read_text() == "a,b\n1,one\n2,two\n3,made\n4,made\n"


def test_a_script_stops_at_an_error(cluster: LocalCluster) -> None:
    script = "select 1/0;\nselect 'went on';\n"
    stopped = psql(cluster, "-v", "ON_ERROR_STOP=1", "-f", "-", stdin=script)
    assert stopped.returncode == 3
    assert "went on" not in stopped.stdout
    assert "ERROR:  division by zero" in stopped.stderr
    assert "went on" in psql(cluster, "-f", "-", stdin=script).stdout


def test_verbose_errors_point_at_their_place(cluster: LocalCluster) -> None:
    answer = psql(cluster, "-v", "VERBOSITY=verbose", "-c", "select 1, nosuch from pg_class")
    assert 'ERROR:  42703: column "nosuch" does not exist' in answer.stderr
    assert "LINE 1: select 1, nosuch from pg_class\n                  ^" in answer.stderr


def test_pgbench(cluster: LocalCluster, connection: psycopg.Connection[Any]) -> None:
    node = cluster.nodes[0]
    where = ["-h", "127.0.0.1", "-p", str(node.pg_port), "-U", "dqe", "dqe"]

    def pgbench(*arguments: str) -> str:
        answer = subprocess.run(
            [program("pgbench"), *arguments, *where],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    pgbench("-i", "-s", "1", "-q")
    assert connection.execute("select count(*) from pgbench_accounts").fetchone() == (100_000,)
    for mode in ("simple", "extended", "prepared"):
        assert "actually processed: 20/20" in pgbench("-n", "-S", "-M", mode, "-t", "20")
    assert "actually processed: 10/10" in pgbench("-n", "-N", "-t", "10")
    assert "actually processed: 10/10" in pgbench("-n", "-t", "10")
    assert connection.execute("select count(*) from pgbench_history").fetchone() == (20,)
