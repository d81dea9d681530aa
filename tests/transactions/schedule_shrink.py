"""Makes a schedule that differs smaller: every step leaves messages out and must still differ."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from schedules import Schedule


async def shrink(schedule: Schedule, differs: Callable[[Schedule], Awaitable[bool]]) -> Schedule:
    """The smallest schedule found that differs."""
    found = True
    while found:
        found = False
        for candidate in candidates(schedule):
            if await differs(candidate):
                schedule, found = candidate, True
                break
    return schedule


def candidates(schedule: Schedule) -> Iterator[Schedule]:
    """The schedule with less of one session: all of it first, single messages last."""
    widest = max(len(script) for script in schedule.scripts)
    for width in range(widest, 0, -1):
        for session, script in enumerate(schedule.scripts):
            for start in range(len(script) - width, -1, -1):
                yield schedule.without(session, range(start, start + width))
