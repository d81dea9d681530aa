"""Two habits of storage's coroutines: work that must not stop half-way, and deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from cluster.errors import CannotConnectNow, DqeError
from cluster.runtime import Runtime

T = TypeVar("T")


async def run_to_end(runtime: Runtime, coroutine: Coroutine[Any, Any, T], name: str) -> T:
    """The coroutine's result; it runs to its end even if the caller is cancelled before."""
    result, error = await asyncio.shield(runtime.spawn(_captured(coroutine), name))
    if error is not None:
        raise error
    assert result is not None
    return result[0]


async def _captured(coroutine: Coroutine[Any, Any, T]) -> tuple[tuple[T] | None, DqeError | None]:
    # An error that has someone to go to is no failure of a background task.
    try:
        return (await coroutine,), None
    except DqeError as error:
        return None, error


@asynccontextmanager
async def deadline(seconds: float, what: str) -> AsyncIterator[None]:
    """Raises 57P03 saying `what` when the block takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise CannotConnectNow(f"{what} within {seconds:g} s") from error
