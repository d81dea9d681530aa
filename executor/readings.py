"""What EXPLAIN ANALYZE tells of the reading itself: at what timestamp, on which nodes, by whom."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from catalog.model import NodeId
from executor.coordinator import QueryStatistics
from executor.past_times import shown, shown_time
from storage.closed import Answered
from storage.fragments import Timestamp

_WORDS = {
    Answered.BY_LEADER: "led there",
    Answered.BY_FOLLOWER: "as follower, having asked the leader",
    Answered.AS_CLOSED: "as closed, asking nobody",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """`replicas` are counted by node and by who made reading them possible."""

    timestamp: Timestamp
    replicas: dict[NodeId, Counter[str]]

    def lines(self) -> list[str]:
        """For people."""
        found = [f"Read Timestamp: {shown(self.timestamp)} ({shown_time(self.timestamp)})"]
        for node_id, answered in self.replicas.items():
            counts = [f"{answered[how]} {_WORDS[how]}" for how in Answered if answered[how]]
            found.append(f"Replicas Read on node {node_id}: {', '.join(counts)}")
        return found

    def document(self) -> dict[str, object]:
        """For programs."""
        replicas = [
            {"Node": int(node_id), **{how.value.capitalize(): answered[how] for how in Answered}}
            for node_id, answered in self.replicas.items()
        ]
        return {"Read Timestamp": shown(self.timestamp), "Replicas Read": replicas}


def reading_of(timestamp: Timestamp, statistics: QueryStatistics) -> Reading:
    """Of a query that has run to its end."""
    replicas: dict[NodeId, Counter[str]] = {}
    for task in statistics.tasks:
        if task.answered:
            replicas.setdefault(task.node_id, Counter()).update(task.answered)
    return Reading(timestamp, dict(sorted(replicas.items())))
