"""The worlds that `raft_simulation` lets the Raft core live in.

A fault is the name of a method of `Simulation`. A world with a few faults, often, reaches
deeper than one with all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

FAULTS = (
    "partition",
    "cut_one_way",
    "cut_off_leader",
    "cut_leader_from_one",
    "heal",
    "crash_some",
    "crash_and_restart_one",
    "pause_leader",
    "pause_one",
    "transfer",
    "compact_some",
    "change_members",
)


@dataclass(frozen=True)
class Mixture:
    """What one seed's world is like."""

    voters: int
    loss: float = 0.0
    duplicate: float = 0.0
    slow: float = 0.0  # the share of messages that take long
    slow_disk: float = 0.0
    nemesis_every_s: float = 0.2
    harass: float = 0.0  # how often a new leader is cut off or crashed at once
    crash_on_vote: float = 0.0  # how often a voter crashes when its vote has become durable
    faults: tuple[str, ...] = FAULTS  # a name that stands twice comes twice as often
    election_spread: float = 0.6  # small: candidates meet in one term
    append_entries: int = 4
    delay_s: float = 0.01  # of an ordinary message, at most
    sync_s: float = 0.005  # of an ordinary append, at most

    @staticmethod
    def draw(random: Random) -> Mixture:
        """Half the seeds live in a world made for one kind of trouble, half in any."""
        if random.random() < 0.5:
            return random.choice(list(WORLDS.values()))
        return Mixture(
            voters=random.choice([2, 3, 3, 3, 4, 5, 5]),
            loss=random.choice([0.0, 0.02, 0.1, 0.3]),
            duplicate=random.choice([0.0, 0.05]),
            slow=random.choice([0.0, 0.05, 0.2]),
            slow_disk=random.choice([0.0, 0.0, 0.1, 0.4]),
            nemesis_every_s=random.choice([0.1, 0.25, 0.6]),
            harass=random.choice([0.0, 0.0, 0.3, 0.7]),
            crash_on_vote=random.choice([0.0, 0.0, 0.3]),
            faults=(
                "heal",
                "heal",
                *(f for f in FAULTS for _ in range(random.choice([0, 0, 1, 3]))),
            ),
            election_spread=random.choice([0.05, 0.6]),
            append_entries=random.choice([1, 4]),
        )


WORLDS = {
    # Leaders fall after reaching a few: entries of several terms lie uncommitted (figure 8).
    "short reigns": Mixture(
        voters=5,
        loss=0.1,
        slow=0.1,
        nemesis_every_s=0.5,
        harass=1.0,
        faults=("heal", "partition"),
        append_entries=1,
    ),
    # Voters forget what they held in memory while others cannot hear the leader.
    "restarts": Mixture(
        voters=3,
        nemesis_every_s=0.05,
        faults=("heal", "cut_leader_from_one", "crash_and_restart_one", "cut_one_way"),
    ),
    # Candidates meet in one term, votes come late, voters crash once they have voted.
    "contested": Mixture(
        voters=3,
        slow=0.3,
        nemesis_every_s=0.15,
        harass=0.5,
        crash_on_vote=1.0,
        faults=("heal", "transfer", "cut_off_leader"),
        election_spread=0.3,
    ),
    # Leaders are cut off, or sleep, while clients write and read.
    "cut off": Mixture(
        voters=3,
        nemesis_every_s=0.1,
        faults=("heal", "cut_off_leader", "pause_leader", "cut_leader_from_one"),
    ),
    # Others are elected as soon as promises to a leader let them, and answer clients at once.
    "promises": Mixture(
        voters=3,
        nemesis_every_s=0.04,
        faults=(
            "heal",
            "cut_leader_from_one",
            "cut_leader_from_one",
            "crash_and_restart_one",
            "break_a_connection",
        ),
        election_spread=0.05,
        delay_s=0.002,
        sync_s=0.001,
    ),
    # What is not yet durable is lost again and again.
    "slow disks": Mixture(
        voters=3,
        slow_disk=0.5,
        nemesis_every_s=0.15,
        faults=("heal", "crash_and_restart_one", "crash_some", "cut_off_leader"),
    ),
    # Leaders hand over while links fail.
    "handovers": Mixture(
        voters=3,
        loss=0.05,
        slow=0.1,
        nemesis_every_s=0.1,
        faults=("heal", "transfer", "transfer", "cut_one_way", "cut_leader_from_one"),
    ),
    # Members come and go while leaders do.
    "moving house": Mixture(
        voters=3,
        loss=0.02,
        nemesis_every_s=0.08,
        harass=0.3,
        faults=("heal", "heal", "change_members", "change_members", "cut_off_leader", "partition"),
    ),
    # Logs are cut all the time, followers fall behind them, disks are slow.
    "short logs": Mixture(
        voters=3,
        loss=0.1,
        slow=0.1,
        slow_disk=0.2,
        nemesis_every_s=0.06,
        faults=("heal", "compact_some", "compact_some", "crash_some", "pause_one", "partition"),
    ),
}
