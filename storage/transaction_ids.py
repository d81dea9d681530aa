"""What a transaction's id says: when it began, and at which node.

    41 bits milliseconds since 2026 | 10 bits node | 12 bits counter

`executor.writes_ids` makes them. A tablet's leader reads them to see whether the coordinator of
a transaction still lives.
"""

from __future__ import annotations

from storage.fragments import TransactionId

EPOCH_MS = 1_767_225_600_000  # 2026-01-01
COUNTER_BITS = 12
NODE_BITS = 10


def begun_ms(transaction_id: TransactionId) -> int:
    """When the transaction began, in milliseconds since 1970, by its node's clock."""
    return (transaction_id >> (COUNTER_BITS + NODE_BITS)) + EPOCH_MS


def coordinator_bits(transaction_id: TransactionId) -> int:
    """The `node_bits` of the node that began the transaction."""
    return (transaction_id >> COUNTER_BITS) & ((1 << NODE_BITS) - 1)


def node_bits(node_id: int) -> int:
    """What a node's ids carry of its own."""
    return node_id % (1 << NODE_BITS)
