"""A catalog of three nodes, and short words to change it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from catalog.commands import (
    AddNode,
    AnyCommand,
    AttachPart,
    CommandResult,
    CreateCluster,
    CreateTable,
    Envelope,
)
from catalog.definition import (
    ColumnDefinition,
    PartDefinition,
    SchemeDefinition,
    TableDefinition,
    UniqueDefinition,
)
from catalog.model import Bound, BoundKind, Catalog, NodeId, Table
from catalog.state import CatalogState
from cluster.errors import DqeError
from storage.types import INT8, SqlType


class CatalogCluster:
    """A state machine driven command by command; errors are raised."""

    def __init__(self, nodes: int = 3) -> None:
        self.state = CatalogState()
        self._commands = 0
        self.avoided: tuple[NodeId, ...] = ()
        self.issued = 0
        self.run(CreateCluster("cluster-1", "host1:1", "host1:2", region="eu"))
        for number in range(2, nodes + 1):
            region = "eu" if number % 2 else "us"
            self.run(AddNode(f"host{number}:1", f"host{number}:2", region=region))

    @property
    def catalog(self) -> Catalog:
        return self.state.catalog

    def run(self, command: AnyCommand) -> CommandResult:
        self._commands += 1
        envelope = Envelope(f"c{self._commands}", command, self.avoided, self.issued)
        outcome = self.state.apply_envelope(envelope)
        if isinstance(outcome, DqeError):
            raise outcome
        return outcome

    def table(
        self,
        name: str = "t",
        columns: tuple[tuple[str, SqlType], ...] = (("k", INT8), ("v", INT8)),
        key: tuple[str, ...] | None = ("k",),
        scheme: SchemeDefinition | None = None,
        unique: tuple[tuple[str, ...], ...] = (),
    ) -> Table:
        """Creates a table and returns it."""
        definition = TableDefinition(
            schema="public",
            name=name,
            columns=tuple(ColumnDefinition(n, t) for n, t in columns),
            primary_key=UniqueDefinition(key) if key else None,
            unique=tuple(UniqueDefinition(u) for u in unique),
            scheme=scheme or SchemeDefinition(),
        )
        self.run(CreateTable(definition))
        found = self.catalog.find_table(name)
        assert found is not None
        return found

    def table_in_two_steps(
        self,
        name: str,
        columns: tuple[tuple[str, SqlType], ...],
        scheme: SchemeDefinition,
        parts: Sequence[PartDefinition],
    ) -> Table:
        """Creates a table without parts and attaches them one by one."""
        table = self.table(name, columns, None, replace(scheme, parts=()))
        for part in parts:
            self.run(AttachPart(table.id, part))
        return self.catalog.tables[table.id]


def range_part(name: str, low: int, high: int) -> PartDefinition:
    def at(number: int) -> tuple[Bound]:
        return (Bound(BoundKind.VALUE, str(number)),)

    return PartDefinition(name, low=at(low), high=at(high))
