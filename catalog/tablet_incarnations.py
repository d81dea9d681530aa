"""How a tablet goes on when an operator has given up its lost majority (rule G5).

The survivor's replica holds what its group had committed as far as it knew, and perhaps more in
its log: entries whose fate only the lost majority knew. All of them count from here on, since any
of them may have been acknowledged. Then another group begins, of this one voter, over the same
store: the next *incarnation*. Messages carry the group's number, so replicas of the lost
incarnation that come back after all find nobody to talk to; they are dropped where the catalog
does not name them, and begin anew, empty, where it does.

Every step may be done again after a crash: the new group's first record in the log is what makes
it count, and the old group's is dropped only behind it.
"""

from __future__ import annotations

import logging

from catalog.model import NodeId, Tablet
from cluster.errors import DataCorrupted
from cluster.raft.host import RaftHost
from cluster.raft.log import Configuration, GroupId, SnapshotMark, group_of
from storage.node import NodeStorage

logger = logging.getLogger(__name__)

# Of the lost group's last entries, taken in at a time.
_ENTRIES_AT_ONCE = 256


async def begin_incarnation(
    host: RaftHost, storage: NodeStorage, tablet: Tablet, node_id: NodeId
) -> None:
    """Makes the replica here one of the tablet's incarnation, if it is of an earlier one.

    Nothing of the tablet is open here but, perhaps, its store. Raises DataCorrupted for a
    survivor that has nothing to go on with.
    """
    group_id = group_of(tablet.id, tablet.incarnation)
    known = host.groups_of(tablet.id)
    if group_id not in known:
        if node_id in tablet.founders and tablet.incarnation > 1:
            if not known:
                raise DataCorrupted(f"node {node_id} has no replica of tablet {tablet.id} left")
            await _go_on_alone(host, storage, tablet, known[-1], node_id)
        elif known:
            await storage.drop_tablet(tablet.id)
    for outlived in known:
        if outlived != group_id:
            await host.drop_group(outlived)


async def _go_on_alone(
    host: RaftHost, storage: NodeStorage, tablet: Tablet, outlived: GroupId, node_id: NodeId
) -> None:
    await host.close_group(outlived)
    replica = await storage.reopen_tablet(tablet.id)
    image = host.logged(outlived)
    mark = image.snapshot
    if replica.applied_index < mark.index:
        raise DataCorrupted(
            f"tablet {tablet.id} cannot go on with node {node_id} alone",
            detail=f"Its store ends at entry {replica.applied_index}, its log begins behind"
            f" {mark.index}.",
        )
    term = mark.term
    first = mark.index + 1
    for start in range(0, len(image.entries), _ENTRIES_AT_ONCE):
        entries = image.entries[start : start + _ENTRIES_AT_ONCE]
        term = entries[-1].term
        if first + start + len(entries) - 1 > replica.applied_index:
            await replica.apply([e for e in entries if e.index > replica.applied_index])
    await replica.checkpoint_whole()
    begins = SnapshotMark(replica.applied_index, term, Configuration.of((node_id,)))
    await host.found_group(
        group_of(tablet.id, tablet.incarnation), begins, max(term, image.hard_state.term)
    )
    logger.warning(
        "tablet %d goes on with this replica alone from entry %d, as incarnation %d",
        tablet.id,
        begins.index,
        tablet.incarnation,
    )
