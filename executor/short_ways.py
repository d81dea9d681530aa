"""When a short way leaves a statement to the usual one.

Short ways know the newest catalog of their node and who is thought to lead, try once, and compute
what they can. Whatever may be otherwise at another look is the usual way's to try again, and to
say what is wrong: it plans anew and waits. But a leader that was looked for, for long, already is
not looked for again.
"""

from __future__ import annotations

from types import TracebackType

from catalog.leader_search import is_leaderless
from cluster.errors import CannotConnectNow, ObjectNotInPrerequisiteState, SerializationFailure
from storage.row_closures import NotByRow

_MAY_PASS = (CannotConnectNow, ObjectNotInPrerequisiteState, SerializationFailure)


class OrUsualWay:
    """A block that is left where it cannot be the statement's answer, nothing having happened."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if isinstance(error, _MAY_PASS):
            return not is_leaderless(error)
        return isinstance(error, NotByRow)


or_usual_way = OrUsualWay()
