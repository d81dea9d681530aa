"""Signals that come at any moment, many at once, end the waiting."""

import os
import select
import signal
import subprocess
import sys

import pytest

SCRIPT = """
from dqe.commands.stop_signal import StopSignal
stop = StopSignal()
print("waiting", flush=True)
while not stop.wait(0.0001):
    pass
assert stop.is_set and stop.wait(100)
print("stopped", flush=True)
input()
"""
PATIENCE_S = 30.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_flood_of_signals_ends_the_waiting(number: signal.Signals) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        for _ in range(50):
            os.kill(process.pid, number)
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
        if not ready:
            process.kill()
        assert process.stdout.readline() == b"stopped\n"
        process.communicate(b"\n")
        assert process.returncode == 0
