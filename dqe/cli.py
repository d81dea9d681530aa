"""The `dqe` command. Each command is a module of `dqe.commands`, loaded when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dqe.configuration import DEFAULT_PG_PORT, DEFAULT_RPC_PORT

app = typer.Typer(
    help="dqe: a distributed SQL database that speaks PostgreSQL's protocol.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Url = Annotated[
    str | None,
    typer.Argument(help="postgresql://HOST:PORT/dqe; left out: DQE_URL, or the local cluster."),
]


node_app = typer.Typer(
    help="Empty nodes, take them out of the cluster, see how far that is.", no_args_is_help=True
)
app.add_typer(node_app, name="node")

NodeNumber = Annotated[int, typer.Argument(help="The node's number, as in dqe status.")]
Wait = Annotated[bool, typer.Option(help="Show progress until it is done.")]
DeadAfter = Annotated[
    str | None,
    typer.Option(
        help="Sets, for the whole cluster, how long a node may be silent before its replicas "
        "are rebuilt elsewhere: 20s, 5min, ..."
    ),
]


@app.command()
def start(
    data: Annotated[Path, typer.Option(help="The node's data directory; made when missing.")],
    listen: Annotated[
        str, typer.Option(help="HOST:PORT for other nodes.")
    ] = f"127.0.0.1:{DEFAULT_RPC_PORT}",
    pg: Annotated[
        str, typer.Option(help="HOST:PORT for PostgreSQL clients.")
    ] = f"127.0.0.1:{DEFAULT_PG_PORT}",
    join: Annotated[
        str,
        typer.Option(
            help="HOST:PORT,... of members of the cluster to join. Without it an empty data "
            "directory creates a cluster."
        ),
    ] = "",
    region: Annotated[
        str | None, typer.Option(help="Where the node stands, for placement.")
    ] = None,
    zone: Annotated[str | None, typer.Option(help="Where in the region it stands.")] = None,
    memory_limit_mib: Annotated[
        int, typer.Option(help="Memory for queries, in MiB; 0: half of the machine's.", min=0)
    ] = 0,
    threads: Annotated[int, typer.Option(help="Threads for queries; 0: one a core.", min=0)] = 0,
    dead_after: DeadAfter = None,
    stop_when_stdin_closes: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run one node until SIGINT or SIGTERM."""
    from dqe.commands.start import run
    from dqe.configuration import NodeConfiguration

    configuration = NodeConfiguration(
        data_directory=data,
        listen=listen,
        pg=pg,
        join=tuple(address.strip() for address in join.split(",") if address.strip()),
        region=region,
        zone=zone,
        memory_limit_mib=memory_limit_mib,
        threads=threads,
        dead_after=dead_after,
    )
    raise typer.Exit(run(configuration, stop_when_stdin_closes=stop_when_stdin_closes))


@app.command()
def local(
    data: Annotated[Path, typer.Option(help="The cluster's data directory; made when missing.")],
    nodes: Annotated[int, typer.Option(help="How many node processes.", min=1, max=64)] = 3,
    pg_port: Annotated[
        int,
        typer.Option(
            help="PostgreSQL port of the first node; the others follow.", min=1, max=65535 - 64
        ),
    ] = DEFAULT_PG_PORT,
    regions: Annotated[str, typer.Option(help="REGION,... given to the nodes in turn.")] = "",
    dead_after: DeadAfter = None,
) -> None:
    """Run a cluster of node processes on this machine, in the foreground."""
    from dqe.commands.local import run

    given = tuple(region for region in regions.split(",") if region)
    raise typer.Exit(run(nodes, data, pg_port, given, dead_after))


@app.command()
def demo(
    exit_: Annotated[
        bool, typer.Option("--exit", help="End after the tour instead of staying up.")
    ] = False,
    scale: Annotated[float, typer.Option(help="TPC-H scale factor.", min=0.001)] = 0.1,
    pg_port: Annotated[
        int,
        typer.Option(
            help="PostgreSQL port of the first node; 0 picks free ports.", min=0, max=65535 - 3
        ),
    ] = 0,
) -> None:
    """Start three nodes, load TPC-H, and show where the data lie and how queries run."""
    from dqe.commands.demo import run

    raise typer.Exit(run(scale=scale, pg_port=pg_port, stay=not exit_))


@app.command()
def sql(
    url: Url = None,
    command: Annotated[
        str | None, typer.Option("--command", "-c", help="Run this and end.")
    ] = None,
) -> None:
    """Ask SQL of a node, interactively or with -c."""
    from dqe.commands.sql import run

    raise typer.Exit(run(url, command))


@app.command()
def status(url: Url = None) -> None:
    """Show nodes, tablets, sizes, and where the fragments lie."""
    from dqe.commands.status import run

    raise typer.Exit(run(url))


@app.command()
def simulate(
    seed: Annotated[int, typer.Option(help="The first seed; it decides everything.")] = 1,
    seeds: Annotated[int, typer.Option(help="How many seeds, one after the other.", min=1)] = 1,
    minutes: Annotated[
        float, typer.Option(help="Simulated minutes under faults.", min=0, max=24 * 60)
    ] = 1.0,
    workload: Annotated[
        str,
        typer.Option(
            help="What clients do: registers, sets, counters, bank, transfers, lists, definitions,"
            " numbers."
        ),
    ] = "registers",
    nodes: Annotated[int, typer.Option(help="Machines.", min=3, max=9)] = 3,
    world: Annotated[
        str | None,
        typer.Option(help="One made for some trouble, instead of the seed's: 'power cuts', ..."),
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="Writes what happened to a file.")] = None,
    log: Annotated[str, typer.Option(help="Log lines from this level on.")] = "critical",
) -> None:
    """Run a whole cluster on simulated clock, network and disks, from a seed."""
    from dqe.commands.simulate import run

    raise typer.Exit(run(range(seed, seed + seeds), minutes, workload, nodes, world, trace, log))


@app.command()
def check(url: Url = None) -> None:
    """Compare all replicas of all tablets; exit status 1 where they are not equal."""
    from dqe.commands.check import run

    raise typer.Exit(run(url))


@node_app.command("drain")
def drain_node(node: NodeNumber, url: Url = None, wait: Wait = True) -> None:
    """Have a node lead nothing, and get nothing new; it keeps its replicas."""
    from dqe.commands.node import drain

    raise typer.Exit(drain(node, url, wait=wait))


@node_app.command("decommission")
def decommission_node(node: NodeNumber, url: Url = None, wait: Wait = True) -> None:
    """Move everything away from a node, then take it out of the cluster for good."""
    from dqe.commands.node import decommission

    raise typer.Exit(decommission(node, url, wait=wait))


@node_app.command("activate")
def activate_node(node: NodeNumber, url: Url = None) -> None:
    """Take back drain or decommission."""
    from dqe.commands.node import activate

    raise typer.Exit(activate(node, url))


@node_app.command("status")
def node_status(url: Url = None) -> None:
    """Show the nodes' states and loads, and what is to be repaired."""
    from dqe.commands.node import status as show

    raise typer.Exit(show(url))


@app.command()
def recover(
    what: Annotated[
        str | None,
        typer.Argument(
            help="A tablet's number, 'catalog', or 'all' that need it; left out: shows these."
        ),
    ] = None,
    url: Url = None,
    accept_data_loss: Annotated[
        bool, typer.Option("--accept-data-loss", help="The word that is asked for otherwise.")
    ] = False,
) -> None:
    """Have what has lost the majority of its replicas for good go on: tablets, or the catalog."""
    from dqe.commands.recover import run

    raise typer.Exit(run(what, url, accept_data_loss=accept_data_loss))


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as version_of

    typer.echo(f"dqe {version_of('dqe-sql')}")


def main() -> None:
    """Entry point of the `dqe` script."""
    app()
