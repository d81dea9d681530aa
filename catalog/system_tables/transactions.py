"""Row sources about transactions: `dqe.transactions`, `dqe.transactions_in_doubt`, `dqe.locks`, and
pg_locks, for those who know that.

All of it was asked of every node for the statement that reads it. Ages are counted from the
transaction's beginning, which its id tells.
"""

from __future__ import annotations

from collections.abc import Iterator

from catalog.model import NodeId, Table, TabletId
from catalog.system_tables.definition import Row, SystemContext
from catalog.system_tables.objects import DATABASE_OID, relation_oid
from storage.locks import LockMode
from storage.participant import Phase
from storage.transaction_facts import LockFact, TransactionFact
from storage.transaction_ids import begun_ms, coordinator_bits, node_bits

COLUMNS: dict[str, str] = {
    "transactions": "int8 transaction_id; float8 age_s; int8 coordinator; int8[] tablets; "
    "text state; int8 locks; int8[] waits_for",
    "transactions_in_doubt": "int8 transaction_id tablet_id; text state; float8 age_s; int8 "
    "coordinator home_tablet home_leader; text waits_for",
    "locks": "int8 transaction_id tablet_id; text schema_name table_name key mode; bool granted",
}

# As PostgreSQL shows row locks while somebody waits for them (heapam's tupleLockExtraInfo).
_PG_ROW_MODES = {
    LockMode.FOR_KEY_SHARE: "AccessShareLock",
    LockMode.FOR_SHARE: "RowShareLock",
    LockMode.FOR_NO_KEY_UPDATE: "ExclusiveLock",
    LockMode.FOR_UPDATE: "AccessExclusiveLock",
}
# From the graver on.
_STATES = (Phase.PREPARED, Phase.MARKED, Phase.OPEN)


def transactions(context: SystemContext) -> Iterator[Row]:
    """A row for each that holds or has changed something."""
    found: dict[int, list[TransactionFact]] = {}
    for fact in context.transactions.transactions:
        found.setdefault(fact.transaction_id, []).append(fact)
    waits: dict[int, dict[int, None]] = {}
    for lock in context.transactions.locks:
        if not lock.granted:
            for other in _holders(context, lock):
                waits.setdefault(lock.transaction_id, {})[other] = None
    for transaction_id, facts in found.items():
        phases = [fact.phase for fact in facts]
        yield {
            "transaction_id": transaction_id,
            "age_s": _age_s(context, transaction_id),
            "coordinator": _coordinator(context, transaction_id),
            "tablets": sorted(fact.tablet_id for fact in facts),
            "state": next(p.value for p in _STATES if p.value in phases),
            "locks": sum(fact.locks for fact in facts),
            "waits_for": list(waits.get(transaction_id, ())),
        }


def _holders(context: SystemContext, wish: LockFact) -> Iterator[int]:
    for lock in context.transactions.locks:
        same = (lock.tablet_id, lock.fragment_id, lock.key) == (
            wish.tablet_id,
            wish.fragment_id,
            wish.key,
        )
        if lock.granted and same and lock.transaction_id != wish.transaction_id:
            yield lock.transaction_id


def transactions_in_doubt(context: SystemContext) -> Iterator[Row]:
    """A row for each tablet at which a transaction is prepared, or, for its home, decided and not
    confirmed by all; most are prepared for milliseconds, and decided for some seconds."""
    for fact in context.transactions.transactions:
        if fact.phase == Phase.PREPARED.value:
            state = "pre-committed" if fact.precommit_ts else "prepared"
            waits_for = _leader_text(context, fact.home_tablet)
            if not fact.led:
                waits_for = f"a leader of its own; then {waits_for}"
            yield _doubt(
                context,
                fact.transaction_id,
                fact.tablet_id,
                state,
                fact.home_tablet,
                waits_for,
            )
    for decision in context.transactions.decisions:
        unheard = "; ".join(_leader_text(context, t) for t in decision.unconfirmed)
        yield _doubt(
            context,
            decision.transaction_id,
            decision.tablet_id,
            "committed",
            decision.tablet_id,
            f"confirmation by {unheard}",
        )


def _doubt(
    context: SystemContext,
    transaction_id: int,
    tablet_id: int,
    state: str,
    home: int,
    waits_for: str,
) -> Row:
    return {
        "transaction_id": transaction_id,
        "tablet_id": tablet_id,
        "state": state,
        "age_s": _age_s(context, transaction_id),
        "coordinator": _coordinator(context, transaction_id),
        "home_tablet": home,
        "home_leader": _live_leader(context, home),
        "waits_for": waits_for,
    }


def _leader_text(context: SystemContext, tablet_id: int) -> str:
    if tablet_id not in context.catalog.tablets:
        return f"tablet {tablet_id}, which was dropped"
    leader = _live_leader(context, tablet_id)
    if leader is None:
        return f"tablet {tablet_id}, which has no leader that answers"
    return f"tablet {tablet_id}, led by node {leader}"


def _live_leader(context: SystemContext, tablet_id: int) -> NodeId | None:
    leader = context.leaders.get(TabletId(tablet_id))
    live = leader in context.live_nodes or leader == context.node_id
    return leader if live else None


def _age_s(context: SystemContext, transaction_id: int) -> float:
    return max(0, context.now_ms - begun_ms(transaction_id)) / 1000


def _coordinator(context: SystemContext, transaction_id: int) -> NodeId | None:
    bits = coordinator_bits(transaction_id)
    return next((n for n in context.catalog.nodes if node_bits(n) == bits), None)


def locks(context: SystemContext) -> Iterator[Row]:
    """A row for each lock held or waited for; one of a tablet stands for each table it has."""
    tables = _Tables(context)
    for lock in context.transactions.locks:
        for table in tables.of(lock):
            yield {
                "transaction_id": lock.transaction_id,
                "tablet_id": lock.tablet_id,
                "schema_name": table.schema,
                "table_name": table.name,
                "key": lock.key or None,
                "mode": lock.mode,
                "granted": lock.granted,
            }


def pg_locks(context: SystemContext) -> Iterator[Row]:
    """The same as PostgreSQL shows locks. There is no process behind a transaction, as seen from
    another node: `virtualtransaction` is its coordinator and its id."""
    tables = _Tables(context)
    for lock in context.transactions.locks:
        mode = LockMode(lock.mode)
        node_id = _coordinator(context, lock.transaction_id) or 0
        for table in tables.of(lock):
            yield {
                "locktype": "tuple" if lock.fragment_id else "relation",
                "database": DATABASE_OID,
                "relation": relation_oid(table.id),
                "virtualtransaction": f"{node_id}/{lock.transaction_id}",
                "mode": _PG_ROW_MODES.get(mode) or _pg_table_mode(mode),
                "granted": lock.granted,
            }


def _pg_table_mode(mode: LockMode) -> str:
    return "".join(word.capitalize() for word in mode.value.split()) + "Lock"


class _Tables:
    """Whose rows, or tablets, are locked."""

    def __init__(self, context: SystemContext) -> None:
        self._by_fragment: dict[int, Table] = {}
        self._by_tablet: dict[int, dict[int, Table]] = {}
        for table in context.catalog.tables.values():
            for part in table.parts:
                for fragment in part.fragments:
                    self._by_fragment[fragment.id] = table
                    self._by_tablet.setdefault(fragment.tablet_id, {})[table.id] = table

    def of(self, lock: LockFact) -> list[Table]:
        """The table of a row; all tables of a tablet."""
        if not lock.fragment_id:
            return list(self._by_tablet.get(lock.tablet_id, {}).values())
        table = self._by_fragment.get(lock.fragment_id)
        return [] if table is None else [table]
