"""Tokens: a transaction can be asked about after its answer was lost."""

from __future__ import annotations

import contextlib
from pathlib import Path

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
        assert await one.ask(token_of) == [(None,)]
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
