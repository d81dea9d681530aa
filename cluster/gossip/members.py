"""What one node knows of the others, and how news changes it (pure).

A node's state is a map of small values that it alone writes; each change raises its version. A
copy elsewhere is a prefix of these changes (`complete`), and perhaps some later ones that came
ahead as rumours. A process start is a new incarnation, whose versions begin anew; of two
incarnations the higher counts.

Invariants:
- per node, (incarnation, version of a key) only grows;
- a verdict stands until a word of the accused with a higher version arrives, and no verdict is
  taken that is not above what is known of the node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from cluster.gossip.messages import Delta, Entry, Known, Verdict, entry_bytes
from cluster.gossip.settings import GossipSettings
from cluster.probes import Probe, reached

# Values under keys that begin so are not pushed: they travel when digests are compared.
QUIET = "~"
# Incarnations are milliseconds since 1970; what is far beyond is nonsense.
MAX_INCARNATION = 1 << 60
MAX_KEY_LENGTH = 32


class Status(Enum):
    """How a member stands with this node. Suspects still count as live."""

    UNHEARD = "unheard"  # known by name only
    ALIVE = "alive"
    SUSPECT = "suspect"
    DOWN = "down"


_OF_VERDICT: dict[int, Status] = {Verdict.SUSPECT: Status.SUSPECT, Verdict.DOWN: Status.DOWN}
_GRAVITY = {Status.UNHEARD: 0, Status.ALIVE: 0, Status.SUSPECT: 1, Status.DOWN: 2}


@dataclass(slots=True)
class Member:
    """What is known of one node. `since_s`: when its status began."""

    node_id: int
    address: str
    incarnation: int
    status: Status = Status.UNHEARD
    since_s: float = 0.0
    complete: int = 0
    newest: int = 0
    accused: int = 0
    suspect_until: int = 0  # the tick at which a suspect is held down
    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        return self.status in (Status.ALIVE, Status.SUSPECT)

    @property
    def known(self) -> Known:
        return Known(self.node_id, self.incarnation, self.complete)

    def value(self, key: str) -> bytes:
        """The value under the key, b"" where there is none."""
        entry = self.entries.get(key)
        return entry.value if entry is not None else b""

    def set(self, key: str, value: bytes) -> bool:
        """A new value, by the node itself; False where it is not new."""
        known = self.entries.get(key)
        if known is not None and known.value == value:
            return False
        self.newest = self.complete = self.newest + 1
        self.entries[key] = Entry(key, self.newest, value)
        return True

    def after(self, version: int) -> Iterator[Entry]:
        """The entries that changed later, in the order in which they did."""
        newer = [entry for entry in self.entries.values() if entry.version > version]
        return iter(sorted(newer, key=lambda entry: entry.version))

    @property
    def verdict(self) -> Verdict:
        if self.status is Status.SUSPECT:
            return Verdict.SUSPECT
        return Verdict.DOWN if self.status is Status.DOWN else Verdict.NONE


@dataclass(frozen=True, slots=True)
class Change:
    """What a delta changed: the status, and the keys that have new values."""

    loud: bool  # worth pushing on
    status: bool
    keys: tuple[str, ...]
    before: int  # `complete` before the change: where a rumour of it begins


class Members:
    """All of them but this node itself."""

    def __init__(self, settings: GossipSettings) -> None:
        self._settings = settings
        self._members: dict[int, Member] = {}
        # Set by the driver: whether there is such a node. Nothing is learnt of others.
        self.accepts: Callable[[int], bool] = lambda node_id: True

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        """In the order in which they became known."""
        return iter(self._members.values())

    def get(self, node_id: int) -> Member | None:
        return self._members.get(node_id)

    def add(self, node_id: int, address: str, incarnation: int) -> None:
        """A member known by name; nothing happens where more is known."""
        if node_id not in self._members and len(self._members) < self._settings.max_members:
            self._members[node_id] = Member(node_id, address, incarnation)

    def forget(self, node_id: int) -> None:
        self._members.pop(node_id, None)

    def merge(self, delta: Delta, now_s: float) -> Change | None:
        """Takes what is news in the delta; None where nothing is."""
        if not self._is_sane(delta) or not self.accepts(delta.node_id):
            return None
        member = self._members.get(delta.node_id)
        if member is None:
            self.add(delta.node_id, delta.address, delta.incarnation)
            member = self._members.get(delta.node_id)
        if member is None or delta.incarnation < member.incarnation:
            return None
        before = member.status
        reborn = delta.incarnation > member.incarnation
        if reborn:
            self._begin_anew(member, delta)
        start = member.complete
        keys = self._take_entries(member, delta)
        self._weigh(member, delta, now_s, reborn=reborn)
        if member.status is Status.UNHEARD:
            member.status, member.since_s = Status.ALIVE, now_s
        changed = member.status is not before
        if not (changed or reborn or keys):
            return None
        loud = changed or reborn or any(not key.startswith(QUIET) for key in keys)
        return Change(loud, changed, keys, start)

    def _is_sane(self, delta: Delta) -> bool:
        bounds = self._settings
        return (
            delta.node_id > 0
            and 0 <= delta.incarnation < MAX_INCARNATION
            and len(delta.entries) <= bounds.max_entries
            and all(
                len(e.value) <= bounds.max_value_bytes and len(e.key) <= MAX_KEY_LENGTH
                for e in delta.entries
            )
        )

    def _begin_anew(self, member: Member, delta: Delta) -> None:
        member.incarnation, member.address = delta.incarnation, delta.address
        member.complete = member.newest = member.accused = 0
        member.entries.clear()

    def _take_entries(self, member: Member, delta: Delta) -> tuple[str, ...]:
        keys = []
        for entry in delta.entries:
            known = member.entries.get(entry.key)
            if known is None and len(member.entries) >= self._settings.max_entries:
                continue
            if known is None or entry.version > known.version:
                member.entries[entry.key] = entry
                member.newest = max(member.newest, entry.version)
                keys.append(entry.key)
        if delta.after <= member.complete:
            member.complete = max(member.complete, delta.upto)
        member.newest = max(member.newest, delta.upto)
        return tuple(keys)

    def _weigh(self, member: Member, delta: Delta, now_s: float, *, reborn: bool) -> None:
        """Verdicts against the member, and its own word against them."""
        accused = _GRAVITY[member.status] > 0
        if accused and (reborn or member.newest > member.accused):
            if member.status is Status.SUSPECT and not reborn:
                reached(Probe.SUSPECT_OBJECTED)
            member.status, member.since_s = Status.ALIVE, now_s
        status = _OF_VERDICT.get(delta.verdict)
        if status is None or delta.accused < member.newest:
            return
        self.accuse(member, status, now_s, delta.accused)

    def accuse(self, member: Member, status: Status, now_s: float, version: int) -> bool:
        """Holds a verdict against the member unless a graver one stands."""
        if _GRAVITY[status] <= _GRAVITY[member.status]:
            return False
        if _GRAVITY[member.status] == 0:
            member.since_s = now_s
        if status is Status.DOWN:
            reached(Probe.NODE_HELD_DOWN)
        member.status, member.accused = status, version
        return True


def delta_of(member: Member, after: int, budget_bytes: int, *, quiet: bool) -> Delta:
    """What changed of the member after that version, as far as the budget goes.

    Without `quiet` values only the others, ahead of what may be missing between.
    """
    taken: list[Entry] = []
    upto, whole = after, True
    for entry in member.after(after):
        if not quiet and entry.key.startswith(QUIET):
            whole = False
            continue
        budget_bytes -= entry_bytes(entry)
        if budget_bytes < 0 and taken:
            whole = False
            break
        taken.append(entry)
        if whole:
            upto = entry.version
    # Beyond `complete` there may be changes that are not here.
    upto = max(after, member.complete if whole else min(upto, member.complete))
    return Delta(
        member.node_id,
        member.incarnation,
        member.address,
        after,
        upto,
        tuple(taken),
        member.verdict,
        member.accused,
    )
