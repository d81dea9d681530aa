"""Turns at the log: in order, and none is lost with who gave it up."""

from __future__ import annotations

import asyncio

from storage.wal_turn import Turn


def test_turns_are_given_in_the_order_in_which_they_were_asked_for() -> None:
    async def main() -> None:
        turn, had = Turn(), list[str]()

        async def coroutine(name: str) -> None:
            async with turn:
                had.append(name)
                await asyncio.sleep(0)

        turn.take(lambda: had.append("first"))
        tasks = [asyncio.ensure_future(coroutine(name)) for name in ("second", "third")]
        await asyncio.sleep(0)
        turn.take(lambda: had.append("fourth"))
        assert had == ["first"]
        turn.leave()
        await asyncio.gather(*tasks)
        assert had == ["first", "second", "third", "fourth"]
        turn.leave()
        turn.take(lambda: had.append("fifth"))
        assert had[-1] == "fifth"

    asyncio.run(main())


def test_a_turn_that_was_given_up_goes_to_the_next() -> None:
    async def main(*, is_given: bool) -> None:
        turn, had = Turn(), list[str]()

        async def coroutine() -> None:
            async with turn:
                had.append("given up")

        turn.take(lambda: None)
        task = asyncio.ensure_future(coroutine())
        await asyncio.sleep(0)
        turn.take(lambda: had.append("next"))
        if is_given:
            turn.leave()
            task.cancel()
        else:
            task.cancel()
            turn.leave()
        await asyncio.gather(task, return_exceptions=True)
        assert had == ["next"]

    asyncio.run(main(is_given=True))
    asyncio.run(main(is_given=False))
