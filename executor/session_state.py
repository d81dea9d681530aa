"""What a session keeps between statements: settings, block, prepared statements, cursors."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from executor.cursors import Cursors
from executor.quick_statements import PlanHold
from executor.settings import SessionSettings
from executor.transaction_block import TransactionBlock
from planner.plan import ResultColumn
from planner.statements import Statement
from storage.fragments import Timestamp
from storage.types import SqlType


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement described once; `columns` is None where it has no rows."""

    statement: Statement
    parameters: tuple[SqlType, ...]
    columns: tuple[ResultColumn, ...] | None
    created: datetime | None = None
    shown: str = ""  # the text of PREPARE, where there was one
    hold: PlanHold = field(default_factory=PlanHold, compare=False, repr=False)


@dataclass(slots=True)
class SessionState:
    """What handlers of session statements read and change."""

    settings: SessionSettings
    block: TransactionBlock = field(default_factory=TransactionBlock)
    prepared: dict[str, Prepared] = field(default_factory=dict)
    cursors: Cursors = field(default_factory=Cursors)
    # Where the last query read; None where it read the newest rows by key.
    last_read: Timestamp | None = None
