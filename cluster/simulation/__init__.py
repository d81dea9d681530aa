"""A whole cluster in one process: simulated clock, chance, network and disk, from one seed.

Product code runs unchanged on a `SimulatedRuntime`. Time passes only when nothing is ready to
run, so hours take seconds; everything that could differ between two runs is drawn from the
seed, so any failure replays exactly.

- `host`: one life of a machine, which may be paused and dies.
- `loop`: the event loop with virtual time.
- `runtime`: `cluster.runtime.Runtime` on it.
- `network`: `cluster.transport.Transport` with loss, delay, repetition, reordering, partitions.
- `disk`: `cluster.disk.Disk` that forgets or tears at a crash what was not synced.

Rule for code that is to be replayed: iterate no set of objects (tasks hash by address), and
take executors, random numbers and uuids from the runtime.
"""
