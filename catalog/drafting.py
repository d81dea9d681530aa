"""A command carried out on a catalog of one's own, to see what it would do.

The state machine is the one of the catalog's log, so a draft fails as the command would, and
what it makes is what the command would make. What would wait for its rows (`CommandResult.recut`)
is finished here at once: whoever drafts it moves the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from catalog.commands import AnyCommand, Command, CommandResult, Envelope, FinishRecut
from catalog.model import Catalog
from catalog.patches import Patch, difference
from catalog.state import CatalogState
from cluster.errors import DqeError


@dataclass(frozen=True, slots=True)
class Drafted:
    """What a command would do to a catalog."""

    result: CommandResult
    before: Catalog
    after: Catalog

    @property
    def patch(self) -> Patch:
        return difference(self.before, self.after)

    @property
    def ids(self) -> int:
        """How many new ids it takes."""
        return self.after.next_id - self.before.next_id


def draft(catalog: Catalog, command: Command, first_id: int | None = None) -> Drafted:
    """The command carried out on a catalog of one's own; raises as it would."""
    assert isinstance(command, AnyCommand)
    before = catalog if first_id is None else replace(catalog, next_id=first_id)
    state = CatalogState(before)
    result = _carry_out(state, command)
    if result.recut:
        assert result.table_id is not None
        version = before.tables[result.table_id].schema_version
        _carry_out(state, FinishRecut(result.table_id, version))
    return Drafted(result, before, state.catalog)


def _carry_out(state: CatalogState, command: AnyCommand) -> CommandResult:
    result = state.apply_envelope(Envelope(type(command).__name__, command))
    if isinstance(result, DqeError):
        raise result
    return result
