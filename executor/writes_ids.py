"""Numbers nobody else in the cluster has: transaction ids and hidden row ids.

    41 bits milliseconds since 2026 | 10 bits node | 12 bits counter

A node counts on within a millisecond and, when a block of ids is larger than that, borrows the
milliseconds to come; it never steps back. Two processes of one node would have to run in the
same millisecond to meet, and a data directory is locked by one process. Ids grow with time,
so rows written together lie together. Left out: more than 1,024 node ids in a cluster's life.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cluster.runtime import Runtime
from storage.transaction_ids import COUNTER_BITS, EPOCH_MS, NODE_BITS, node_bits


class UniqueIds:
    """The ids of one node."""

    def __init__(self, runtime: Runtime, node_id: int) -> None:
        self._runtime = runtime
        self._node = node_bits(node_id) << COUNTER_BITS
        self._next = 0  # milliseconds and counter together

    def take(self, count: int) -> npt.NDArray[np.int64]:
        """`count` new ids, ascending."""
        now = max(self._runtime.wall_ms() - EPOCH_MS, 0) << COUNTER_BITS
        first = max(self._next, now)
        self._next = first + count
        plain = np.arange(first, first + count, dtype=np.int64)
        counter = plain & ((1 << COUNTER_BITS) - 1)
        milliseconds = plain >> COUNTER_BITS
        shifted: npt.NDArray[np.int64] = milliseconds << (COUNTER_BITS + NODE_BITS)
        return shifted | self._node | counter

    def next(self) -> int:
        """One new id."""
        now = max(self._runtime.wall_ms() - EPOCH_MS, 0) << COUNTER_BITS
        plain = max(self._next, now)
        self._next = plain + 1
        counter = plain & ((1 << COUNTER_BITS) - 1)
        return (plain >> COUNTER_BITS) << (COUNTER_BITS + NODE_BITS) | self._node | counter
