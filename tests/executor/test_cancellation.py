"""The switch that stops a query, between threads."""

import threading

from cluster.errors import QueryCanceled
from executor.cancellation import Cancellation

PATIENCE_S = 10.0


def test_the_first_error_stays_and_late_wakers_are_called() -> None:
    cancellation = Cancellation()
    first, called = QueryCanceled("first"), []
    with cancellation.waking(lambda: called.append("early")):
        cancellation.fail(first)
        cancellation.fail(QueryCanceled("second"))
        with cancellation.waking(lambda: called.append("late")):
            pass
        cancellation.wake()
    cancellation.wake()
    assert cancellation.error is first
    assert called == ["early", "late", "early"]


def test_a_block_is_left_when_its_waker_has_been_called_to_its_end() -> None:
    cancellation = Cancellation()
    inside, leave, waking, go_on = (threading.Event() for _ in range(4))

    def waker() -> None:
        waking.set()
        assert go_on.wait(PATIENCE_S)

    def block() -> None:
        with cancellation.waking(waker):
            inside.set()
            assert leave.wait(PATIENCE_S)

    leaver = threading.Thread(target=block)
    leaver.start()
    assert inside.wait(PATIENCE_S)
    caller = threading.Thread(target=cancellation.fail, args=(QueryCanceled("stop"),))
    caller.start()
    assert waking.wait(PATIENCE_S)
    leave.set()
    leaver.join(0.2)
    assert leaver.is_alive()
    go_on.set()
    for thread in (leaver, caller):
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
