"""Locking clauses inside of statements: `... WHERE id IN (SELECT ... FOR UPDATE SKIP LOCKED)`, in
FROM, in WITH queries, and as the source of INSERT.

Such a subquery is run by itself before the statement around it, innermost first, within the
statement's transaction and at its snapshot. What it gave, in the newest versions of its rows, is a
relation of rows at hand (`executor.given_rows`) for the statement around it, which then finds
its own rows at the snapshot as always, and newer versions of them under the locks.

A statement that commits by itself gets a transaction of its own, which a query ends once its rows
have been read.

Left out: PostgreSQL runs a subquery only as far as the statement around it asks for rows, and may
apply that statement's conditions to it, so it may lock fewer rows. A subquery that refers to the
query around it would have to be run for each of its rows: refused.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import TypeVar

import pyarrow as pa
from sqlglot import exp

from cluster.errors import DqeError, FeatureNotSupported, UndefinedColumn, UndefinedTable
from executor.execution import Execution, Result
from executor.given_rows import given
from executor.locking import locked_rows
from executor.own_transaction import with_transaction
from planner.binder.trees import fold
from planner.bound import GIVEN_SCHEMA
from planner.locked_relations import check_placed, clause_of
from planner.locking import locks_rows, settled_locks, without_locks
from planner.plan import ResultColumn
from planner.statements import CopyTo, Query, Statement
from planner.statements.trees import map_trees, trees_of
from planner.write_rows import column_reference
from storage.types import arrow_type

StatementT = TypeVar("StatementT", bound=Statement)
Handler = Callable[[Execution, Statement], Awaitable[Result]]
# Binds the statement, and raises what is wrong with it.
Check = Callable[[Execution, Statement], object]
# How a clause begins, in lower case, with comments between its words. Texts may be long: without an
# ignored case or a boundary in front the search for its first word is one for a literal.
_BEGINS = re.compile(r"for(?:\s|/\*.*?\*/|--[^\n]*\n)+(?:no|update|share|key)\b", re.DOTALL)


def locking_clause(statement: Statement) -> str | None:
    """The first locking clause anywhere in the statement, as errors name it; quick where there is
    none."""
    if _BEGINS.search(statement.text.lower()) is None:
        return None
    for tree in trees_of(statement):
        lock = tree.find(exp.Lock)
        if lock is not None:
            return clause_of(lock).name
    return None


def unlocked(statement: StatementT) -> StatementT:
    """The statement without any of its locking clauses."""
    return map_trees(statement, _unlocked)


def _unlocked(tree: exp.Expr) -> exp.Expr:
    return tree if tree.find(exp.Lock) is None else without_locks(tree)


async def run_locked(
    handler: Handler, execution: Execution, statement: Statement, check: Check
) -> Result:
    """Runs a statement with locking clauses, those of its subqueries first."""
    execution, own = with_transaction(execution)
    rows = ExitStack()
    try:
        execution, statement = await _Settling(execution, statement, rows, check).settled()
        result = await handler(execution, statement)
        if own is not None and not isinstance(statement, Query | CopyTo):
            await own.commit()
            own = None
    except BaseException:
        rows.close()
        if own is not None:
            await own.roll_back()
        raise
    close = result.on_close

    async def end() -> None:
        with rows:
            await close()
            if own is not None:
                await own.roll_back()

    result.on_close = end
    return result


class _Settling:
    """One statement's subqueries, run one after the other; `rows` keeps what they gave."""

    def __init__(
        self, execution: Execution, statement: Statement, rows: ExitStack, check: Check
    ) -> None:
        self._execution = execution
        self._statement = statement
        self._rows = rows
        self._check = check

    async def settled(self) -> tuple[Execution, Statement]:
        """The statement over rows at hand, and what it runs with."""
        found: dict[int, exp.Expr] = {}
        for tree in list(trees_of(self._statement)):
            if tree.find(exp.Lock) is not None:
                check_placed(tree)
                found[id(tree)] = await self._settled_tree(tree)
        statement = map_trees(self._statement, lambda tree: found.get(id(tree), tree))
        return self._execution, statement

    async def _settled_tree(self, tree: exp.Expr) -> exp.Expr:
        """A copy; the clause of a query itself is left to whoever runs queries."""
        if not locks_rows(tree) or isinstance(self._statement, Query):
            return await self._settle(tree.copy())
        holder = exp.Subquery(this=tree.copy())
        await self._settle(holder)
        settled: exp.Expr = holder.this.pop()
        return settled

    async def _settle(self, tree: exp.Expr) -> exp.Expr:
        if locks_rows(tree):
            tree = settled_locks(tree, self._execution.context)
        nodes = _outermost(tree)
        # What WITH queries gave may be read by the others.
        nodes.sort(key=lambda node: node.find_ancestor(exp.CTE) is None)
        for node in nodes:
            columns, batches = await self._locked(await self._settle(_by_itself(node)))
            node.replace(self._at_hand(columns, batches))
        return tree

    async def _locked(
        self, query: exp.Expr
    ) -> tuple[tuple[ResultColumn, ...], Sequence[pa.RecordBatch]]:
        assert isinstance(query, exp.Query)
        transaction = self._execution.transaction
        assert transaction is not None
        try:
            return await locked_rows(self._execution, transaction.statement(), query)
        except (UndefinedColumn, UndefinedTable) as error:
            self._check(self._execution, unlocked(self._statement))
            raise _correlated(query) from error

    def _at_hand(
        self, columns: Sequence[ResultColumn], batches: Sequence[pa.RecordBatch]
    ) -> exp.Select:
        """A query for the rows, with the columns' own names."""
        names = [f"c{place}" for place in range(len(columns))]
        types = tuple(column.type for column in columns)
        schema = pa.schema([(n, arrow_type(t)) for n, t in zip(names, types, strict=True)])
        table = schema.empty_table()
        if batches:
            table = pa.Table.from_batches([batch.rename_columns(names) for batch in batches])
        name = f"locked {len(self._execution.context.given)}"
        self._execution = self._rows.enter_context(given(self._execution, name, table, types))
        return exp.Select(
            expressions=[
                exp.alias_(column_reference(n, name), column.name, quoted=True)
                for n, column in zip(names, columns, strict=True)
            ],
            from_=exp.From(
                this=exp.Table(
                    this=exp.to_identifier(name, quoted=True),
                    db=exp.to_identifier(GIVEN_SCHEMA, quoted=True),
                )
            ),
        )


def _correlated(query: exp.Query) -> DqeError:
    clause = clause_of(query.args["locks"][0])
    return FeatureNotSupported(
        f"{clause.name} in a subquery that refers to the query around it is not supported",
        hint="Join the tables, and name the one whose rows are to be locked: "
        f"{clause.name} OF table.",
    )


def _outermost(tree: exp.Expr) -> list[exp.Expr]:
    """The queries with locking clauses below the tree's root, and not below each other."""
    found: list[exp.Expr] = []
    for node in tree.walk(prune=lambda node: node is not tree and locks_rows(node)):
        if node is not tree and locks_rows(node):
            found.append(node)
    return found


def _by_itself(node: exp.Expr) -> exp.Expr:
    """A copy of the subquery, with the WITH queries around it that it reads."""
    around: dict[str, exp.Expr] = {}
    recursive = False
    parent = node.parent
    while parent is not None:
        clause = parent.args.get("with_")
        if clause is not None:
            recursive = recursive or bool(clause.args.get("recursive"))
            for query in clause.expressions:
                if node.find_ancestor(exp.CTE) is not query:
                    around.setdefault(fold(query.args["alias"].this), query)
        parent = parent.parent
    copied = node.copy()
    wanted = _read(copied, around)
    if wanted:
        own = copied.args.get("with_")
        queries = [query.copy() for query in wanted]
        queries += [] if own is None else own.expressions
        recursive = recursive or (own is not None and bool(own.args.get("recursive")))
        copied.set("with_", exp.With(expressions=queries, recursive=recursive))
    return copied


def _read(node: exp.Expr, around: dict[str, exp.Expr]) -> list[exp.Expr]:
    """Of the WITH queries those that the node reads, itself or through others, in their order."""
    left, wanted = [node], dict.fromkeys(around, False)
    while left:
        for table in left.pop().find_all(exp.Table):
            if table.args.get("db") is not None or not isinstance(table.this, exp.Identifier):
                continue
            name = fold(table.this)
            if name in wanted and not wanted[name]:
                wanted[name] = True
                left.append(around[name])
    return [around[name] for name, needed in wanted.items() if needed]
