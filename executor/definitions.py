"""What a transaction defines: drafted by itself, seen by itself, in force at its commit (S1).

    command --> the state machine, on this transaction's view of the catalog --> patch
                  \\--> new fragments and sequences are staged: tablets make them, nobody finds them
    COMMIT  --> rows prepared --> one entry in the catalog's log: patch and decision --> everywhere
                  \\--> participants commit, locks end
    ROLLBACK, or back to a savepoint --> the patches from there on are forgotten

The view is the newest catalog with the patches laid over it (`catalog.patches`). Ids that a
command takes come out of the catalog's own numbers: it is tried to count them, so many are set
aside, and it is carried out with these.

What a command changes must not be changed by others meanwhile. The statement locks the tablets
of every table it touches before (`executor.ddl`); the commit sees to the rest, and says 40001.

While locks are held at tablets, every live node learns of the new version: only then do those
who waited for the locks go on, and find that their plans are old (`executor.definition_fence`).

Invariants: what was staged is known by the transaction's id, and given up by its coordinator or,
when that is gone, by the catalog's leader; nothing shows before the commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from catalog.commands import (
    AbortDefinitions,
    Command,
    CommandResult,
    ReserveIds,
    StageDefinitions,
)
from catalog.drafting import Drafted, draft
from catalog.model import Catalog, Table, TableId, Tablet, TabletId
from catalog.model import Sequence as NumberSequence
from catalog.patches import Patch, drafted, fragments_of, joined
from cluster.errors import DqeError, SerializationFailure
from executor.services import ExecutorServices
from storage.fragments import Timestamp

logger = logging.getLogger(__name__)

# A draft whose ids others took meanwhile is made again, so often.
ATTEMPTS = 5


@dataclass(slots=True)
class TransactionDefinitions:
    """Of one transaction, in their order. See the module."""

    services: ExecutorServices
    transaction_id: int = 0
    # The patches, each with the number of the statement that made it.
    _kept: list[tuple[int, Patch]] = field(default_factory=list)
    _patch: Patch = field(default_factory=Patch)
    _staged: bool = False
    _view: tuple[Catalog, Catalog] | None = None
    _version: int | None = None
    _following: asyncio.Task[None] | None = None

    @property
    def any(self) -> bool:
        """Whether anything is defined."""
        return bool(self._kept)

    @property
    def patch(self) -> Patch:
        """All that is defined, as one."""
        return self._patch

    def view(self, catalog: Catalog) -> Catalog:
        """The catalog as the transaction sees it; the same object as long as nothing changes."""
        if not self._kept:
            return catalog
        if self._view is None or self._view[0] is not catalog:
            self._view = catalog, drafted(catalog, self._patch)
        return self._view[1]

    # -- defining

    async def apply(
        self, listed: Sequence[Command], transaction_id: int, number: int
    ) -> tuple[Sequence[CommandResult], Patch]:
        """Carries out commands of the transaction's statement of that number, for itself; what
        they answer, and what they change."""
        found = await self._drafted(listed)
        patch = found.patch
        if patch.is_empty:
            return found.results, patch
        self._begin(transaction_id)
        await self._stage(found, patch)
        self._keep([*self._kept, (number, patch)])
        return found.results, patch

    async def take_part(self, transaction_id: int) -> None:
        """Has the catalog know of the transaction, so that it can be asked how this ended, also
        where nothing is defined in the end."""
        self._begin(transaction_id)
        await self.mark()

    def _begin(self, transaction_id: int) -> None:
        if not self.transaction_id:
            self.transaction_id = transaction_id
            self.services.catalog.definitions.begin(transaction_id, self.view)

    async def _drafted(self, listed: Sequence[Command]) -> Drafted:
        catalog = self.services.catalog
        first_id: int | None = None
        wanted = 0
        for _ in range(ATTEMPTS):
            found = draft(self.view(catalog.current), listed, first_id)
            if found.ids <= wanted:
                return found
            wanted = found.ids
            first_id = (await catalog.execute(ReserveIds(wanted))).first_id
        raise SerializationFailure("could not serialize access due to concurrent definitions")

    async def _stage(self, found: Drafted, patch: Patch) -> None:
        """Has what is new made, so that rows can come: fragments, and what gives numbers."""
        tables = tuple(
            after
            for before, after in patch.tables.values()
            if after is not None and fragments_of(after).keys() - fragments_of(before).keys()
        )
        tablets = tuple(
            tablet for i, tablet in found.after.tablets.items() if i not in found.before.tablets
        )
        known = self.services.catalog.current.sequences
        sequences = tuple(
            after for i, (_, after) in patch.sequences.items() if after and i not in known
        )
        if tables or sequences:
            await self._register(tables, tablets, sequences)

    async def _register(
        self,
        tables: Sequence[Table] = (),
        tablets: Sequence[Tablet] = (),
        sequences: Sequence[NumberSequence] = (),
    ) -> None:
        catalog = self.services.catalog
        command = StageDefinitions(
            self.transaction_id,
            self.services.node_id,
            tuple(tables),
            tuple(tablets),
            tuple(sequences),
        )
        result = await catalog.execute(command)
        self._staged = True
        if tables:
            await catalog.ensure_everywhere(result.version)

    def undo(self, since: int = 0) -> None:
        """Forgets what statements from that number on have defined."""
        self._keep([(number, patch) for number, patch in self._kept if number < since])

    def _keep(self, kept: list[tuple[int, Patch]]) -> None:
        self._kept = kept
        self._view = None
        self._patch = Patch()
        for _, patch in kept:
            self._patch = joined(self._patch, patch)

    def is_new(self, table_id: TableId) -> bool:
        """Whether the transaction itself made the table, so that nobody else knows of it."""
        return self._patch.tables.get(table_id, (True, None))[0] is None

    # -- the end: the catalog is the home (`executor.transaction_end`)

    async def mark(self) -> None:
        """The transaction is registered as running, for participants in doubt."""
        if not self._staged:
            await self._register()

    async def decide(self, participants: Sequence[int]) -> Timestamp:
        """Puts it in force, with the rows that the participants have prepared."""
        service = self.services.catalog.definitions
        result = await service.commit(
            self.transaction_id,
            self._patch,
            tuple(map(TabletId, participants)),
            staged=self._staged,
        )
        self._version = result.version
        self._staged = False
        return result.commit_ts

    async def everywhere(self) -> None:
        """After the decision: returns when every live node has the definitions."""
        if self._version is None:
            return
        if self._following is None:
            follow = self._follow(self._version)
            self._following = self.services.runtime.spawn(follow, "definitions everywhere")
        await asyncio.shield(self._following)

    async def _follow(self, version: int) -> None:
        try:
            catalog = self.services.catalog
            await catalog.wait_version(version)
            await catalog.ensure_everywhere(version)
        except DqeError as error:
            # It is in force; who does not know it yet learns it with its next timestamp.
            logger.warning("not every node has catalog version %d yet: %s", version, error.message)

    async def end(self) -> None:
        """The transaction is over, one way or the other; what it did not commit is given up."""
        if not self.transaction_id:
            return
        try:
            if self._staged:
                await self.services.catalog.execute(AbortDefinitions(self.transaction_id))
        except DqeError as error:
            logger.info("staged definitions are left to the catalog's leader: %s", error.message)
        finally:
            self.services.catalog.definitions.end(self.transaction_id)
