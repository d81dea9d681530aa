"""Asking how a transaction ended whose answer was lost (rule C8).

    SELECT dqe.transaction_token()          within it; NULL outside of a block
    SELECT dqe.commit_status('...')         committed, aborted, in progress, unknown

A token names the transaction, the timestamp of its first snapshot and its home tablet, whose
log decides. Asking about one that nobody carries out any more has its home log an abort first,
so that the answer holds for ever. Tablets remember outcomes for ten minutes; about older
transactions they are asked only what they remember, and what they do not is *unknown*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.model import CATALOG_TABLET, Durability
from cluster.errors import InvalidParameterValue, UndefinedFunction
from storage.fragments import TIMESTAMP_COUNTER_BITS, TabletId, Timestamp, TransactionId
from storage.participant import OUTCOME_RETENTION_MS

if TYPE_CHECKING:
    from executor.services import ExecutorServices

ASK_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class TransactionToken:
    """What a client keeps of a transaction."""

    transaction_id: TransactionId
    begun: Timestamp
    home: TabletId

    def __str__(self) -> str:
        return f"{self.transaction_id:x}-{self.begun:x}-{self.home:x}"

    @classmethod
    def parse(cls, text: str) -> TransactionToken:
        """The token again; 22023 for a text that is none."""
        parts = text.strip().split("-")
        try:
            transaction_id, begun, home = (int(part, 16) for part in parts)
        except ValueError:
            raise InvalidParameterValue(f'invalid transaction token: "{text}"') from None
        return cls(transaction_id, begun, home)


def some_tablet(services: ExecutorServices) -> TabletId | None:
    """For a transaction that has changed nothing yet: best one that this node leads, and only one
    whose acknowledged decisions outlive a node. None where there is none."""
    firm = [
        tablet_id
        for tablet_id, tablet in services.catalog.current.tablets.items()
        if tablet.durability is not Durability.ASYNC
    ]
    led = (t for t in firm if services.leader_of(t) == services.node_id)
    return next(led, next(iter(firm), None))


async def commit_status(services: ExecutorServices, arguments: Sequence[str | None]) -> str | None:
    """The function's answer; NULL for NULL."""
    if len(arguments) != 1:
        raise UndefinedFunction("function dqe.commit_status takes one argument")
    if arguments[0] is None:
        return None
    token = TransactionToken.parse(arguments[0])
    now, _ = await services.timestamps.snapshot()
    age_ms = (now - token.begun) >> TIMESTAMP_COUNTER_BITS
    if token.begun > now:
        raise InvalidParameterValue(f'invalid transaction token: "{arguments[0]}"')
    catalog = services.catalog.current
    if token.home != CATALOG_TABLET and token.home not in catalog.tablets:
        return "unknown"  # the table was dropped, and with it its log
    return await services.tablets.commit_status(
        token.home, token.transaction_id, age_ms < _settled_for_ms(), ASK_DEADLINE_S
    )


def _settled_for_ms() -> int:
    """For how long what nobody remembers is known to have aborted: the home must remember longer
    than a question that was asked in time takes to reach it."""
    return OUTCOME_RETENTION_MS * 10 // 11
