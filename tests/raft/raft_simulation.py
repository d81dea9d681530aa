"""The Raft core alone under a hostile world, from one seed.

    python tests/raft/raft_simulation.py --seed 7          one run, says what it saw
    python tests/raft/raft_simulation.py --seeds 0-999     a sweep
                                         --world 'cut off' in a world of `raft_worlds`

The world: messages are lost, late, repeated and reordered; links are cut one way or both;
nodes pause and crash, losing every write that was not yet durable; disks are slow; state
machines reopen anywhere between what they held durably and what they had applied; clocks
differ and drift; members come and go; logs are compacted; leaders hand over. Each seed draws
its own mixture, so that rare paths get seeds of their own.

What is checked, after every event, on the node it touched (paper, figure 3):
- election safety: one leader a term;
- leader completeness and log matching: a leader holds all that was committed before its term;
- state-machine safety: nodes apply the same entries, and reach the same state;
- reads: a read under a lease, or confirmed by a round, shows all acknowledged before it began;
- at the end, without faults: a leader is elected, commits, and all members reach its state.
"""

from __future__ import annotations

import argparse
import heapq
import shlex
import sys
import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import NamedTuple

from raft_worlds import WORLDS, Mixture

from cluster.errors import ObjectNotInPrerequisiteState
from cluster.raft.core import RaftCore, Ready
from cluster.raft.errors import NotLeader
from cluster.raft.log import (
    Configuration,
    Entry,
    EntryKind,
    GroupImage,
    GroupWrite,
    HardState,
    MemoryLogStorage,
    SnapshotMark,
)
from cluster.raft.messages import Envelope
from cluster.raft.settings import RaftSettings
from cluster.raft.snapshot_data import MemorySnapshot
from cluster.raft.state import OutgoingSnapshot, Role

GROUP = 1
MAX_NODES = 7
SETTINGS = RaftSettings(
    election_timeout_s=0.15,
    heartbeat_interval_s=0.04,
    in_flight_appends=3,  # small bounds, so that windows fill and snapshots take many chunks
    snapshot_chunk_bytes=24,
    cached_log_bytes=400,
    promotion_lag_entries=3,
)


class Violation(Exception):
    """A promise was broken."""


class State(NamedTuple):
    """A state machine's state: how many commands, and a chain over all entries."""

    index: int = 0
    count: int = 0
    chain: int = 0

    def after(self, entry: Entry) -> State:
        text = b"%d %d %d " % (self.chain, entry.term, entry.kind) + entry.data
        commands = int(entry.kind is EntryKind.COMMAND)
        return State(entry.index, self.count + commands, zlib.crc32(text))

    def encode(self) -> bytes:
        return b"%d %d %d" % self + b"." * 60  # a few chunks long


class Machine:
    """A state machine that reopens at any state between durable and applied."""

    def __init__(self) -> None:
        self.journal = [State()]  # from the durable one to the newest

    @property
    def state(self) -> State:
        return self.journal[-1]

    @property
    def durable_index(self) -> int:
        return self.journal[0].index

    def checkpoint(self, random: Random) -> None:
        del self.journal[: random.randrange(len(self.journal))]

    def crash(self, random: Random) -> None:
        self.journal = [random.choice(self.journal)]

    def restore(self, data: bytes) -> None:
        index, count, chain = data.rstrip(b".").split()
        self.journal = [State(int(index), int(count), int(chain))]


@dataclass
class Node:
    """One replica with its disk, its clock and what is on its way."""

    id: int
    clock_offset_s: float
    clock_rate: float
    disk: MemoryLogStorage = field(default_factory=MemoryLogStorage)
    machine: Machine = field(default_factory=Machine)
    core: RaftCore | None = None
    incarnation: int = 0
    paused_until_s: float = 0.0
    tick_at_s: float = float("inf")
    durable_vote: int = 0
    writing: int = 0  # of `writes`, the first so many are on their way to the disk
    writes: deque[tuple[int, GroupWrite]] = field(default_factory=deque)
    held: deque[tuple[int, tuple[Envelope, ...]]] = field(default_factory=deque)
    persisted: int = 0
    restoring: tuple[int, OutgoingSnapshot] | None = None
    checked_commit: int = 0
    led_term: int = 0
    proposed: dict[int, int] = field(default_factory=dict)  # index -> term
    reads: dict[int, int] = field(default_factory=dict)  # context -> index acknowledged before

    def local_s(self, now_s: float) -> float:
        return self.clock_offset_s + self.clock_rate * now_s


class Simulation:
    """One world; `run` it once."""

    def __init__(self, seed: int, mixture: Mixture | None = None, duration_s: float = 8.0) -> None:
        self.seed = seed
        self.random = Random(f"raft {seed}")
        self.mixture = mixture or Mixture.draw(self.random)
        self.settings = replace(
            SETTINGS,
            election_spread=self.mixture.election_spread,
            append_entries=self.mixture.append_entries,
        )
        self.duration_s = duration_s
        self.now_s = 0.0
        self.calm = False
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.event_count = 0
        self.nodes: dict[int, Node] = {}
        self.cut: set[tuple[int, int]] = set()
        self.delays_s: dict[tuple[int, int], float] = {}  # more than usual, a link
        self.leaders: dict[int, int] = {}  # term -> node
        self.committed: dict[int, tuple[int, int]] = {}  # index -> its term, the commit's term
        self.applied: dict[int, State] = {}
        self.acknowledged = 0  # the highest index a client was answered for
        self.reads = 0
        self.probes: Counter[str] = Counter()
        bootstrap = Configuration.of(range(1, self.mixture.voters + 1))
        for node_id in bootstrap.voters:
            self.add_node(node_id, bootstrap)

    # -- time ------------------------------------------------------------------------------

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.event_count += 1
        heapq.heappush(self.events, (self.now_s + delay_s, self.event_count, action))

    def run_until(self, end_s: float, done: Callable[[], bool] = lambda: False) -> bool:
        while self.events and self.events[0][0] <= end_s:
            self.now_s, _, action = heapq.heappop(self.events)
            action()
            if done():
                return True
        self.now_s = end_s
        return False

    # -- nodes -----------------------------------------------------------------------------

    def add_node(self, node_id: int, bootstrap: Configuration | None) -> None:
        random = self.random
        node = Node(node_id, random.uniform(0, 1000), random.uniform(0.97, 1.03))
        if bootstrap is not None:
            mark = SnapshotMark(0, 0, bootstrap)
            node.disk.append_now([GroupWrite(GROUP, HardState(), (), mark)])
        self.nodes[node_id] = node
        self.start(node)

    def start(self, node: Node) -> None:
        image = node.disk.load().get(GROUP, GroupImage(HardState(), SnapshotMark(), ()))
        node.core = RaftCore(
            GROUP,
            node.id,
            image,
            applied_index=node.machine.durable_index,
            fetch=lambda low, high: node.disk.entries(GROUP, low, high),
            settings=self.settings,
            random=Random(self.random.random()),
            now_s=node.local_s(self.now_s),
        )
        if node.core.awaits_snapshot:
            self.probes["restarted behind its log"] += 1
        node.checked_commit = node.core.commit_index
        node.led_term = 0
        node.tick_at_s = float("inf")
        self.settle(node)

    def crash(self, node: Node) -> None:
        if node.core is None:
            return
        kept = self.random.randint(0, len(node.writes))
        for _, write in list(node.writes)[:kept]:
            node.disk.append_now([write])
        if kept < len(node.writes):
            self.probes["lost a write"] += 1
        node.machine.crash(self.random)
        node.core = None
        node.incarnation += 1
        node.persisted = 0
        node.writing = 0
        node.restoring = None
        for queue in (node.writes, node.held, node.proposed, node.reads):
            queue.clear()

    def restart(self, node: Node) -> None:
        if node.core is None:
            self.start(node)

    def later(self, node: Node, delay_s: float, action: Callable[[], None]) -> None:
        """Do that on the node unless it has crashed by then; not while it is paused."""
        incarnation = node.incarnation

        def act() -> None:
            if node.incarnation != incarnation or node.core is None:
                return
            if node.paused_until_s > self.now_s:
                self.after(node.paused_until_s - self.now_s, act)
                return
            action()
            self.settle(node)

        self.after(delay_s, act)

    # -- driving a core --------------------------------------------------------------------

    def settle(self, node: Node) -> None:
        """Carry out what the node's core asks for, then check it."""
        core = node.core
        assert core is not None
        while (ready := core.ready()) is not None:
            self.carry_out(node, ready)
        self.check_leader(node, core)
        self.check_commit(node, core)
        self.apply(node, core)
        due_s = (core.next_due_s - node.clock_offset_s) / node.clock_rate
        if due_s < node.tick_at_s:
            node.tick_at_s = due_s
            self.later(node, max(0.0, due_s - self.now_s) + 1e-6, lambda: self.tick(node))

    def tick(self, node: Node) -> None:
        assert node.core is not None
        node.tick_at_s = float("inf")
        node.core.tick(node.local_s(self.now_s))

    def carry_out(self, node: Node, ready: Ready) -> None:
        for envelope in ready.messages:
            self.send(node, envelope)
        if ready.write is not None:
            node.writes.append((ready.sequence, ready.write))
            self.start_disk(node)
        if ready.after_write:
            node.held.append((ready.sequence, ready.after_write))
            self.release(node)
        for read in ready.reads:
            needed = node.reads.pop(read.context)
            self.probes["confirmed read"] += 1
            if read.index < needed:
                raise Violation(f"stale read: index {read.index}, acknowledged {needed}")
        if ready.snapshot is not None:
            self.probes["snapshot sent"] += 1
            node.restoring = (ready.sequence, ready.snapshot)
            self.restore_if_written(node)
        if ready.snapshot_wanted is not None:
            self.later(node, self.random.uniform(0, 0.1), lambda: self.take_snapshot(node))

    def start_disk(self, node: Node) -> None:
        """Write what is queued with one sync; what comes meanwhile waits for the next."""
        if node.writing or not node.writes:
            return
        node.writing = len(node.writes)
        slow = not self.calm and self.random.random() < self.mixture.slow_disk
        took_s = (
            self.random.uniform(0.02, 0.25)
            if slow
            else self.random.uniform(0.0, self.mixture.sync_s)
        )
        self.later(node, took_s, lambda: self.written(node))

    def written(self, node: Node) -> None:
        assert node.core is not None
        voted = False
        for _ in range(node.writing):
            node.persisted, write = node.writes.popleft()
            node.disk.append_now([write])
            voted = voted or write.hard_state.vote != node.durable_vote
            node.durable_vote = write.hard_state.vote
        node.writing = 0
        node.core.persisted(node.persisted, node.local_s(self.now_s))
        self.release(node)
        self.restore_if_written(node)
        self.start_disk(node)
        if voted and not self.calm and self.random.random() < self.mixture.crash_on_vote:
            self.after(self.random.uniform(0.0, 0.02), lambda: self.crash_and_restart(node))

    def release(self, node: Node) -> None:
        while node.held and node.held[0][0] <= node.persisted:
            for envelope in node.held.popleft()[1]:
                self.send(node, envelope)

    def restore_if_written(self, node: Node) -> None:
        if node.restoring is None or node.restoring[0] > node.persisted:
            return
        snapshot, node.restoring = node.restoring[1], None

        def restored() -> None:
            assert node.core is not None
            node.machine.restore(snapshot.data.read(0, snapshot.data.size_bytes))
            self.check_state(node)
            node.core.snapshot_installed(node.local_s(self.now_s))
            self.probes["snapshot installed"] += 1

        self.later(node, self.random.uniform(0, 0.3), restored)

    def take_snapshot(self, node: Node) -> None:
        assert node.core is not None
        state = node.machine.state
        data = MemorySnapshot(state.encode())
        node.core.offer_snapshot(state.index, data, node.local_s(self.now_s))

    def apply(self, node: Node, core: RaftCore) -> None:
        while entries := core.take_committed(self.random.choice([1, 200])):
            for entry in entries:
                if entry.index != node.machine.state.index + 1:
                    raise Violation(f"node {node.id} applies {entry.index} out of order")
                node.machine.journal.append(node.machine.state.after(entry))
                self.check_state(node)
                if node.proposed.pop(entry.index, None) == entry.term:
                    self.acknowledged = max(self.acknowledged, entry.index)
                    self.check_leases(node)

    # -- the network -----------------------------------------------------------------------

    def send(self, node: Node, envelope: Envelope) -> None:
        if envelope.to == node.id:
            raise Violation("a message to itself")
        random, mixture = self.random, self.mixture
        copies = 1
        if not self.calm:
            if (node.id, envelope.to) in self.cut or random.random() < mixture.loss:
                return
            copies += random.random() < mixture.duplicate
        for _ in range(copies):
            slow = not self.calm and random.random() < mixture.slow
            delay_s = random.uniform(0.01, 0.4) if slow else random.uniform(0.0, mixture.delay_s)
            delay_s += self.delays_s.get((node.id, envelope.to), 0.0)
            self.after(delay_s, lambda: self.deliver(envelope))

    def deliver(self, envelope: Envelope) -> None:
        node = self.nodes.get(envelope.to)
        if node is None or node.core is None:
            return
        core = node.core

        def step() -> None:
            core.step(envelope.message, node.local_s(self.now_s))

        if node.paused_until_s > self.now_s:
            self.later(node, 0.0, step)
        else:
            step()
            self.settle(node)

    # -- checks ----------------------------------------------------------------------------

    def check_leader(self, node: Node, core: RaftCore) -> None:
        if core.role is not Role.LEADER or node.led_term == core.term:
            return
        node.led_term = core.term
        self.probes["election"] += 1
        if not self.calm and self.random.random() < self.mixture.harass:
            self.after(self.random.uniform(0.0, 0.1), lambda: self.harass(node))
        known = self.leaders.setdefault(core.term, node.id)
        if known != node.id:
            raise Violation(f"term {core.term} has leaders {known} and {node.id}")
        for index, (term, committed_in) in self.committed.items():
            if committed_in < core.term and index > core.mark.index:
                held = core.term_at(index)
                if held != term:
                    raise Violation(
                        f"leader {node.id} of term {core.term} holds entry {index} of term "
                        f"{held}, but that of term {term} was committed in term {committed_in}"
                    )

    def check_leases(self, acknowledging: Node) -> None:
        """While a leader answers a client, no other may serve reads under a lease (G1)."""
        for node in self.nodes.values():
            core = node.core
            if core is None or node is acknowledging or not core.is_serving:
                continue
            behind = core.term_start_index <= node.machine.state.index < self.acknowledged
            if behind and core.holds_lease(node.local_s(self.now_s)):
                raise Violation(
                    f"stale lease: node {acknowledging.id} acknowledges {self.acknowledged} "
                    f"while node {node.id} serves reads at {node.machine.state.index}"
                )

    def check_commit(self, node: Node, core: RaftCore) -> None:
        for index in range(node.checked_commit + 1, core.commit_index + 1):
            term = core.term_at(index)
            if term is None:
                continue  # inside a snapshot
            known = self.committed.setdefault(index, (term, core.term))
            if known[0] != term:
                raise Violation(f"entry {index} committed with terms {known[0]} and {term}")
        node.checked_commit = max(node.checked_commit, core.commit_index)

    def check_state(self, node: Node) -> None:
        state = node.machine.state
        known = self.applied.setdefault(state.index, state)
        if known != state:
            raise Violation(f"node {node.id} is in state {state}, another was in {known}")

    # -- clients ---------------------------------------------------------------------------

    def running(self) -> list[Node]:
        return [
            node
            for node in self.nodes.values()
            if node.core is not None and node.paused_until_s <= self.now_s
        ]

    def some_leader(self) -> Node | None:
        """A node that thinks it leads; also a deposed one that has not heard."""
        leading = [node for node in self.running() if node.core and node.core.is_leader]
        return self.random.choice(leading) if leading else None

    def client(self) -> None:
        node = self.some_leader()
        if node is not None and node.core is not None:
            if self.random.random() < 0.5:
                self.propose(node, node.core)
            else:
                self.read(node, node.core)
            self.settle(node)
        if not self.calm:
            self.after(self.random.uniform(0.0, 0.04), self.client)

    def propose(self, node: Node, core: RaftCore) -> None:
        datas = [b"%d" % self.random.randrange(1000) for _ in range(self.random.randint(1, 4))]
        try:
            first = core.propose(datas)
        except NotLeader:
            return
        for index in range(first, first + len(datas)):
            node.proposed[index] = core.term

    def read(self, node: Node, core: RaftCore) -> None:
        """Two reads: one by lease on the spot, checked later (G1); one by index."""
        self.reads += 1
        needed = self.acknowledged
        if core.is_serving and node.machine.state.index >= core.term_start_index:
            seen = node.machine.state.index

            def check_lease() -> None:
                if core.holds_lease(node.local_s(self.now_s)):
                    self.probes["lease read"] += 1
                    if seen < needed:
                        raise Violation(f"stale lease read: {seen}, acknowledged {needed}")

            self.later(node, self.random.choice([0.0, 0.0, 0.02, 0.1]), check_lease)
        node.reads[self.reads] = needed
        core.read_index(self.reads, node.local_s(self.now_s))

    # -- faults ----------------------------------------------------------------------------

    def nemesis(self) -> None:
        if self.calm:
            return
        getattr(self, self.random.choice(self.mixture.faults))()
        self.after(self.random.expovariate(1 / self.mixture.nemesis_every_s), self.nemesis)

    def any_node(self) -> Node:
        return self.random.choice(list(self.nodes.values()))

    def partition(self) -> None:
        side = {node_id for node_id in self.nodes if self.random.random() < 0.5}
        for a in self.nodes:
            self.cut |= {(a, b) for b in self.nodes if (a in side) != (b in side)}

    def cut_one_way(self) -> None:
        self.cut.add((self.any_node().id, self.any_node().id))

    def cut_off_leader(self) -> None:
        leader = self.some_leader()
        if leader is not None:
            self.cut_off(leader)

    def cut_off(self, node: Node) -> None:
        one_way = self.random.random() < 0.3
        for other in self.nodes:
            self.cut.add((other, node.id))
            if not one_way:
                self.cut.add((node.id, other))

    def break_a_connection(self) -> None:
        """A node hears that its connection to the leader broke; the leader may live."""
        node = self.any_node()
        if node.core is not None and node.core.leader_id not in (None, node.id):
            node.core.leader_lost(node.core.leader_id, node.local_s(self.now_s))
            self.settle(node)

    def cut_leader_from_one(self) -> None:
        leader = self.some_leader()
        if leader is not None:
            other = self.any_node()
            self.cut |= {(leader.id, other.id), (other.id, leader.id)}

    def harass(self, leader: Node) -> None:
        """Cut off or crash a leader that has just begun."""
        if self.random.random() < 0.5:
            self.cut_off(leader)
            self.after(self.random.uniform(0.1, 0.5), self.heal)
        else:
            self.crash(leader)
            self.after(self.random.uniform(0.0, 0.3), lambda: self.restart(leader))

    def heal(self) -> None:
        self.cut.clear()

    def crash_some(self) -> None:
        for node in self.nodes.values():
            if self.random.random() < 0.3:
                self.crash(node)
                self.after(self.random.uniform(0.0, 0.6), partial(self.restart, node))

    def crash_and_restart_one(self) -> None:
        self.crash_and_restart(self.any_node())

    def crash_and_restart(self, node: Node) -> None:
        """At once: what it held in memory, its promises too, is forgotten."""
        self.crash(node)
        self.restart(node)

    def pause_leader(self) -> None:
        self.pause(self.some_leader() or self.any_node())

    def pause_one(self) -> None:
        self.pause(self.any_node())

    def pause(self, node: Node) -> None:
        node.paused_until_s = self.now_s + self.random.uniform(0.05, 0.5)

    def transfer(self) -> None:
        leader = self.some_leader()
        if leader is not None and leader.core is not None:
            target = self.random.choice(leader.core.configuration.voters)
            try:
                leader.core.transfer_leadership(target, leader.local_s(self.now_s))
            except NotLeader:
                return
            self.probes["transfer"] += 1
            self.settle(leader)

    def compact_some(self) -> None:
        for node in self.running():
            node.machine.checkpoint(self.random)
            assert node.core is not None
            index = min(node.machine.durable_index, node.core.delivered_index)
            if index > node.core.mark.index:
                node.disk.compact(GROUP, node.core.compact(index))
                self.probes["compaction"] += 1

    def change_members(self) -> None:
        leader = self.some_leader()
        if leader is None or leader.core is None:
            return
        core = leader.core
        try:
            core.propose_change(self.draw_change(core.configuration))
            self.probes["change of members"] += 1
        except (NotLeader, ObjectNotInPrerequisiteState):
            self.probes["refused change"] += 1
        self.settle(leader)

    def draw_change(self, members: Configuration) -> Configuration:
        kind = self.random.random()
        if kind < 0.35 and len(self.nodes) < MAX_NODES:
            new_id = len(self.nodes) + 1
            self.add_node(new_id, None)
            return members.with_learner(new_id)
        if kind < 0.75 and members.learners:
            return members.with_voter(self.random.choice(members.learners))
        if kind < 0.85:
            return members.with_learner(self.random.choice(members.voters))
        return members.without(self.random.choice(members.members))

    # -- the run ---------------------------------------------------------------------------

    def run(self) -> None:
        self.after(0.0, self.client)
        self.after(self.random.uniform(0, 2), self.nemesis)
        self.run_until(self.duration_s)
        self.calm = True
        self.cut.clear()
        for node in self.nodes.values():
            node.paused_until_s = 0.0
            self.restart(node)
        self.check_progress()

    def check_progress(self) -> None:
        """Without faults a new entry reaches all members within a bound."""
        wanted: list[tuple[int, int]] = []  # (index, term)

        def try_propose() -> None:
            node = self.some_leader()
            if node is not None and node.core is not None and node.core.is_serving:
                wanted.append((node.core.propose([b"end"]), node.core.term))
                self.settle(node)
            self.after(0.5, try_propose)

        def reached() -> bool:
            leader = self.some_leader()
            if leader is None or leader.core is None:
                return False
            members = [self.nodes[member] for member in leader.core.configuration.members]
            everywhere = min(member.machine.state.index for member in members)
            return any(
                index <= everywhere and self.committed.get(index, (0, 0))[0] == term
                for index, term in wanted
            )

        self.after(0.5, try_propose)
        if not self.run_until(self.now_s + 10.0, reached):
            lines = [describe(node) for node in self.nodes.values()]
            raise Violation("no progress after the faults ended:\n" + "\n".join(lines))


def describe(node: Node) -> str:
    """One line on a node, for a failure's report."""
    core = node.core
    if core is None:
        return f"node {node.id}: down"
    return (
        f"node {node.id}: {core.role} of term {core.term}, leader {core.leader_id}, log "
        f"{core.mark.index + 1}-{core.last_index}, commit {core.commit_index}, applied "
        f"{node.machine.state.index}, awaits snapshot {core.awaits_snapshot}, members "
        f"{core.configuration.voters} + {core.configuration.learners}"
    )


def run_seed(seed: int, mixture: Mixture | None = None) -> Simulation:
    """Run one seed; a broken promise says how to replay it."""
    simulation = Simulation(seed, mixture)
    try:
        simulation.run()
    except Exception as error:
        raise Violation(
            f"seed {seed} at {simulation.now_s:.3f} s: {error or type(error).__name__}\n"
            f"replay: {_command(seed, mixture)}"
        ) from error
    return simulation


def _command(seed: int, mixture: Mixture | None) -> str:
    command = f"python tests/raft/raft_simulation.py --seed {seed}"
    name = next((name for name, world in WORLDS.items() if world == mixture), None)
    return command if name is None else f"{command} --world {shlex.quote(name)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", default="0-99", help="first-last")
    parser.add_argument("--world", choices=WORLDS, help="instead of the seed's own")
    arguments = parser.parse_args()
    first, last = map(int, arguments.seeds.split("-"))
    seeds = [arguments.seed] if arguments.seed is not None else range(first, last + 1)
    probes: Counter[str] = Counter()
    failed = 0
    for seed in seeds:
        try:
            probes += run_seed(seed, WORLDS.get(arguments.world)).probes
        except Violation as error:
            print(error)
            failed += 1
            if arguments.seed is not None:
                raise
    print(f"{len(list(seeds)) - failed} of {len(list(seeds))} seeds kept every promise")
    for name, count in sorted(probes.items()):
        print(f"{count:8d}  {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
