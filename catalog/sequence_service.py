"""Hands out the numbers of sequences, on the catalog's leader (rule S4).

    numbers asked for -> a range is logged (`AdvanceSequence`) -> numbers of it, from memory

A range of `RANGE` numbers, or as many as are asked for, is logged before one of it is given;
what is left of it dies with its leader's term, so numbers may be missing, as in PostgreSQL
after a crash, and none comes twice. Requests get their numbers in the order they came.

Ranges are of a sequence as it was defined when they were logged; ALTER makes another value of
it, which goes on behind the last number given, or begins anew where it is set back. The lease is
checked after the numbers are taken, as the oracle does.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass

import msgspec

from catalog.codec import encode_envelope
from catalog.commands import AdvanceSequence, Envelope
from catalog.model import Sequence, TableId
from catalog.state import CatalogStateMachine
from cluster.errors import (
    CannotConnectNow,
    NumericValueOutOfRange,
    SequenceGeneratorLimitExceeded,
    UndefinedTable,
)
from cluster.raft.group import RaftGroup
from cluster.rpc import CallContext, RpcNode

METHOD = "sequences.take"
RANGE = 32
LOG_TIMEOUT_S = 5.0


class TakeNumbers(msgspec.Struct, frozen=True):
    """Asks for the next `count` numbers; or sets the next one (`set_to`), and gets none."""

    sequence_id: TableId
    count: int
    set_to: int | None = None


class NumbersTaken(msgspec.Struct, frozen=True):
    """`count` numbers from `first` on, `increment` apart; there may be fewer than asked for."""

    first: int
    count: int
    increment: int


@dataclass(slots=True)
class _Range:
    """Numbers that are logged and not given yet."""

    sequence: Sequence
    next_number: int
    left: int = 0
    given: bool = False

    def redefined(self, sequence: Sequence) -> _Range | None:
        """How it goes on behind the last number given, where ALTER has not set it back; None
        where only the log tells where it was."""
        if not self.given or self.sequence.epoch != sequence.epoch:
            return None
        step = sequence.increment - self.sequence.increment
        return _Range(sequence, self.next_number + step, given=True)


class SequenceService:
    """One a node; serves only while its replica of the catalog leads."""

    def __init__(self, rpc: RpcNode, group: RaftGroup, machine: CatalogStateMachine) -> None:
        self._machine = machine
        # Another dict in every term.
        self._ranges: dict[TableId, _Range] | None = None
        self._locks: defaultdict[TableId, asyncio.Lock] = defaultdict(asyncio.Lock)
        rpc.handle(METHOD, TakeNumbers, self._serve)
        self.use(group)

    def use(self, group: RaftGroup) -> None:
        """The catalog goes on as this group."""
        self._group = group
        group.on_leadership(self._lead, self._follow)

    def _lead(self, term: int) -> None:
        self._ranges = {}

    def _follow(self) -> None:
        self._ranges = None

    async def _serve(
        self, context: CallContext, request: TakeNumbers, body: bytes | memoryview
    ) -> NumbersTaken:
        return await self.take(request)

    async def take(self, request: TakeNumbers) -> NumbersTaken:
        """Numbers for one request; CannotConnectNow when this node does not lead, 2200H when
        there are none left, 42P01 when there is no such sequence."""
        async with self._locks[request.sequence_id]:
            ranges = self._ranges
            if ranges is None:
                raise _not_serving()
            sequence = self._machine.state.catalog.numbered_sequence(request.sequence_id)
            if sequence is None:
                raise UndefinedTable(f"relation with OID {request.sequence_id} does not exist")
            taken = await self._taken(ranges, sequence, request)
            if self._ranges is not ranges or not self._group.lease_valid():
                raise _not_serving()
            return taken

    async def _taken(
        self, ranges: dict[TableId, _Range], sequence: Sequence, request: TakeNumbers
    ) -> NumbersTaken:
        if request.set_to is not None:
            await self._log(sequence, request.set_to)
            ranges[sequence.id] = _Range(sequence, request.set_to)
            return NumbersTaken(request.set_to, 0, sequence.increment)
        known = ranges.get(sequence.id)
        if known is None or known.sequence != sequence:
            known = None if known is None else known.redefined(sequence)
            known = known or _Range(sequence, self._machine.state.next_number(sequence))
            ranges[sequence.id] = known
        if not known.left:
            await self._refill(known, request.count)
        count = min(known.left, request.count)
        first = known.next_number
        known.next_number += count * sequence.increment
        known.left -= count
        known.given = True
        return NumbersTaken(first, count, sequence.increment)

    async def _refill(self, known: _Range, wanted: int) -> None:
        """Logs another range."""
        sequence = known.sequence
        available = _available(sequence, known.next_number)
        if not available:
            if not sequence.cycle:
                raise _exhausted(sequence)
            known.next_number = sequence.minimum if sequence.increment > 0 else sequence.maximum
            available = _available(sequence, known.next_number)
        count = min(available, max(wanted, RANGE))
        await self._log(sequence, known.next_number + count * sequence.increment)
        known.left = count

    async def _log(self, sequence: Sequence, next_number: int) -> None:
        command = AdvanceSequence(sequence.id, sequence.epoch, next_number)
        envelope = encode_envelope(Envelope("", command))
        await self._group.propose(envelope, deadline_s=LOG_TIMEOUT_S)


def _available(sequence: Sequence, number: int) -> int:
    """How many numbers there are from this one on."""
    if sequence.increment > 0:
        return max(0, (sequence.maximum - number) // sequence.increment + 1)
    return max(0, (number - sequence.minimum) // -sequence.increment + 1)


def _exhausted(sequence: Sequence) -> SequenceGeneratorLimitExceeded:
    end, limit = "maximum", sequence.maximum
    if sequence.increment < 0:
        end, limit = "minimum", sequence.minimum
    return SequenceGeneratorLimitExceeded(
        f'nextval: reached {end} value of sequence "{sequence.name}" ({limit})'
    )


def check_in_bounds(sequence: Sequence, number: int) -> None:
    """22003 for a number that the sequence cannot hand out."""
    if not sequence.minimum <= number <= sequence.maximum:
        raise NumericValueOutOfRange(
            f'setval: value {number} is out of bounds for sequence "{sequence.name}"'
            f" ({sequence.minimum}..{sequence.maximum})"
        )


def _not_serving() -> CannotConnectNow:
    return CannotConnectNow("this node does not lead the catalog")
