"""The face of a workload: set up, run by several clients under faults, then check."""

from __future__ import annotations

from typing import Protocol

from dqe.simulation.client import Client


class Workload(Protocol):
    """One a simulation. Every check raises `Violation`."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Its tables."""
        ...

    async def set_up(self, client: Client) -> None:
        """Makes tables and rows, before anything goes wrong."""
        ...

    async def step(self, client: Client) -> None:
        """One thing that a client does; called again and again, by many clients."""
        ...

    async def look(self, client: Client) -> None:
        """One read, and what must be true of it."""
        ...

    async def check(self, client: Client) -> None:
        """What must be true at the end, when nothing goes wrong any more."""
        ...

    def summary(self) -> dict[str, int]:
        """What was done, in numbers for the report."""
        ...
