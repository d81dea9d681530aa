"""When a replica applies what is committed: a leader at once, a follower many entries at a time.

A state machine takes twenty entries in one transaction for little more than it takes one, and
nobody waits for a follower to apply, as a rule. So there they gather, for `gather_s` or up to
`gather_entries` or `gather_bytes`; whoever does wait (`want`) has them applied at once. What
gathers is committed and in this replica's log, so nothing but time depends on it: a follower that
becomes leader applies it all before it serves (rule C2).
"""

from __future__ import annotations

from cluster.raft.core import RaftCore
from cluster.raft.settings import RaftSettings


class Gathering:
    """One replica's; `due_s` is when `is_due` becomes true by itself, None for not."""

    def __init__(self, core: RaftCore, settings: RaftSettings, *, is_prompt: bool) -> None:
        """`is_prompt`: this replica's entries never wait."""
        self._core = core
        self._settings = settings
        self._is_prompt = is_prompt
        self._wanted_index = 0
        self.due_s: float | None = None

    def want(self, index: int) -> None:
        """Somebody waits for that entry."""
        self._wanted_index = max(self._wanted_index, index)

    def is_due(self, now_s: float, applied_index: int, *, has_proposals: bool) -> bool:
        """Whether what has gathered, which is something, is to be taken now. `has_proposals`:
        somebody waits to hear what became of an entry of his, here."""
        core = self._core
        if core.is_leader or self._is_prompt or has_proposals:
            return True
        if max(self._wanted_index, core.awaited_index) > applied_index or self._has_enough():
            return True
        if self.due_s is None:
            self.due_s = now_s + self._settings.gather_s
        return now_s >= self.due_s

    def _has_enough(self) -> bool:
        settings, core = self._settings, self._core
        return (
            core.gathered_entries >= settings.gather_entries
            or core.gathered_bytes >= settings.gather_bytes
        )

    def taken(self) -> None:
        """What had gathered is being applied."""
        self.due_s = None
