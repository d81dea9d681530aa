"""Random schedules of two to four sessions: dqe and PostgreSQL do the same, step by step.

A seed makes one to three small tables, cut at random, and what each session sends when
(`schedules`); `schedule_play` says what is compared, `schedule_differences` what may differ. The
same schedules with SERIALIZABLE transactions alone are played one transaction after the other in
PostgreSQL (`schedule_serial`). CI plays a few seeds; more are played by

    SCHEDULES=1000-1200 .venv/bin/pytest -s tests/transactions/test_schedules.py -k more
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest
from postgres_support import Postgres, running_postgres
from schedule_play import Play
from schedule_serial import SerialPlay, serial_schedule
from schedule_shrink import shrink
from schedules import Schedule, random_schedule
from worlds import Client, World, world

from cluster.runtime import ProductionRuntime, run_production

# With many waits, rows that are looked at again, foreign keys and conflicts among them.
SEEDS = (1301, 1302, 1305, 1390, 1325, 1328, 1343, 1367, 1368)
SERIAL_SEEDS = (41, 51, 59, 114, 150)
GIVEN = os.environ.get("SCHEDULES", "")
NODES = 3


def _in_both(directory: Path, test: Callable[[World, Postgres, Client], Awaitable[None]]) -> None:
    async def main(runtime: ProductionRuntime) -> None:
        with running_postgres() as postgres:
            async with world(runtime, directory, NODES) as opened:
                await test(opened, postgres, await opened.client())

    run_production(main)


async def _all_alike(play: Play, seeds: Iterable[int], *, shrinks: bool = False) -> Counter[str]:
    """How the schedules ended. The first that differs is shown, or, which takes minutes, the
    smallest one found of it."""
    ends: Counter[str] = Counter()
    for seed in seeds:
        schedule = random_schedule(seed)
        played = await play.play(schedule)
        if played.difference:
            if shrinks:
                played = await play.play(await _smallest(play, schedule))
            tables = [text for table in schedule.tables for text in table.in_dqe()]
            pytest.fail("\n".join([f"seed {seed}", *tables, str(played)]), pytrace=False)
        ends[played.ended or "all alike"] += 1
    return ends


async def _smallest(play: Play, schedule: Schedule) -> Schedule:
    async def differs(candidate: Schedule) -> bool:
        return bool((await play.play(candidate)).difference)

    return await shrink(schedule, differs)


async def _all_serial(play: SerialPlay, seeds: Iterable[int]) -> int:
    """How many schedules there were."""
    schedules = [schedule for seed in seeds if (schedule := serial_schedule(seed)) is not None]
    for schedule in schedules:
        difference = await play.play(schedule)
        assert not difference, f"seed {schedule.seed}\n{difference}"
    return len(schedules)


@pytest.mark.slow
def test_schedules_are_played_as_in_postgresql(tmp_path: Path) -> None:
    async def test(world: World, postgres: Postgres, client: Client) -> None:
        async with asyncio.timeout(120):
            ends = await _all_alike(Play(world, postgres, client), SEEDS)
            # Who is next where two go on at once may end one early.
            assert ends["all alike"] > len(SEEDS) // 2, ends
            serial = SerialPlay(world, postgres, client)
            assert await _all_serial(serial, SERIAL_SEEDS) == len(SERIAL_SEEDS)

    _in_both(tmp_path, test)


@pytest.mark.long
@pytest.mark.skipif(not GIVEN, reason="SCHEDULES says which seeds")
def test_more_schedules(tmp_path: Path) -> None:
    first, last = map(int, GIVEN.split("-"))

    async def test(world: World, postgres: Postgres, client: Client) -> None:
        ends = await _all_alike(Play(world, postgres, client), range(first, last), shrinks=True)
        serial = await _all_serial(SerialPlay(world, postgres, client), range(first, last))
        print(f"{serial} serial ones, and {dict(ends.most_common())}")

    _in_both(tmp_path, test)
