"""Every script under tests/sql, each through another node of one cluster."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest
from conftest import drop_tables
from sqllogic import Mismatch, answer, parse, rewrite, run_record

from dqe.local_cluster import LocalCluster

SCRIPTS = sorted((Path(__file__).parent.parent / "sql").rglob("*.slt"))

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_script(script: Path, cluster: LocalCluster) -> None:
    node = cluster.nodes[SCRIPTS.index(script) % len(cluster.nodes)]
    records = list(parse(script))
    assert records, "a script without records tests nothing"
    with psycopg.connect(node.url, autocommit=True) as connection:
        try:
            if os.environ.get("REWRITE_SLT"):
                answers = {r.line: answer(connection, r, a_value_a_line=False) for r in records}
                queries = [r for r in records if r.kind == "query"]
                rewrite(script, answers, queries)
                return
            failures = []
            for record in records:
                try:
                    run_record(connection, record, a_value_a_line=False)
                except Mismatch as mismatch:
                    failures.append(str(mismatch))
            assert not failures, "\n\n".join(failures)
        finally:
            drop_tables(connection)
