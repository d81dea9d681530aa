"""ALTER SCHEMA ... RENAME: what is in a schema names it, and is changed with it."""

from __future__ import annotations

from dataclasses import replace

from catalog import commands
from catalog.changes.draft import SYSTEM_SCHEMAS, Draft
from catalog.changes.schemas import check_not_reserved, dependent_views
from catalog.changes.tables import check_not_recut
from catalog.model import TEMPORARY_SCHEMA_PREFIX
from cluster.errors import (
    DuplicateSchema,
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidSchemaName,
)


def rename_schema(draft: Draft, command: commands.RenameSchema) -> bool:
    """Everything in the schema goes with it; 0A000 where views read of it by name."""
    old, new = command.name, command.new_name
    if old in SYSTEM_SCHEMAS or old.startswith(TEMPORARY_SCHEMA_PREFIX):
        raise InsufficientPrivilege(f"permission denied for schema {old}")
    if old not in draft.schemas:
        raise InvalidSchemaName(f'schema "{old}" does not exist')
    if new in draft.schemas or new in SYSTEM_SCHEMAS:
        raise DuplicateSchema(f'schema "{new}" already exists')
    check_not_reserved(new)
    tables = [table for table in draft.tables.values() if table.schema == old]
    views = [view for view in draft.views.values() if view.schema == old]
    ids = [*(table.id for table in tables), *(view.id for view in views)]
    reading = dependent_views(draft, ids)
    if reading:
        raise FeatureNotSupported(
            f'cannot rename schema "{old}" because views read what is in it',
            detail="\n".join(f"view {view.name} reads of it" for view in reading),
            hint="Drop the views and create them again over the new name.",
        )
    _refuse_named_in_defaults(draft, old)
    for table in tables:
        check_not_recut(draft, table)
        renamed = replace(table, schema=new, schema_version=table.schema_version + 1)
        draft.tables[table.id] = renamed
        draft.touch_tablets(renamed)
    for view in views:
        draft.views[view.id] = replace(view, schema=new)
    for sequence in [each for each in draft.sequences.values() if each.schema == old]:
        draft.sequences[sequence.id] = replace(sequence, schema=new)
    draft.schemas[draft.schemas.index(old)] = new
    return True


def _refuse_named_in_defaults(draft: Draft, schema: str) -> None:
    """Defaults are texts, in which sequences go by their names."""
    for table in draft.tables.values():
        for column in table.columns:
            text = column.default or ""
            if "nextval" in text and f"{schema}." in text.replace('"', ""):
                raise FeatureNotSupported(
                    f'cannot rename schema "{schema}" because a default names a sequence in it',
                    detail=f'Column "{column.name}" of table "{table.name}" does.',
                    hint="Drop the default, and set it again for the new name.",
                )
