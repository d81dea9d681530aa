"""Which failures a statement is run again after, and for how long."""

from __future__ import annotations

import pytest

from catalog.leader_search import leaderless
from catalog.model import ColocationId, NodeId, Tablet, TabletId
from cluster.errors import (
    AnswerLost,
    CannotConnectNow,
    DivisionByZero,
    DqeError,
    LeaderChanged,
    SerializationFailure,
    StatementCompletionUnknown,
    error_from_fields,
)
from cluster.simulation.loop import run_simulation
from cluster.simulation.runtime import SimulatedRuntime
from executor.retries import CONFLICTS, FAILOVER_S, PAUSE_S, StatementRetries
from planner.parser import parse

TABLET = Tablet(TabletId(7), ColocationId(1), (NodeId(1), NodeId(2), NodeId(3)), 3)


def runs_again(sql: str, *errors: DqeError, alone: bool = True) -> int:
    """After how many of these errors, one after the other, the statement is run again."""

    async def main() -> int:
        runtime = SimulatedRuntime(1, "n1")
        retries = StatementRetries(runtime, parse(sql)[0], alone=alone)
        for count, error in enumerate(errors):
            try:
                await retries.after(error)
            except DqeError:
                return count
        return len(errors)

    return run_simulation(main())


NODE_LOST = CannotConnectNow("node 2 cannot be reached")
MOVED = LeaderChanged("a tablet changed its leader")
CONFLICT = SerializationFailure("could not serialize access")


@pytest.mark.parametrize("sql", ["select 1", "insert into t values (1)", "delete from t"])
@pytest.mark.parametrize("error", [NODE_LOST, AnswerLost("connection to node was lost")])
def test_what_commits_by_itself_runs_again(sql: str, error: DqeError) -> None:
    assert runs_again(sql, error) == 1


def test_in_a_transaction_reads_and_changes_of_rows_run_again_once_undone() -> None:
    assert runs_again("select 1", NODE_LOST, alone=False) == 1
    assert runs_again("update t set v = 1", NODE_LOST, alone=False) == 1
    assert runs_again("truncate t", NODE_LOST, alone=False) == 0


@pytest.mark.parametrize("alone", [True, False])
def test_a_leader_that_moved_is_followed(alone: bool) -> None:
    assert runs_again("update t set v = 1", MOVED, alone=alone) == 1
    assert runs_again("select 1", error_from_fields(MOVED.to_fields()), alone=alone) == 1


def test_a_conflict_is_the_clients_only_in_a_transaction() -> None:
    assert runs_again("update t set v = 1", CONFLICT) == 1
    assert runs_again("update t set v = 1", CONFLICT, alone=False) == 0
    assert runs_again("update t set v = 1", *[CONFLICT] * 30) == CONFLICTS


@pytest.mark.parametrize(
    "error",
    [DivisionByZero("division by zero"), StatementCompletionUnknown("it is not known")],
)
def test_other_errors_are_the_clients(error: DqeError) -> None:
    assert runs_again("insert into t values (1)", error) == 0


def test_what_has_no_majority_was_waited_for_already() -> None:
    error = leaderless(TABLET, NODE_LOST)
    assert "tablet 7" in error.message
    assert runs_again("select 1", error) == 0
    assert runs_again("select 1", error_from_fields(error.to_fields())) == 0


def test_it_ends() -> None:
    assert 10 < runs_again("select 1", *[NODE_LOST] * 1000) < FAILOVER_S / PAUSE_S


def test_copy_and_definitions_are_not_run_again() -> None:
    assert runs_again("copy t from stdin", NODE_LOST) == 0
    assert runs_again("create table t (k int)", NODE_LOST) == 0
