"""Simulated machines: what clients may rely on."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from dqe.simulation.machine import ConnectionLost, Life, Sessions


class _Session:
    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


def test_a_statement_of_a_client_that_hung_up_is_none_of_its_next_session() -> None:
    """A machine that was paused hears of both at once."""
    sessions = Sessions()
    opened: list[_Session] = []
    life: Any = Life.__new__(Life)

    async def open_session(*_: object) -> _Session:
        opened.append(_Session())
        if len(opened) == 2:
            sessions.ended += 1  # it hangs up meanwhile
        return opened[-1]

    life.port = SimpleNamespace(open_session=open_session)

    async def main() -> None:
        first = await life._session_of(sessions, 0)
        assert await life._session_of(sessions, 0) is first
        sessions.session, sessions.ended = None, 1
        with pytest.raises(ConnectionLost):
            await life._session_of(sessions, 0)
        sessions.life = None
        with pytest.raises(ConnectionLost):
            await life._session_of(sessions, 1)

    asyncio.run(main())
    assert [session.closed for session in opened] == [False, True]
    assert sessions.session is None
