"""Money moves between accounts by transactions of several statements, in blocks.

The bank of `bank`, as applications write it: BEGIN, read both accounts, write both, COMMIT; at
every isolation level, as PostgreSQL's users do (READ COMMITTED with SELECT ... FOR UPDATE or
with relative updates). Readers sum up in one statement at READ COMMITTED, and account by account
in blocks of the levels that keep a snapshot. The sum is the same in every read; inside of a
transfer too, where its own half is seen; of an optimistic one at READ COMMITTED that only holds
if it commits: others may change the row meanwhile that it has changed, and its next statement
sees its own version beside what else they did.
"""

from __future__ import annotations

from dqe.simulation.client import Client
from dqe.simulation.dependencies import Level
from dqe.simulation.errors import Violation
from dqe.simulation.workloads.bank import ACCOUNTS, BEGIN, Bank


class Transfers(Bank):
    """See the module."""

    async def step(self, client: Client) -> None:
        if client.chance.random() < 0.3:
            await self._read_one_by_one(client)
        else:
            await self._move(client)

    async def _move(self, client: Client) -> None:
        level = client.chance.choice(list(Level))
        source, target = client.chance.sample(range(ACCOUNTS), 2)
        amount = client.chance.randrange(1, 10)
        absolute = client.chance.random() < 0.5
        lock = " FOR UPDATE" if level is Level.READ_COMMITTED else ""
        wrong: list[str] = []

        async def add(account: int, change: int) -> None:
            value = f"balance + {change}"
            if absolute:
                found = await client.ask(f"SELECT balance FROM accounts WHERE id = {account}{lock}")
                value = str(found.rows[0][0] + change)
            await client.ask(f"UPDATE accounts SET balance = {value} WHERE id = {account}")

        async def body() -> None:
            await add(source, -amount)
            if client.chance.random() < 0.2:
                wrong.extend(await self._look_inside(client, amount))
            if wrong and not (client.is_optimistic and level is Level.READ_COMMITTED):
                raise Violation(wrong[0])
            await add(target, amount)

        ended = await client.transact(body, f"BEGIN ISOLATION LEVEL {level}")
        if wrong and ended.committed:
            raise Violation(wrong[0])
        moves = [0] * ACCOUNTS
        moves[source], moves[target] = -amount, amount
        self.note(tuple(moves), committed=ended.committed, refused=ended.refused)

    async def _look_inside(self, client: Client, amount: int) -> list[str]:
        """What was taken is seen to be gone, by who took it; what is wrong, if anything is."""
        answer = await client.ask("SELECT sum(balance) FROM accounts")
        if answer.rows[0][0] == BEGIN * ACCOUNTS - amount:
            return []
        return [f"within a transfer of {amount} the sum is {answer.rows[0][0]}"]

    async def _read_one_by_one(self, client: Client) -> None:
        level = client.chance.choice((Level.REPEATABLE_READ, Level.SERIALIZABLE))
        found: list[int] = []

        async def body() -> None:
            for account in client.chance.sample(range(ACCOUNTS), ACCOUNTS):
                rows = (await client.ask(f"SELECT balance FROM accounts WHERE id = {account}")).rows
                found.append(rows[0][0])

        await client.transact(body, f"BEGIN ISOLATION LEVEL {level} READ ONLY")
        if len(found) == ACCOUNTS and sum(found) != BEGIN * ACCOUNTS:
            raise Violation(f"the balances {found} of one snapshot sum up to {sum(found)}")
