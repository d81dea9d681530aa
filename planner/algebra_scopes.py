"""Where names of a query block mean something while its algebra is built.

A `Scope` knows the relations of one block and the CTEs it may use, and its parent knows those
of the query around it. A `Frame` is a block under construction: the operator so far, and the
conditions that could not be applied because they read the query around it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlglot import exp

from planner.algebra import Column, Filter, Node, Scalar, names_of


class CannotDistribute(Exception):
    """This query (block) is not in the algebra; it is gathered and run as it is written.

    `reason` completes the sentence "gathered to one node because of ...".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Relation:
    """A built query: its operator, and its output columns under the names users gave them."""

    node: Node
    outputs: tuple[tuple[str, Column], ...]


@dataclass(slots=True)
class Cte:
    """A WITH item. `shared` is its `Shared` name once it was decided to compute it once."""

    name: str
    tree: exp.Expr
    column_names: tuple[str, ...]
    scope: Scope
    uses: int
    definition: Relation | None = None
    shared: str | None = None


@dataclass(slots=True)
class Scope:
    """The names one block can see."""

    parent: Scope | None = None
    relations: dict[str, dict[str, Column]] = field(default_factory=dict)
    ctes: dict[str, Cte] = field(default_factory=dict)
    outputs: dict[str, Column] = field(default_factory=dict)

    def resolve(self, node: exp.Column) -> tuple[Column, int]:
        """The column meant, and how many blocks further out it was found."""
        if not node.table:
            if node.name in self.outputs:
                return self.outputs[node.name], 0
            raise CannotDistribute(f'the unqualified column "{node.name}"')
        scope: Scope | None = self
        level = 0
        while scope is not None:
            found = scope.relations.get(node.table)
            if found is not None:
                if node.name in found:
                    return found[node.name], level
                break
            scope = scope.parent
            level += 1
        raise CannotDistribute(f'the column "{node.table}.{node.name}"')

    def find_cte(self, name: str) -> Cte | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.ctes:
                return scope.ctes[name]
            scope = scope.parent
        return None

    def add(self, alias: str, columns: Iterable[tuple[str, Column]]) -> None:
        self.relations[alias] = dict(columns)


@dataclass(slots=True)
class Frame:
    """A block under construction."""

    scope: Scope
    node: Node
    correlated: list[Scalar] = field(default_factory=list)

    def add_filter(self, condition: Scalar) -> None:
        """Applies a condition, or keeps it for the query around where it reads that one."""
        if not condition.columns <= names_of(self.node):
            self.correlated.append(condition)
        elif isinstance(self.node, Filter):
            self.node = Filter(self.node.child, (*self.node.conditions, condition))
        else:
            self.node = Filter(self.node, (condition,))
