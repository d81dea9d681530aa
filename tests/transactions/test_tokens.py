"""Tokens: a transaction can be asked about after its answer was lost."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from worlds import Client, World, in_world

from cluster.errors import DqeError, InvalidParameterValue, StatementCompletionUnknown
from executor.transaction_tokens import TransactionToken
from storage.fragments import TIMESTAMP_COUNTER_BITS
from storage.participant import OUTCOME_RETENTION_MS


async def status(client: Client, token: str) -> str | None:
    return (await client.ask(f"select dqe.commit_status('{token}')"))[0][0]


def test_a_token_tells_how_its_transaction_ended(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key) partition by hash (id) partitions 4")
        token_of = "select dqe.transaction_token()"
        assert await one.ask(token_of) == [(None,)]
        await one.ask("begin")
        await one.ask("insert into t select generate_series(1, 20)")
        ((committed,),) = await one.ask(token_of)
        assert committed is not None
        assert await status(two, committed) == "in progress"
        await one.ask("insert into t values (21)")
        assert await one.ask(token_of) == [(committed,)]
        await one.ask("commit")
        assert await status(two, committed) == "committed"
        await one.ask("begin; insert into t values (22)")
        ((rolled_back,),) = await one.ask(token_of)
        assert rolled_back is not None
        await one.ask("rollback")
        assert await status(two, rolled_back) == "aborted"
        assert await two.ask("select dqe.commit_status(null)") == [(None,)]
        await two.refused("select dqe.commit_status('abc')", InvalidParameterValue)

        known = TransactionToken.parse(committed)
        age = (OUTCOME_RETENTION_MS + 60_000) << TIMESTAMP_COUNTER_BITS
        old = TransactionToken(known.transaction_id, known.begun - age, known.home)
        assert await status(two, str(old)) == "committed"  # it is remembered all the same
        forgotten = TransactionToken(known.transaction_id - 1, known.begun - age, known.home)
        assert await status(two, str(forgotten)) == "unknown"
        never = TransactionToken(known.transaction_id - 2, known.begun, known.home)
        assert await status(two, str(never)) == "aborted"
        assert await status(two, str(forgotten)) == "unknown"

    in_world(tmp_path, test, count=2)


ENDS = {
    "insert into t values (1)": "commit",
    "insert into t select generate_series(1, 20)": "commit",
    "select count(*) from t": "commit",
    "create table made (id int)": "commit",
    "savepoint s; create table made (id int); rollback to s; insert into t values (1)": "commit",
    "insert into t select generate_series(1, 20); select 1": "rollback",
    "create table made (id int); select 2": "rollback",
}


@pytest.mark.parametrize("optimistic", [False, True])
@pytest.mark.parametrize("tables", ["some", "async", "none"])
def test_a_token_of_the_first_statement_holds(
    tmp_path: Path, tables: str, optimistic: bool
) -> None:
    """Whatever the transaction does behind it: what the token names takes part in the end."""

    async def test(world: World) -> None:
        one, two = await world.clients(2)
        if optimistic:
            await one.ask("set dqe.concurrency_control = 'optimistic'")
        create = "create table t (id int) partition by hash (id) partitions 4"
        if tables != "none":
            durability = " with (durability = async)" if tables == "async" else ""
            await one.ask(create + durability)
        for work, end in ENDS.items():
            await one.ask("begin isolation level serializable")
            ((token,),) = await one.ask("select dqe.transaction_token()")
            assert token is not None
            if tables == "none":
                await one.ask(create)
            await one.ask(work)
            assert await one.ask("select dqe.transaction_token()") == [(token,)]
            assert await status(two, token) == "in progress"
            await one.ask(end)
            ended = "committed" if end == "commit" else "aborted"
            assert await status(two, token) == ended
            if end == "commit":
                await one.ask("drop table if exists made")
                if tables == "none":
                    await one.ask("drop table t")

    in_world(tmp_path, test, count=2)


def test_a_token_of_the_catalog_stays_one(tmp_path: Path) -> None:
    """Also where what was defined is taken back, and rows are changed elsewhere."""

    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key)")
        for key, (end, ended) in enumerate([("commit", "committed"), ("rollback", "aborted")], 1):
            await one.ask("begin; savepoint s; create table made (id int)")
            ((token,),) = await one.ask("select dqe.transaction_token()")
            assert token is not None
            await one.ask(f"rollback to s; insert into t values ({key})")
            assert await status(two, token) == "in progress"
            await one.ask(end)
            assert await status(two, token) == ended
            assert await two.ask("select id from t") == [("1",)]

    in_world(tmp_path, test, count=2)


def test_a_lost_answer_says_so_and_can_be_asked_for(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        one, two = await world.clients(2)
        await one.ask("create table t (id int primary key)")
        await one.ask("begin; insert into t values (1)")
        ((token,),) = await one.ask("select dqe.transaction_token()")
        assert token is not None
        tablets = one.session.services.tablets

        async def lost(*_: object, **__: object) -> int:
            await kept(*_, **__)
            raise StatementCompletionUnknown("the answer was lost")

        kept, tablets.write = tablets.write, lost  # type: ignore[method-assign,assignment]
        try:
            error = await one.refused("commit", StatementCompletionUnknown)
        finally:
            tablets.write = kept  # type: ignore[method-assign]
        assert error.sqlstate == "40003"
        assert await status(two, token) == "committed"
        assert await two.ask("select * from t") == [("1",)]
        with contextlib.suppress(DqeError):
            await one.ask("rollback")

    in_world(tmp_path, test, count=2)
