"""A few rows that are referred to by their primary key: locked and read at their leaders' row
stores, without a plan and without a snapshot.

    values -> the part of each -> locks FOR KEY SHARE -> the newest rows, the transaction's own too

Under the locks the newest row is the right one (rule R2), whatever the isolation level. None
where this is not the way: the referenced table is not in the row store, is referred to by another
key, or the values are many or no such keys.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.bounds import route
from catalog.fragment_schemas import ANCHOR_GROUP, fragment_schema, store_name
from catalog.model import ForeignKey, Fragment, Table
from cluster.errors import CheckViolation
from executor.execution import Execution
from executor.writes_stage import fragment_of
from planner.foreign_keys import old_name
from storage.conflicts import moved_to_another_part
from storage.fragments import OwnChanges
from storage.lock_driver import Fate
from storage.locks import LockMode
from storage.row_keys import has_keys
from storage.row_tables import RowTables
from storage.types import arrow_type

FEW_ROWS = 100

Found = npt.NDArray[np.bool_]


async def lock_by_key(
    execution: Execution, target: Table, key: ForeignKey, values: pa.Table
) -> Found | None:
    """Which of the values are keys of rows, locked; None where this is not the way to tell."""
    keys = _keys(execution, target, key, values)
    if keys is None:
        return None
    columns = [keys.column(store_name(column)) for column in target.partition_columns]
    try:
        ordinals = route(target, columns, keys.num_rows)
    except CheckViolation:
        return None
    found = np.zeros(keys.num_rows, dtype=bool)
    fragments = {int(o): fragment_of(target.parts[int(o)], ANCHOR_GROUP) for o in set(ordinals)}
    for ordinal in sorted(fragments, key=lambda each: fragments[each].tablet_id):
        places = np.flatnonzero(ordinals == ordinal)
        mine = keys.take(pa.array(places))
        found[places] = await _lock_at(execution, target, fragments[ordinal], mine)
    return found


def _keys(
    execution: Execution, target: Table, key: ForeignKey, values: pa.Table
) -> pa.RecordBatch | None:
    """The values as keys of the target."""
    if not target.access_method.in_row_store or values.num_rows > FEW_ROWS:
        return None
    if set(key.target_columns) != set(target.key) or target.id in execution.context.catalog.recuts:
        return None
    places = [key.target_columns.index(column) for column in target.key]
    wanted = [arrow_type(target.column(column).type) for column in target.key]
    names = [store_name(column) for column in target.key]
    try:
        arrays = [
            values.column(old_name(place)).combine_chunks().cast(sql_type)
            for place, sql_type in zip(places, wanted, strict=True)
        ]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    keys = pa.RecordBatch.from_arrays(arrays, names=names)
    fragment = fragment_of(target.parts[0], ANCHOR_GROUP)
    return keys if has_keys(fragment_schema(target, fragment), tuple(names)) else None


async def _lock_at(
    execution: Execution, target: Table, fragment: Fragment, keys: pa.RecordBatch
) -> list[bool]:
    transaction = execution.transaction
    assert transaction is not None
    locked = await transaction.statement().lock_rows(
        fragment.tablet_id,
        fragment.id,
        keys,
        LockMode.FOR_KEY_SHARE,
        execution.timestamp,
        binding=True,
    )
    if Fate.MOVED_PART in locked.fates:
        raise moved_to_another_part()
    tables = RowTables(fragment_schema(target, fragment))
    rows = await execution.services.tablets.read_stored(
        fragment.tablet_id,
        fragment.id,
        tuple(tables.stored_keys(keys)),
        None,
        _own(transaction.own_changes(), fragment),
    )
    return [row is not None for row in rows]


def _own(own: OwnChanges | None, fragment: Fragment) -> OwnChanges | None:
    return own if own is not None and fragment.tablet_id in own.tablets else None
