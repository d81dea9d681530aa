"""Rows of tables without a key take part where their transactions do, wherever tables lie."""

from __future__ import annotations

from pathlib import Path

from worlds import Client, World, in_world

ACCOUNTS = 20


def participants(client: Client) -> int:
    transaction = client.session.state.block.transaction
    assert transaction is not None
    return len(transaction.written)


def test_a_row_of_a_journal_needs_no_tablet_of_its_own(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        client = await world.client()
        await client.ask("create table journal (account int, change int)")
        await client.ask("create table accounts (id int not null, balance int)")
        await client.ask(f"insert into accounts select i, 0 from generate_series(1, {ACCOUNTS}) i")
        # As pgbench does it: the key comes last, and the table stays where the other one is.
        await client.ask("alter table accounts add primary key (id)")
        for number in range(1, ACCOUNTS + 1):
            await client.ask("begin")
            await client.ask(f"update accounts set balance = balance + 1 where id = {number}")
            await client.ask(f"insert into journal values ({number}, 1), ({number}, 2)")
            assert participants(client) == 1
            await client.ask("commit")
        assert await client.ask("select count(*), count(distinct account) from journal") == [
            (str(2 * ACCOUNTS), str(ACCOUNTS))
        ]
        assert await client.ask("select sum(balance) from accounts") == [(str(ACCOUNTS),)]

    in_world(tmp_path, test, 3)
