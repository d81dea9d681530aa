"""Which rows changed after a timestamp, told by a leader that has seen the commits."""

from __future__ import annotations

import random

from storage.versions import RecentVersions


def test_keys_that_changed_after_are_told_whatever_order_commits_came_in() -> None:
    chance = random.Random(3)
    for _ in range(50):
        versions, newest = RecentVersions(), dict[int, int]()
        versions.begin_term(10)
        for _ in range(40):
            key, timestamp = chance.randrange(8), chance.randrange(11, 60)
            newest[key] = max(timestamp, newest.get(key, 0))
            versions.note(1, [(key,)], timestamp)
            versions.note(2, [(key,)], timestamp + 100)
        for base in range(10, 65):
            found = versions.keys_after(1, base, 1_000)
            assert found is not None
            assert sorted(found) == sorted((k,) for k, t in newest.items() if t > base)


def test_what_is_not_remembered_or_too_much_is_not_told() -> None:
    versions = RecentVersions()
    versions.begin_term(10)
    versions.note(1, [(1,), (2,)], 20)
    assert versions.keys_after(1, 9, 1_000) is None
    assert versions.keys_after(1, 10, 1) is None
    assert versions.keys_after(1, 20, 0) == []
    versions.note_any(1, 30)
    assert versions.keys_after(1, 29, 1_000) is None
    assert versions.keys_after(2, 29, 1_000) == []
