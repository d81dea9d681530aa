"""COMMENT ON: a text that an object carries. It says nothing of rows, and makes no new version of a
table."""

from __future__ import annotations

from dataclasses import replace

from catalog import commands
from catalog.changes.columns import column_to_alter
from catalog.changes.draft import Draft
from catalog.model import TableId
from cluster.errors import UndefinedTable


def set_comment(draft: Draft, command: commands.SetComment) -> TableId:
    """Sets or, with None, takes away the comment of a table or a column of it, a view or a
    sequence."""
    object_id, text = command.object_id, command.text
    table = draft.tables.get(object_id)
    if table is not None and command.column is not None:
        column = replace(column_to_alter(table, command.column), comment=text)
        columns = tuple(column if each.id == column.id else each for each in table.columns)
        draft.tables[object_id] = replace(table, columns=columns)
    elif table is not None:
        draft.tables[object_id] = replace(table, comment=text)
    elif object_id in draft.views:
        draft.views[object_id] = replace(draft.views[object_id], comment=text)
    elif object_id in draft.sequences:
        draft.sequences[object_id] = replace(draft.sequences[object_id], comment=text)
    else:
        raise UndefinedTable(f"relation with OID {object_id} does not exist")
    return object_id
