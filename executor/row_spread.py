"""Where the next row of a table without a key goes.

Such a row is known by a number that nobody else has, and lies where the number's hash says; so
whoever draws the number may choose the part. It is one of a tablet where the transaction has
written already: a participant less of two-phase commit, and with it two entries in the logs of
all its replicas. The rows of one statement go together, too.

Invariant: what one statement has put into the parts stays even, to `SLACK_ROWS`, whatever its
transactions write besides: of their parts it takes the one that has got least, and any that
chance says where that one is ahead of the others by more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

SLACK_ROWS = 64
# So often a number is drawn for a part, for each that the table has: in vain once in 3,000 times.
DRAWS_PER_PART = 8


class RowSpread:
    """The rows that one statement has put into the parts of its table; `tablets` are theirs."""

    def __init__(self, tablets: Sequence[int]) -> None:
        self._tablets = tablets
        self._rows = [0] * len(tablets)

    def draw(
        self,
        next_id: Callable[[], int],
        part_of: Callable[[int], int],
        written: set[int],
    ) -> int:
        """A new row's number, by `next_id`, for a transaction that has written these tablets;
        `written` has the row's among them then."""
        row_id = next_id()
        part = part_of(row_id)
        wanted = self._wanted(written)
        if wanted is not None:
            for _ in range(DRAWS_PER_PART * len(self._rows)):
                if part == wanted:
                    break
                row_id = next_id()
                part = part_of(row_id)
        self._rows[part] += 1
        written.add(self._tablets[part])
        return row_id

    def _wanted(self, written: set[int]) -> int | None:
        near = [part for part, tablet in enumerate(self._tablets) if tablet in written]
        if not near:
            return None
        rows = self._rows
        part = min(near, key=rows.__getitem__)
        return part if rows[part] - min(rows) < SLACK_ROWS else None
