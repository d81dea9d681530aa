"""Money moved between accounts on several nodes while nodes are killed: no sum is ever wrong.

    python -m benchmarks.bank [--seconds 120] [--accounts 1000] [--clients 16] [--nodes 3]
                              [--no-kills] [--seed 1]

Each transfer changes two accounts and notes itself in the table `moves`, in one transaction at one
of the isolation levels, mostly over several nodes. Readers sum the accounts through every node, at
every level, by single statements and in blocks; one of the sums holds accounts against moves, so
that half a transfer shows. All the while a node dies now and then by `kill -9`, sometimes two at
once. At the end every balance must follow from the moves, every acknowledged transfer be among
them, no refused one, and of those whose answer was lost the ones that `dqe.commit_status` calls
committed. Status 1 where anything of that is not so, or a statement hangs.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks import report
from benchmarks.clients import (
    Answers,
    Client,
    StatementFailed,
    StatementHangs,
    at_work,
    until_stopped,
)
from dqe.local_cluster import LocalCluster, LocalClusterError

EACH = 1000
MOST = 50
ACCOUNTS_TABLE = (
    "CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL)"
    " PARTITION BY HASH (id) PARTITIONS 6"
)
MOVES_TABLE = (
    "CREATE TABLE moves (id bigint PRIMARY KEY, source int, target int, amount bigint)"
    " PARTITION BY HASH (id) PARTITIONS 3"
)
MOVES_A_CLIENT = 10_000_000
BETWEEN_KILLS_S = (2.0, 5.0)
TWO_AT_ONCE = 0.2
SETTLE_TIMEOUT_S = 60.0
READ_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Move:
    """One transfer."""

    id: int
    source: int
    target: int
    amount: int


@dataclass(slots=True)
class Ledger:
    """What the clients were told."""

    accounts: int
    moves: dict[int, Move] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    unknown: dict[int, str | None] = field(default_factory=dict)  # the token, if there was one
    transfers: Answers = field(default_factory=Answers)
    sums: Answers = field(default_factory=Answers)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    kills: int = 0

    @property
    def total(self) -> int:
        return self.accounts * EACH

    @property
    def weighted(self) -> int:
        """The sum of id times balance before any move."""
        return EACH * self.accounts * (self.accounts - 1) // 2


# How a transfer changes its two accounts, within a block that has begun.


async def _by_difference(session: asyncpg.Connection, move: Move) -> None:
    change = "UPDATE accounts SET balance = balance + $2 WHERE id = $1"
    await session.execute(change, move.source, -move.amount)
    await session.execute(change, move.target, move.amount)


async def _by_value(session: asyncpg.Connection, move: Move, suffix: str = "") -> None:
    """Reads, reckons in the client, and writes."""
    read = f"SELECT balance FROM accounts WHERE id = $1{suffix}"
    write = "UPDATE accounts SET balance = $2 WHERE id = $1"
    for account, change in ((move.source, -move.amount), (move.target, move.amount)):
        held = await session.fetchval(read, account)
        await session.execute(write, account, held + change)


async def _by_locked_value(session: asyncpg.Connection, move: Move) -> None:
    await _by_value(session, move, " FOR UPDATE")


async def _by_one_statement(session: asyncpg.Connection, move: Move) -> None:
    await session.execute(
        "UPDATE accounts SET balance = balance + CASE id WHEN $1 THEN -$3::bigint ELSE $3 END"
        " WHERE id IN ($1, $2)",
        move.source,
        move.target,
        move.amount,
    )


Change = Callable[[asyncpg.Connection, Move], Awaitable[None]]
TRANSFERS: tuple[tuple[str, Change], ...] = (
    ("READ COMMITTED", _by_difference),
    ("READ COMMITTED", _by_locked_value),
    ("READ COMMITTED", _by_one_statement),
    ("REPEATABLE READ", _by_value),
    ("SERIALIZABLE", _by_value),
)


class Teller:
    """Moves money, one transfer after the other."""

    def __init__(self, ledger: Ledger, client: Client, chance: random.Random, first: int) -> None:
        self._ledger, self._client, self._chance = ledger, client, chance
        self._next = first
        self._token: str | None = None

    async def turn(self) -> None:
        source, target = self._chance.sample(range(self._ledger.accounts), 2)
        move = Move(self._next, source, target, self._chance.randrange(1, MOST))
        self._next += 1
        self._ledger.moves[move.id] = move
        level, change = self._chance.choice(TRANSFERS)
        asked_s, self._token = time.monotonic(), None
        try:
            await self._client.run(lambda session: self._transfer(session, level, change, move))
        except StatementFailed as error:
            self._ledger.errors[f"transfer {error.sqlstate}"] += 1
            if error.may_have_happened:
                self._ledger.unknown[move.id] = self._token
            else:
                self._ledger.refused.add(move.id)
        except StatementHangs:
            self._ledger.wrong.append(f"{move} at {level} has no answer")
        else:
            self._ledger.acknowledged.add(move.id)
            self._ledger.transfers.note(asked_s)

    async def _transfer(
        self, session: asyncpg.Connection, level: str, change: Change, move: Move
    ) -> None:
        await session.execute(f"BEGIN ISOLATION LEVEL {level}")
        await session.execute(
            "INSERT INTO moves VALUES ($1, $2, $3, $4)",
            move.id,
            move.source,
            move.target,
            move.amount,
        )
        self._token = await session.fetchval("SELECT dqe.transaction_token()")
        await change(session, move)
        await session.execute("COMMIT")


# How the accounts are summed: each gives what must be the total, or the weighted total.


async def _statement(session: asyncpg.Connection, ledger: Ledger) -> bool:
    found = await session.fetchrow("SELECT sum(balance), count(*) FROM accounts")
    return found is not None and tuple(found) == (ledger.total, ledger.accounts)


async def _against_moves(session: asyncpg.Connection, ledger: Ledger) -> bool:
    found = await session.fetchval(
        "SELECT (SELECT sum(balance * id) FROM accounts)"
        " - (SELECT coalesce(sum(amount * (target - source)), 0) FROM moves)"
    )
    return bool(found == ledger.weighted)


def _block(level: str) -> Callable[[asyncpg.Connection, Ledger], Awaitable[bool]]:
    async def halves(session: asyncpg.Connection, ledger: Ledger) -> bool:
        await session.execute(f"BEGIN ISOLATION LEVEL {level}")
        half = "SELECT sum(balance) FROM accounts WHERE id % 2 = $1"
        parts = [await session.fetchval(half, rest) for rest in (0, 1)]
        whole = await _statement(session, ledger) and await _against_moves(session, ledger)
        await session.execute("COMMIT")
        return whole and sum(parts) == ledger.total

    return halves


async def _read_committed_block(session: asyncpg.Connection, ledger: Ledger) -> bool:
    await session.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    right = await _statement(session, ledger) and await _against_moves(session, ledger)
    await session.execute("COMMIT")
    return right


SUMS: dict[str, Callable[[asyncpg.Connection, Ledger], Awaitable[bool]]] = {
    "statement": _statement,
    "statement against moves": _against_moves,
    "read committed block": _read_committed_block,
    "repeatable read": _block("REPEATABLE READ"),
    "repeatable read, read only": _block("REPEATABLE READ READ ONLY"),
    "serializable": _block("SERIALIZABLE"),
}


class Auditor:
    """Sums through one node while it lives, in each way in turn."""

    def __init__(self, ledger: Ledger, client: Client) -> None:
        self._ledger, self._client = ledger, client
        self._turn = 0

    async def turn(self) -> None:
        self._turn += 1
        way = list(SUMS)[self._turn % len(SUMS)]
        asked_s = time.monotonic()
        try:
            right = await self._client.run(lambda session: SUMS[way](session, self._ledger))
        except StatementFailed as error:
            self._ledger.errors[f"sum {error.sqlstate}"] += 1
        except StatementHangs:
            self._ledger.wrong.append(f"the sum by {way} has no answer")
        else:
            self._ledger.sums.note(asked_s)
            if not right:
                self._ledger.wrong.append(f"a sum by {way} is wrong")


async def run(
    cluster: LocalCluster, ledger: Ledger, *, clients: int, seconds: float, kills: bool, seed: int
) -> None:
    """The whole story; what was wrong is in `ledger.wrong` afterwards."""
    chance, stop = random.Random(seed), asyncio.Event()
    first = Client(cluster, chance, cluster.nodes[0])
    await first.ask(ACCOUNTS_TABLE)
    await first.ask(MOVES_TABLE)
    await first.ask(
        f"INSERT INTO accounts SELECT g, {EACH} FROM generate_series(0, {ledger.accounts - 1}) g"
    )
    people = [Client(cluster, random.Random(seed * 1000 + n)) for n in range(clients)]
    tellers = [
        Teller(ledger, client, random.Random(seed * 1000 + n), n * MOVES_A_CLIENT)
        for n, client in enumerate(people)
    ]
    sums = [Client(cluster, chance, node) for node in cluster.nodes]
    work = [until_stopped(stop, teller.turn) for teller in tellers]
    work += [until_stopped(stop, Auditor(ledger, at).turn, READ_PAUSE_S) for at in sums]
    with cluster.kept_alive():
        async with at_work(stop, *work):
            await _meanwhile(cluster, ledger, chance, seconds, kills)
        await asyncio.to_thread(cluster.wait_ready)
        await settle(first, ledger)
    for client in (first, *people, *sums):
        await client.close()


async def _meanwhile(
    cluster: LocalCluster, ledger: Ledger, chance: random.Random, seconds: float, kills: bool
) -> None:
    ends_s = time.monotonic() + seconds
    while (left_s := ends_s - time.monotonic()) > 0:
        await asyncio.sleep(min(left_s, chance.uniform(*BETWEEN_KILLS_S)))
        if not kills:
            continue
        victims = chance.sample(cluster.nodes, 2 if chance.random() < TWO_AT_ONCE else 1)
        for victim in victims:
            ledger.kills += 1
            await asyncio.to_thread(cluster.kill, victim)
        try:
            await asyncio.to_thread(cluster.wait_ready)
        except LocalClusterError as error:
            ledger.wrong.append(str(error))


async def settle(client: Client, ledger: Ledger) -> None:
    """Holds what is there at the end against what was said."""
    found = {row[0]: Move(*row) for row in await _sure(client, "SELECT * FROM moves")}
    balances = dict(await _sure(client, "SELECT id, balance FROM accounts"))
    wanted = dict.fromkeys(range(ledger.accounts), EACH)
    for move in found.values():
        wanted[move.source] -= move.amount
        wanted[move.target] += move.amount
    wrong = ledger.wrong
    wrong += [
        f"account {n}: {balances.get(n)} instead of {held}"
        for n, held in wanted.items()
        if balances.get(n) != held
    ]
    wrong += [
        f"{ledger.moves.get(n)} is there as {m}"
        for n, m in found.items()
        if ledger.moves.get(n) != m
    ]
    wrong += [f"{ledger.moves[n]} is lost" for n in sorted(ledger.acknowledged - found.keys())]
    wrong += [f"{found[n]} was refused" for n in sorted(ledger.refused & found.keys())]
    for number, token in sorted(ledger.unknown.items()):
        status = None if token is None else await _outcome(client, token)
        if status is not None and (status == "committed") != (number in found):
            there = "is there" if number in found else "is not there"
            wrong.append(f"{ledger.moves[number]} is said to be {status}, and {there}")


async def _outcome(client: Client, token: str) -> str:
    ends_s = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        [(status,)] = await _sure(client, f"SELECT dqe.commit_status('{token}')")
        if status != "in progress" or time.monotonic() > ends_s:
            return str(status)
        await asyncio.sleep(0.2)


async def _sure(client: Client, sql: str) -> list[tuple[Any, ...]]:
    """The answer, however often it takes while the cluster comes to rest."""
    ends_s = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        try:
            return await client.ask(sql)
        except StatementFailed:
            if time.monotonic() > ends_s:
                raise
            await asyncio.sleep(0.2)


def show(ledger: Ledger, seconds: float) -> None:
    """A few lines, and on standard error whatever was wrong."""
    print(
        f"{len(ledger.acknowledged)} transfers in {seconds:.0f} s, {ledger.kills} kills;"
        f" {len(ledger.refused)} refused, {len(ledger.unknown)} with an unknown outcome;"
        f" {len(ledger.sums)} sums\nlongest wait for a transfer"
        f" {ledger.transfers.longest_wait_s:.2f} s, for a sum {ledger.sums.longest_wait_s:.2f} s\n"
        f"errors {dict(sorted(ledger.errors.items()))}\nwrong: {len(ledger.wrong)}"
    )
    for line in ledger.wrong[:50]:
        print(line, file=sys.stderr)


def main() -> int:
    """Runs the benchmark; status 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--no-kills", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    ledger = Ledger(arguments.accounts)
    with (
        tempfile.TemporaryDirectory(prefix="dqe-bank-") as scratch,
        LocalCluster(arguments.nodes, Path(scratch)) as cluster,
    ):
        asyncio.run(
            run(
                cluster,
                ledger,
                clients=arguments.clients,
                seconds=arguments.seconds,
                kills=not arguments.no_kills,
                seed=arguments.seed,
            )
        )
    show(ledger, arguments.seconds)
    content = {
        "seconds": arguments.seconds,
        "kills": ledger.kills,
        "transfers": len(ledger.acknowledged),
        "refused": len(ledger.refused),
        "unknown": len(ledger.unknown),
        "sums": len(ledger.sums),
        "longest_wait_s": round(ledger.transfers.longest_wait_s, 3),
        "errors": dict(ledger.errors),
        "wrong": ledger.wrong,
    }
    print(f"figures in {report.write_json('bank', content)}")
    return 1 if ledger.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
