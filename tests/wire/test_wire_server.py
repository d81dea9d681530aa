"""The wire server against real clients (asyncpg, psycopg, psql) and against hostile bytes."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import os
import shutil
import socket
import struct
import subprocess
import uuid
from collections.abc import Awaitable, Callable

import asyncpg
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_session import ScriptedSession

from cluster.errors import IdleInTransactionSessionTimeout
from cluster.runtime import ProductionRuntime
from dqe.wire.server import WireServer, startup_settings

Work = Callable[[int, list[ScriptedSession]], Awaitable[None]]


def serve(work: Work) -> None:
    """Runs `work(port, sessions)` beside a server."""

    async def main() -> None:
        sessions: list[ScriptedSession] = []

        async def open_session(_: int, __: str, startup: dict[str, str]) -> ScriptedSession:
            sessions.append(ScriptedSession(startup))
            return sessions[-1]

        server = WireServer(ProductionRuntime(), open_session)
        _, port = await server.start("127.0.0.1", 0)
        try:
            await work(port, sessions)
        finally:
            await server.close()

    asyncio.run(main())


async def connect(port: int, database: str = "dqe") -> asyncpg.Connection:
    return await asyncpg.connect(
        host="127.0.0.1", port=port, user="someone", database=database, ssl=False
    )


def test_asyncpg_reads_every_common_type_in_binary() -> None:
    async def work(port: int, _: list[ScriptedSession]) -> None:
        connection = await connect(port)
        row = await connection.fetchrow(
            "select true, 1::smallint, -2::int, 3::bigint, 1.5::float, -2.25::double, "
            "-123456.7800::decimal(18,4), 'Müller', '\\xAA\\x00'::blob, date '1999-12-31', "
            "time '12:34:56.789', timestamp '2001-02-03 04:05:06.7', "
            "timestamptz '2001-02-03 04:05:06+00', "
            "interval '1 year 2 months 3 days 4 seconds', "
            "'12345678-1234-5678-1234-567812345678'::uuid, null::int, "
            "0::decimal(5,2), 100000000::decimal(12,2)"
        )
        assert list(row) == [
            True,
            1,
            -2,
            3,
            1.5,
            -2.25,
            decimal.Decimal("-123456.7800"),
            "Müller",
            b"\xaa\x00",
            datetime.date(1999, 12, 31),
            datetime.time(12, 34, 56, 789000),
            datetime.datetime(2001, 2, 3, 4, 5, 6, 700000),
            datetime.datetime(2001, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
            datetime.timedelta(days=365 + 2 * 30 + 3, seconds=4),
            uuid.UUID("12345678-1234-5678-1234-567812345678"),
            None,
            decimal.Decimal("0.00"),
            decimal.Decimal("100000000.00"),
        ]
        await connection.close()

    serve(work)


def test_arrays_in_binary_and_text() -> None:
    sql = "select [1, null, 3]::int[], ['a b', 'NULL', null, '']::varchar[], []::int[], [[1],[2]]"

    def fetch(port: int, binary: bool) -> object:
        with psycopg.connect(f"host=127.0.0.1 port={port} user=u dbname=dqe") as connection:
            return connection.cursor(binary=binary).execute(sql).fetchone()

    async def work(port: int, _: list[ScriptedSession]) -> None:
        expected = ([1, None, 3], ["a b", "NULL", None, ""], [], [[1], [2]])
        assert await asyncio.to_thread(fetch, port, True) == expected
        assert await asyncio.to_thread(fetch, port, False) == expected

    serve(work)


def test_text_and_binary_agree_over_many_rows() -> None:
    sql = (
        "select i, i::double / 7 as f, case when i % 3 = 0 then null else 'v' || i end as s, "
        "(i * 1.01)::decimal(12,2) as d from range(5000) r(i) order by i"
    )

    async def work(port: int, _: list[ScriptedSession]) -> None:
        connection = await connect(port)
        binary = [tuple(r) for r in await connection.fetch(sql)]
        await connection.close()
        text = await asyncio.to_thread(_psycopg_rows, port, sql)
        assert len(binary) == 5000
        assert binary == text

    serve(work)


def _psycopg_rows(port: int, sql: str) -> list[tuple[object, ...]]:
    with psycopg.connect(f"host=127.0.0.1 port={port} user=u dbname=dqe") as connection:
        return connection.execute(sql).fetchall()


def test_parameters_travel_in_binary_and_text() -> None:
    async def work(port: int, _: list[ScriptedSession]) -> None:
        connection = await connect(port)
        value = await connection.fetchval("select 'got ' || $1", "it")
        assert value == "got it"
        await connection.close()

    serve(work)


def test_a_cursor_takes_rows_in_portions() -> None:
    async def work(port: int, _: list[ScriptedSession]) -> None:
        connection = await connect(port)
        statement = await connection.prepare("select i from range(2500) r(i)")
        async with connection.transaction():
            cursor = await statement.cursor()
            sizes = []
            while rows := await cursor.fetch(999):
                sizes.append(len(rows))
        assert sizes == [999, 999, 502]
        await connection.close()

    serve(work)


def test_an_error_has_its_fields_and_the_session_goes_on() -> None:
    async def work(port: int, _: list[ScriptedSession]) -> None:
        connection = await connect(port)
        with pytest.raises(asyncpg.UndefinedTableError) as caught:
            await connection.execute("missing")
        assert caught.value.position == "15"
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await connection.fetch("syntax $1", 1)
        assert await connection.fetchval("select 7") == 7
        await connection.close()

    serve(work)


def test_notices_reach_the_client() -> None:
    async def work(port: int, _: list[ScriptedSession]) -> None:
        connection = await connect(port)
        heard: list[str] = []
        connection.add_log_listener(lambda _, message: heard.append(message.message))
        await connection.execute("notice")
        assert heard == ["hello"]
        await connection.close()

    serve(work)


def test_copy_in_and_out() -> None:
    def copy(port: int) -> tuple[str | None, bytes]:
        with (
            psycopg.connect(f"host=127.0.0.1 port={port} user=u dbname=dqe") as connection,
            connection.cursor() as cursor,
        ):
            with cursor.copy("copy in") as target:
                for _ in range(1000):
                    target.write("line\n")
            status = cursor.statusmessage
            with cursor.copy("copy out") as source:
                return status, b"".join(bytes(piece) for piece in source)

    async def work(port: int, _: list[ScriptedSession]) -> None:
        assert await asyncio.to_thread(copy, port) == ("COPY 1000", b"a\nb\n")

    serve(work)


def test_a_bad_copy_line_fails_the_copy_and_not_the_session() -> None:
    def copy(port: int) -> tuple[str | None, object]:
        dsn = f"host=127.0.0.1 port={port} user=u dbname=dqe"
        with psycopg.connect(dsn, autocommit=True) as connection:
            with (
                pytest.raises(psycopg.errors.BadCopyFileFormat) as caught,
                connection.cursor().copy("copy in") as target,
            ):
                target.write("ok\nbad\n" + "more\n" * 10_000)
            return caught.value.diag.context, connection.execute("select 1").fetchone()

    async def work(port: int, _: list[ScriptedSession]) -> None:
        assert await asyncio.to_thread(copy, port) == ("COPY t, line 2", (1,))

    serve(work)


def test_cancel_reaches_the_right_session_only() -> None:
    async def work(port: int, sessions: list[ScriptedSession]) -> None:
        first, second = await connect(port), await connect(port)
        waiting = asyncio.ensure_future(first.execute("wait"))
        other = asyncio.ensure_future(second.execute("wait"))
        while len(sessions) < 2:
            await asyncio.sleep(0)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.05)
        waiting.cancel()  # asyncpg sends a CancelRequest on a connection of its own
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not other.done()
        sessions[1].cancel()
        with pytest.raises(asyncpg.QueryCanceledError):
            await other
        await first.close()
        await second.close()

    serve(work)


def test_a_client_that_vanishes_cancels_and_closes_its_session() -> None:
    async def work(port: int, sessions: list[ScriptedSession]) -> None:
        connection = await connect(port)
        waiting = asyncio.ensure_future(connection.execute("wait"))
        await asyncio.sleep(0.02)
        connection.terminate()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
            await waiting
        async with asyncio.timeout(60):
            while not sessions[0].closed:
                await asyncio.sleep(0.005)

    serve(work)


def test_an_unknown_database_is_refused() -> None:
    async def work(port: int, _: list[ScriptedSession]) -> None:
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            await connect(port, database="other")

    serve(work)


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
def test_psql_shows_rows_and_errors() -> None:
    async def work(port: int, _: list[ScriptedSession]) -> None:
        environment = {**os.environ, "PGCONNECT_TIMEOUT": "5"}
        run = await asyncio.to_thread(
            subprocess.run,
            ["psql", "-h", "127.0.0.1", "-p", str(port), "-d", "dqe", "-U", "u", "-X"],
            input="select 1 as a, null::int as b, 'x' as c;\nmissing;\nselect 2 as a;\n",
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert " 1 |   | x\n" in run.stdout
        assert " 2\n" in run.stdout
        assert 'relation "missing" does not exist' in run.stderr

    serve(work)


def startup_packet(**parameters: str) -> bytes:
    body = b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in parameters.items()) + b"\0"
    return struct.pack("!ii", len(body) + 8, 196608) + body


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(max_size=200), max_size=4), st.booleans())
def test_hostile_bytes_end_only_their_own_connection(
    junk: list[bytes], after_startup: bool
) -> None:
    def attack(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.settimeout(5)
            try:
                if after_startup:
                    raw.sendall(startup_packet(user="u", database="dqe"))
                for piece in junk:
                    raw.sendall(piece)
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(65536):
                    pass
            except OSError:
                return  # the server hung up first, as it may

    async def work(port: int, _: list[ScriptedSession]) -> None:
        await asyncio.to_thread(attack, port)
        connection = await connect(port)
        assert await connection.fetchval("select 1") == 1
        await connection.close()

    serve(work)


def test_who_says_nothing_is_turned_away(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async def open_session(_: int, __: str, startup: dict[str, str]) -> ScriptedSession:
            raise AssertionError("nobody asked for a session")

        server = WireServer(ProductionRuntime(), open_session, startup_timeout_s=0.05)
        _, port = await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\0\0")  # half of a length
        told = await reader.read()  # ends when the server closes
        assert b"C08P01" in told
        assert b"no startup packet came" in told
        writer.close()
        await server.close()

    asyncio.run(scenario())
    assert "turned away a client at 127.0.0.1: no startup packet came" in caplog.text


def test_startup_options_become_settings() -> None:
    given_options = {"user": "u", "options": r"-c timezone=UTC --search-path=a\ b -cx=1"}
    assert startup_settings(given_options) == {"timezone": "UTC", "search_path": "a b", "x": "1"}


def test_a_message_is_one_transaction_and_a_lone_statement_its_own() -> None:
    async def work(port: int, sessions: list[ScriptedSession]) -> None:
        connection = await connect(port)
        (session,) = sessions
        session.more.clear()
        await connection.execute("a; b; c")
        assert session.more == [True, True, False, None]
        session.more.clear()
        await connection.fetch("select $1", "x")
        # asyncpg's Parse ends with a Sync of its own.
        assert [more for more in session.more if more is not None] == [False]
        session.refuse_commit = True
        with pytest.raises(asyncpg.SerializationError):
            await connection.execute("a; b")
        assert await connection.fetchval("select 1") == 1
        await connection.close()

    serve(work)


def test_a_client_that_idles_too_long_is_told_and_left() -> None:
    async def work(port: int, sessions: list[ScriptedSession]) -> None:
        connection = await connect(port)
        (session,) = sessions
        session.idle = (0.05, IdleInTransactionSessionTimeout("too long"))
        await connection.execute("select 1")  # one message, and then it idles
        while not (session.closed and connection.is_closed()):
            await asyncio.sleep(0.01)

    serve(work)
