"""A network in memory: `cluster.transport.Transport` with everything that goes wrong.

Hosts are names; a node listens on "host:port". Each direction of a connection is a link that
delivers in order, as TCP does: delay and partitions hold bytes back, a broken connection
loses them, nothing else. Only frames sent as `lossy` are lost, repeated and reordered: over
real sockets that happens to them too, by reconnecting and by full queues, while a call or a
stream sees its connection end.

`block(a, b)` stops what a sends to b and nothing else, so partitions may be one-way. While a
direction is blocked connects hang, as packets that meet a dropping firewall do; so do those to
a machine without power.

What a host hears, it hears in its own context (`attach`): while it is paused, bytes and
connections that come to it wait as they do in a kernel.

`fingerprint` sums up all deliveries (when, from, to, what): equal for equal seeds.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass

from crc32c import crc32c

from cluster.simulation.host import SimulatedHost
from cluster.transport import (
    WRITE_HIGH_BYTES,
    WRITE_LOW_BYTES,
    Body,
    Connection,
    ConnectionEvents,
    Listener,
)

# Due times are sums of floats; this much early counts as due.
EPSILON_S = 1e-6
# A connect that cannot get through looks again this often.
CONNECT_RETRY_S = 0.2


@dataclass(slots=True)
class NetworkFaults:
    """What the network does by itself; chances are a frame's. May be changed while running."""

    min_delay_s: float = 0.0001
    max_delay_s: float = 0.001
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    # A frame that is reordered travels up to this much longer.
    reordering_s: float = 0.1
    # The chance that a frame's connection breaks instead of carrying it.
    reset: float = 0.0


class SimulatedNetwork:
    """All hosts and what lies between them."""

    def __init__(self, chance: random.Random, faults: NetworkFaults | None = None) -> None:
        self._chance = chance
        self.faults = faults or NetworkFaults()
        self._listeners: dict[str, _Listener] = {}
        self._ends: dict[int, _End] = {}
        self._next_end = 0
        self._next_port = 1000
        self._blocked: dict[tuple[str, str], None] = {}
        self._hosts: dict[str, SimulatedHost] = {}
        self._powerless: dict[str, None] = {}
        self.fingerprint = 0
        self.deliveries = 0

    def transport(self, host: str) -> SimulatedTransport:
        """The network as that host sees it."""
        return SimulatedTransport(self, host)

    def attach(self, host: SimulatedHost) -> None:
        """From here on that life of a machine stands behind its name."""
        self._hosts[host.name] = host
        self._powerless.pop(host.name, None)

    def context_of(self, host: str) -> Context:
        """In which what the host hears is to be run."""
        attached = self._hosts.get(host)
        return copy_context() if attached is None else attached.context

    # Faults to order.

    def block(self, source: str, target: str) -> None:
        """Stops what source sends to target."""
        self._blocked[(source, target)] = None

    def unblock(self, source: str, target: str) -> None:
        """Lets it through again, what waited first."""
        self._blocked.pop((source, target), None)
        self._deliver_all()

    def partition(self, group: Sequence[str], other: Sequence[str]) -> None:
        """Separates two groups of hosts, both ways."""
        for a in group:
            for b in other:
                self.block(a, b)
                self.block(b, a)

    def heal(self) -> None:
        """Ends every block."""
        self._blocked.clear()
        self._deliver_all()

    def crash(self, host: str, *, silent: bool = False) -> None:
        """The host is gone: its connections are no more, nobody listens there.

        Its peers hear of it as of a killed process, or with `silent` not at all, as when the
        power of the machine is cut.
        """
        for address in [a for a, known in self._listeners.items() if known.host == host]:
            del self._listeners[address]
        if silent:
            self._powerless[host] = None
        for end in [end for end in self._ends.values() if end.host == host]:
            end.vanish(silent=silent)

    def is_blocked(self, source: str, target: str) -> bool:
        """Whether what source sends to target is held back."""
        return (source, target) in self._blocked

    def _deliver_all(self) -> None:
        for end in list(self._ends.values()):
            end.deliver_soon()

    # For connections.

    def delay_s(self) -> float:
        """How long the next frame travels."""
        return self._chance.uniform(self.faults.min_delay_s, self.faults.max_delay_s)

    def happens(self, probability: float) -> bool:
        """One throw of the dice; none where the chance is 0."""
        return probability > 0 and self._chance.random() < probability

    def extra_delay_s(self) -> float:
        """How much longer a reordered frame travels."""
        return self._chance.uniform(0, self.faults.reordering_s)

    def note(self, time_s: float, source: str, target: str, data: bytes) -> None:
        """Adds a delivery to the fingerprint."""
        self.deliveries += 1
        head = f"{time_s:.9f} {source} {target} ".encode()
        self.fingerprint = crc32c(data, crc32c(head, self.fingerprint))

    def listen(self, host: str, address: str, accept: Callable[[], ConnectionEvents]) -> Listener:
        """Opens a listening address; port 0 takes a free one."""
        name, _, port = address.rpartition(":")
        if port == "0":
            self._next_port += 1
            address = f"{name}:{self._next_port}"
        if address in self._listeners:
            raise OSError(98, f"address {address} is already in use")
        listener = _Listener(self, host, address, accept)
        self._listeners[address] = listener
        return listener

    def forget_listener(self, address: str) -> None:
        """Closes a listening address."""
        self._listeners.pop(address, None)

    async def connect(self, host: str, address: str, events: ConnectionEvents) -> Connection:
        """A connection from host to whoever listens; hangs while the way is blocked."""
        await asyncio.sleep(self.delay_s() + self.delay_s())
        target = address.rpartition(":")[0]
        while (
            self.is_blocked(host, target)
            or self.is_blocked(target, host)
            or target in self._powerless
        ):
            await asyncio.sleep(CONNECT_RETRY_S)
        listener = self._listeners.get(address)
        if listener is None:
            raise ConnectionRefusedError(111, f"nobody listens on {address}")
        near = self._end(host, f"{listener.host}")
        far = self._end(listener.host, host)
        near.peer, far.peer = far, near
        # The kernel accepts; the host hears of it when it runs, before any byte.
        loop = asyncio.get_running_loop()
        loop.call_soon(_accepted, far, listener.accept, context=self.context_of(listener.host))
        near.open(events)
        return near

    def _end(self, host: str, peer_name: str) -> _End:
        self._next_end += 1
        end = _End(self, self._next_end, host, peer_name)
        self._ends[self._next_end] = end
        return end

    def forget_end(self, number: int) -> None:
        """An end that is closed carries nothing more."""
        self._ends.pop(number, None)


def _accepted(end: _End, accept: Callable[[], ConnectionEvents]) -> None:
    if not end.closed:
        end.open(accept())


@dataclass(slots=True)
class _Listener:
    network: SimulatedNetwork
    host: str
    address: str
    accept: Callable[[], ConnectionEvents]

    async def close(self) -> None:
        self.network.forget_listener(self.address)


class SimulatedTransport:
    """Implements `cluster.transport.Transport` for one host."""

    def __init__(self, network: SimulatedNetwork, host: str) -> None:
        self._network = network
        self._host = host

    async def connect(self, address: str, events: ConnectionEvents) -> Connection:
        return await self._network.connect(self._host, address, events)

    async def listen(self, address: str, accept: Callable[[], ConnectionEvents]) -> Listener:
        return self._network.listen(self._host, address, accept)


class _End:
    """One end of a connection, and the link that carries what its peer receives from it."""

    peer: _End
    events: ConnectionEvents

    def __init__(self, network: SimulatedNetwork, number: int, host: str, peer_name: str) -> None:
        self._network = network
        self._number = number
        self._loop = asyncio.get_running_loop()
        self.host = host
        self._peer_name = peer_name
        # (due, data) on the way to the peer; None ends the connection there.
        self._link: deque[tuple[float, bytes | None]] = deque()
        self._last_due_s = 0.0
        self._unsent = 0
        self._write_paused = False
        self._reading = True
        self._closed = False
        self._opened = False

    def open(self, events: ConnectionEvents) -> None:
        """The owner hears of the connection, from here on of everything."""
        self.events = events
        self._opened = True
        events.connected(self)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def peer_name(self) -> str:
        return self._peer_name

    @property
    def unsent_bytes(self) -> int:
        return self._unsent

    def send(self, parts: Sequence[Body], *, lossy: bool = False) -> None:
        if self._closed:
            return
        network, faults = self._network, self._network.faults
        if network.happens(faults.reset):
            self.abort()
            return
        data = b"".join(parts)
        if lossy:
            if network.is_blocked(self.host, self.peer.host) or network.happens(faults.loss):
                return
            if network.happens(faults.duplication):
                self._send_aside(data)
            if network.happens(faults.reordering):
                self._send_aside(data)
                return
        self._enqueue(data)

    def _send_aside(self, data: bytes) -> None:
        """Delivers a lossy frame on its own, out of order."""
        delay_s = self._network.delay_s() + self._network.extra_delay_s()
        context = self._network.context_of(self.peer.host)
        self._loop.call_later(delay_s, self._deliver_aside, data, context=context)

    def _deliver_aside(self, data: bytes) -> None:
        peer = self.peer
        if not peer._closed and not self._network.is_blocked(self.host, peer.host):
            self._network.note(self._loop.time(), self.host, peer.host, data)
            peer.events.received(data)

    def _enqueue(self, data: bytes | None) -> None:
        due_s = max(self._last_due_s, self._loop.time() + self._network.delay_s())
        self._last_due_s = due_s
        self._link.append((due_s, data))
        self._unsent += len(data or b"")
        if self._unsent > WRITE_HIGH_BYTES and not self._write_paused:
            self._write_paused = True
            self.events.write_paused()
        context = self._network.context_of(self.peer.host)
        self._loop.call_at(due_s, self.deliver_due, context=context)

    def deliver_soon(self) -> None:
        """Looks again at what waits, in this turn of the loop or the next."""
        if self._link:
            context = self._network.context_of(self.peer.host)
            self._loop.call_soon(self.deliver_due, context=context)

    def deliver_due(self) -> None:
        """Hands the peer what has arrived, unless the way is blocked or it does not read."""
        peer = self.peer
        while self._link and self._link[0][0] <= self._loop.time() + EPSILON_S:
            if self._network.is_blocked(self.host, peer.host):
                return
            if not peer._reading and not peer._closed:
                return
            _, data = self._link.popleft()
            self._unsent -= len(data or b"")
            if peer._closed:
                continue
            self._network.note(self._loop.time(), self.host, peer.host, data or b"")
            if data is None:
                peer.finish(ConnectionResetError(104, "connection reset by peer"))
            else:
                peer.events.received(data)
        if self._write_paused and self._unsent < WRITE_LOW_BYTES:
            self._write_paused = False
            context = self._network.context_of(self.host)
            self._loop.call_soon(self._tell_resumed, context=context)
        if self._closed and not self._link:
            self._network.forget_end(self._number)

    def _tell_resumed(self) -> None:
        if not self._closed and not self._write_paused:
            self.events.write_resumed()

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self.peer.deliver_soon()

    def close(self) -> None:
        if not self._closed:
            self._enqueue(None)
            self.finish(None)

    def abort(self) -> None:
        if not self._closed:
            # A reset overtakes nothing that is on the way, but what waits here is lost.
            self._drop_link()
            self._enqueue(None)
            self.finish(None)

    def vanish(self, *, silent: bool) -> None:
        """The host crashed: this end tells its owner nothing."""
        self._closed = True
        self._drop_link()
        if silent:
            self._network.forget_end(self._number)
        else:
            self._enqueue(None)

    def _drop_link(self) -> None:
        self._link.clear()
        self._unsent = 0

    def finish(self, error: Exception | None) -> None:
        """Closed, and the owner hears of it in the next turn."""
        self._closed = True
        if self._opened:
            context = self._network.context_of(self.host)
            self._loop.call_soon(self.events.disconnected, error, context=context)
        if not self._link:
            self._network.forget_end(self._number)
