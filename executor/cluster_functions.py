"""What operators ask of the cluster by calling a function: `SELECT dqe.drain_node(2)`.

    dqe.drain_node(node)              it leads nothing from now on, and gets nothing new
    dqe.activate_node(node)           takes back drain_node and decommission_node
    dqe.decommission_node(node)       its replicas move away, then it is forgotten
    dqe.set_cluster_setting(name, value)   as ALTER SYSTEM does; NULL for the default
    dqe.transaction_token()           what to ask the next one about this transaction
    dqe.commit_status(token)          how that transaction ended
    dqe.recover_tablet(tablet, word)  gives up what the lost majority of a tablet may have held
    dqe.recover_catalog(word)         the same of the catalog

Each asks for something and answers with words; the repair loop then carries it out, and
`dqe.nodes` and `dqe.repairs` show how far it is. Like set_config the calls are carried out
before the query is planned, in the select list of a query without FROM, with constant
arguments; they are not undone by ROLLBACK.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from catalog.commands import SetClusterSetting, SetNodeState
from catalog.horizon import HISTORY_RETENTION, check_retention
from catalog.model import NodeId, NodeState
from catalog.repair_report import member, refuse_decommission, refuse_drain
from catalog.repair_settings import DEAD_AFTER, check_dead_after
from cluster.errors import (
    FeatureNotSupported,
    InvalidParameterValue,
    ObjectNotInPrerequisiteState,
    UndefinedFunction,
    UndefinedObject,
)
from executor.catalog_recovery import recover_catalog
from executor.recovery import recover_tablet
from executor.transaction_tokens import commit_status
from executor.without_catalog import RECOVERY, TABLET_RECOVERY
from planner.datum import Datum, datum_text
from planner.statements import Query

if TYPE_CHECKING:
    from executor.services import ExecutorServices
    from executor.session_transaction import SessionTransaction

_SCHEMA = "dqe"
_WORD = f"{_SCHEMA}."
_TOKEN = "transaction_token"

Arguments = Sequence[str | None]
Function = Callable[["ExecutorServices", Arguments], Awaitable[str | None]]


def calls_cluster_function(statement: Query) -> bool:
    """Whether the query calls one; the text is looked at first, which is cheap."""
    text = statement.text.lower()
    return _WORD in text and any(name in text for name in FUNCTIONS) and bool(_calls(statement))


def with_words(statement: Query) -> Query:
    """The query with an empty text instead of each call: what Describe needs."""
    tree = statement.tree.copy()
    for call in _calls(replace(statement, tree=tree)):
        _put(call, "")
    return replace(statement, tree=tree)


async def with_answers(
    statement: Query,
    values: Sequence[Datum],
    services: ExecutorServices,
    transaction: SessionTransaction | None,
) -> Query:
    """The query after its calls were carried out, with their answers instead of them; it is part
    of that transaction, or of none."""
    tree = statement.tree.copy()
    calls = _calls(replace(statement, tree=tree))
    if not isinstance(tree, exp.Select) or tree.args.get("from_") is not None:
        raise _refusal()
    for call in calls:
        _check_place(call)
    for call in calls:
        if call.this.name.lower() == _TOKEN:
            _put(call, None if transaction is None else await transaction.token())
            continue
        function = FUNCTIONS[call.this.name.lower()]
        arguments = [_constant(argument, values) for argument in call.this.expressions]
        _put(call, await function(services, arguments))
    return replace(statement, tree=tree)


class _Call:
    """A call `dqe.name(...)` in a tree: the function, and the item that it is in."""

    def __init__(self, item: exp.Dot, this: exp.Anonymous) -> None:
        self.item = item
        self.this = this


def _calls(statement: Query) -> list[_Call]:
    found = []
    for item in statement.tree.find_all(exp.Dot):
        this, function = item.this, item.expression
        if (
            isinstance(this, exp.Identifier)
            and this.name.lower() == _SCHEMA
            and isinstance(function, exp.Anonymous)
            and function.name.lower() in FUNCTIONS
        ):
            found.append(_Call(item, function))
    return found


def _check_place(call: _Call) -> None:
    """Refuses a call that is no item of the select list, before anything is carried out."""
    item: exp.Expr = call.item
    if isinstance(item.parent, exp.Alias):
        item = item.parent
    if not isinstance(item.parent, exp.Select) or item.arg_key != "expressions":
        raise _refusal()


def _put(call: _Call, text: str | None) -> None:
    literal: exp.Expr = exp.Literal.string(text or "")
    if text is None:
        literal = exp.Cast(this=exp.Null(), to=exp.DataType.build("text"))
    parent = call.item.parent
    if isinstance(parent, exp.Alias):
        call.item.replace(literal)
    elif isinstance(parent, exp.Select) and call.item.arg_key == "expressions":
        call.item.replace(exp.alias_(literal, call.this.name.lower()))
    else:
        raise _refusal()


def _constant(node: exp.Expr, values: Sequence[Datum]) -> str | None:
    while isinstance(node, exp.Cast | exp.Paren):
        node = node.this
    match node:
        case exp.Literal():
            return str(node.this)
        case exp.Null():
            return None
        case exp.Parameter():
            index = int(node.name) - 1
            return datum_text(values[index]) if index < len(values) else None
    raise _refusal()


def _refusal() -> FeatureNotSupported:
    return FeatureNotSupported(
        "functions of the cluster can be called only in the select list of a query without FROM,"
        " with constant arguments"
    )


# --- The functions -------------------------------------------------------------------------


def _take(name: str, arguments: Arguments, count: int) -> Arguments:
    if len(arguments) != count:
        raise UndefinedFunction(f"function dqe.{name} takes {count} arguments")
    return arguments


def _number(text: str | None, what: str) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise InvalidParameterValue(f'invalid number of a {what}: "{text}"') from None


async def _set_state(services: ExecutorServices, node_id: int, state: NodeState) -> bool:
    done = await services.catalog.execute(
        SetNodeState(member(services.catalog.current, node_id).id, state)
    )
    return done.changed


async def _drain_node(services: ExecutorServices, arguments: Arguments) -> str:
    node_id = _number(_take("drain_node", arguments, 1)[0], "node")
    catalog = services.catalog.current
    node = member(catalog, node_id)
    if node.state not in (NodeState.ACTIVE, NodeState.DRAINING):
        raise ObjectNotInPrerequisiteState(f"node {node_id} is {node.state}")
    refuse_drain(catalog, _live(services), node.id)
    changed = await _set_state(services, node_id, NodeState.DRAINING)
    return f"node {node_id} is draining" if changed else f"node {node_id} is draining already"


async def _activate_node(services: ExecutorServices, arguments: Arguments) -> str:
    node_id = _number(_take("activate_node", arguments, 1)[0], "node")
    node = member(services.catalog.current, node_id)
    if node.state is NodeState.DEAD:
        raise ObjectNotInPrerequisiteState(
            f"node {node_id} is dead", hint="It becomes active by itself when it answers again."
        )
    changed = await _set_state(services, node_id, NodeState.ACTIVE)
    return f"node {node_id} is active" if changed else f"node {node_id} is active already"


async def _decommission_node(services: ExecutorServices, arguments: Arguments) -> str:
    node_id = _number(_take("decommission_node", arguments, 1)[0], "node")
    catalog = services.catalog.current
    refuse_decommission(catalog, _live(services), member(catalog, node_id).id)
    changed = await _set_state(services, node_id, NodeState.DECOMMISSIONING)
    already = "" if changed else " already"
    return f"node {node_id} is being decommissioned{already}"


def _live(services: ExecutorServices) -> frozenset[NodeId]:
    return frozenset(services.catalog.liveness.live_nodes())


_SETTINGS: dict[str, Callable[[str], str]] = {
    DEAD_AFTER: check_dead_after,
    HISTORY_RETENTION: check_retention,
}


async def _set_cluster_setting(services: ExecutorServices, arguments: Arguments) -> str:
    name, value = _take("set_cluster_setting", arguments, 2)
    check = _SETTINGS.get((name or "").lower())
    if name is None or check is None:
        raise UndefinedObject(
            f'unrecognized cluster setting "{name}"', hint=f"There is {', '.join(_SETTINGS)}."
        )
    kept = None if value is None else check(value)
    await services.catalog.execute(SetClusterSetting(name.lower(), kept))
    return f"{name.lower()} is {'the default' if kept is None else kept}"


async def _recover_tablet(services: ExecutorServices, arguments: Arguments) -> str:
    tablet, word = _take("recover_tablet", arguments, 2)
    return await recover_tablet(services, _number(tablet, "tablet"), word or "")


async def _recover_catalog(services: ExecutorServices, arguments: Arguments) -> str:
    (word,) = _take("recover_catalog", arguments, 1)
    return await recover_catalog(services, word or "")


async def _no_token(services: ExecutorServices, arguments: Arguments) -> str | None:
    """The session knows it, and answers before this is asked."""
    return None


FUNCTIONS: dict[str, Function] = {
    _TOKEN: _no_token,
    "commit_status": commit_status,
    "drain_node": _drain_node,
    "activate_node": _activate_node,
    "decommission_node": _decommission_node,
    "set_cluster_setting": _set_cluster_setting,
    TABLET_RECOVERY: _recover_tablet,
    RECOVERY: _recover_catalog,
}
