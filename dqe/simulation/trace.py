"""What happened in a simulation, as one number and, if wanted, as text.

Everything a run decides or answers is noted with its simulated time: faults, what clients
asked and were told, and every delivery of the network (summed up by the network itself). Two
runs of a seed are equal if their digests are; where they are not, the lines show where they
part.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TextIO


class Trace:
    """Sums up lines; writes them out where a file is given."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._hash = hashlib.sha256()
        self._out = out
        self.lines = 0

    def note(self, text: str) -> None:
        """Adds a line with the time."""
        line = f"{asyncio.get_running_loop().time():.6f} {text}\n"
        self._hash.update(line.encode())
        self.lines += 1
        if self._out is not None:
            self._out.write(line)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()[:16]
