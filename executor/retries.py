"""Running a statement again when the cluster, not the statement, was at fault.

A node that dies, or a tablet whose leader moves, fails the statements that are with it. Most of
them can be run again as if nothing had been, and their clients never learn of it:

- nothing was sent to the client yet (its first batch is read before a result is given out);
- nothing of it can have happened: it commits by itself and was refused before its commit was
  decided (`Outcome.DID_NOT_HAPPEN`, or 57P03, which never comes from a decision: a lost answer
  to that is 40003), or it only reads.

- in a block it is undone first, at all tablets, and what the block holds comes along to new leaders
  (`executor.transaction_places`).

It runs again, planned anew, at a new snapshot unless its transaction keeps one. A conflict with
another transaction (40001, 40P01) is no error either for a statement that commits by itself:
PostgreSQL would have waited and gone on, or, of two that lock one table tablet by tablet, would
not have let them meet. Only of a row that moved to another part PostgreSQL tells as well.

Bounds: `FAILOVER_S` from the first failure, `CONFLICTS` conflicts. What has lost its majority
has been waited for already (`catalog.leader_search`) and is not tried again.
"""

from __future__ import annotations

from catalog.leader_search import is_leaderless
from cluster.errors import (
    CannotConnectNow,
    DeadlockDetected,
    DqeError,
    LeaderChanged,
    ObjectNotInPrerequisiteState,
    RowMoved,
    SerializationFailure,
)
from cluster.runtime import Runtime
from planner.statements import Delete, Insert, Merge, Query, Statement, Truncate, Update

FAILOVER_S = 5.0
CONFLICTS = 10
PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.3


class StatementRetries:
    """One statement's. `alone`: it commits by itself, else its caller undoes it before it runs
    again."""

    def __init__(self, runtime: Runtime, statement: Statement, *, alone: bool) -> None:
        self._runtime = runtime
        self._writes_alone = alone and isinstance(
            statement, Insert | Update | Delete | Merge | Truncate
        )
        in_block = not alone and isinstance(statement, Insert | Update | Delete | Merge)
        self._repeatable = self._writes_alone or in_block or isinstance(statement, Query)
        self._first_s: float | None = None
        self._conflicts = 0
        self._pause_s = PAUSE_S

    async def after(self, error: DqeError) -> None:
        """Returns, after a pause, when the statement is to run again; raises the error else.

        With 55000 it makes sense only under another catalog version, which the caller checks.
        """
        if not self._repeatable or not self._is_passing(error):
            raise error
        pause_s = self._pause_s * (0.5 + self._runtime.random.random())
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        await self._runtime.sleep(pause_s)

    def _is_passing(self, error: DqeError) -> bool:
        if isinstance(error, ObjectNotInPrerequisiteState):
            return True
        if isinstance(error, LeaderChanged):
            return self._is_within_failover()
        if isinstance(error, RowMoved):
            return False
        if isinstance(error, SerializationFailure | DeadlockDetected):
            self._conflicts += 1
            return self._writes_alone and self._conflicts <= CONFLICTS
        if not isinstance(error, CannotConnectNow) or is_leaderless(error):
            return False
        return self._is_within_failover()

    def _is_within_failover(self) -> bool:
        now_s = self._runtime.monotonic()
        self._first_s = now_s if self._first_s is None else self._first_s
        return now_s - self._first_s < FAILOVER_S
