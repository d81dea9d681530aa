"""Outside corpora against a cluster: no score may fall below what was once reached.

`make conformance` runs them whole (marker `long`); CI runs a sample of about a minute. Where
`../shared/corpora` is absent, nothing runs. The scores are records that come out right, of all
records; most of what is missing in PostgreSQL's regression suite is features that dqe refuses
by name, and what follows from these (see docs/conformance.md).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from corpora import (
    ROOT,
    Score,
    glaredb_files,
    regress_files,
    run_glaredb,
    run_regress,
    run_sqlite,
)
from servers import postgres

from dqe.local_cluster import LocalCluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not ROOT.exists(), reason="../shared/corpora is not here"),
]

# Minimum shares of records that pass, a little under what was measured.
GLAREDB = 0.98
SQLITE = 0.985
REGRESS = 0.40
# Files of PostgreSQL's regression suite that need little of what is missing.
SAMPLED_REGRESS = {"boolean": 0.97, "varchar": 1.0, "int2": 0.95, "int4": 0.96, "text": 0.85}


@pytest.fixture(scope="module")
def beside() -> Iterator[str]:
    """A PostgreSQL with the tables of `test_setup`."""
    with (
        tempfile.TemporaryDirectory(prefix="conformance") as directory,
        postgres(Path(directory)) as url,
    ):
        yield url


def summed(name: str, scores: Iterable[Score]) -> Score:
    total = Score(name)
    for score in scores:
        print(score, flush=True)
        total.add(score)
    print(total)
    return total


def check(score: Score, least: float) -> None:
    shown = "\n\n".join(score.failures[:10])
    assert score.share >= least, f"{score}\n\n{shown}"


def test_a_sample_of_glaredb(cluster: LocalCluster) -> None:
    files = glaredb_files()[::4]
    check(summed("glaredb", (run_glaredb(cluster.url, path) for path in files)), GLAREDB)


def test_a_sample_of_sqlite(cluster: LocalCluster) -> None:
    folder = ROOT / "sqlite"
    urls = [node.url for node in cluster.nodes]
    files = [*sorted((folder / "evidence").glob("in*.test")), folder / "select1.test"]
    scores = (run_sqlite(urls[i % 3], path, every=15) for i, path in enumerate(files))
    check(summed("sqlite", scores), SQLITE)


def test_a_sample_of_regress(cluster: LocalCluster, beside: str) -> None:
    chosen = [path for path in regress_files() if path.stem in SAMPLED_REGRESS]
    for path in chosen:
        check(run_regress(cluster.url, beside, path), SAMPLED_REGRESS[path.stem])


@pytest.mark.long
def test_all_of_glaredb(cluster: LocalCluster) -> None:
    scores = (run_glaredb(cluster.url, path) for path in glaredb_files())
    check(summed("glaredb", scores), GLAREDB)


@pytest.mark.long
def test_all_of_sqlite(cluster: LocalCluster) -> None:
    urls = [node.url for node in cluster.nodes]
    paths = sorted((ROOT / "sqlite").rglob("*.test"))
    scores = (run_sqlite(urls[i % 3], path) for i, path in enumerate(paths))
    check(summed("sqlite", scores), SQLITE)


@pytest.mark.long
def test_all_of_regress(cluster: LocalCluster, beside: str) -> None:
    scores = (run_regress(cluster.url, beside, path) for path in regress_files())
    check(summed("regress", scores), REGRESS)
