"""The times and bounds of gossip. Times count in ticks, so that a node that was itself
suspended blames nobody for its own silence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GossipSettings:
    """One set for all nodes of a cluster; nodes with others still understand each other."""

    tick_s: float = 0.5
    probes: int = 2  # members asked a tick, in a shuffled round
    patience_ticks: int = 2  # a probe unanswered for so long makes its target suspect
    helpers: int = 3  # others asked to probe a member that did not answer by the next tick
    suspicion_ticks: int = 3  # what a suspect has to object, in a cluster of up to four
    revisits: int = 2  # silent members tried again a tick

    news_bytes: int = 2048  # of news in a packet; one delta always fits
    digest_entries: int = 48  # members a ping compares

    max_members: int = 10_000
    max_entries: int = 1_024  # a member
    max_value_bytes: int = 16_384

    def suspicion_of(self, members: int) -> int:
        """Ticks before a suspect is held down: news has to reach it, and its word come back."""
        return self.suspicion_ticks + 2 * max(0, (members - 1).bit_length() - 2)

    def pushes_of(self, members: int) -> int:
        """How often each node pushes a piece of news: enough that hardly any node misses it."""
        return (members - 1).bit_length() + 2
