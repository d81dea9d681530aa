"""Scripts of several sessions, played in dqe and in a PostgreSQL: every step ends alike.

    1: begin; update t set v = 1
    2~ update t set v = 2          waits for another session
    1: commit
    2=                             what waited is done

A line is a session's statement, one message. `~` says that it has to wait, in both; `=` that it
ends now. Rows are compared in order where the statement has an ORDER BY, errors by SQLSTATE and
message, those of a line like `1 code: select ...` by SQLSTATE alone. Lines that begin with `--` are
comments, `dqe:` goes to dqe alone (clauses of its own), `pg:` to PostgreSQL alone; any other line
goes on with the one before.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from postgres_support import Postgres, running_postgres
from worlds import Client, World, in_order, in_world

from cluster.errors import DqeError

_LINE = re.compile(r"(\d) ?(code)?([:~=]) ?(.*)")
_BEGINS = re.compile(r"\d( code)?[:~=]|--|dqe:|pg:")
Outcome = tuple[Any, ...]


class _Session:
    """One session of the script, on both sides."""

    def __init__(self, client: Client, connection: psycopg.Connection[Any]) -> None:
        self.client = client
        self.connection = connection
        self.waiting: tuple[str, asyncio.Task[Outcome], asyncio.Task[Outcome]] | None = None

    def start(self, sql: str) -> tuple[asyncio.Task[Outcome], asyncio.Task[Outcome]]:
        """The statement under way on both sides."""
        theirs = asyncio.ensure_future(asyncio.to_thread(self._in_postgres, sql))
        return asyncio.ensure_future(self._in_dqe(sql)), theirs

    async def _in_dqe(self, sql: str) -> Outcome:
        try:
            rows = await self.client.ask(sql)
        except DqeError as error:
            return "error", error.sqlstate, error.message
        return self.client.tag, in_order(sql, rows)

    def _in_postgres(self, sql: str) -> Outcome:
        result = self.connection.pgconn.exec_(sql.encode())
        if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
            state = result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b""
            words = result.error_field(psycopg.pq.DiagnosticField.MESSAGE_PRIMARY) or b""
            return "error", state.decode(), words.decode()
        rows = [
            tuple(
                None if (value := result.get_value(row, column)) is None else value.decode()
                for column in range(result.nfields)
            )
            for row in range(result.ntuples)
        ]
        return (result.command_status or b"").decode(), in_order(sql, rows)


def play_each(directory: Path, setup: str, scripts: Mapping[str, str]) -> None:
    """Plays the scripts, each after the setup, on two nodes and a PostgreSQL."""

    async def test(world: World) -> None:
        with running_postgres() as postgres:
            for name, script in scripts.items():
                print(name)
                await play(world, postgres, setup + script)

    in_world(directory, test, count=2)


async def play(world: World, postgres: Postgres, script: str) -> None:
    """Plays the script; its sessions are new ones, its tables its own to drop."""
    sessions: dict[str, _Session] = {}
    try:
        for line in _lines(script):
            await _play_line(world, postgres, sessions, line)
        assert all(session.waiting is None for session in sessions.values()), script
    finally:
        for session in sessions.values():
            session.connection.close()
            await session.client.session.close()


def _lines(script: str) -> list[str]:
    """The script's lines, those together that say one thing."""
    lines: list[str] = []
    for line in filter(None, map(str.strip, script.splitlines())):
        if _BEGINS.match(line):
            lines.append(line)
        else:
            lines[-1] += f" {line}"
    return lines


async def _play_line(
    world: World, postgres: Postgres, sessions: dict[str, _Session], line: str
) -> None:
    if line.startswith("--"):
        return
    if line.startswith("dqe:"):
        await (await world.client()).ask(line.removeprefix("dqe:"))
        return
    if line.startswith("pg:"):
        postgres.rows(line.removeprefix("pg:"))
        return
    found = _LINE.fullmatch(line)
    assert found is not None, line
    name, code, sign, sql = found.groups()
    if name not in sessions:
        client = await world.client(len(sessions) % len(world.nodes))
        sessions[name] = _Session(client, psycopg.connect(postgres.uri_of("postgres")))
    session = sessions[name]
    if sign == "=":
        assert session.waiting is not None, line
        sql, ours, theirs = session.waiting
        session.waiting = None
        await _same(f"{line} {sql}", ours, theirs, words=code is None)
        return
    ours, theirs = session.start(sql)
    if sign == "~":
        await _until_waiting(postgres, session.connection.info.backend_pid, theirs, line)
        await world.waits(ours)
        session.waiting = sql, ours, theirs
        return
    await _same(line, ours, theirs, words=code is None)


async def _same(
    line: str, ours: asyncio.Task[Outcome], theirs: asyncio.Task[Outcome], *, words: bool
) -> None:
    async with asyncio.timeout(60):
        expected, found = await theirs, await ours
    if not words and expected[0] == found[0] == "error":
        expected, found = expected[:2], found[:2]
    assert found == expected, f"{line}\n  dqe        {found}\n  PostgreSQL {expected}"


async def _until_waiting(
    postgres: Postgres, process_id: int, theirs: asyncio.Task[Outcome], line: str
) -> None:
    """Until PostgreSQL's session waits for a lock."""
    sql = (
        "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
        f" and state = 'active' and pid = {process_id}"
    )
    while not await asyncio.to_thread(postgres.rows, sql):
        assert not theirs.done(), f"{line}\n  PostgreSQL does not wait: {theirs.result()}"
        await asyncio.sleep(0.01)
