"""Transactions over tablets in a hostile world, hundreds a second, from one seed.

The nodes of `model_nodes` without SQL: clients read lists and append to them through the
session's transactions, at every isolation level, while leaders move, are deposed without
knowing it, nodes die (at any chosen step of a commit), pause, and cannot reach each other. Then:

- no circles of dependencies, real time included (`dqe.simulation.dependencies`);
- every read at a timestamp, at leaders, followers and of the past, saw exactly what all logs
  together say of that timestamp;
- what a token was told stays true;
- a home notes that a participant has committed only what that one's log has committed;
- nothing stays in doubt, locked or unconfirmed; replicas are equal.

    python tests/sim/tablet_simulation.py --seed 7

replays a seed.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import math
import random
import shlex
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pyarrow as pa
from model_nodes import ORACLE, STEPS, Cluster, Life, asked_on, schema_of
from tablet_worlds import WORLDS, World

from catalog.tablet_requests import ChangeRows, RowsChanged
from cluster.errors import DqeError, Outcome, SerializationFailure
from cluster.raft.log import Entry, EntryKind
from cluster.simulation.host import close_task
from cluster.simulation.loop import SimulatedLoop
from dqe.simulation.dependencies import (
    Append,
    Fate,
    Level,
    Read,
    Transaction,
    Values,
    find_anomaly,
)
from dqe.simulation.errors import Violation
from executor import past
from executor.session_transaction import SessionTransaction
from executor.transaction_faces import Control
from executor.transaction_tokens import TransactionToken, commit_status
from storage.entries import Commit, Confirmed, Horizon, decode_entry
from storage.fragments import FragmentChange
from storage.locks import LockMode
from storage.opening import open_stores, rows_path
from storage.participant import Outcome as Ended
from storage.read_sets import RowRange
from storage.row_programs import RowProgram, encode_program
from storage.row_side import RowSide
from storage.row_tables import RowTables
from storage.snapshot import check_horizon, fragment_gone
from storage.staging import MemoryBudget, Staging
from storage.tablet import Tablet

DEADLINE_S = 3.0
SETTLE_S = 60.0
# Replicas that take in whole logs afterwards are tablets of numbers above this.
TWINS = 1000
# UPDATE lists SET items = items || $1
APPEND = encode_program(RowProgram(sets=((1, ("concat", ("column", 1), ("parameter", 1))),)))


@dataclass(frozen=True, slots=True)
class SeenAt:
    """A read at a timestamp: what it saw of a list."""

    name: str
    timestamp: int
    key: int
    values: Values


@dataclass(slots=True)
class Report:
    committed: int = 0
    aborted: int = 0
    unknown: int = 0
    reads: int = 0
    simulated_s: float = 0.0
    steps: Counter[tuple[str, bool]] = field(default_factory=Counter)


class ConfirmationWatch:
    """What homes note as confirmed, against the logs of the participants at that moment (C6)."""

    def __init__(self) -> None:
        self._committed: set[tuple[int, int]] = set()
        self.wrong: list[str] = []

    def see(self, tablet_id: int, entry: Entry) -> None:
        if tablet_id == ORACLE or entry.kind is not EntryKind.COMMAND:
            return
        decoded, _ = decode_entry(entry.data)
        if isinstance(decoded, Commit):
            self._committed.add((tablet_id, decoded.transaction_id))
        elif isinstance(decoded, Confirmed):
            for participant, transaction_ids in decoded.by_tablet:
                self.wrong += [
                    f"{tablet_id} takes {t} for confirmed by {participant}, which has not committed"
                    for t in transaction_ids
                    if (participant, t) not in self._committed
                ]


class Simulation:
    """One run; see the module."""

    def __init__(self, seed: int, world: World, directory: Path) -> None:
        self.seed, self.world = seed, world
        self.chance = random.Random(f"{seed}/clients")
        nodes = tuple(range(1, world.nodes + 1))
        placement = {
            t: tuple(self.chance.sample(nodes, world.replicas)) for t in range(1, world.tablets + 1)
        }
        self.cluster = Cluster(
            seed, directory, nodes, placement, random.Random(f"{seed}/world"), world.loss
        )
        self.cluster.network_s, self.cluster.lag_s = world.network_s, world.lag_s
        self.cluster.late, self.cluster.tick_s = world.late, world.tick_s
        self.cluster.close_every_s = world.close_every_s
        self.cluster.hearsay_s = world.hearsay_s
        self.cluster.asynchronous = frozenset(range(1, world.asynchronous + 1))
        self.cluster.snapshots, self.cluster.log_deadline_s = world.snapshots, world.log_deadline_s
        self.history: list[Transaction] = []
        self.seen_at: list[SeenAt] = []
        # What a transaction held as it was, up to its commit.
        self.guarded: list[tuple[TransactionToken, int, Values]] = []
        self.told: list[tuple[TransactionToken, Fate]] = []
        # By home and transaction, what its log said first.
        self.outcomes: dict[tuple[int, int], Ended] = {}
        self.report = Report()
        self.tables = {t: RowTables(schema_of(t)) for t in placement}
        self._next_value = 0
        self._stopped = False
        self.confirmations = ConfirmationWatch()

    # The run.

    async def run(self) -> None:
        cluster = self.cluster
        cluster.begin()
        for consensus in cluster.consensus.values():
            consensus.witness = self.confirmations.see
        await asyncio.sleep(0.5)
        await self._set_up()
        faults = asyncio.create_task(Nemesis(self).run())
        clients = [asyncio.create_task(self._client(i)) for i in range(self.world.clients)]
        await asyncio.sleep(self.world.seconds)
        self._stopped = True
        faults.cancel()
        await asyncio.wait([faults])
        self.calm()
        for done in await asyncio.gather(*clients, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done
        await self._settle()
        await self._check()
        self.report.simulated_s = asyncio.get_running_loop().time()

    def calm(self) -> None:
        cluster = self.cluster
        cluster.hook.armed, cluster.loss = None, 0.0
        cluster.cut.clear()
        for consensus in cluster.consensus.values():
            consensus.stalled_until_s = 0.0
        for node_id in cluster.nodes:
            cluster.resume(node_id)
            cluster.start(node_id)
        self.elect_where_none()

    def elect_where_none(self) -> None:
        for consensus in self.cluster.consensus.values():
            homes = self.cluster.homes(consensus.tablet_id)
            if consensus.leader is None and homes:
                consensus.elect(self.chance.choice(homes), told=True)

    def tablet_of(self, key: int) -> int:
        return key % self.world.tablets + 1

    def keys_of(self, tablet_id: int) -> list[int]:
        return [key for key in range(self.world.lists) if self.tablet_of(key) == tablet_id]

    def is_firm(self, key: int) -> bool:
        """Whether what is acknowledged of the list stays."""
        return self.tablet_of(key) not in self.cluster.asynchronous

    def leader(self, tablet_id: int) -> Life | None:
        return self.cluster.lives.get(self.cluster.consensus[tablet_id].leader or 0)

    async def _set_up(self) -> None:
        for tablet_id in self.cluster.placement:
            life = self.leader(tablet_id)
            assert life is not None
            await life.runtime.spawn(self._fill(life, tablet_id), "set up")

    async def _fill(self, life: Life, tablet_id: int) -> None:
        tablet = life.tablets[tablet_id]
        await tablet.alter((schema_of(tablet_id),), 1)
        transaction_id = life.services.ids.next()
        rows = _rows([(key, "") for key in self.keys_of(tablet_id)])
        change = FragmentChange(schema_of(tablet_id).fragment_id, insert_rows=rows)
        await tablet.stage(transaction_id, change)
        floor = await life.timestamps.commit_timestamp()
        await tablet.write(transaction_id, floor, life.timestamps.commit_timestamp)

    # Clients.

    async def _client(self, number: int) -> None:
        chance = random.Random(f"{self.seed}/client {number}")
        while not self._stopped:
            await asyncio.sleep(chance.expovariate(30.0))
            life = self.cluster.lives.get(chance.choice(self.cluster.nodes))
            if life is None:
                continue
            await Asking(self, life, chance, f"c{number}/{len(self.history)}").run()

    def next_value(self) -> int:
        self._next_value += 1
        return self._next_value

    # Afterwards.

    async def _settle(self) -> None:
        """Soon nothing is under way, and replicas are at one index."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + SETTLE_S
        while True:
            self.elect_where_none()
            open_things = [text for life in self.cluster.lives.values() for text in _open(life)]
            groups = [g for life in self.cluster.lives.values() for g in life.groups.values()]
            behind = [g for g in groups if g.applied < len(g.consensus.log)]
            if not open_things and not behind:
                return
            if loop.time() > ends_s:
                raise Violation(f"after {SETTLE_S:g} s there is left: {open_things[:3]} {behind}")
            await asyncio.sleep(0.5)

    async def _check(self) -> None:
        for name, error in self.cluster.failures:
            raise Violation(f"background task {name} failed: {error!r}") from error
        if self.confirmations.wrong:
            raise Violation(self.confirmations.wrong[0])
        twins = {t: await self._replay(t) for t in self.cluster.placement}
        for life in self.cluster.lives.values():
            for tablet in life.tablets.values():
                await tablet._rows.applier.flush()
        self._compare_replicas(twins)
        now = max(twin.newest_commit_ts for twin in twins.values())
        firm = [key for key in range(self.world.lists) if self.is_firm(key)]
        final = {key: self._at(twins, key, now) for key in firm}
        anomaly = find_anomaly([self._firm_part(t) for t in self.history], final)
        if anomaly is not None:
            raise Violation(f"{anomaly.name}: {anomaly.text}")
        for seen in [*self.seen_at, *self._guarded()]:
            if not self.is_firm(seen.key):
                continue
            right = self._at(twins, seen.key, seen.timestamp)
            if right != seen.values:
                raise Violation(
                    f"{seen.name} read list {seen.key} at {seen.timestamp} as {seen.values},"
                    f" which was {right}"
                )
        for token, fate in self.told:
            if token.home in self.cluster.asynchronous:
                continue
            outcome = self.outcomes.get((token.home, token.transaction_id))
            committed = outcome is not None and outcome.committed
            if committed != (fate is Fate.COMMITTED):
                raise Violation(f"{token} was said to be {fate.value}; its home has {outcome}")

    def _guarded(self) -> Iterator[SeenAt]:
        """What was held, as reads at the commit timestamps (rule I5)."""
        for token, key, values in self.guarded:
            outcome = self.outcomes.get((token.home, token.transaction_id))
            if outcome is not None and outcome.committed:
                name = f"{token} held, up to its commit, and"
                yield SeenAt(name, outcome.commit_ts, key, values)

    def _firm_part(self, transaction: Transaction) -> Transaction:
        """What it did to lists that keep what is acknowledged."""
        operations = tuple(o for o in transaction.operations if self.is_firm(o.key))
        return dataclasses.replace(transaction, operations=operations)

    async def _replay(self, tablet_id: int) -> Tablet:
        """A replica that has taken in the whole log, and forgets nothing."""
        life = next(iter(self.cluster.lives.values()))
        path = life.directory / f"twin-{tablet_id}.duckdb"
        store, _ = open_stores(life.duckdb, TWINS + tablet_id, path)
        rows = RowSide(life.runtime, TWINS + tablet_id, rows_path(path), None)
        staging = Staging(life.directory / f"twin-staging-{tablet_id}", MemoryBudget())
        twin = Tablet(life.runtime, store, staging, 0, lambda: life.client, rows)
        for entry in self.cluster.consensus[tablet_id].log:
            if not _prunes(entry):
                await twin.apply([entry])
                self._note_outcome(twin, entry)
        await twin._rows.applier.flush()
        return twin

    def _note_outcome(self, twin: Tablet, entry: Entry) -> None:
        """Of a transaction, the first; those who are told of it may forget it."""
        decoded = decode_entry(entry.data)[0] if entry.kind is EntryKind.COMMAND else None
        transaction_id = getattr(decoded, "transaction_id", 0)
        outcome = twin._participant.outcome(transaction_id)
        if outcome is not None:
            self.outcomes.setdefault((twin.tablet_id - TWINS, transaction_id), outcome)

    def _compare_replicas(self, twins: dict[int, Tablet]) -> None:
        for life in self.cluster.lives.values():
            for tablet_id, tablet in life.tablets.items():
                fragment_id = schema_of(tablet_id).fragment_id
                for key in self.keys_of(tablet_id):
                    stored = [self.tables[tablet_id].encode_key((key,))]
                    found, right = (
                        t._rows.applier.store.get_many(fragment_id, stored, 2**62)
                        for t in (tablet, twins[tablet_id])
                    )
                    if found != right:
                        raise Violation(f"replica n{life.node_id} of {tablet_id}: {found} {right}")
                images = {
                    msgspec.msgpack.encode(t._participant.image())
                    for t in (tablet, twins[tablet_id])
                }
                if len(images) > 1:
                    raise Violation(f"replica n{life.node_id} of {tablet_id}: transactions differ")

    def _at(self, twins: dict[int, Tablet], key: int, timestamp: int) -> Values:
        tablet_id = self.tablet_of(key)
        tables = self.tables[tablet_id]
        store = twins[tablet_id]._rows.applier.store
        fragment_id = schema_of(tablet_id).fragment_id
        (row,) = store.get_many(fragment_id, [tables.encode_key((key,))], timestamp)
        return _values(None if row is None else tables.decode_row(row[:2])[1])


def _prunes(entry: Entry) -> bool:
    command = entry.kind is EntryKind.COMMAND
    return command and isinstance(decode_entry(entry.data)[0], Horizon)


def _open(life: Life) -> list[str]:
    found = []
    for tablet_id, tablet in life.tablets.items():
        participant = tablet._participant
        if tablet.is_leader:
            found += [f"{t.phase} {t.id} at {tablet_id}" for t in participant.transactions.values()]
            found += [f"unconfirmed {t} at {tablet_id}" for t in participant.unconfirmed()]
    return found


def _rows(rows: Sequence[tuple[int, str]]) -> pa.RecordBatch:
    arrays = [pa.array([r[0] for r in rows], pa.int64()), pa.array([r[1] for r in rows])]
    return pa.RecordBatch.from_arrays(arrays, names=["c1", "c2"])


def _keys(*keys: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(keys, pa.int64())], names=["c1"])


def _values(items: Any) -> Values:
    return tuple(int(item) for item in (items or "").split(",") if item)


def _text(values: Values) -> str:
    return "".join(f",{value}" for value in values)


class Asking:
    """One transaction of one client at one node."""

    def __init__(
        self, simulation: Simulation, life: Life, chance: random.Random, name: str
    ) -> None:
        self._simulation, self._life, self._chance = simulation, life, chance
        self._name = name
        self._level = chance.choice(simulation.world.levels)
        self._operations: list[Append | Read] = []
        self._committing = False
        # Rows it holds as they are: what it found there.
        self._guarded: dict[int, Values] = {}
        self._token: TransactionToken | None = None

    async def run(self) -> None:
        simulation, loop = self._simulation, asyncio.get_running_loop()
        begun_s = loop.time()
        if self._chance.random() < simulation.world.readers:
            body = self._chance.choice((self._read_past, self._read_now, self._read_newest))
        elif self._is_a_call() and self._chance.random() < 0.5:
            body = self._change_by_itself
        else:
            body = self._change
        answer: asyncio.Future[Fate] = loop.create_future()
        self._life.runtime.spawn(self._answered(body, answer), self._name)
        self._life.host.on_death(lambda: self._lose(answer))
        if self._chance.random() < simulation.world.impatient:
            loop.call_later(self._chance.expovariate(10.0), self._leave, answer)
        fate = await answer
        if fate is Fate.UNKNOWN and self._token is not None:
            fate = await self._ask_fate(self._token)
        ended_s = loop.time() if fate is Fate.COMMITTED else math.inf
        simulation.history.append(
            Transaction(self._name, self._level, tuple(self._operations), fate, begun_s, ended_s)
        )
        report = simulation.report
        report.committed += fate is Fate.COMMITTED
        report.aborted += fate is Fate.ABORTED
        report.unknown += fate is Fate.UNKNOWN

    def _lose(self, answer: asyncio.Future[Fate]) -> None:
        if not answer.done():
            answer.set_result(Fate.UNKNOWN if self._committing else Fate.ABORTED)

    def _leave(self, answer: asyncio.Future[Fate]) -> None:
        if self._committing:
            self._lose(answer)

    async def _answered(self, body: Callable[[], Any], answer: asyncio.Future[Fate]) -> None:
        try:
            await body()
            fate = Fate.COMMITTED
        except DqeError as error:
            unknown = self._committing and error.outcome is Outcome.UNKNOWN
            fate = Fate.UNKNOWN if unknown else Fate.ABORTED
            if not error.sqlstate.startswith(self._explained):
                answer.set_exception(Violation(f"no fault explains {error.sqlstate} {error}"))
                return
        except Exception as error:  # noqa: BLE001 - the run ends with it
            if not answer.done():
                answer.set_exception(error)
            return
        if not answer.done():
            answer.set_result(fate)

    @property
    def _explained(self) -> tuple[str, ...]:
        """Errors that faults explain, and, where it is asked for, that the future is refused."""
        ahead = ("22023",) if self._simulation.world.ahead_ms else ()
        return ("08", "40", "55", "57", "72", *ahead)

    async def _ask_fate(self, token: TransactionToken) -> Fate:
        """Rule C8: what it is told is so from then on."""
        for _ in range(self._chance.randrange(3)):
            life = self._simulation.cluster.lives.get(
                self._chance.choice(self._simulation.cluster.nodes)
            )
            if life is None:
                continue
            word = await asked_on(life, self._word(life, token))
            if word in ("committed", "aborted"):
                fate = Fate(word)
                self._simulation.told.append((token, fate))
                return fate
            await asyncio.sleep(0.2)
        return Fate.UNKNOWN

    def _word(self, life: Life, token: TransactionToken) -> Coroutine[Any, Any, str | None]:
        """What is told of it, which may be that nobody remembers."""
        if self._simulation.world.forgets:
            return commit_status(life.services, [str(token)])
        return life.client.commit_status(token.home, token.transaction_id, True, DEADLINE_S)

    # Bodies, on the node.

    async def _change(self) -> None:
        transaction = SessionTransaction(self._life.services)
        transaction.isolation = self._level.value.lower()
        transaction.lock_deadline_s = DEADLINE_S
        three_phase = self._chance.random() < self._simulation.world.three_phase
        optimistic = self._chance.random() < self._simulation.world.optimistic
        transaction.control = Control(three_phase, optimistic)
        try:
            for _ in range(self._chance.randrange(1, 5)):
                transaction.begin_command()
                key = self._chance.randrange(self._simulation.world.lists)
                if self._guards():
                    await self._guard(transaction, key)
                elif self._chance.random() < 0.4:
                    self._note(key, await self._read(transaction, key))
                elif self._is_a_call():
                    await self._append_in_a_call(transaction, key)
                else:
                    await self._append(transaction, key)
                await self._life.runtime.sleep(self._chance.expovariate(200.0))
        except DqeError:
            await transaction.roll_back()
            raise
        opened = transaction._opened
        if opened is not None and opened.home is not None:
            self._token = TransactionToken(opened.id, transaction._begun, opened.home)
        self._note_guarded()
        self._committing = True
        await transaction.commit()

    def _note_guarded(self) -> None:
        appended = {o.key for o in self._operations if isinstance(o, Append)}
        for key, values in self._guarded.items():
            if self._token is not None and key not in appended:
                self._simulation.guarded.append((self._token, key, values))

    def _guards(self) -> bool:
        guards = self._simulation.world.guards
        return guards > 0 and self._chance.random() < guards

    async def _guard(self, transaction: SessionTransaction, key: int) -> None:
        """As a foreign key does with the row it refers to: what is found under the lock is to be
        so at the commit timestamp (rule I5)."""
        timestamp, _ = await transaction.snapshot()
        tablet_id = self._simulation.tablet_of(key)
        await transaction.statement().lock_rows(
            tablet_id,
            schema_of(tablet_id).fragment_id,
            _keys(key),
            LockMode.FOR_SHARE,
            timestamp,
            binding=True,
        )
        own = transaction.own_changes()
        if own is not None and tablet_id in own.tablets:
            return  # it may have changed the row itself
        now, _ = await self._life.timestamps.snapshot()
        self._guarded[key] = await self._read_at_leader(tablet_id, key, now)

    def _note(self, key: int, values: Values) -> None:
        self._operations.append(Read(key, values))

    async def _read(self, transaction: SessionTransaction, key: int) -> Values:
        """As a statement reads one row by its key."""
        timestamp, _ = await transaction.snapshot()
        own = transaction.own_changes()
        tablet_id = self._simulation.tablet_of(key)
        # READ COMMITTED reads one tablet without a timestamp (rule R2).
        newest = not transaction.keeps_snapshot and self._chance.random() < 0.5
        written = own is not None and tablet_id in own.tablets
        if not newest and not written and self._chance.random() < 0.5:
            values = await self._read_here(tablet_id, key, timestamp)
        else:
            values = await self._read_at_leader(
                tablet_id, key, None if newest else timestamp, own if written else None
            )
        if not newest and not written:
            self._simulation.seen_at.append(SeenAt(self._name, timestamp, key, values))
        self._note_read(transaction, tablet_id, key, values)
        return values

    def _note_read(
        self, transaction: SessionTransaction, tablet_id: int, key: int, values: Values
    ) -> None:
        """What a SERIALIZABLE transaction is to validate (rule I4): the fragment, as where no more
        is known of a scan, or the values of the key, or of another column, that it asked for."""
        fragment_id = schema_of(tablet_id).fragment_id
        ranges = self._simulation.world.ranges
        if not ranges or self._chance.random() >= ranges:
            scan = SimpleNamespace(
                fragments=[[SimpleNamespace(tablet_id=tablet_id, fragment_id=fragment_id)]],
                table_id=tablet_id,
                ranges=(),
            )
            transaction.note_reads(SimpleNamespace(stages=[SimpleNamespace(scans=[scan])]))  # type: ignore[arg-type]
        elif self._chance.random() < 0.5:
            read = RowRange(("c1",), (), (key - 1, False), (key, True))
            transaction.note_range(tablet_id, fragment_id, read)
        else:
            read = RowRange(("c2",), (_text(values),))
            transaction.note_range(tablet_id, fragment_id, read)

    async def _read_at_leader(
        self, tablet_id: int, key: int, timestamp: int | None, own: Any = None
    ) -> Values:
        tables = self._simulation.tables[tablet_id]
        fragment_id = schema_of(tablet_id).fragment_id
        (row,) = await self._life.client.read_stored(
            tablet_id, fragment_id, (tables.encode_key((key,)),), timestamp, own, DEADLINE_S
        )
        self._simulation.report.reads += 1
        return _values(None if row is None else tables.decode_row(row)[1])

    async def _read_here(self, tablet_id: int, key: int, timestamp: int) -> Values:
        """At this node's replica, whoever leads (rules R1, R3 and R4); else at the leader."""
        tablet = self._life.tablets.get(tablet_id)
        if tablet is None:
            return await self._read_at_leader(tablet_id, key, timestamp)
        tables = self._simulation.tables[tablet_id]
        fragment_id = schema_of(tablet_id).fragment_id
        if fragment_id not in await tablet.prepare_read([fragment_id], timestamp, DEADLINE_S):
            raise fragment_gone(tablet_id, fragment_id)
        store = tablet._rows.applier.store
        check_horizon(tablet_id, timestamp, store.horizon)
        (row,) = store.get_many(fragment_id, [tables.encode_key((key,))], timestamp)
        self._simulation.report.reads += 1
        return _values(None if row is None else tables.decode_row(row[:2])[1])

    async def _append(self, transaction: SessionTransaction, key: int) -> None:
        """As UPDATE does: read at the snapshot, lock, look at what changed since, write."""
        value = self._simulation.next_value()
        self._operations.append(Append(key, value))
        tablet_id = self._simulation.tablet_of(key)
        fragment_id = schema_of(tablet_id).fragment_id
        timestamp, _ = await transaction.snapshot()
        own = transaction.own_changes()
        written = own is not None and tablet_id in own.tablets
        items = await self._read_at_leader(tablet_id, key, timestamp, own if written else None)
        changes = transaction.statement()
        locked = await changes.lock_rows(
            tablet_id, fragment_id, _keys(key), LockMode.FOR_NO_KEY_UPDATE, timestamp
        )
        if locked.changed and transaction.keeps_snapshot:
            raise SerializationFailure("could not serialize access due to concurrent update")
        if locked.changed:
            newest, _ = await self._life.timestamps.snapshot()
            items = await self._read_at_leader(tablet_id, key, newest, own if written else None)
        change = FragmentChange(fragment_id, _keys(key), _rows([(key, _text((*items, value)))]))
        await changes.stage(tablet_id, change)
        await changes.commit(timestamp, checks=False)

    def _is_a_call(self) -> bool:
        share = self._simulation.world.in_a_call
        return share > 0 and self._chance.random() < share

    async def _append_in_a_call(self, transaction: SessionTransaction, key: int) -> None:
        """As an UPDATE of one row by its key does: locked, read and changed by one request."""
        base = (await transaction.snapshot())[0] if transaction.keeps_snapshot else 0
        request, operation = self._row_change(key, transaction.opened.id)
        request = msgspec.structs.replace(request, command=transaction.command, base=base)
        (stored,) = request.keys
        transaction.note_key(request.tablet_id, request.fragment_id, stored)
        tables = self._simulation.tables[request.tablet_id]
        answer = await transaction.opened.change_rows(request, tables)
        transaction.saw(answer.as_of)
        self._note_changed(tables, answer, operation)

    async def _change_by_itself(self) -> None:
        """The same as a transaction of its own."""
        self._level = Level.READ_COMMITTED
        key = self._chance.randrange(self._simulation.world.lists)
        request, operation = self._row_change(key, self._life.services.ids.next())
        # An answer with rows that is lost is not known any more.
        request = msgspec.structs.replace(request, ends=True, shows=self._chance.random() < 0.5)
        begun, _ = await self._life.timestamps.snapshot()
        self._token = TransactionToken(request.transaction_id, begun, request.tablet_id)
        self._committing = True
        answer = await self._life.client.write_rows(request)
        self._note_changed(self._simulation.tables[request.tablet_id], answer, operation)

    def _row_change(self, key: int, transaction_id: int) -> tuple[ChangeRows, Append]:
        tablet_id = self._simulation.tablet_of(key)
        operation = Append(key, self._simulation.next_value())
        self._operations.append(operation)
        request = ChangeRows(
            tablet_id,
            transaction_id,
            0,
            schema_of(tablet_id).fragment_id,
            (self._simulation.tables[tablet_id].encode_key((key,)),),
            LockMode.FOR_NO_KEY_UPDATE.value,
            APPEND,
            (0, _text((operation.value,))),
            shows=True,
            lock_s=DEADLINE_S,
        )
        return request, operation

    def _note_changed(self, tables: RowTables, answer: RowsChanged, operation: Append) -> None:
        """What it found, before it made something of that."""
        place = self._operations.index(operation)
        for before, _ in answer.rows:
            assert before is not None
            found = Read(operation.key, _values(tables.decode_row(before)[1]))
            self._operations.insert(place, found)

    async def _read_now(self) -> None:
        """All lists at one new timestamp."""
        self._level = Level.REPEATABLE_READ
        timestamp, _ = await self._life.timestamps.snapshot()
        await self._read_all(timestamp)

    async def _read_newest(self) -> None:
        """A single row without a timestamp (rule R2): what was acknowledged is seen."""
        self._level = Level.REPEATABLE_READ
        key = self._chance.randrange(self._simulation.world.lists)
        self._note(key, await self._read_at_leader(self._simulation.tablet_of(key), key, None))

    async def _read_past(self) -> None:
        """All lists at a timestamp of a moment ago; no part of the history in real time."""
        timestamp, _ = await self._life.timestamps.snapshot()
        timestamp -= self._chance.randrange(self._simulation.world.past_ms) << 18
        if self._simulation.world.ahead_ms:
            timestamp += self._chance.randrange(self._simulation.world.ahead_ms) << 18
            timestamp = await past._readable(self._life.services, timestamp)
        operations, self._operations = self._operations, []
        await self._read_all(timestamp)
        self._operations = operations

    async def _read_all(self, timestamp: int) -> None:
        for key in range(self._simulation.world.lists):
            values = await self._read_here(self._simulation.tablet_of(key), key, timestamp)
            self._simulation.seen_at.append(SeenAt(self._name, timestamp, key, values))
            self._note(key, values)


class Nemesis:
    """What goes wrong."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._cluster = simulation.cluster
        self._chance = random.Random(f"{simulation.seed}/nemesis")
        self._faults: dict[str, Callable[[], None]] = {
            "move": lambda: self._elect(self._any_tablet(), told=True),
            "depose": lambda: self._elect(self._any_tablet(), told=False),
            "depose oracle": lambda: self._elect(ORACLE, told=self._chance.random() < 0.5),
            "kill": lambda: self._kill(self._chance.choice(self._cluster.nodes)),
            "cut": self._cut,
            "pause": self._pause,
            "kill at a step": self._kill_at_a_step,
            "prune": self._prune,
            "lose a tail": lambda: self._lose_tail(self._cluster.asynchronous),
            "lose a decision": self._lose_decision,
            "stall": lambda: self._stall(self._any_tablet()),
        }

    async def run(self) -> None:
        faults = self._simulation.world.faults
        while faults:
            await asyncio.sleep(self._chance.expovariate(1 / self._simulation.world.fault_every_s))
            self._faults[self._chance.choice(faults)]()

    def _any_tablet(self) -> int:
        return self._chance.choice(list(self._cluster.placement))

    def _elect(self, tablet_id: int, *, told: bool) -> None:
        homes = self._cluster.homes(tablet_id)
        if homes:
            self._cluster.consensus[tablet_id].elect(self._chance.choice(homes), told=told)

    def _kill(self, node_id: int) -> None:
        # One at a time: the model has no majorities to lose.
        if len(self._cluster.lives) < len(self._cluster.nodes):
            return
        self._cluster.kill(node_id)
        later = asyncio.get_running_loop().call_later
        later(self._chance.uniform(0.05, 0.5), self._simulation.elect_where_none)
        later(self._chance.uniform(0.1, 2.0), self._cluster.start, node_id)
        later(2.1, self._simulation.elect_where_none)

    def _kill_at_a_step(self) -> None:
        """Of a node at which the step is carried out, or of any other."""
        hook = self._cluster.hook
        tablet_id = self._any_tablet()
        who = self._chance.choice(("leader", "oracle", "any"))

        def act() -> None:
            leader = self._cluster.consensus[ORACLE if who == "oracle" else tablet_id].leader
            victim = leader if who != "any" else None
            self._kill(victim or self._chance.choice(self._cluster.nodes))

        hook.armed = (self._chance.choice(STEPS), self._chance.random() < 0.5, act)

    def _stall(self, tablet_id: int) -> None:
        """The tablet's log commits nothing for a while, and its leader keeps its lease."""
        consensus = self._cluster.consensus[tablet_id]
        now_s = asyncio.get_running_loop().time()
        consensus.stalled_until_s = now_s + self._chance.uniform(0.1, 1.5)

    def _prune(self) -> None:
        """History goes, whoever still reads it (rule L7)."""
        tablet_id = self._any_tablet()
        life = self._simulation.leader(tablet_id)
        if life is not None and life.tablets[tablet_id].is_leader:
            life.runtime.spawn(self._set_horizon(life, tablet_id), "prune")

    async def _set_horizon(self, life: Life, tablet_id: int) -> None:
        with suppress(DqeError):
            now, _ = await life.timestamps.snapshot()
            await life.tablets[tablet_id].set_horizon(now - (self._chance.randrange(50) << 18))

    def _lose_tail(self, tablets: Iterable[int]) -> None:
        """Asynchronous tablets lose the end of their logs with the nodes that hold them, and go on
        with what there is, as an operator says (rule G5)."""
        later = asyncio.get_running_loop().call_later
        for tablet_id in tablets:
            homes = self._cluster.homes(tablet_id)
            for node_id in homes:
                self._cluster.kill(node_id)
                later(self._chance.uniform(0.1, 0.3), self._cluster.start, node_id)
            self._cluster.consensus[tablet_id].lose_tail(self._chance.randrange(1, 12))
        later(0.35, self._simulation.elect_where_none)

    def _lose_decision(self) -> None:
        """That, just when a home has decided."""

        def act() -> None:
            asyncio.get_running_loop().call_soon(self._lose_tail, self._cluster.asynchronous)

        # Most homes decide as a tablet alone writes.
        step = self._chance.choice(("write", "write", "decide"))
        self._cluster.hook.armed = (step, False, act)

    def _cut(self) -> None:
        one, other = self._chance.sample(self._cluster.nodes, 2)
        self._cluster.cut |= {(one, other), (other, one)}
        asyncio.get_running_loop().call_later(
            self._chance.uniform(0.1, 1.5),
            self._cluster.cut.difference_update,
            {(one, other), (other, one)},
        )

    def _pause(self) -> None:
        node_id = self._chance.choice(self._cluster.nodes)
        self._cluster.pause(node_id)
        later = asyncio.get_running_loop().call_later
        later(self._chance.uniform(0.05, 1.0), self._cluster.resume, node_id)


def run_seed(seed: int, world: World = WORLDS["all"]) -> Report:
    """Runs one; Violation says what is wrong and how to replay it."""
    directory = Path(tempfile.mkdtemp(prefix="dqe-model-", dir="/dev/shm"))
    simulation = Simulation(seed, world, directory)
    loop = SimulatedLoop()
    complain, was_on = sys.unraisablehook, gc.isenabled()
    gc.disable()
    try:
        with world.bounds():
            loop.run_until_complete(simulation.run())
    except Exception as error:
        name = shlex.quote(next((n for n, w in WORLDS.items() if w == world), "?"))
        command = f"python tests/sim/tablet_simulation.py --seed {seed} --world {name}"
        error.add_note(f"replay: {command}")
        raise
    finally:
        loop.set_exception_handler(lambda *_: None)
        sys.unraisablehook = lambda *_: None
        simulation.cluster.bury()
        for task in asyncio.all_tasks(loop):
            close_task(task)
        loop.close()
        report = simulation.report
        report.steps = simulation.cluster.hook.taken
        del simulation
        gc.collect()
        sys.unraisablehook = complain
        if was_on:
            gc.enable()
        shutil.rmtree(directory, ignore_errors=True)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--world", choices=WORLDS, default="all")
    arguments = parser.parse_args()
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        print(seed, run_seed(seed, WORLDS[arguments.world]))


if __name__ == "__main__":
    main()
