"""What of a session's settings bears on its changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from executor.setting_kinds import bytes_of, milliseconds_of
from executor.transaction_faces import Control

# A lock is waited for as long as the statement lasts, unless `lock_timeout` says otherwise.
LOCK_DEADLINE_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """How long a change waits for a lock, how much a transaction may change (None without a
    limit), and how it commits."""

    lock_deadline_s: float
    max_bytes: int | None
    control: Control

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Self:
        """By a session's settings."""
        return cls(lock_deadline_s(settings), max_bytes(settings), Control.of(settings))


def lock_deadline_s(settings: Mapping[str, str]) -> float:
    """How long a statement with these settings waits for a lock."""
    timeout_ms = milliseconds_of(settings.get("lock_timeout", "0"))
    return timeout_ms / 1000 if timeout_ms else LOCK_DEADLINE_S


def max_bytes(settings: Mapping[str, str]) -> int | None:
    """How much a transaction with these settings may change; None without a limit."""
    text = settings.get("dqe.max_transaction_bytes")
    return None if text is None else bytes_of(text)
