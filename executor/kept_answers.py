"""What a node keeps of queries that a short way has looked at.

A query is looked at once for its tree, the types of its parameters and what names mean to its
session; what came of that holds until the catalog changes. Most queries are not of the shape that a
short way is for, and that is kept, too. The trees are held, so that their ids stay their own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from sqlglot import exp

from catalog.model import Catalog
from executor.point_plans import names_meant
from planner.context import PlannerContext
from planner.statements import Query
from storage.types import SqlType

ANSWERS_KEPT = 256

A = TypeVar("A")

Make = Callable[[exp.Expr, PlannerContext, tuple[SqlType, ...]], A | None]


class KeptAnswers(Generic[A]):
    """One of a short way. A newer catalog empties it."""

    def __init__(self, make: Make[A]) -> None:
        """`make` gives None for a query that is to go the usual way."""
        self._make = make
        self._catalog: Catalog | None = None
        self._kept: OrderedDict[Hashable, tuple[exp.Expr, A | None]] = OrderedDict()

    def of(self, statement: Query, types: tuple[SqlType, ...], context: PlannerContext) -> A | None:
        """What answers the query; `context` holds the node's newest catalog."""
        if statement.as_of is not None:
            return None
        if context.catalog is not self._catalog:
            self._catalog = context.catalog
            self._kept.clear()
        tree = statement.tree
        key = (id(tree), types, names_meant(context).key)
        if key not in self._kept:
            self._kept[key] = tree, self._make(tree, context, types)
            while len(self._kept) > ANSWERS_KEPT:
                self._kept.popitem(last=False)
        return self._kept[key][1]
