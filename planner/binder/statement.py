"""What all blocks of one statement share: names given out, relations, parameters, casts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from catalog.model import Table
from cluster.errors import UndefinedParameter
from planner.bound import BoundRelation, SystemTable
from planner.context import PlannerContext
from planner.datum import Datum, datum_text
from planner.semantics import build, literals
from planner.semantics.casts import Casts
from planner.semantics.environment import Environment
from planner.semantics.system import registered_cast, registered_name
from storage.types import TEXT, UNKNOWN, Kind, SqlType

# Views inside views, and so on: an endless chain is an error, not a full stack.
MAX_VIEW_DEPTH = 32


class _StatementCasts(Casts):
    """Casts that know the catalog's names."""

    def registered_name(self, node: exp.Expr) -> exp.Expr:
        return registered_name(node, self.environment)


class Statement:
    """One statement being bound."""

    def __init__(
        self,
        context: PlannerContext,
        parameters: Sequence[SqlType | None],
        values: Sequence[Datum] | None,
    ) -> None:
        self.environment = Environment(context)
        self.casts: Casts = _StatementCasts(self.environment, self._type_parameter)
        self.relations: list[BoundRelation] = []
        self._parameters = list(parameters)
        self._values = values
        self._names: set[str] = set()

    @property
    def context(self) -> PlannerContext:
        return self.environment.context

    def unique_name(self, wanted: str) -> str:
        """A relation name nothing else in the statement has (DuckDB ignores letter case)."""
        plain = wanted.replace("\x00", "") or "t"
        name, suffix = plain, 1
        while name.lower() in self._names:
            suffix += 1
            name = f"{plain}_{suffix}"
        self._names.add(name.lower())
        return name

    def relation(self, wanted: str, source: Table | SystemTable) -> BoundRelation:
        """Notes one more use of a table."""
        relation = BoundRelation(self.unique_name(wanted), source)
        self.relations.append(relation)
        return relation

    def parameter(self, number: int) -> exp.Expr:
        """`$number`: its value where it is known, else a placeholder."""
        if number < 1:
            raise UndefinedParameter(f"there is no parameter ${number}")
        while len(self._parameters) < number:
            self._parameters.append(None)
        known = self._parameters[number - 1]
        node = exp.Parameter(this=exp.Literal.number(number))
        if known is None or known.kind is Kind.UNKNOWN:
            return build.typed(node, UNKNOWN)
        return self._type_parameter(node, known)

    def _type_parameter(self, node: exp.Parameter, sql_type: SqlType) -> exp.Expr:
        index = int(node.name) - 1
        known = self._parameters[index]
        if known is None or known.kind is Kind.UNKNOWN:
            sql_type = SqlType(sql_type.kind, element=sql_type.element)
            self._parameters[index] = sql_type
        else:
            sql_type = known
        if self._values is None:
            return build.typed(node.copy(), sql_type)
        if index >= len(self._values):
            raise UndefinedParameter(f"there is no parameter ${index + 1}")
        written = datum_text(self._values[index])
        if written is None:
            return build.null(sql_type)
        named = registered_cast(build.text(written), sql_type, self.environment)
        return named or literals.literal(written, sql_type, self.environment)

    def parameter_types(self) -> tuple[SqlType, ...]:
        """All parameters' types; those nothing said anything of are text."""
        return tuple(
            TEXT if known is None or known.kind is Kind.UNKNOWN else known
            for known in self._parameters
        )
