"""What the TPC-H benchmarks are asked for on their command lines, and how results say it again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.tpch_data import FRAGMENTATIONS, QUERY_NUMBERS


def parser(doc: str | None, scale: float) -> argparse.ArgumentParser:
    """What all of them take; `doc` is the module's, `scale` the default."""
    found = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    found.add_argument("--scale", type=float, default=scale)
    found.add_argument("--nodes", type=int, default=3)
    found.add_argument("--fragmentation", choices=sorted(FRAGMENTATIONS), default="hash")
    found.add_argument("--data", default="", help="a directory that keeps the generated rows")
    return found


def compared(doc: str | None, scale: float) -> argparse.ArgumentParser:
    """The same with what a comparison of query times takes besides."""
    found = parser(doc, scale)
    found.add_argument("--replicas", type=int, default=1, help="of every tablet")
    found.add_argument("--runs", type=int, default=3)
    found.add_argument("--queries", default="", help="their numbers, with commas; all, if none")
    return found


def rows_directory(arguments: argparse.Namespace, scratch: str) -> Path:
    return Path(arguments.data) if arguments.data else Path(scratch) / "rows"


def query_numbers(arguments: argparse.Namespace) -> Sequence[int]:
    if not arguments.queries:
        return QUERY_NUMBERS
    return [int(number) for number in arguments.queries.split(",")]


def title(arguments: argparse.Namespace) -> str:
    return (
        f"TPC-H scale {arguments.scale:g}, {arguments.nodes} nodes, {arguments.fragmentation}, "
        f"replicas: {arguments.replicas}"
    )


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same for a JSON result."""
    names = ("scale", "nodes", "fragmentation", "replicas")
    return {name: getattr(arguments, name) for name in names}
