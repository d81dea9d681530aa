"""A transaction for one statement that commits by itself but needs what sessions' transactions
have: several parts, each of which sees what those before it did."""

from __future__ import annotations

import dataclasses

from executor.execution import Execution
from executor.session_transaction import SessionTransaction
from executor.transaction_faces import Control
from executor.writes import lock_deadline_s, max_bytes


def with_transaction(execution: Execution) -> tuple[Execution, SessionTransaction | None]:
    """The execution as a statement of a transaction; and that transaction, where it is none of the
    session's, for the caller to end."""
    if execution.transaction is not None:
        return execution, None
    own = SessionTransaction(execution.services)
    settings = execution.context.settings
    own.lock_deadline_s = lock_deadline_s(settings)
    own.max_bytes = max_bytes(settings)
    own.control = Control.of(settings)
    own.begin_command()
    return dataclasses.replace(execution, transaction=own), own
