"""What a tablet needs around it: its Raft group, and other tablets. Faces only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cluster.errors import CannotConnectNow
from storage.deadlocks import WaitEdge
from storage.fragments import FragmentId, TabletId, Timestamp, TransactionId
from storage.participant import Outcome


class ReplicationGroup(Protocol):
    """What a tablet needs of its Raft group (`cluster.raft`'s `RaftGroup`)."""

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads and has applied an entry of its own term."""
        ...

    @property
    def leader_id(self) -> int | None: ...

    @property
    def term(self) -> int: ...

    async def propose(self, data: bytes, *, deadline_s: float) -> object:
        """The result of applying the entry here, once it is committed."""
        ...

    async def read_barrier(self, *, deadline_s: float) -> int:
        """Returns when everything committed before the call is applied here; leader only."""
        ...

    def out_of_step(self) -> CannotConnectNow | None:
        """Why this leader, serving or not, can have nothing applied now: a replica that must hold
        everything is silent. None where that is not so."""
        ...

    def lease_valid(self) -> bool:
        """Whether nobody else can have led until now; ask after what it is to cover."""
        ...

    def on_leadership(self, started: Callable[[int], None], stopped: Callable[[], None]) -> None:
        """Calls `started` with the term when this replica serves as leader, also if it does
        already, and `stopped` when it no longer does."""
        ...

    def compact_log(self) -> None:
        """Cuts the log to the machine's durable index."""
        ...

    def tell_commit(self) -> None:
        """Has followers apply what is committed at once, not when more has come."""
        ...

    def hasten(self, index: int) -> None:
        """Has that entry applied here as soon as it is committed, not when more have gathered."""
        ...


class Peers(Protocol):
    """Other tablets, wherever they are led. The upper floors carry the questions there."""

    async def ask_home(self, tablet_id: TabletId, transaction_id: TransactionId) -> Outcome | None:
        """`Tablet.status` at the home; None while the transaction runs."""
        ...

    async def tell_commits(
        self, tablet_id: TabletId, commits: Sequence[tuple[TransactionId, Timestamp]]
    ) -> Sequence[TransactionId]:
        """`Tablet.commit_all` at a participant; all of them for a tablet that is no more."""
        ...

    async def ask_read_index(
        self, tablet_id: TabletId, timestamp: Timestamp, deadline_s: float
    ) -> int:
        """`Tablet.read_index` at the tablet's leader."""
        ...

    async def wait_edges(self) -> Sequence[WaitEdge]:
        """Who waits for whom on all nodes that answer, as of some moment from now on."""
        ...

    async def ask_own_changes(
        self,
        tablet_id: TabletId,
        transaction_id: TransactionId,
        fragment_ids: Sequence[FragmentId],
        command: int,
    ) -> bytes:
        """`Tablet.own_changes` at the tablet's leader, as an `Ingest` entry."""
        ...
