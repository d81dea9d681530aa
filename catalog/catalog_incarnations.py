"""How the catalog goes on when an operator has given up its lost majority (rule G5).

Problem: most voters of the catalog's group are gone for good, so nothing can be logged any more,
and a tablet's way out (`tablet_incarnations`) needs the catalog to say who goes on.

Idea: the live copy whose log is furthest, the *founder*, takes in all of its log, what it did not
know to be committed too, and begins another group of which it is the one voter: the catalog's next
*incarnation*. Every node keeps in its own directory which incarnation it follows, tells it by
gossip, and asks the others before it opens the catalog; whoever hears of a later one follows that
and learns from the founder.

Invariants:
- A node never goes back to an earlier incarnation. Messages carry the group's number, so voters
  of a lost incarnation that come back find nobody to talk to but each other, until they hear.
- A copy is kept only as far as the founder's log has the same: what was applied up to an entry
  of the founder's last term, or an earlier one, and not behind its end, is the founder's, too (by
  Raft's leader completeness). Any other begins anew, empty.
- Of what the lost voters alone knew nothing is met again: versions, ids, epochs of tablets and
  timestamps go on far enough behind (`changes.recovery`), in the same step.
- Every step may be done again after a crash: the new group's first record in the log is what
  makes it count, and the old group's is dropped only behind it.

Left out: voters of the lost incarnation that still reach each other, and nobody else, go on with
it until they hear of the new one: the operator's word was that they are gone.
"""

from __future__ import annotations

import logging

import msgspec

from catalog.model import CATALOG_TABLET
from catalog.state import CatalogState, CatalogStateMachine
from cluster.errors import DataCorrupted
from cluster.raft.host import RaftHost
from cluster.raft.log import (
    Configuration,
    GroupId,
    GroupImage,
    NodeId,
    SnapshotMark,
    group_of,
)
from cluster.raft.state_machine import DurableSnapshots, SnapshotStore

logger = logging.getLogger(__name__)

# Of the lost group's last entries, taken in at a time.
_ENTRIES_AT_ONCE = 256


class CatalogIncarnation(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Which incarnation of the catalog; the first has no founder. Of two the later counts.

    `term` and `index` say where the founder's log of the incarnation before ended; `lost` are the
    nodes that were given up, and no timestamp above `ceiling` was handed out by then.
    """

    number: int = 1
    founder: NodeId = 0
    term: int = 0
    index: int = 0
    lost: tuple[NodeId, ...] = ()
    ceiling: int = 0

    @property
    def group_id(self) -> GroupId:
        """The Raft group that carries it."""
        return group_of(CATALOG_TABLET, self.number)

    def after(
        self, founder: NodeId, end: tuple[int, int], lost: tuple[NodeId, ...], ceiling: int
    ) -> CatalogIncarnation:
        """The next one. Two founders who do not know of each other number theirs differently."""
        return CatalogIncarnation(self.number + founder, founder, *end, lost, ceiling)


def known_incarnation(store: SnapshotStore) -> CatalogIncarnation:
    """The one this node follows."""
    kept = store.load()
    if kept is None:
        return CatalogIncarnation()
    return msgspec.msgpack.decode(kept[1], type=CatalogIncarnation)


async def keep_incarnation(store: SnapshotStore, incarnation: CatalogIncarnation) -> None:
    """Writes down, durably, that this node follows that one from here on."""
    await store.save(incarnation.number, msgspec.msgpack.encode(incarnation))


async def close_and_end(host: RaftHost, group_id: GroupId) -> tuple[int, int]:
    """Closes the catalog's group here; the term and the index of its log's last entry."""
    await host.close_group(group_id)
    image = host.logged(group_id)
    if not image.entries:
        return image.snapshot.term, image.snapshot.index
    return image.entries[-1].term, image.entries[-1].index


async def begin_incarnation(
    host: RaftHost,
    machine: CatalogStateMachine,
    durable: DurableSnapshots,
    incarnation: CatalogIncarnation,
    node_id: NodeId,
) -> None:
    """Makes the copy here, `machine` kept by `durable`, one of that incarnation, if it is of an
    earlier one.

    Raises DataCorrupted for a founder that has nothing to go on with.
    """
    group_id = incarnation.group_id
    known = host.groups_of(CATALOG_TABLET)
    if known and group_id not in known:
        outlived = known[-1]
        await host.close_group(outlived)
        image = host.logged(outlived)
        if incarnation.founder == node_id:
            await _take_all(durable, image)
            if machine.applied_index == incarnation.index:
                machine.go_on_alone(incarnation.lost, incarnation.ceiling)
                await durable.save()
            alone = Configuration.of((node_id,))
            mark = SnapshotMark(machine.applied_index, incarnation.term, alone)
            await host.found_group(group_id, mark, max(mark.term, image.hard_state.term))
            logger.warning("the catalog goes on with the copy of this node alone")
        else:
            mark = await _keep_what_is_sure(durable, image, incarnation)
            await host.found_group(group_id, mark, mark.term)
            logger.warning("the catalog goes on with the copy of node %d", incarnation.founder)
    for outlived in known:
        if outlived != group_id:
            await host.drop_group(outlived)


async def _take_all(durable: DurableSnapshots, image: GroupImage) -> None:
    """Applies the rest of the log."""
    if durable.applied_index < image.snapshot.index:
        raise DataCorrupted(
            "the catalog cannot go on with this node's copy alone",
            detail=f"It ends at entry {durable.applied_index}, its log begins behind"
            f" {image.snapshot.index}.",
        )
    waiting = [e for e in image.entries if e.index > durable.applied_index]
    for start in range(0, len(waiting), _ENTRIES_AT_ONCE):
        await durable.apply(waiting[start : start + _ENTRIES_AT_ONCE])


async def _keep_what_is_sure(
    durable: DurableSnapshots, image: GroupImage, incarnation: CatalogIncarnation
) -> SnapshotMark:
    """Keeps what the founder's log has as well, or nothing; where the new group begins here."""
    index = durable.applied_index
    term = _term_at(image, index)
    if term is not None and (term, index) <= (incarnation.term, incarnation.index):
        await durable.save()
        return SnapshotMark(index, term)
    await durable.restore(0, CatalogState().encode())
    return SnapshotMark()


def _term_at(image: GroupImage, index: int) -> int | None:
    """The term of an entry; None for one that the log does not hold."""
    first = image.snapshot.index + 1
    if index == first - 1:
        return image.snapshot.term
    if first <= index < first + len(image.entries):
        return image.entries[index - first].term
    return None
