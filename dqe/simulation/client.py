"""A client of the simulated cluster: asks any node, and knows what became of what it asked.

There are three ends, and workloads are strict about them: an answer; a refusal, after which
the statement has surely not happened; and silence or a word that nobody knows (a node that
died, an answer that did not come, 40003), after which it may have happened or may yet.

A transaction of several statements goes through one session of one node. Only its COMMIT can
end in the unknown: whose connection broke before has surely committed nothing. Of one of unknown
fate its client asks by the token, where it has one, what became of it, and holds the cluster to
the answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cluster.errors import DqeError, Outcome
from cluster.probes import Probe, reached
from dqe.simulation.cluster import SimulatedCluster
from dqe.simulation.errors import Violation
from dqe.simulation.machine import Answer, ConnectionLost, Life, Sessions, SimulatedMachine

# Clients differ in how long they wait for an answer.
PATIENCES_S = (0.5, 2.0, 20.0)
WATCHER_PATIENCE_S = 0.4
LATENCY_S = 0.001


# Classes of SQLSTATE that faults may cause: connections, rolled back, resources, object not in
# state, intervention, system, snapshots.
_EXPECTED = ("08", "40", "53", "55", "57", "58", "72")


class Refused(Exception):
    """The statement did not happen."""

    sqlstate = ""


class Unknown(Exception):
    """The statement may have happened, or may yet."""


@dataclass(frozen=True, slots=True)
class Asked:
    """When a statement was asked and when its end was known, in simulated seconds."""

    begun_s: float
    ended_s: float
    answer: Answer | None
    refused: bool
    sqlstate: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a transaction ended; of unknown fate if it is neither committed nor refused."""

    begun_s: float
    ended_s: float
    committed: bool
    refused: bool


class Client:
    """One client, one statement at a time. It moves to another node after a failure, and now
    and then without one.

    A watcher stays at its machine whatever that answers, and is soon tired of waiting: it
    hears what a node says that has been left behind.
    """

    def __init__(
        self, cluster: SimulatedCluster, name: str, watched: SimulatedMachine | None = None
    ) -> None:
        self._cluster = cluster
        self._trace = cluster.around.trace
        self.name = name
        self.chance = random.Random(f"{cluster.around.seed}/client/{name}")
        self._sessions = Sessions()
        self._machine = watched or self.chance.choice(cluster.machines)
        self._stays = watched is not None
        self._patience_s = WATCHER_PATIENCE_S if watched else self.chance.choice(PATIENCES_S)
        self._in_block = False
        # Whether the transaction under way locks nothing until it commits.
        self.is_optimistic = False
        self._also: tuple[str, ...] = ()
        # Where the transaction under way was begun.
        self._life: Life | None = None

    async def think(self) -> None:
        """The time between two statements."""
        await asyncio.sleep(self.chance.expovariate(1 / self._cluster.around.world.think_s))

    async def try_to(self, sql: str, also: tuple[str, ...] = ()) -> Asked:
        """Asks, whatever comes of it; `also` are SQLSTATEs that it may be refused with."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        self._also = also
        try:
            answer = await self.ask(sql)
        except Refused as error:
            return Asked(begun_s, loop.time(), None, True, error.sqlstate)
        except Unknown:
            return Asked(begun_s, loop.time(), None, False)
        finally:
            self._also = ()
        return Asked(begun_s, loop.time(), answer, refused=False)

    async def ask(self, sql: str, machine: SimulatedMachine | None = None) -> Answer:
        """The answer; raises Refused or Unknown."""
        if machine is not None:
            self._machine = machine
        elif not self._in_block and self.chance.random() < 0.1:
            self._move()
        asked_of = self._machine.name
        self._trace.note(f"{self.name} asks {asked_of}: {sql}")
        try:
            answer = await self._carry(sql)
        except (Refused, Unknown) as error:
            self._trace.note(f"{self.name} fails: {type(error).__name__} {error}")
            if not self._in_block:
                self._move()
            raise
        self._trace.note(f"{self.name} gets {answer.tag} {answer.rows}")
        return answer

    async def until_done(self, sql: str, timeout_s: float = 60.0) -> Answer:
        """Asks until it is answered; only for what may happen twice, without faults."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + timeout_s
        while True:
            try:
                return await self.ask(sql)
            except (Refused, Unknown) as error:
                if loop.time() > ends_s:
                    raise Violation(f"no answer within {timeout_s:g} s to {sql}: {error}") from None
                await asyncio.sleep(0.1)

    async def transact(
        self,
        body: Callable[[], Awaitable[None]],
        begin: str = "BEGIN",
        *,
        at: SimulatedMachine | None = None,
    ) -> Ended:
        """One transaction at one node: `body` asks its statements, and COMMIT comes behind them.

        A body that raises Refused gives it up.
        """
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        self._turn_to(at)
        self._in_block, token = True, None
        try:
            try:
                await self.ask(begin)
                self._life = self._sessions.life
                await self._choose_ways()
                await body()
                token = await self._token()
            except (Refused, Unknown):
                await self._give_up()
                return Ended(begun_s, loop.time(), committed=False, refused=True)
            try:
                tag = (await self.ask("COMMIT")).tag
                committed, refused = tag == "COMMIT", tag == "ROLLBACK"
            except Refused:
                committed, refused = False, True
            except Unknown:
                committed, refused = False, False
        finally:
            self._end_block()
        if token is not None and not (committed or refused):
            committed, refused = await self._ask_fate(token)
        return Ended(begun_s, loop.time(), committed, refused)

    def _turn_to(self, machine: SimulatedMachine | None) -> None:
        if machine is not None:
            self._machine = machine
        elif self.chance.random() < 0.1:
            self._move()

    async def _choose_ways(self) -> None:
        """Some transactions lock nothing until they commit, some commit in three phases."""
        self.is_optimistic = self.chance.random() < 0.2
        if self.is_optimistic:
            await self.ask("SET LOCAL dqe.concurrency_control = 'optimistic'")
        if self.chance.random() < 0.1:
            await self.ask("SET LOCAL dqe.commit_protocol = 'three-phase'")

    async def _token(self) -> str | None:
        """What to ask by, sometimes; None before the transaction has changed anything."""
        if self.chance.random() < 0.7:
            return None
        token: str | None = (await self.ask("SELECT dqe.transaction_token()")).rows[0][0]
        return token

    async def _give_up(self) -> None:
        try:
            await self.ask("ROLLBACK")
        except (Refused, Unknown):
            life = self._sessions.life
            if life is not None:
                life.hang_up(self._sessions)
        self._end_block()
        self._move()

    def _end_block(self) -> None:
        self._in_block, self._life = False, None

    async def _ask_fate(self, token: str) -> tuple[bool, bool]:
        for _ in range(self.chance.randrange(4)):
            await self.think()
            try:
                answer = await self.ask(f"SELECT dqe.commit_status('{token}')")
            except (Refused, Unknown):
                continue
            reached(Probe.FATE_TOLD)
            word = answer.rows[0][0]
            return word == "committed", word == "aborted"
        return False, False

    def _move(self) -> None:
        if not self._stays:
            self._machine = self.chance.choice(self._cluster.machines)

    async def _carry(self, sql: str) -> Answer:
        await asyncio.sleep(self.chance.uniform(0, LATENCY_S))
        life = self._machine.life
        if life is None or not life.is_serving:
            raise Refused("nobody listens there")
        if self._life is not None and (life, self._sessions.life) != (self._life, self._life):
            raise Refused("the session is gone")
        try:
            async with asyncio.timeout(self._patience_s):
                answer = await life.ask(self._sessions, sql)
        except TimeoutError:
            life.hang_up(self._sessions)
            raise Unknown(f"no answer within {self._patience_s:g} s") from None
        except ConnectionLost:
            raise Unknown("the node is gone") from None
        except DqeError as error:
            raise self._outcome_of(error) from error
        except Exception as error:
            raise Violation(f"a session failed at {sql}: {error!r}") from error
        await asyncio.sleep(self.chance.uniform(0, LATENCY_S))
        return answer

    def _outcome_of(self, error: DqeError) -> Exception:
        text = f"{error.sqlstate} {error.message} ({error.detail})"
        if not error.sqlstate.startswith((*_EXPECTED, *self._also)):
            return Violation(f"no fault explains {text}")
        if error.outcome is Outcome.UNKNOWN:
            return Unknown(text)
        refused = Refused(text)
        refused.sqlstate = error.sqlstate
        return refused
