"""A transaction for one statement that commits by itself but needs what sessions' transactions
have: several parts, each of which sees what those before it did."""

from __future__ import annotations

import dataclasses

from executor.execution import Execution
from executor.session_transaction import SessionTransaction
from executor.write_settings import WriteSettings


def with_transaction(execution: Execution) -> tuple[Execution, SessionTransaction | None]:
    """The execution as a statement of a transaction; and that transaction, where it is none of the
    session's, for the caller to end."""
    if execution.transaction is not None:
        return execution, None
    own = SessionTransaction(execution.services)
    own.settle(WriteSettings.of(execution.context.settings))
    own.begin_command()
    return dataclasses.replace(execution, transaction=own), own
