"""Clients that run TPC-C's mix for a while, and nodes that are killed meanwhile.

A terminal is a thread with a connection of its own, spread over the nodes. What the database
refuses for concurrency's sake (class 40) or because a node went (class 57, a broken connection) is
tried again as a new transaction, at another node if its own is gone; anything else ends the run.
A commit of unknown fate (40003) is not made again: the consistency conditions judge it.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg

from benchmarks import report
from benchmarks.tpcc.sizes import Choices, Size
from benchmarks.tpcc.transactions import MIX, RolledBackByRule, Terminal
from dqe.local_cluster import LocalCluster

_RETRYABLE = (psycopg.OperationalError, psycopg.errors.SerializationFailure)
# The commit was lost on its way: it may have happened.
_UNKNOWN = ("40003",)
_PAUSE_S = 0.05
_BETWEEN_KILLS_S = 8.0


class _TimeOver(Exception):
    """The run ended while a terminal was about to try again."""


@dataclass(slots=True)
class Tally:
    """What the terminals did."""

    done: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    # By transaction, attempts that were refused included.
    latencies_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    elapsed_s: float = 0.0
    # Processor time of the nodes, where none was killed.
    spent_s: float | None = None
    kills: int = 0
    failure: BaseException | None = None

    @property
    def new_orders_a_minute(self) -> float:
        return self.done["new order"] / self.elapsed_s * 60

    @property
    def count(self) -> int:
        """Transactions of all kinds."""
        return sum(self.done.values())


@dataclass(frozen=True, slots=True)
class Run:
    """How long, by how many, in which isolation, at which servers."""

    urls: Sequence[str]
    size: Size
    terminals: int
    duration_s: float
    isolation: psycopg.IsolationLevel
    seed: int = 1


def run(plan: Run, pids: Sequence[int] = (), cluster: LocalCluster | None = None) -> Tally:
    """Runs the mix; kills the nodes of `cluster` in turn where one is given. Else it says what the
    processors did in these processes."""
    tally, guard = Tally(), threading.Lock()
    deadline = time.monotonic() + plan.duration_s
    clients = [_Client(plan, number, deadline, tally, guard) for number in range(plan.terminals)]
    threads = [threading.Thread(target=client.work) for client in clients]
    began, spent_s = time.monotonic(), report.spent_s(pids)
    for thread in threads:
        thread.start()
    if cluster is not None:
        tally.kills = _kill_in_turn(cluster, deadline)
    for thread in threads:
        thread.join()
    tally.elapsed_s = time.monotonic() - began
    if cluster is not None:
        cluster.wait_ready()
    elif pids:
        tally.spent_s = report.spent_s(pids) - spent_s
    if tally.failure is not None:
        raise tally.failure
    return tally


class _Client:
    """One terminal's thread."""

    def __init__(
        self, plan: Run, number: int, deadline: float, tally: Tally, guard: threading.Lock
    ) -> None:
        self._plan = plan
        self._deadline = deadline
        self._tally = tally
        self._guard = guard
        self._warehouse = number % plan.size.warehouses + 1
        self._choices = Choices(plan.seed * 1_000 + number, plan.size)
        first = number % len(plan.urls)
        self._urls = itertools.cycle([*plan.urls[first:], *plan.urls[:first]])

    def work(self) -> None:
        """Transactions until the time is over; the first failure is kept for `run`."""
        shares = [share for _, share, _ in MIX]
        try:
            terminal = self._terminal()
            while self._goes_on():
                ((name, _, transaction),) = self._choices.random.choices(MIX, shares)
                terminal = self._do(terminal, name, transaction)
            terminal.connection.close()
        except _TimeOver:
            return
        except BaseException as error:  # noqa: BLE001
            self._tally.failure = error

    def _do(
        self, terminal: Terminal, name: str, transaction: Callable[[Terminal], None]
    ) -> Terminal:
        """One transaction, made until it is done; the terminal to go on with."""
        began = time.monotonic()
        while True:
            try:
                with contextlib.suppress(RolledBackByRule):
                    transaction(terminal)
                break
            except _RETRYABLE as error:
                self._note_retry(error)
                if error.sqlstate in _UNKNOWN:
                    break
                terminal = self._again(terminal)
        with self._guard:
            self._tally.done[name] += 1
            self._tally.latencies_s[name].append(time.monotonic() - began)
        return terminal

    def _note_retry(self, error: psycopg.Error) -> None:
        with self._guard:
            self._tally.retried[error.sqlstate or "connection lost"] += 1

    def _again(self, terminal: Terminal) -> Terminal:
        """The same connection rolled back, or a new one where it is gone."""
        if not self._goes_on():
            terminal.connection.close()
            raise _TimeOver
        try:
            terminal.connection.rollback()
        except psycopg.OperationalError:
            terminal.connection.close()
        return self._terminal() if terminal.connection.closed else terminal

    def _terminal(self) -> Terminal:
        """A connection to the next node that answers."""
        while self._goes_on():
            with contextlib.suppress(psycopg.OperationalError):
                connection = psycopg.connect(next(self._urls), connect_timeout=5)
                connection.isolation_level = self._plan.isolation
                return Terminal(connection, self._warehouse, self._choices)
            time.sleep(_PAUSE_S)
        raise _TimeOver

    def _goes_on(self) -> bool:
        return time.monotonic() < self._deadline and self._tally.failure is None


def _kill_in_turn(cluster: LocalCluster, deadline: float) -> int:
    """Kills node after node, each once the one before has been started again; how many."""
    kills = 0
    for node in itertools.cycle(cluster.nodes):
        killing = time.monotonic() + _BETWEEN_KILLS_S
        while time.monotonic() < min(killing, deadline):
            cluster.watch()
            time.sleep(_PAUSE_S)
        if time.monotonic() >= deadline - _BETWEEN_KILLS_S:
            break
        cluster.kill(node)
        kills += 1
    return kills
