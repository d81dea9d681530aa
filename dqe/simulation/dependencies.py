"""Whether a history of lists that transactions append to could have come of what was promised.

Every element is appended once in a history, so whoever reads a list learns in which order its
elements were written (Kingsbury and Alvaro, "Elle", VLDB 2020). From that follow the
dependencies of Adya's thesis ("Weak Consistency", 1999, chapter 4):

    ww  wrote the next element of a list      wr  read what the other wrote last
    rw  read a list to which the other then wrote the next element
    rt  was answered before the other began

and what is forbidden is a circle of them:

    G0         ww alone: nobody
    G1c        ww and wr: nobody
    G-single   one rw: not for transactions that keep a snapshot
    G2-item    several rw: not for SERIALIZABLE ones

Levels are mixed in one history, so it is asked transaction by transaction (Adya's mixed
serialisation graph): the rw of a SERIALIZABLE transaction counts in every circle, that of a
REPEATABLE READ one in circles without another rw, that of a READ COMMITTED one nowhere. With rt
in the graph the order found agrees with real time, which is promised across nodes, too.

Without any circle it is forbidden to read what was never committed (G1a), what a transaction
wrote on its way (G1b), lists that are no beginnings of each other, and to lose what was
acknowledged. A transaction of unknown fate counts as committed if its elements are there; then
all of them are.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum

Key = int
Value = int
Values = tuple[Value, ...]


class Level(StrEnum):
    """Isolation; the value is what BEGIN says."""

    READ_COMMITTED = "READ COMMITTED"
    REPEATABLE_READ = "REPEATABLE READ"
    SERIALIZABLE = "SERIALIZABLE"


class Fate(Enum):
    """What its client knows of a transaction."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Append:
    key: Key
    value: Value


@dataclass(frozen=True, slots=True)
class Read:
    key: Key
    values: Values


@dataclass(frozen=True, slots=True)
class Transaction:
    """Its operations in order. `ended_s` is infinite for one of unknown fate."""

    name: str
    level: Level
    operations: tuple[Append | Read, ...]
    fate: Fate = Fate.COMMITTED
    begun_s: float = 0.0
    ended_s: float = math.inf

    def appended(self, key: Key, before: int | None = None) -> Values:
        """What it appends to the list, up to an operation."""
        mine = (o for o in self.operations[:before] if isinstance(o, Append) and o.key == key)
        return tuple(append.value for append in mine)

    @property
    def appends(self) -> list[Append]:
        return [o for o in self.operations if isinstance(o, Append)]


class Kind(StrEnum):
    """Of a dependency."""

    WW = "ww"
    WR = "wr"
    RW = "rw"
    RT = "rt"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """What is wrong; `name` is Adya's where he has one."""

    name: str
    text: str


class _Wrong(Exception):
    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.anomaly = Anomaly(name, text)


def find_anomaly(
    history: Sequence[Transaction], final: Mapping[Key, Values] | None = None
) -> Anomaly | None:
    """The first thing wrong, None for a history that is as promised. `final` are the lists as
    they are at the end; without them the longest reads count."""
    try:
        orders = _orders(history, final)
        writers = _writers(history)
        committed = _committed(history, orders, final is not None)
        for transaction in history:
            _check_reads(transaction, writers)
        _check_circles(committed, orders, writers)
    except _Wrong as found:
        return found.anomaly
    return None


# What was read, without its order in time.


def _writers(history: Sequence[Transaction]) -> dict[tuple[Key, Value], Transaction]:
    found: dict[tuple[Key, Value], Transaction] = {}
    for transaction in history:
        for append in transaction.appends:
            assert (append.key, append.value) not in found, "an element is appended once"
            found[append.key, append.value] = transaction
    return found


def _seen(transaction: Transaction) -> Iterator[tuple[Read, Values]]:
    """Its reads, each with what there was of others."""
    for place, operation in enumerate(transaction.operations):
        if not isinstance(operation, Read):
            continue
        own = transaction.appended(operation.key, place)
        others = operation.values[: len(operation.values) - len(own)]
        if operation.values[len(others) :] != own or set(others) & set(own):
            raise _Wrong(
                "internal",
                f"{transaction.name} appended {own} and read {operation.values}"
                f" of list {operation.key}",
            )
        yield operation, others


def _orders(
    history: Sequence[Transaction], final: Mapping[Key, Values] | None
) -> dict[Key, Values]:
    """The elements of each list in the order of their writing."""
    orders = dict(final or {})
    for transaction in history:
        for read, others in _seen(transaction):
            # What it read of its own is behind the rest, if it was ever committed.
            known = read.values if transaction.fate is Fate.COMMITTED else others
            longest = orders.get(read.key, ())
            if len(known) > len(longest) and final is None:
                longest, known = known, longest
                orders[read.key] = longest
            if longest[: len(known)] != known:
                raise _Wrong(
                    "incompatible order",
                    f"{transaction.name} read {read.values} of list {read.key},"
                    f" which is {longest} elsewhere",
                )
    for key, values in orders.items():
        if len(set(values)) != len(values):
            raise _Wrong("duplicate", f"list {key} is {values}")
    return orders


def _committed(
    history: Sequence[Transaction], orders: Mapping[Key, Values], complete: bool
) -> list[Transaction]:
    """Those that took effect. `complete`: the orders hold all there ever was."""
    there = {(key, value) for key, values in orders.items() for value in values}
    found = []
    for transaction in history:
        wrote = [(append.key, append.value) for append in transaction.appends]
        seen = [item for item in wrote if item in there]
        if transaction.fate is Fate.ABORTED:
            if seen:
                raise _Wrong("G1a", f"{transaction.name} was aborted, and {seen} is there")
            continue
        lost = complete and len(seen) < len(wrote)
        if lost and (seen or transaction.fate is Fate.COMMITTED):
            raise _Wrong("lost", f"of {wrote}, appended by {transaction.name}, {seen} is there")
        if seen or transaction.fate is Fate.COMMITTED:
            found.append(transaction)
    return found


def _check_reads(
    transaction: Transaction, writers: Mapping[tuple[Key, Value], Transaction]
) -> None:
    for read, others in _seen(transaction):
        for value in others:
            if (read.key, value) not in writers:
                raise _Wrong("garbage", f"{transaction.name} read {value}, which nobody wrote")
        if others:
            last = writers[read.key, others[-1]]
            if last.appended(read.key)[-1] != others[-1]:
                raise _Wrong(
                    "G1b",
                    f"{transaction.name} read {others} of list {read.key}; {last.name}"
                    f" appended {last.appended(read.key)}",
                )


# Circles.

_RANK = {Kind.WW: 0, Kind.WR: 1, Kind.RT: 2, Kind.RW: 3}

Edges = dict[int, dict[int, Kind]]


class _Graph:
    """Dependencies between transactions, by number. Numbers behind theirs are moments: who was
    answered before a moment points to it, and it to all who began later, so that real time
    takes a number of edges that grows with the history and not with its square."""

    def __init__(self, committed: Sequence[Transaction]) -> None:
        self.committed = committed
        self.edges: Edges = defaultdict(dict)
        # Those of transactions that keep a snapshot, each to be looked at alone.
        self.snapshot_edges: list[tuple[int, int]] = []

    def add(self, source: int, target: int, kind: Kind) -> None:
        # Of several the one counts that is allowed least.
        before = self.edges[source].get(target)
        if source != target and (before is None or _RANK[kind] < _RANK[before]):
            self.edges[source][target] = kind

    def circle(self, kinds: frozenset[Kind]) -> list[int] | None:
        """A shortest circle of such edges through some transaction that lies on one."""
        between = _between_circles(self.edges, kinds)
        found = (self.path(n, n, kinds) for n in between if n < len(self.committed))
        return next((circle for circle in found if circle is not None), None)

    def path(self, source: int, target: int, kinds: frozenset[Kind]) -> list[int] | None:
        """A shortest way of at least one edge, both ends included."""
        came_from: dict[int, int] = {}
        waiting = deque([source])
        while waiting:
            here = waiting.popleft()
            for there, kind in self.edges.get(here, {}).items():
                if kind not in kinds or there in came_from:
                    continue
                came_from[there] = here
                if there == target:
                    return _walk_back(came_from, source, target)
                waiting.append(there)
        return None

    def describe(self, circle: Sequence[int]) -> str:
        """The circle in words, moments left out."""
        parts = []
        for source, target in itertools.pairwise(circle):
            if source < len(self.committed):
                kind = self.edges[source].get(target, Kind.RW)
                parts.append(f"{self.committed[source].name} -{kind}-> ")
        return "".join(parts) + self.committed[circle[-1]].name


def _walk_back(came_from: Mapping[int, int], source: int, target: int) -> list[int]:
    found = [target]
    while True:
        found.append(came_from[found[-1]])
        if found[-1] == source:
            return found[::-1]


def _between_circles(edges: Edges, kinds: frozenset[Kind]) -> list[int]:
    """All that lies on circles or between two: what is left when all that nothing points to,
    and then all that points to nothing, has been taken away again and again."""
    left: dict[int, set[int]] = {
        source: {target for target, kind in targets.items() if kind in kinds}
        for source, targets in edges.items()
    }
    for _ in range(2):
        left = _without_beginnings(left)
    return sorted(left)


def _without_beginnings(edges: Mapping[int, set[int]]) -> dict[int, set[int]]:
    """What no edge leads to is taken away, as long as there is any; the rest is turned round."""
    pointed = dict.fromkeys(edges, 0)
    for targets in edges.values():
        for target in targets:
            pointed[target] = pointed.get(target, 0) + 1
    free = [number for number, count in pointed.items() if not count]
    while free:
        number = free.pop()
        del pointed[number]
        for target in edges.get(number, ()):
            pointed[target] -= 1
            if not pointed[target]:
                free.append(target)
    turned: dict[int, set[int]] = {number: set() for number in pointed}
    for number in pointed:
        for target in edges.get(number, ()):
            turned[target].add(number)
    return turned


def _check_circles(
    committed: Sequence[Transaction],
    orders: Mapping[Key, Values],
    writers: Mapping[tuple[Key, Value], Transaction],
) -> None:
    graph = _dependencies(committed, orders, writers)
    kinds: frozenset[Kind] = frozenset()
    for name, kind in (
        ("G0", Kind.WW),
        ("G1c", Kind.WR),
        ("real time", Kind.RT),
        ("G2-item", Kind.RW),
    ):
        kinds |= {kind}
        circle = graph.circle(kinds)
        if circle is not None:
            if kind is Kind.RW and _count_rw(graph, circle) == 1:
                name = "G-single"
            raise _Wrong(name, graph.describe(circle))
    kinds -= {Kind.RW}
    for source, target in graph.snapshot_edges:
        back = graph.path(target, source, kinds)
        if back is not None:
            raise _Wrong("G-single", graph.describe([source, *back]))


def _count_rw(graph: _Graph, circle: Sequence[int]) -> int:
    pairs = itertools.pairwise(circle)
    return sum(graph.edges[source][target] is Kind.RW for source, target in pairs)


def _dependencies(
    committed: Sequence[Transaction],
    orders: Mapping[Key, Values],
    writers: Mapping[tuple[Key, Value], Transaction],
) -> _Graph:
    graph = _Graph(committed)
    number = {transaction.name: place for place, transaction in enumerate(committed)}
    for key, values in orders.items():
        for earlier, later in itertools.pairwise(values):
            source, target = writers.get((key, earlier)), writers.get((key, later))
            if source is not None and target is not None:
                graph.add(number[source.name], number[target.name], Kind.WW)
    for reader in committed:
        for read, others in _seen(reader):
            me = number[reader.name]
            if others:
                graph.add(number[writers[read.key, others[-1]].name], me, Kind.WR)
            for value in orders.get(read.key, ())[len(others) : len(others) + 1]:
                follower = writers.get((read.key, value))
                if follower is not None and follower is not reader:
                    _add_rw(graph, reader, me, number[follower.name])
    _add_real_time(graph, committed)
    return graph


def _add_rw(graph: _Graph, reader: Transaction, source: int, target: int) -> None:
    if reader.level is Level.SERIALIZABLE:
        graph.add(source, target, Kind.RW)
    elif reader.level is Level.REPEATABLE_READ:
        graph.snapshot_edges.append((source, target))


def _add_real_time(graph: _Graph, committed: Sequence[Transaction]) -> None:
    ends = sorted(
        (transaction.ended_s, place)
        for place, transaction in enumerate(committed)
        if not math.isinf(transaction.ended_s)
    )
    begins = sorted((transaction.begun_s, place) for place, transaction in enumerate(committed))
    moment, done = len(committed), 0
    for begun_s, place in begins:
        if done < len(ends) and ends[done][0] < begun_s:
            if moment > len(committed):
                graph.add(moment, moment + 1, Kind.RT)
            moment += 1
            while done < len(ends) and ends[done][0] < begun_s:
                graph.add(ends[done][1], moment, Kind.RT)
                done += 1
        if moment > len(committed):
            graph.add(moment, place, Kind.RT)
