"""What a session's statements run with: the planner's view of the session, a snapshot, a catalog.

A statement outside of a block takes a snapshot of its own and waits until this node's catalog is
as new (rule T3); one in a block takes the transaction's; one about the past, or about a cluster
without a catalog leader, takes none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from catalog.model import Catalog
from executor.execution import Execution, Notice
from executor.past import PastRead
from executor.services import ExecutorServices
from executor.session_limits import Limit, StatementLimits
from executor.session_state import SessionState
from executor.without_catalog import WARNING
from executor.write_settings import WriteSettings
from planner.context import PlannerContext
from planner.datum import Datum
from planner.nearness import nearest_nodes
from storage.types import SqlType

if TYPE_CHECKING:
    from executor.coordinator import Coordinator


class SessionSurroundings:
    """One session's; `facts` are what functions tell of it."""

    def __init__(
        self,
        services: ExecutorServices,
        coordinator: Coordinator,
        state: SessionState,
        limits: StatementLimits,
        facts: Mapping[str, str],
        notices: list[Notice],
    ) -> None:
        self._services = services
        self._coordinator = coordinator
        self._state = state
        self._limits = limits
        self._facts = facts
        self._notices = notices

    @property
    def present(self) -> Catalog:
        """The newest catalog, with what the transaction has defined."""
        catalog, transaction = self._services.catalog.current, self._state.block.transaction
        return catalog if transaction is None else transaction.definitions.view(catalog)

    async def execution(
        self,
        limit: Limit,
        types: tuple[SqlType | None, ...],
        values: Sequence[Datum],
        *,
        describes: bool = False,
        past: PastRead | None = None,
        alone: bool = False,
    ) -> Execution:
        """What a statement runs with; one that is only described takes no snapshot to keep, one
        that does `alone` with what this node knows takes none at all."""
        transaction = None if describes or past is not None else self._state.block.transaction
        if past is not None:
            timestamp, catalog = past.timestamp, self._services.catalog.current
        elif alone and transaction is None:
            timestamp, catalog = self._services.timestamps.newest, self.present
            if not describes:
                self._notices.append(Notice("WARNING", {"message": WARNING}))
        elif transaction is None:
            timestamp, version = await self._services.timestamps.snapshot()
            await self._services.catalog.wait_version(version)
            catalog = self.present
        else:
            transaction.isolation = self._state.settings["transaction_isolation"]
            transaction.settle(WriteSettings.of(self._state.settings))
            timestamp, catalog = await transaction.snapshot()
        is_past = past is not None or (transaction is not None and transaction.is_past)
        return Execution(
            services=self._services,
            coordinator=self._coordinator,
            context=self._context(catalog, dict(self._state.settings), near=is_past),
            timestamp=timestamp,
            parameter_types=types,
            values=values,
            notices=self._notices,
            deadline_s=self._limits.remaining_s(limit),
            transaction=transaction,
            is_past=is_past,
        )

    def evaluation(
        self, types: tuple[SqlType | None, ...] = (), values: Sequence[Datum] = ()
    ) -> Execution:
        """What a constant of a statement is evaluated with, at no snapshot."""
        return Execution(
            services=self._services,
            coordinator=self._coordinator,
            context=self._context(self._services.catalog.current, dict(self._state.settings)),
            timestamp=0,
            parameter_types=types,
            values=values,
            notices=self._notices,
            deadline_s=self._limits.remaining_s(),
        )

    def now(self) -> PlannerContext:
        """The planner's view of the session as it is, for what needs no node but this one."""
        return self._context(self._services.catalog.current, self._state.settings, plans=False)

    def newest(self) -> PlannerContext:
        """The same with what the transaction has defined."""
        return self._context(self.present, self._state.settings, plans=False)

    def _context(
        self,
        catalog: Catalog,
        settings: Mapping[str, str],
        *,
        near: bool = False,
        plans: bool = True,
    ) -> PlannerContext:
        now = self._services.runtime.now()
        return PlannerContext(
            catalog=catalog,
            node_id=self._services.node_id,
            now=self._state.block.started or now,
            statement_now=now,
            settings=settings,
            session=self._facts,
            live_nodes=self._services.catalog.liveness.live_nodes() if plans else (),
            nearest=nearest_nodes(catalog, self._services.node_id) if near else (),
        )
