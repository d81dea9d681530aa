"""What a transaction changes of the catalog, object by object: as it was, and as it is to be.

A transaction drafts its definitions against its own view of the catalog (`drafted`): the newest
version, with its patch laid over it. What it changes is in the patch twice, so that whoever
applies it can see whether the object is still what it was drafted against. Objects that nobody
changed are not in it, and neither are nodes and tablets, which have a life of their own.

Left out: settings and statistics, which are nobody's definitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from catalog.model import Catalog, Fragment, Sequence, Table, TableId, View

T = TypeVar("T")
Changes = dict[TableId, tuple[T | None, T | None]]


@dataclass(frozen=True, slots=True)
class Patch:
    """By id: the object before and after, None where there is none."""

    tables: dict[TableId, tuple[Table | None, Table | None]] = field(default_factory=dict)
    views: dict[TableId, tuple[View | None, View | None]] = field(default_factory=dict)
    sequences: dict[TableId, tuple[Sequence | None, Sequence | None]] = field(default_factory=dict)
    schemas_made: tuple[str, ...] = ()
    schemas_dropped: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return self == Patch()


def difference(before: Catalog, after: Catalog) -> Patch:
    """What changed from the one to the other."""
    return Patch(
        _changes(before.tables, after.tables),
        _changes(before.views, after.views),
        _changes(before.sequences, after.sequences),
        tuple(name for name in after.schemas if name not in before.schemas),
        tuple(name for name in before.schemas if name not in after.schemas),
    )


def _changes(before: Mapping[TableId, T], after: Mapping[TableId, T]) -> Changes[T]:
    ids = (*before, *(i for i in after if i not in before))
    pairs = ((i, (before.get(i), after.get(i))) for i in ids)
    return {i: (old, new) for i, (old, new) in pairs if old is not new and old != new}


def joined(first: Patch, second: Patch) -> Patch:
    """Both as one; `second` was made with `first` laid over the catalog."""
    made = [n for n in first.schemas_made if n not in second.schemas_dropped]
    dropped = [n for n in first.schemas_dropped if n not in second.schemas_made]
    return Patch(
        _joined(first.tables, second.tables),
        _joined(first.views, second.views),
        _joined(first.sequences, second.sequences),
        (*made, *(n for n in second.schemas_made if n not in first.schemas_dropped)),
        (*dropped, *(n for n in second.schemas_dropped if n not in first.schemas_made)),
    )


def _joined(first: Changes[T], second: Changes[T]) -> Changes[T]:
    found = dict(first)
    for i, (old, new) in second.items():
        found[i] = (found[i][0] if i in found else old, new)
    return {i: pair for i, pair in found.items() if pair != (None, None)}


def drafted(catalog: Catalog, patch: Patch) -> Catalog:
    """The catalog with the patch laid over it, at the same version."""
    schemas = [n for n in catalog.schemas if n not in patch.schemas_dropped]
    schemas += [n for n in patch.schemas_made if n not in schemas]
    return replace(
        catalog,
        tables=_laid_over(catalog.tables, patch.tables),
        views=_laid_over(catalog.views, patch.views),
        sequences=_laid_over(catalog.sequences, patch.sequences),
        schemas=tuple(schemas),
    )


def _laid_over(present: Mapping[TableId, T], changes: Changes[T]) -> dict[TableId, T]:
    found = dict(present)
    for i, (_, new) in changes.items():
        if new is None:
            found.pop(i, None)
        else:
            found[i] = new
    return found


def fragments_of(table: Table | None) -> dict[int, Fragment]:
    """By id."""
    parts = table.parts if table is not None else ()
    return {fragment.id: fragment for part in parts for fragment in part.fragments}
