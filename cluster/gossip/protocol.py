"""The gossip of one node without I/O, clock or chance of its own.

Problem: every node should soon know who is there, who answers and how each fares, at a cost a
node that does not grow with the cluster.

Idea, after SWIM (Das, Gupta, Motivala 2002) and Scuttlebutt reconciliation (van Renesse et al.
2008):
- liveness by probing: each tick a node pings two others, in a shuffled round. One that does not
  answer by the next tick is asked for through three helpers; by the tick after it is suspect,
  and if it does not object in time, down. So nobody sends heartbeats to all, and a node whose
  own link is bad is not believed over the rest.
- news by rumour: pings and answers carry what changed lately, within a budget, a few times each.
- completeness by digests: a ping says how far its sender is with a few dozen members, the answer
  brings what it lacks and asks for what the answering node lacks. Large or unimportant values
  travel in this way only.

Packets a tick and bytes a packet are bounded, so a larger cluster means longer ways, not more
traffic. An accused node objects by raising its version; every packet to it names what is held
against it. A member that is down, or was never heard of, is tried again from time to time.

The driver calls `tick` every `tick_s` and `receive` for each packet, sends what `take_packets`
gives and looks at `take_events`.

Left out: removing members by itself (`forget` and `members.accepts` are the driver's word);
proof of identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from cluster.gossip.members import (
    MAX_INCARNATION,
    QUIET,
    Change,
    Member,
    Members,
    Status,
    delta_of,
)
from cluster.gossip.messages import ANYONE, Delta, Kind, Known, Packet, Verdict, delta_bytes
from cluster.gossip.rumours import Rumours
from cluster.gossip.settings import GossipSettings

# The value under this key is raised to object to a verdict.
BEAT = ""
# No honest packet tells of more nodes.
MAX_DELTAS = 1_000


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """A member stands differently."""

    node_id: int
    status: Status


@dataclass(frozen=True, slots=True)
class ValuesChanged:
    """A member said something new of itself, or moved."""

    node_id: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Impostor:
    """At an address answers another node than was looked for there."""

    expected: int
    found: int
    address: str


@dataclass(frozen=True, slots=True)
class Twin:
    """Another process says it is this node."""

    address: str
    incarnation: int


Event = StatusChanged | ValuesChanged | Impostor | Twin


@dataclass(slots=True)
class _Probe:
    sequence: int
    age: int = 0


@dataclass(frozen=True, slots=True)
class _Relay:
    """A probe on behalf of another node."""

    address: str
    sequence: int
    until: int


class Gossip:
    """See the module."""

    def __init__(
        self,
        node_id: int,
        address: str,
        incarnation: int,
        random: Random,
        settings: GossipSettings | None = None,
        seeds: Iterable[str] = (),
    ) -> None:
        self.settings = settings or GossipSettings()
        self.members = Members(self.settings)
        self._me = Member(node_id, address, incarnation, Status.ALIVE)
        self._random = random
        self._seeds = [seed for seed in seeds if seed != address]
        self._rumours = Rumours()
        self._tick = 0
        self._sequence = 0
        self._round: list[int] = []
        self._visits = 0
        self._digest_from = 0
        self._outdone = False
        self._probes: dict[int, _Probe] = {}
        self._relays: dict[int, _Relay] = {}
        self._packets: list[tuple[str, Packet]] = []
        self._events: list[Event] = []
        self.set(BEAT, b"0")

    # --- What this node knows and says ---------------------------------------------------------

    @property
    def me(self) -> Member:
        """What this node says of itself."""
        return self._me

    def member(self, node_id: int) -> Member | None:
        """A node as far as it is known, this one included."""
        return self._me if node_id == self._me.node_id else self.members.get(node_id)

    def set(self, key: str, value: bytes) -> None:
        """Says something new of this node; under a key that begins with `QUIET`, softly."""
        before = self._me.complete
        if self._me.set(key, value) and not key.startswith(QUIET):
            self._rumours.begin(self._me.node_id, before)

    def forget(self, node_id: int) -> None:
        """The node is no member any more."""
        self.members.forget(node_id)
        self._rumours.end(node_id)
        self._probes.pop(node_id, None)

    def take_packets(self) -> list[tuple[str, Packet]]:
        """What is to be sent, with the addresses."""
        packets, self._packets = self._packets, []
        return packets

    def take_events(self) -> list[Event]:
        """What has changed."""
        events, self._events = self._events, []
        return events

    # --- Time ----------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """One tick has passed."""
        self._tick += 1
        self._relays = {s: r for s, r in self._relays.items() if r.until > self._tick}
        self._judge_suspects(now_s)
        self._age_probes(now_s)
        for member in self._next_targets():
            self._probe(member)
        for address in self._places_to_visit():
            self._send_ping(address)

    def _judge_suspects(self, now_s: float) -> None:
        for member in self.members:
            if member.status is Status.SUSPECT and member.suspect_until <= self._tick:
                self._hold_against(member, Status.DOWN, now_s)

    def _age_probes(self, now_s: float) -> None:
        for node_id, probe in list(self._probes.items()):
            member = self.members.get(node_id)
            probe.age += 1
            if member is None or not member.is_live:
                del self._probes[node_id]
            elif probe.age >= self.settings.patience_ticks:
                del self._probes[node_id]
                self._hold_against(member, Status.SUSPECT, now_s)
            else:
                self._ask_for(member, probe)

    def _ask_for(self, member: Member, probe: _Probe) -> None:
        others = [m for m in self.members if m.is_live and m.node_id != member.node_id]
        helpers = self._random.sample(others, min(self.settings.helpers, len(others)))
        for helper in helpers:
            packet = self._packet(Kind.ASK, probe.sequence, member.node_id)
            self._packets.append((helper.address, packet))

    def _hold_against(self, member: Member, status: Status, now_s: float) -> None:
        version = member.newest if status is Status.SUSPECT else member.accused
        if self.members.accuse(member, status, now_s, version):
            self._note_status(member)
            self._rumours.begin(member.node_id, member.complete)

    def _note_status(self, member: Member) -> None:
        if member.status is Status.SUSPECT:
            patience = self.settings.suspicion_of(len(self.members) + 1)
            member.suspect_until = self._tick + patience
        self._events.append(StatusChanged(member.node_id, member.status))

    def _next_targets(self) -> Iterator[Member]:
        """The members to probe in this tick: all once, in a shuffled order, then again."""
        seen: list[int] = []
        while len(seen) < self.settings.probes:
            if not self._round:
                self._round = [m.node_id for m in self.members if m.is_live]
                self._random.shuffle(self._round)
                if not any(node_id not in seen for node_id in self._round):
                    return
            node_id = self._round.pop()
            member = self.members.get(node_id)
            if member is None or not member.is_live or node_id in seen:
                continue
            seen.append(node_id)
            yield member

    def _probe(self, member: Member) -> None:
        if member.node_id in self._probes:
            sequence = self._probes[member.node_id].sequence
        else:
            sequence = self._next_sequence()
            self._probes[member.node_id] = _Probe(sequence)
        self._send_ping(member.address, sequence, member.node_id)

    def _next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    def _places_to_visit(self) -> list[str]:
        """A few addresses of the silent, and while anybody is silent a seed, in turn."""
        silent = sorted(m.node_id for m in self.members if not m.is_live)
        places = [m.address for n in silent if (m := self.members.get(n)) is not None]
        count = min(self.settings.revisits, len(places))
        visited = [places[(self._visits + i) % len(places)] for i in range(count)]
        if self._seeds and (silent or not len(self.members)):
            visited.append(self._seeds[self._visits % len(self._seeds)])
        self._visits += max(count, 1)
        return [a for a in dict.fromkeys(visited) if a and a != self._me.address]

    # --- Packets that go out -------------------------------------------------------------------

    def _packet(
        self,
        kind: Kind,
        sequence: int,
        target: int,
        news: tuple[Delta, ...] = (),
        digest: tuple[Known, ...] = (),
    ) -> Packet:
        me = self._me
        return Packet(kind, me.node_id, me.incarnation, me.address, sequence, target, news, digest)

    def _send_ping(self, address: str, sequence: int = 0, target: int = ANYONE) -> None:
        news = self._news_for(target, self.settings.news_bytes)
        packet = self._packet(Kind.PING, sequence, target, tuple(news), self._digest())
        self._packets.append((address, packet))

    def _news_for(self, node_id: int, budget_bytes: int) -> list[Delta]:
        """Rumours, and what the receiver itself is accused of, so that it can object."""
        pushes = self.settings.pushes_of(len(self.members) + 1)
        news = self._rumours.pick(budget_bytes, pushes, self.member)
        receiver = self.members.get(node_id)
        if receiver is not None and receiver.verdict and all(d.node_id != node_id for d in news):
            news.append(delta_of(receiver, receiver.complete, 0, quiet=False))
        return news

    def _digest(self) -> tuple[Known, ...]:
        """This node, and a window over the others that moves on with each ping."""
        heard = [m for m in self.members if m.status is not Status.UNHEARD]
        count = min(self.settings.digest_entries, len(heard))
        start, self._digest_from = self._digest_from, self._digest_from + count
        window = [heard[(start + i) % len(heard)].known for i in range(count)]
        return (self._me.known, *window)

    # --- Packets that come in ------------------------------------------------------------------

    def receive(self, packet: Packet, now_s: float) -> None:
        """Takes a packet of another node."""
        if packet.sender == self._me.node_id:
            if packet.address != self._me.address:
                self._events.append(Twin(packet.address, packet.incarnation))
            return
        self._meet(packet, now_s)
        for delta in packet.news[:MAX_DELTAS]:
            self._learn(delta, now_s)
        if packet.kind == Kind.PING:
            self._answer(packet)
        elif packet.kind == Kind.ACK:
            self._on_ack(packet)
        elif packet.kind == Kind.ASK:
            self._relay(packet)

    def _meet(self, packet: Packet, now_s: float) -> None:
        """The sender lives, in this incarnation, at this address."""
        greeting = Delta(packet.sender, packet.incarnation, packet.address, 0, 0)
        self._learn(greeting, now_s)

    def _learn(self, delta: Delta, now_s: float) -> None:
        if delta.node_id == self._me.node_id:
            self._hear_of_myself(delta)
            return
        change = self.members.merge(delta, now_s)
        if change is not None:
            self._spread(delta.node_id, change)

    def _spread(self, node_id: int, change: Change) -> None:
        member = self.members.get(node_id)
        assert member is not None
        if change.status:
            self._note_status(member)
        self._events.append(ValuesChanged(node_id, change.keys))
        if change.loud:
            self._rumours.begin(node_id, min(change.before, member.complete))

    def _hear_of_myself(self, delta: Delta) -> None:
        """Others may know a later incarnation (this clock went back) or hold this node dead."""
        me = self._me
        if me.incarnation < delta.incarnation < MAX_INCARNATION - 1:
            if self._outdone and delta.address != me.address:
                # An own earlier life is outdone once; whoever answers back is alive.
                self._events.append(Twin(delta.address, delta.incarnation))
            self._outdone = True
            me.incarnation = delta.incarnation + 1
        elif delta.incarnation < me.incarnation or delta.verdict == Verdict.NONE:
            return
        elif delta.accused < me.newest:
            # It was refuted already; the news of that may still be on its way.
            self._rumours.begin(me.node_id, me.complete)
            return
        self.set(BEAT, str(me.newest).encode())

    def _answer(self, ping: Packet) -> None:
        # One that is meant for another node is answered, too: so its sender learns who lives here.
        news, wanted = self._compare(ping.digest)
        sender = self.members.get(ping.sender)
        if sender is not None and sender.incarnation > ping.incarnation:
            news.append(delta_of(sender, sender.complete, 0, quiet=False))
        news += self._news_for(ping.sender, self.settings.news_bytes)
        ack = self._packet(Kind.ACK, ping.sequence, self._me.node_id, tuple(news), tuple(wanted))
        self._packets.append((ping.address, ack))

    def _compare(self, digest: Iterable[Known]) -> tuple[list[Delta], list[Known]]:
        """What the other side lacks, within the budget; and where this side lacks something."""
        lacking: list[Delta] = []
        wanted: list[Known] = []
        budget = self.settings.news_bytes
        for theirs in islice(digest, MAX_DELTAS):
            own = self.member(theirs.node_id)
            if own is None:
                wanted.append(Known(theirs.node_id, 0, 0))
                continue
            ours = own.known
            if (theirs.incarnation, theirs.version) > (ours.incarnation, ours.version):
                wanted.append(ours)
            elif ours != theirs and budget > 0 and own.status is not Status.UNHEARD:
                same = theirs.incarnation == ours.incarnation
                delta = delta_of(own, theirs.version if same else 0, budget, quiet=True)
                budget -= delta_bytes(delta)
                lacking.append(delta)
        return lacking, wanted[: self.settings.digest_entries + 1]

    def _on_ack(self, ack: Packet) -> None:
        probe = self._probes.get(ack.target)
        if probe is not None and probe.sequence == ack.sequence:
            del self._probes[ack.target]
        elif ack.sequence in self._relays:
            self._pass_on(ack)
        elif ack.target == ack.sender:
            self._check_impostor(ack)
        lacking, _ = self._compare(ack.digest)
        if lacking:
            self._packets.append((ack.address, self._packet(Kind.NEWS, 0, ANYONE, tuple(lacking))))

    def _check_impostor(self, ack: Packet) -> None:
        for node_id, probe in self._probes.items():
            member = self.members.get(node_id)
            if probe.sequence == ack.sequence and member is not None:
                self._events.append(Impostor(node_id, ack.sender, member.address))

    # --- Probes for others ---------------------------------------------------------------------

    def _relay(self, asked: Packet) -> None:
        target = self.members.get(asked.target)
        if target is None or len(self._relays) >= self.settings.max_members:
            return
        sequence = self._next_sequence()
        until = self._tick + self.settings.patience_ticks + 1
        self._relays[sequence] = _Relay(asked.address, asked.sequence, until)
        self._send_ping(target.address, sequence, target.node_id)

    def _pass_on(self, ack: Packet) -> None:
        relay = self._relays.pop(ack.sequence)
        carried = self._packet(Kind.ACK, relay.sequence, ack.target, ack.news)
        self._packets.append((relay.address, carried))
