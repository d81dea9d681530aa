"""Log lines of a simulation: with simulated time, and the machine they are of."""

from __future__ import annotations

import asyncio
import logging

from cluster.simulation.host import HOST


class _Simulated(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        host = HOST.get()
        record.host = "-" if host is None else host.name
        try:
            record.simulated_s = asyncio.get_running_loop().time()
        except RuntimeError:
            record.simulated_s = 0.0
        return True


def simulated_logging(level: int) -> None:
    """Sends lines of that level and above to the standard error."""
    handler = logging.StreamHandler()
    handler.addFilter(_Simulated())
    handler.setFormatter(
        logging.Formatter("%(simulated_s)10.4f %(host)-3s %(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
