"""Money moves between accounts on several tablets; one statement a transfer.

The sum of all accounts is the same in every read, whatever node it is of and whatever commits
beside it: a transfer is visible everywhere or nowhere (promise 2). At the end each account
holds what it began with and the transfers that were acknowledged, and of those of unknown fate
some set explains the rest.
"""

from __future__ import annotations

from dqe.simulation.client import Client
from dqe.simulation.errors import Violation
from dqe.simulation.workloads.shapes import by_hash

ACCOUNTS = 8
BEGIN = 100
# So many transfers of unknown fate are tried in all combinations.
MAX_UNKNOWN = 16

Moves = tuple[int, ...]


class Bank:
    """See the module."""

    tables = ("accounts",)

    def __init__(self) -> None:
        self._balances = [BEGIN] * ACCOUNTS
        self._unknown: list[Moves] = []
        self._transfers = 0
        self._reads = 0

    async def set_up(self, client: Client) -> None:
        await client.until_done(
            "CREATE TABLE IF NOT EXISTS accounts (id bigint PRIMARY KEY, balance bigint) "
            + by_hash(client.chance, "id", 4)
        )
        rows = ", ".join(f"({account}, {BEGIN})" for account in range(ACCOUNTS))
        await client.until_done(f"INSERT INTO accounts VALUES {rows}")

    async def step(self, client: Client) -> None:
        if client.chance.random() < 0.4:
            await self._read(client)
        else:
            await self._transfer(client)

    async def _transfer(self, client: Client) -> None:
        accounts = client.chance.sample(range(ACCOUNTS), client.chance.choice((2, 2, 3)))
        amounts = [client.chance.randrange(1, 10) for _ in accounts[1:]]
        moved = dict(zip(accounts, (-sum(amounts), *amounts), strict=True))
        cases = " ".join(f"WHEN {account} THEN {amount}" for account, amount in moved.items())
        asked = await client.try_to(
            f"UPDATE accounts SET balance = balance + CASE id {cases} END"
            f" WHERE id IN ({', '.join(map(str, accounts))})"
        )
        moves = tuple(moved.get(account, 0) for account in range(ACCOUNTS))
        self.note(moves, committed=asked.answer is not None, refused=asked.refused)

    def note(self, moves: Moves, *, committed: bool, refused: bool) -> None:
        """What became of a transfer."""
        if committed:
            self._transfers += 1
            self._balances = _after(self._balances, moves)
        elif not refused:
            self._unknown.append(moves)

    async def look(self, client: Client) -> None:
        await self._read(client)

    async def _read(self, client: Client) -> list[int] | None:
        asked = await client.try_to("SELECT id, balance FROM accounts ORDER BY id")
        if asked.answer is None:
            return None
        self._reads += 1
        accounts = asked.answer.rows
        balances = [balance for _, balance in accounts]
        if [account for account, _ in accounts] != list(range(ACCOUNTS)):
            raise Violation(f"the accounts are {accounts}")
        if sum(balances) != BEGIN * ACCOUNTS:
            raise Violation(f"the balances {balances} sum up to {sum(balances)}")
        return balances

    async def check(self, client: Client) -> None:
        balances = await self._read(client)
        if balances is None:
            raise Violation("the accounts cannot be read")
        if not self._explains(balances):
            raise Violation(
                f"the balances are {balances}; the transfers acknowledged make {self._balances},"
                f" and those of unknown fate are {self._unknown}"
            )

    def _explains(self, balances: list[int]) -> bool:
        if len(self._unknown) > MAX_UNKNOWN:
            return True
        reached = {tuple(self._balances)}
        for moves in self._unknown:
            reached |= {tuple(_after(list(before), moves)) for before in reached}
        return tuple(balances) in reached

    def summary(self) -> dict[str, int]:
        return {
            "transfers": self._transfers,
            "of unknown fate": len(self._unknown),
            "reads": self._reads,
        }


def _after(balances: list[int], moves: Moves) -> list[int]:
    return [balance + amount for balance, amount in zip(balances, moves, strict=True)]
