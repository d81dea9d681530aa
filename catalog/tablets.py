"""Keeps this node's tablets as the catalog says: which are here, what they hold, who votes.

    new catalog version --> reconcile: drop, open, alter (where led here), change members
                                \\--> `wait_reconciled`: DDL returns after every live node's

Opening and dropping is each node's own. What a tablet holds, and who its members are, is its
leader's: it logs an `alter` when the catalog's epoch of the tablet is above the one last
logged, and has its members tended (`tablet_members`), in the background. A node counts as
reconciled with a version when its replicas have *applied* those alters, whoever logged them;
replicas on their way in or out, or being rebuilt, are not waited for.

After a restart this node's copy of the catalog is older than what it did before, until it has
heard from the leader. Till then it goes on with what it has, and no more. Nothing is dropped: a
replica that came here lately would lose what it has acknowledged and voted (rule G3), and a
recovered tablet its only copy. Nothing is begun: a replica that has left would be founded again,
empty. And no group gets members by wishes of former times. A tablet that the catalog does not
name is dropped only if its id is below the catalog's `next_id`: ids are never used again, so it
was dropped.

A replica whose store is damaged, or differs from the others, is rebuilt: closed, its file set
aside, and opened anew over the same log, so that what it promised and voted still holds (rules
L3, G6). It answers nothing meanwhile. One whose log does not reach back and that has nobody to
get a snapshot from is fenced: it answers with an error, and nothing else waits for it.
"""

from __future__ import annotations

import asyncio
import logging

from catalog.fragment_schemas import tablet_schemas
from catalog.history import HistoryKeeper
from catalog.model import Catalog, Durability, NodeId, Tablet, TabletId
from catalog.repair import Repairer
from catalog.service import CatalogService
from catalog.tablet_incarnations import begin_incarnation
from catalog.tablet_members import MemberTender
from catalog.tablet_watch import TabletWatch
from cluster.errors import CannotConnectNow, DataCorrupted, DqeError
from cluster.raft.group import RaftGroup
from cluster.raft.host import RaftHost
from cluster.raft.log import Configuration, group_of
from cluster.runtime import Runtime
from storage.node import NodeStorage

logger = logging.getLogger(__name__)

# After a round that could not finish, and between looks for changes of leadership.
RETRY_S = 0.05
IDLE_LOOK_S = 0.5
OPENED_AT_ONCE = 8
STEP_DOWN_TIMEOUT_S = 3.0


class TabletManager:
    """One a node. `start` after the catalog service's."""

    def __init__(
        self,
        runtime: Runtime,
        storage: NodeStorage,
        host: RaftHost,
        catalog: CatalogService,
        node_id: NodeId,
    ) -> None:
        self._runtime = runtime
        self._storage = storage
        self._host = host
        self._catalog = catalog
        self._node_id = node_id
        self._groups: dict[TabletId, RaftGroup] = {}
        self._lost: set[TabletId] = set()
        # Replicas to be rebuilt, and those that are, with the reason.
        self._condemned: dict[TabletId, str] = {}
        self._rebuilding: dict[TabletId, str] = {}
        self._reconciled_version = 0
        self._swept_version = -1
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._tender = MemberTender(runtime, catalog, node_id, self._wake.set)
        self._repairer = Repairer(runtime, catalog)
        self._watch = TabletWatch(runtime, storage, catalog, node_id, self._groups)
        self._history = HistoryKeeper(runtime, storage, catalog, self._groups)

    def start(self) -> None:
        """Begins to follow the catalog, and, where this node leads it, to repair the cluster."""
        self._catalog.follow(lambda _: self._wake.set(), self.wait_reconciled)
        self._task = self._runtime.spawn(self._reconcile_forever(), "tablets")
        self._repairer.start()
        self._watch.start()
        self._history.start()

    def close(self) -> None:
        """Stops following; the tablets stay open until host and storage are closed."""
        self._repairer.close()
        self._watch.close()
        self._history.close()
        if self._task is not None:
            self._task.cancel()

    def group(self, tablet_id: TabletId) -> RaftGroup | None:
        """The Raft group of a tablet that is open here."""
        return self._groups.get(tablet_id)

    def rebuild(self, tablet_id: TabletId, reason: str) -> None:
        """Has the replica here, which must not be read any more, begin anew: from the log where
        that reaches back to the beginning, else with a snapshot of the leader's."""
        if tablet_id in self._groups and tablet_id not in self._condemned:
            logger.error("tablet %d is rebuilt here: %s", tablet_id, reason)
            self._condemned[tablet_id] = reason
            self._wake.set()

    def out_of_service(self) -> dict[TabletId, str]:
        """The replicas here that serve nothing, or only once they have caught up; why."""
        for tablet_id in list(self._rebuilding):
            group = self._groups.get(tablet_id)
            if group is not None and group.has_caught_up:
                del self._rebuilding[tablet_id]
        lost = {TabletId(t): error.message for t, error in self._storage.fenced.items()}
        return lost | self._rebuilding | self._condemned

    def leader_of(self, tablet_id: TabletId) -> NodeId | None:
        """Who leads the tablet, as far as this node's own replica knows: a hint."""
        group = self._groups.get(tablet_id)
        return NodeId(group.leader_id) if group is not None and group.leader_id else None

    async def wait_reconciled(self, version: int, deadline_s: float) -> None:
        """Returns when this node's replicas are as that catalog version says; 57P03 else."""
        try:
            async with asyncio.timeout(max(deadline_s, 0)):
                while self._reconciled_version < version:
                    await self._progress.wait()
        except TimeoutError:
            raise CannotConnectNow(
                f"the tablets of node {self._node_id} have not followed catalog version {version}"
            ) from None

    async def _reconcile_forever(self) -> None:
        while True:
            self._wake.clear()
            catalog = self._catalog.current
            try:
                done = await self._reconcile(catalog)
            except DqeError as error:
                logger.warning("tablets do not follow the catalog yet: %s", error)
                done = False
            except Exception:  # the driver loop: a node that stopped following would hang DDL
                logger.exception("tablets could not follow the catalog")
                done = False
            if done and self._reconciled_version != catalog.version:
                self._reconciled_version = catalog.version
                self._progress.set()
                self._progress = asyncio.Event()
            await self._rest(IDLE_LOOK_S if done else RETRY_S)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _reconcile(self, catalog: Catalog) -> bool:
        """One round; whether everything is as the catalog says (members aside)."""
        wanted = [t for t in catalog.tablets.values() if self._node_id in t.holders]
        if self._catalog.has_been_current:
            await self._drop_unwanted(catalog, {tablet.id for tablet in wanted})
        else:
            wanted = [t for t in wanted if self._is_in_log(t)]
        for tablet_id in list(self._condemned):
            await self._close_condemned(tablet_id)
        wanted = [tablet for tablet in wanted if tablet.id not in self._lost]
        for tablet in wanted:
            await self._close_outlived(tablet)
        missing = [tablet for tablet in wanted if tablet.id not in self._groups]
        for start in range(0, len(missing), OPENED_AT_ONCE):
            await asyncio.gather(*map(self._open, missing[start : start + OPENED_AT_ONCE]))
        wanted = [tablet for tablet in wanted if tablet.id not in self._lost]
        outdated = [t for t in wanted if self._storage.tablet(t.id).schema_version < t.epoch]
        await asyncio.gather(*(self._alter(catalog, tablet) for tablet in outdated))
        for tablet in wanted if self._catalog.has_been_current else ():
            self._tender.tend(tablet, self._groups[tablet.id])
        present = [
            t
            for t in wanted
            if self._node_id not in (*t.joining, *t.leaving) and t.id not in self._rebuilding
        ]
        return all(self._storage.tablet(t.id).schema_version >= t.epoch for t in present)

    def _is_in_log(self, tablet: Tablet) -> bool:
        """Whether the log here has this incarnation of the tablet, and no later one."""
        known = self._host.groups_of(tablet.id)
        return bool(known) and known[-1] == group_of(tablet.id, tablet.incarnation)

    async def _drop_unwanted(self, catalog: Catalog, wanted: set[TabletId]) -> None:
        here = {*self._groups, *self._lost}
        if self._swept_version != catalog.version:
            # Files that no tablet opened belong to; there are no new ones between versions.
            here.update(map(TabletId, self._storage.stored_tablets()))
        for tablet_id in sorted(here - wanted):
            if tablet_id < catalog.next_id:
                self._groups.pop(tablet_id, None)
                self._lost.discard(tablet_id)
                for group_id in self._host.groups_of(tablet_id):
                    await self._host.drop_group(group_id)
                await self._storage.drop_tablet(tablet_id)
        self._swept_version = catalog.version

    async def _close_condemned(self, tablet_id: TabletId) -> None:
        """A leader hands over first; the log stays, and with it what was promised and voted."""
        group = self._groups.get(tablet_id)
        if group is not None:
            await self._step_down(group)
            del self._groups[tablet_id]
            await self._host.close_group(group.group_id)
            await self._storage.set_aside(tablet_id, self._condemned[tablet_id])
            self._rebuilding[tablet_id] = self._condemned[tablet_id]
        del self._condemned[tablet_id]

    async def _step_down(self, group: RaftGroup) -> None:
        live = self._catalog.liveness.live_nodes()
        for node_id in group.configuration.voters:
            if not group.is_leader:
                return
            if node_id == self._node_id or node_id not in live or not group.is_caught_up(node_id):
                continue
            try:
                await group.transfer_leadership(node_id, deadline_s=STEP_DOWN_TIMEOUT_S)
            except DqeError as error:
                logger.info("tablet %d keeps its leader for now: %s", group.group_id, error)

    async def _close_outlived(self, tablet: Tablet) -> None:
        """Closes the group of an incarnation that an operator has ended."""
        group = self._groups.get(tablet.id)
        if group is not None and group.group_id != group_of(tablet.id, tablet.incarnation):
            del self._groups[tablet.id]
            await self._host.close_group(group.group_id)

    async def _open(self, tablet: Tablet) -> None:
        group_id = group_of(tablet.id, tablet.incarnation)
        try:
            await begin_incarnation(self._host, self._storage, tablet, self._node_id)
            opened = await self._storage.open_tablet(tablet.id)
            group = await self._host.open_group(
                group_id, opened, _bootstrap(tablet, self._node_id), tablet.replicas[0]
            )
        except DataCorrupted as error:
            self._lost.add(tablet.id)
            await self._storage.fence_tablet(tablet.id, error)
            return
        opened.attach(group)
        self._groups[tablet.id] = group

    async def _alter(self, catalog: Catalog, tablet: Tablet) -> None:
        group = self._groups[tablet.id]
        opened = self._storage.tablet(tablet.id)
        if not group.is_leader or opened.schema_version >= tablet.epoch:
            return
        try:
            await opened.alter(tablet_schemas(catalog, tablet.id), tablet.epoch)
        except DqeError as error:
            # Leadership moved or the quorum is gone: whoever leads in the next round does it.
            logger.info("tablet %d is not altered yet: %s", tablet.id, error)


def _bootstrap(tablet: Tablet, node_id: NodeId) -> Configuration | None:
    """The members with which the tablet's group begins; None for a replica that joins it."""
    if not tablet.founders or node_id in tablet.joining or tablet.incarnation > 1:
        return None
    learners = [node for node in tablet.replicas if node not in tablet.joining]
    in_step = tablet.durability is Durability.SYNC
    return Configuration.of(tablet.founders, learners, sync=in_step)
