"""PostgreSQL's own pgbench, unchanged: its tables, its three scripts, its three ways of asking."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from worlds import World, in_world

from benchmarks.oltp.pgbench import MODES, program, read_report

pytestmark = pytest.mark.slow

SCRIPTS = ("tpcb-like", "simple-update", "select-only")
CLIENTS, EACH = 3, 2


async def pgbench(world: World, *arguments: str) -> str:
    host, port = world.nodes[0].pg_address.rsplit(":", 1)
    url = f"host={host} port={port} dbname=dqe user=alice"
    process = await asyncio.create_subprocess_exec(
        program(),
        *arguments,
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return said.decode()


def test_every_script_in_every_mode(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await pgbench(world, "-i", "-q", "-s", "1")
        (client,) = await world.clients(1)
        for script in SCRIPTS:
            for mode in MODES:
                how = ("-n", "-b", script, "-M", mode, "-c", str(CLIENTS), "-t", str(EACH))
                said = await pgbench(world, *how)
                assert read_report(said).failed == 0
                assert f"processed: {CLIENTS * EACH}/{CLIENTS * EACH}" in said
        # Both scripts that write leave a row of history and change one account by as much.
        written = 2 * len(MODES) * CLIENTS * EACH
        ((count, delta),) = await client.ask("SELECT count(*), sum(delta) FROM pgbench_history")
        assert count == str(written)
        assert await client.ask("SELECT sum(abalance) FROM pgbench_accounts") == [(delta,)]
        # Tellers and branches know of TPC-B alone, and of the same.
        ((tellers, branches),) = await client.ask(
            "SELECT (SELECT sum(tbalance) FROM pgbench_tellers),"
            " (SELECT sum(bbalance) FROM pgbench_branches)"
        )
        assert tellers == branches

    in_world(tmp_path, test, count=2)
