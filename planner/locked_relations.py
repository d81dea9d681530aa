"""What a locking clause is about: the relations of FROM whose rows it locks, and how rows of the
query's result tell which of theirs they are made of.

As in PostgreSQL a clause without OF is about all tables of its FROM, those inside of subqueries and
views too; what is no table (functions, VALUES, WITH queries) it leaves alone. A relation named by
several clauses is locked in the strongest mode, and by the most impatient policy.

    settled(...)    views become subqueries; a subquery with a LIMIT of its own gets the clause
                    itself, because which rows it gives depends on which can be locked
    told(...)       adds columns to the query, hidden ones to its subqueries, with the key of
                    each row that takes part, of tables that are not locked as well

Subqueries with clauses of their own are no business of this module: they have been run before, and
are relations of rows at hand (`executor.locking_subqueries`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from catalog.model import ColumnId, Table, View
from cluster.errors import (
    FeatureNotSupported,
    SyntaxError_,
    UndefinedTable,
    WrongObjectType,
)
from planner.binder.relations import segments
from planner.binder.tables import parsed_view
from planner.binder.trees import fold
from planner.bound import GIVEN_SCHEMA
from planner.context import PlannerContext
from planner.ddl_names import find_relation
from planner.semantics.system_relations import system_table
from planner.statements import ObjectName
from planner.write_assignments import routing_columns
from planner.write_rows import column_reference

# From the weakest to the strongest, and from the most patient to the least.
_MODES = ("for key share", "for share", "for no key update", "for update")
_POLICIES = ("wait", "skip", "nowait")


@dataclass(frozen=True, slots=True)
class Clause:
    """How rows are locked: `mode` as in SQL, "for no key update"; `policy` "wait", "nowait" or
    "skip"."""

    mode: str
    policy: str

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.mode.upper()

    def with_(self, other: Clause | None) -> Clause:
        """One that does what both do."""
        if other is None:
            return self
        return Clause(
            max(self.mode, other.mode, key=_MODES.index),
            max(self.policy, other.policy, key=_POLICIES.index),
        )


def clause_of(lock: exp.Lock) -> Clause:
    """The clause as parsed."""
    if lock.args.get("update"):
        mode = "for no key update" if lock.args.get("key") else "for update"
    else:
        mode = "for key share" if lock.args.get("key") else "for share"
    # sqlglot keeps NOWAIT as a true `wait`, and SKIP LOCKED as a false one.
    wait = lock.args.get("wait")
    return Clause(mode, "wait" if wait is None else "nowait" if wait else "skip")


@dataclass(frozen=True, slots=True)
class Told:
    """A table that takes part: the columns named `names` are its `identity`. `clause` None: its
    rows are not locked."""

    table: Table
    clause: Clause | None
    identity: tuple[ColumnId, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Item:
    """One item of FROM. `nullable`: an outer join may have no row of it. `hidden`: within
    parentheses that have an alias."""

    node: exp.Expr
    name: str
    nullable: bool
    hidden: bool


def settled(tree: exp.Select, context: PlannerContext) -> exp.Select:
    """A copy of the query in which every subquery that has to lock for itself says so."""
    copied = tree.copy()
    assert isinstance(copied, exp.Select)
    _settle(copied, context)
    return copied


def _settle(select: exp.Select, context: PlannerContext) -> None:
    clauses = _clauses(select)
    for item in list(_items(select)):
        clause = clauses.get(id(item.node))
        view = _base(item.node, select, context) if clause is not None else None
        if isinstance(view, View):
            item.node.replace(_as_subquery(item.node, view))
    clauses = _clauses(select)
    for item in _items(select):
        clause, query = clauses.get(id(item.node)), _subquery(item.node)
        if clause is None or query is None or _is_given(query):
            continue
        _check_nullable(item, clause)
        if not isinstance(query, exp.Select):
            check_rows_are_told(query, clause)
            continue
        query.set("locks", [*(query.args.get("locks") or []), _unnamed(clause)])
        _settle(query, context)
        if not (query.args.get("limit") or query.args.get("offset")):
            kept = query.args["locks"][:-1]
            query.set("locks", kept or None)


def _as_subquery(node: exp.Expr, view: View) -> exp.Subquery:
    """The view's query under the name and with the columns that the statement knows."""
    alias = node.args.get("alias")
    given = [] if alias is None else alias.args.get("columns") or []
    names = [exp.to_identifier(name, quoted=True) for name, _ in view.columns]
    shown = exp.to_identifier(node.alias_or_name, quoted=True) if alias is None else alias.this
    columns = [*(name.copy() for name in given), *names[len(given) :]]
    return exp.Subquery(
        this=parsed_view(view.query).copy(),
        alias=exp.TableAlias(this=shown.copy(), columns=columns),
    )


def _unnamed(clause: Clause) -> exp.Lock:
    wait = {"wait": None, "nowait": True, "skip": False}[clause.policy]
    key = clause.mode in ("for key share", "for no key update")
    return exp.Lock(update="update" in clause.mode, wait=wait, key=key or None)


def told(select: exp.Select, context: PlannerContext) -> list[Told]:
    """Adds what tells rows to the select list, of a query that `settled` gave."""
    return _tell(select, _clauses(select), context, iter(range(1 << 20)))


def _tell(
    select: exp.Select,
    clauses: Mapping[int, Clause],
    context: PlannerContext,
    numbers: Iterator[int],
) -> list[Told]:
    found: list[Told] = []
    items = list(_items(select))
    for item in items:
        clause, query = clauses.get(id(item.node)), _subquery(item.node)
        if query is not None:
            if clause is not None and not _is_given(query):
                found += _through(item, query, clause, context, numbers, select)
            continue
        table = _table_of(item, select, clause, context)
        if table is None or (clause is None and (len(items) == 1 or item.hidden)):
            continue
        if clause is not None:
            _check_nullable(item, clause)
        identity = routing_columns(table)
        columns = [table.column(c).name for c in identity]
        names = _add(select, item.name, columns, numbers)
        found.append(Told(table, clause, identity, names))
    return found


def _through(
    item: _Item,
    query: exp.Expr,
    clause: Clause,
    context: PlannerContext,
    numbers: Iterator[int],
    select: exp.Select,
) -> list[Told]:
    """The tables inside of a subquery, whose columns the query around it hands on."""
    check_rows_are_told(query, clause)
    assert isinstance(query, exp.Select)
    inner = {id(each.node): clause for each in _items(query)}
    found = _tell(query, inner, context, numbers)
    return [
        Told(each.table, each.clause, each.identity, _add(select, item.name, each.names, numbers))
        for each in found
    ]


def _add(
    select: exp.Select, relation: str, columns: Sequence[str], numbers: Iterator[int]
) -> tuple[str, ...]:
    """More columns of the select list, which no star shows."""
    names = tuple(f"\x00told {next(numbers)}" for _ in columns)
    for name, column in zip(names, columns, strict=True):
        select.append(
            "expressions",
            exp.alias_(column_reference(column, relation), name, quoted=True),
        )
    return names


# -- FROM -------------------------------------------------------------------------------------


def _items(select: exp.Expr) -> list[_Item]:
    first = select.args.get("from_")
    if first is None:
        return []
    return _joined(first.this, select.args.get("joins") or [], nullable=False, hidden=False)


def _joined(
    first: exp.Expr, joins: Sequence[exp.Join], *, nullable: bool, hidden: bool
) -> list[_Item]:
    found: list[_Item] = []
    for start, rest in segments(first, joins):
        part = _item(start, nullable=nullable, hidden=hidden)
        for join in rest:
            side = str(join.args.get("side") or "").upper()
            if side in ("RIGHT", "FULL"):
                part = [_Item(each.node, each.name, True, each.hidden) for each in part]
            right = nullable or side in ("LEFT", "FULL")
            part += _item(join.this, nullable=right, hidden=hidden)
        found += part
    return found


def _item(node: exp.Expr, *, nullable: bool, hidden: bool) -> list[_Item]:
    if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table):
        joins = node.this.args.get("joins") or []
        below = hidden or node.args.get("alias") is not None
        inner = _joined(node.this, joins, nullable=nullable, hidden=below)
        if not below or hidden:
            return inner
        return [_Item(node, _name(node), nullable, hidden), *inner]
    return [_Item(node, _name(node), nullable, hidden)]


def _name(node: exp.Expr) -> str:
    alias = node.args.get("alias")
    if alias is not None and alias.this is not None:
        return fold(alias.this)
    named = isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier)
    return fold(node.this) if named else ""


def _subquery(node: exp.Expr) -> exp.Expr | None:
    """The query of a subquery in FROM; None for other relations."""
    if isinstance(node, exp.Lateral):
        node = node.this
    if isinstance(node, exp.Subquery) and not isinstance(node.this, exp.Table | exp.Values):
        inner = node.this
        while isinstance(inner, exp.Subquery):
            inner = inner.this
        return inner if isinstance(inner, exp.Select | exp.SetOperation) else None
    return node if isinstance(node, exp.Select | exp.SetOperation) else None


def _is_given(query: exp.Expr) -> bool:
    """Whether it reads rows at hand, those of a locking clause of its own."""
    source = query.args.get("from_")
    return source is not None and _is_at_hand(source.this)


def _is_at_hand(node: exp.Expr) -> bool:
    return isinstance(node, exp.Table) and node.db == GIVEN_SCHEMA


def _is_with_query(node: exp.Expr, select: exp.Expr) -> bool:
    if not isinstance(node, exp.Table) or node.args.get("db") is not None:
        return False
    around: exp.Expr | None = select
    while around is not None:
        clause = around.args.get("with_")
        if clause is not None and any(
            fold(c.args["alias"].this) == fold(node.this) for c in clause.expressions
        ):
            return True
        around = around.parent
    return False


def _base(node: exp.Expr, select: exp.Expr, context: PlannerContext) -> Table | View | None:
    if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
        return None
    if _is_with_query(node, select):
        return None
    schema = node.args.get("db")
    name = ObjectName(fold(node.this), None if schema is None else fold(schema))
    return find_relation(context, name)


def _table_of(
    item: _Item, select: exp.Expr, clause: Clause | None, context: PlannerContext
) -> Table | None:
    """The table whose rows the item gives; None where a clause leaves it alone."""
    node = item.node
    found = _base(node, select, context)
    if isinstance(found, Table):
        if clause is not None and item.hidden:
            raise FeatureNotSupported(
                f"{clause.name} of tables in a join with an alias is not supported",
                hint="Leave the alias out, or name the tables' columns one by one.",
            )
        return found
    if clause is None or not isinstance(node, exp.Table) or _is_with_query(node, select):
        return None
    if not isinstance(node.this, exp.Identifier):
        return None
    schemas = (node.db,) if node.db else ("pg_catalog",)
    if not any(system_table(schema, fold(node.this)) for schema in schemas):
        return None  # rows at hand; or nothing of that name, as the binder will say
    raise WrongObjectType(
        f'cannot lock rows in relation "{node.name}"',
        detail="This operation is not supported for system tables.",
    )


# -- clauses ----------------------------------------------------------------------------------


def _clauses(select: exp.Expr) -> dict[int, Clause]:
    """What is to be locked how, by the identity of the item's node."""
    items = _items(select)
    found: dict[int, Clause] = {}
    for lock in select.args.get("locks") or []:
        clause = clause_of(lock)
        for item in _meant(lock, clause, items, select):
            found[id(item.node)] = clause.with_(found.get(id(item.node)))
    return found


def _meant(lock: exp.Lock, clause: Clause, items: Sequence[_Item], select: exp.Expr) -> list[_Item]:
    named = lock.args.get("expressions") or []
    if not named:
        return list(items)
    meant = []
    for table in named:
        if table.args.get("db") is not None:
            raise SyntaxError_(f"{clause.name} must specify unqualified relation names")
        name = fold(table.this)
        item = next((i for i in items if i.name == name and not i.hidden), None)
        if item is None:
            raise UndefinedTable(
                f'relation "{name}" in {clause.name} clause not found in FROM clause'
            )
        kind = _unlockable(item.node, select)
        if kind is not None:
            raise FeatureNotSupported(f"{clause.name} cannot be applied to {kind}")
        meant.append(item)
    return meant


def _unlockable(node: exp.Expr, select: exp.Expr) -> str | None:
    """What a named item is called that has no rows to lock."""
    if _is_with_query(node, select):
        return "a WITH query"
    if isinstance(node, exp.Values | exp.Subquery) and not isinstance(node.this, exp.Table):
        return None  # VALUES among them: there is nothing to lock
    if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table):
        return "a join"
    plain = isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier)
    return None if plain or _subquery(node) is not None else "a function"


def _check_nullable(item: _Item, clause: Clause) -> None:
    if item.nullable:
        raise FeatureNotSupported(
            f"{clause.name} cannot be applied to the nullable side of an outer join"
        )


def check_placed(tree: exp.Expr) -> None:
    """0A000 for a clause behind UNION and its like: it is about the whole, and has no rows."""
    for lock in tree.find_all(exp.Lock):
        query = lock.parent
        while query is not None and isinstance(query.parent, exp.Subquery):
            query = query.parent
        if query is not None and isinstance(query.parent, exp.SetOperation):
            raise _not_allowed(clause_of(lock), "UNION/INTERSECT/EXCEPT")


def check_rows_are_told(tree: exp.Expr, clause: Clause) -> None:
    """0A000 where rows of the result are no rows of tables, as after GROUP BY."""
    if isinstance(tree, exp.SetOperation):
        raise _not_allowed(clause, "UNION/INTERSECT/EXCEPT")
    for name, words in (
        ("distinct", "DISTINCT clause"),
        ("group", "GROUP BY clause"),
        ("having", "HAVING clause"),
    ):
        if tree.args.get(name):
            raise _not_allowed(clause, words)
    items = tree.args.get("expressions") or []
    if any(_of_its_own(item, exp.Window) for item in items):
        raise _not_allowed(clause, "window functions")
    if any(_of_its_own(item, exp.AggFunc) for item in items):
        raise _not_allowed(clause, "aggregate functions")


def _not_allowed(clause: Clause, words: str) -> FeatureNotSupported:
    return FeatureNotSupported(f"{clause.name} is not allowed with {words}")


def _of_its_own(item: exp.Expr, kind: type[exp.Expr]) -> bool:
    """Whether the expression has such a node outside of subqueries."""
    return any(
        isinstance(node, kind)
        for node in item.walk(prune=lambda node: isinstance(node, exp.Subquery | exp.Select))
    )
