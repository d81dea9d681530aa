"""Commands carried out on a catalog of one's own, to see what they would do.

The state machine is the one of the catalog's log, so a draft fails as the commands would, and
what it makes is what they would make. What would wait for its rows, a table in `Catalog.recuts`,
is finished here at once: whoever drafts it moves the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from catalog.commands import AnyCommand, Command, CommandResult, Envelope, FinishRecut
from catalog.model import Catalog
from catalog.patches import Patch, difference
from catalog.state import CatalogState
from cluster.errors import DqeError


@dataclass(frozen=True, slots=True)
class Drafted:
    """What commands would do to a catalog, each behind those before."""

    results: tuple[CommandResult, ...]
    before: Catalog
    after: Catalog

    @property
    def patch(self) -> Patch:
        return difference(self.before, self.after)

    @property
    def ids(self) -> int:
        """How many new ids they take."""
        return self.after.next_id - self.before.next_id


def draft(catalog: Catalog, listed: Sequence[Command], first_id: int | None = None) -> Drafted:
    """The commands carried out on a catalog of one's own; raises as they would."""
    before = catalog if first_id is None else replace(catalog, next_id=first_id)
    state = CatalogState(before)
    results = []
    for number, command in enumerate(listed):
        results.append(_carry_out(state, command, number))
        for table_id in [i for i in state.catalog.recuts if i not in before.recuts]:
            version = state.catalog.tables[table_id].schema_version
            _carry_out(state, FinishRecut(table_id, version), f"{number} finished")
    return Drafted(tuple(results), before, state.catalog)


def _carry_out(state: CatalogState, command: Command, name: int | str) -> CommandResult:
    assert isinstance(command, AnyCommand)
    result = state.apply_envelope(Envelope(str(name), command))
    if isinstance(result, DqeError):
        raise result
    return result
