"""Many gossiping nodes in one process, from one seed; run as a program it prints figures.

    python tests/cluster/gossip_world.py --nodes 3 10 100 500

Each node ticks at a phase of its own; packets are encoded and decoded, take a random time, and
may be lost. A node is a name that is its address.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from cluster.gossip.members import Status
from cluster.gossip.messages import Packet
from cluster.gossip.protocol import Event, Gossip
from cluster.gossip.settings import GossipSettings

# What the RPC layer adds to a packet: prefix of the frame, and the method's name.
FRAME_BYTES = 28 + len("gossip")


class GossipWorld:
    """Nodes 1 to n. Only `join` starts one; `crash` ends it, `cut` silences links."""

    def __init__(self, seed: int, loss: float = 0.0, settings: GossipSettings | None = None):
        self.random = random.Random(seed)
        self.settings = settings or GossipSettings()
        self.loss = loss
        self.now_s = 0.0
        self.nodes: dict[int, Gossip] = {}
        self.events: list[tuple[float, int, Event]] = []
        self.sent_bytes: Counter[int] = Counter()
        self.largest_bytes = 0
        self.cut: Callable[[int, int], bool] = lambda source, target: False
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def join(self, node_id: int, known: Iterable[int] = (), seeds: Iterable[int] = ()) -> Gossip:
        """Starts a node that knows some members by name, and seeds by their addresses."""
        gossip = Gossip(
            node_id,
            f"n{node_id}",
            1 + int(self.now_s * 1000),
            self.random,
            self.settings,
            [f"n{seed}" for seed in seeds],
        )
        for other in known:
            if other != node_id:
                gossip.members.add(other, f"n{other}", 0)
        self.nodes[node_id] = gossip
        phase_s = self.random.random() * self.settings.tick_s
        self._after(phase_s, lambda: self._tick(node_id, gossip))
        return gossip

    def start_all(self, count: int) -> None:
        """A cluster whose members know each other's names."""
        for node_id in range(1, count + 1):
            self.join(node_id, range(1, count + 1))

    def crash(self, node_id: int) -> None:
        del self.nodes[node_id]

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._queue and self._queue[0][0] <= end_s:
            self.now_s, _, action = heapq.heappop(self._queue)
            action()
        self.now_s = end_s

    def run_until(self, happened: Callable[[], bool], within_s: float) -> float:
        """Looks each quarter of a tick; the seconds it took."""
        start_s = self.now_s
        while not happened():
            assert self.now_s - start_s < within_s, "it did not happen in time"
            self.run(self.settings.tick_s / 4)
        return self.now_s - start_s

    def statuses(self, node_id: int) -> Counter[Status]:
        """How the other nodes see one."""
        seen = (g.members.get(node_id) for n, g in self.nodes.items() if n != node_id)
        return Counter(m.status if m is not None else Status.UNHEARD for m in seen)

    def all_live(self) -> bool:
        """Whether every node holds every other, and none else, for live."""
        ids = set(self.nodes)
        return all(
            {m.node_id for m in g.members if m.is_live} == ids - {n} for n, g in self.nodes.items()
        )

    def holders(self, node_id: int, key: str, value: bytes) -> int:
        """How many nodes have that value of the node's."""
        found = (g.member(node_id) for g in self.nodes.values())
        return sum(m is not None and m.value(key) == value for m in found)

    def bytes_a_node_and_second(self, seconds: float) -> float:
        """What a node sends, on average, while time passes."""
        before = sum(self.sent_bytes.values())
        self.run(seconds)
        return (sum(self.sent_bytes.values()) - before) / len(self.nodes) / seconds

    def _after(self, delay_s: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (self.now_s + delay_s, self._order, action))

    def _tick(self, node_id: int, gossip: Gossip) -> None:
        if self.nodes.get(node_id) is not gossip:
            return
        gossip.tick(self.now_s)
        self._carry_out(node_id, gossip)
        self._after(self.settings.tick_s, lambda: self._tick(node_id, gossip))

    def _carry_out(self, node_id: int, gossip: Gossip) -> None:
        for address, packet in gossip.take_packets():
            data = msgspec.msgpack.encode(packet)
            size = len(data) + FRAME_BYTES
            self.sent_bytes[node_id] += size
            self.largest_bytes = max(self.largest_bytes, size)
            target = int(address[1:])
            if self.random.random() >= self.loss and not self.cut(node_id, target):
                self._after(
                    self.random.uniform(0.001, 0.05), lambda d=data, t=target: self._come(t, d)
                )
        self.events += [(self.now_s, node_id, event) for event in gossip.take_events()]

    def _come(self, node_id: int, data: bytes) -> None:
        gossip = self.nodes.get(node_id)
        if gossip is not None:
            gossip.receive(msgspec.msgpack.decode(data, type=Packet), self.now_s)
            self._carry_out(node_id, gossip)


def measure(nodes: int, seed: int) -> dict[str, float]:
    """Rounds are ticks of half a second."""
    world = GossipWorld(seed)
    tick_s = world.settings.tick_s
    world.start_all(nodes)
    figures: dict[str, float] = {"nodes": nodes}
    figures["start: all know all, rounds"] = world.run_until(world.all_live, 600) / tick_s
    world.run(30)
    figures["idle, bytes/s"] = world.bytes_a_node_and_second(30)
    world.nodes[1].set("v", b"7")
    spread = world.run_until(lambda: world.holders(1, "v", b"7") == nodes, 120)
    figures["rumour to all, rounds"] = spread / tick_s
    world.nodes[1].set("~l", bytes(40))
    spread = world.run_until(lambda: world.holders(1, "~l", bytes(40)) == nodes, 600)
    figures["quiet value to all, rounds"] = spread / tick_s
    figures["busy, bytes/s"] = _busy(world)
    figures["largest packet, bytes"] = world.largest_bytes
    world.crash(1)
    down = {Status.DOWN: nodes - 1}
    figures["dead node down to all, s"] = world.run_until(
        lambda: dict(world.statuses(1)) == down, 120
    )
    return figures


def _busy(world: GossipWorld) -> float:
    """Every node says something of 40 bytes new every five seconds."""
    world.run(5)
    before = sum(world.sent_bytes.values())
    for turn in range(6):
        for gossip in list(world.nodes.values()):
            gossip.set("~l", turn.to_bytes(40, "big"))
        world.run(5)
    return (sum(world.sent_bytes.values()) - before) / len(world.nodes) / 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[3, 10, 100, 500])
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    table = [measure(count, arguments.seed) for count in arguments.nodes]
    for name in table[0]:
        print(f"{name:32}", *(f"{figures[name]:10.1f}" for figures in table))


if __name__ == "__main__":
    main()
