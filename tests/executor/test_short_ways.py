"""Which errors send a statement from a short way to the usual one."""

from __future__ import annotations

import pytest

from catalog.leader_search import leaderless
from catalog.model import ColocationId, NodeId, Tablet, TabletId
from cluster.errors import (
    AnswerLost,
    CannotConnectNow,
    DivisionByZero,
    DqeError,
    ObjectNotInPrerequisiteState,
    QueryCanceled,
    SerializationFailure,
)
from executor.short_ways import or_usual_way
from storage.row_closures import NotByRow

TABLET = Tablet(TabletId(5), ColocationId(1), (NodeId(1), NodeId(2), NodeId(3)), voters=3)


def answer(error: Exception) -> str:
    with or_usual_way:
        raise error
    return "the usual way"


@pytest.mark.parametrize(
    "error",
    [
        NotByRow("beyond it"),
        CannotConnectNow("down"),
        AnswerLost("gone"),
        ObjectNotInPrerequisiteState("moved"),
        SerializationFailure("pending"),
    ],
)
def test_what_may_be_otherwise_soon_goes_the_usual_way(error: Exception) -> None:
    assert answer(error) == "the usual way"


@pytest.mark.parametrize("error", [DivisionByZero("1/0"), QueryCanceled("stop"), ValueError("?")])
def test_what_the_statement_is_wrong_in_is_said(error: Exception) -> None:
    with pytest.raises(type(error)):
        answer(error)


def test_a_leader_that_was_looked_for_long_is_not_looked_for_again() -> None:
    with pytest.raises(DqeError, match="no leader"):
        answer(leaderless(TABLET, CannotConnectNow("nobody")))
