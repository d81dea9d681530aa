"""Applies a made-up log to a row store until it is killed; says each entry that was taken in.

python row_crash_child.py FILE LAST_INDEX ENTRIES

With ENTRIES above 1 so many share a transaction that stays open, and are said when it has ended.
"""

from __future__ import annotations

import sys
from pathlib import Path

from storage_doubles import delete, fragment, insert, update

from storage.fragments import AccessMethod, FragmentChange, FragmentSchema
from storage.operations import AlterOperation, CommitOperation, Operation
from storage.row_store import RowStore

KEYS = 50
CHECKPOINT_EVERY = 40


def schema() -> FragmentSchema:
    plain = fragment()
    return FragmentSchema(12, plain.columns, plain.key, plain.unique, "t", AccessMethod.ROW)


def entry(index: int) -> Operation:
    """What the log says at an index; the same in every run."""
    if index == 1:
        return AlterOperation([schema()], 1)
    return CommitOperation(index, changes(index), index)


def changes(index: int) -> list[FragmentChange]:
    """A few rows put in or changed, a row taken away; now and then many at once."""
    many = 400 if index % 37 == 0 else 2
    first = index * 7 % KEYS
    ids = sorted({(first + i * 3) % (KEYS * 20) for i in range(many)})
    some = [(i, f"{index}" * 20) for i in ids]
    return [delete((first + 1) % KEYS), update(*some), insert((10_000 + index, "new"))]


def main() -> None:
    path, last_index, together = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    store = RowStore(7, path)
    print(store.position.applied_index, flush=True)
    for index in range(store.position.applied_index + 1, last_index + 1):
        store.take_in([entry(index)], index)
        if index % together:
            continue
        store.settle()
        if index % CHECKPOINT_EVERY == 0:
            store.checkpoint(f"image {index}".encode(), index)
            store.copy_back()
        print(index, flush=True)


if __name__ == "__main__":
    main()
