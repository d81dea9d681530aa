"""How EXPLAIN writes amounts and nodes."""

from __future__ import annotations

from collections.abc import Sequence


def bytes_text(amount: float) -> str:
    """The amount as people read it."""
    if amount < 0.5:
        return "nothing"
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1024.0 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024.0
    raise AssertionError


def nodes_text(nodes: Sequence[int]) -> str:
    """`node 1` or `nodes 1, 2, 3`."""
    numbers = ", ".join(str(n) for n in nodes)
    return f"node {numbers}" if len(nodes) == 1 else f"nodes {numbers}"
