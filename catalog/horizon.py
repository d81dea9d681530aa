"""How far history may go: what the oracle's leader publishes as the horizon, sans-IO (rule L7).

Every request for timestamps says which is the oldest snapshot in use on the asking node. The
horizon lies `dqe.history_retention` behind the newest timestamp, but never above what a node may
still read: the oldest snapshot it told of, or, where it had none, the number it was given then,
since whatever it has begun to read after that lies above it.

A node that says nothing for `PROTECTED_S` loses that protection: its reads are told so by the
tablets. A new leader has heard of nobody, and waits as long for each node. Nodes ask at least
every two seconds (`catalog.tablet_watch`).

Left out: what backups protect; there are none yet. A read that begins at a timestamp of the past
is protected from its node's next request on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from catalog.model import NodeId
from catalog.oracle import milliseconds_of, timestamp_at
from catalog.repair_settings import parse_duration_s
from cluster.errors import InvalidParameterValue

HISTORY_RETENTION = "dqe.history_retention"
DEFAULT_RETENTION = "10min"
LEAST_RETENTION_S = 1.0
PROTECTED_S = 60.0
# The horizon moves in steps of this part of the retention, and not oftener than that.
STEPS = 20
LEAST_STEP_MS = 1000

_PLAIN_NUMBER = re.compile(r"\s*\d+(\.\d+)?\s*")


def check_retention(text: str) -> str:
    """The text as it is kept; 22023 for one that is no duration, or too short."""
    seconds = parse_duration_s(text)
    if seconds < LEAST_RETENTION_S:
        raise InvalidParameterValue(
            f'{HISTORY_RETENTION} must be at least {LEAST_RETENTION_S:g} s, not "{text}"'
        )
    return f"{text.strip()}s" if _PLAIN_NUMBER.fullmatch(text) else text.strip()


def retention_ms(settings: Mapping[str, str]) -> int:
    """How long rows that ended can be read, by the cluster's settings."""
    return round(parse_duration_s(settings.get(HISTORY_RETENTION, DEFAULT_RETENTION)) * 1000)


class HorizonKeeper:
    """What the leader has heard. `begin` with its term, `end` after it."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        # By node: what it may still read, and when it said so.
        self._heard: dict[NodeId, tuple[int, float]] = {}

    def begin(self, now_s: float) -> None:
        """Nobody has told this leader anything yet."""
        self._since_s = now_s
        self._heard.clear()

    def end(self) -> None:
        """Another leads: nothing is wanted here."""
        self._since_s = None

    def hear(self, node_id: NodeId, oldest: int, given: int, now_s: float) -> None:
        """A node asked, told of its oldest snapshot (0 for none), and is given this number."""
        self._heard[node_id] = oldest or given, now_s

    def wanted(
        self, nodes: Iterable[NodeId], issued: int, kept_ms: int, published: int, now_s: float
    ) -> int | None:
        """The horizon to publish now, if it is worth it."""
        if self._since_s is None:
            return None
        bounds = [timestamp_at(milliseconds_of(issued) - kept_ms)]
        for node_id in nodes:
            oldest, heard_s = self._heard.get(node_id, (0, self._since_s))
            if now_s - heard_s <= PROTECTED_S:
                bounds.append(oldest)
        horizon = min(bounds)
        step_ms = max(LEAST_STEP_MS, kept_ms // STEPS)
        far_enough = milliseconds_of(horizon) - milliseconds_of(published) >= step_ms
        return horizon if far_enough else None
