"""From when on each table's fragments hold what the table held (rule S1).

History lies in fragments. A table whose rows were copied into new ones, or that was made, cannot
be read at a time before that. The catalog reads no clock, so a command brings a timestamp that
the oracle had issued when it was proposed: behind the copying of the rows, before anybody could
write to the new fragments. A part that is dropped takes rows away that could be read until the
command was applied; all that was issued by then is below the oracle's ceiling.
"""

from __future__ import annotations

from dataclasses import replace

from catalog.model import Catalog, FragmentId, Table


def with_readable(before: Catalog, after: Catalog, issued: int, ceiling: int) -> Catalog:
    """The catalog after a command, with `readable_from` as its tables ask for it.

    `issued` is the command's timestamp, 0 for a command without one; `ceiling` the oracle's.
    """
    known = before.readable_from
    found = {table_id: at for table_id, at in known.items() if table_id in after.tables}
    for table_id, table in after.tables.items():
        old = before.tables.get(table_id)
        if old is table:
            continue
        since = _since(old, table, issued or ceiling, ceiling)
        if since > found.get(table_id, 0):
            found[table_id] = since
    return replace(after, readable_from=known if found == known else found)


def _since(old: Table | None, new: Table, issued: int, ceiling: int) -> int:
    if old is None:
        return issued
    had, has = _fragments(old), _fragments(new)
    if had <= has:
        return 0
    return issued if has - had else max(issued, ceiling)


def _fragments(table: Table) -> set[FragmentId]:
    return {fragment.id for part in table.parts for fragment in part.fragments}
