"""Signals between any two steps of the main thread, whatever it holds."""

import signal
import subprocess
import sys

import pytest

# Every line that runs while the signal is waited for, or handled, is interrupted by another.
SCRIPT = """
import signal, sys
from dqe.commands.stop_signal import StopSignal

def interrupt(frame, event, argument):
    signal.raise_signal(int(sys.argv[1]))
    return interrupt

stop = StopSignal()
assert not stop.wait(0.001)
sys.settrace(interrupt)
for _ in range(3):
    stop.wait(0.001)
sys.settrace(None)
assert stop.is_set and stop.wait(1000)
print("stopped")
"""
PATIENCE_S = 20.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_at_every_line_end_the_waiting(number: signal.Signals) -> None:
    command = [sys.executable, "-c", SCRIPT, str(int(number))]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (0, b"stopped\n"), done.stderr
