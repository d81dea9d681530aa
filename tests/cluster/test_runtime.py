"""The runtime's promises, and that no other module reads clocks or draws chance."""

from __future__ import annotations

import ast
import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.runtime import ProductionRuntime, Runtime, run_production
from cluster.simulation.loop import run_simulation
from cluster.simulation.runtime import SimulatedRuntime

ROOT = Path(__file__).parents[2]
PACKAGES = ("cluster", "storage", "catalog", "planner", "executor", "dqe")
# The runtimes themselves, and the programs that start nodes and watch them from outside.
EXEMPT = (
    "cluster/runtime.py",
    "cluster/simulation/",
    "dqe/commands/",
    "dqe/local_cluster.py",
    "dqe/simulation/",
)
FORBIDDEN = {
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.perf_counter",
    "datetime.now",
    "datetime.utcnow",
    "datetime.datetime.now",
    "uuid.uuid1",
    "uuid.uuid4",
    "asyncio.create_task",
    "asyncio.ensure_future",
    "asyncio.to_thread",
    "secrets.token_bytes",
    "os.urandom",
}


def _modules(package: str) -> list[str]:
    paths = [str(path.relative_to(ROOT)) for path in sorted((ROOT / package).rglob("*.py"))]
    return [path for path in paths if not path.startswith(EXEMPT)]


def _calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.lineno, ast.unparse(node.func)


def test_only_the_runtime_reads_clocks_and_draws_chance() -> None:
    found = [
        f"{path}:{line} {name}"
        for package in PACKAGES
        for path in _modules(package)
        for line, name in _calls(ast.parse((ROOT / path).read_text()))
        if name in FORBIDDEN or (name.startswith("random.") and name != "random.Random")
    ]
    assert found == []


async def _use(runtime: Runtime) -> None:
    before = runtime.monotonic()
    await runtime.sleep(0.001)
    assert runtime.monotonic() > before
    assert abs(runtime.now().timestamp() * 1000 - runtime.wall_ms()) < 1000
    assert runtime.uuid() != runtime.uuid()
    assert await runtime.run_blocking(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await runtime.run_blocking(divmod, 7, 0)
    worker = runtime.worker("w")
    order: list[int] = []
    await asyncio.gather(*(worker.run(order.append, i) for i in range(20)))
    assert order == list(range(20))
    worker.close()

    async def fail() -> None:
        raise KeyError("lost")

    task = runtime.spawn(fail(), "failing")
    with pytest.raises(KeyError):
        await task
    name, error = runtime.failures[-1]  # type: ignore[attr-defined]
    assert name == "failing"
    assert isinstance(error, KeyError)
    called: list[str] = []
    kept = asyncio.Event()
    runtime.call_soon(called.append, "soon")
    await runtime.sleep(0)
    assert called == ["soon"]
    runtime.call_later(0.001, called.append, "cancelled").cancel()
    runtime.call_later(0.002, kept.set)
    await kept.wait()
    assert called == ["soon"]


def test_production_runtime() -> None:
    async def main(runtime: ProductionRuntime) -> int:
        await _use(runtime)
        runtime.spawn(asyncio.Event().wait(), "never ends")
        return await runtime.run_blocking(threading.get_ident)

    assert run_production(main) != threading.get_ident()


def test_simulated_runtime() -> None:
    async def main() -> list[object]:
        runtime = SimulatedRuntime(5, "n1")
        await _use(runtime)
        return [runtime.uuid(), runtime.random.random(), runtime.monotonic(), runtime.now()]

    first = run_simulation(main())
    assert first == run_simulation(main())


def test_stopped_simulated_node_does_nothing_more() -> None:
    async def main() -> list[str]:
        runtime, called = SimulatedRuntime(1), []

        async def work() -> None:
            await runtime.sleep(1)
            called.append("task")

        runtime.spawn(work(), "work")
        runtime.call_later(1, called.append, "timer")
        await runtime.stop()
        await asyncio.sleep(5)
        return called

    assert run_simulation(main()) == []
