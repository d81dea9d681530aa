"""The types of a block's outputs: found while it is bound, final once its place is known.

An untyped literal in a select list stays open until a UNION's other side, a comparison or an
INSERT's column says what it is to be; text where nothing does.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from planner.binder.blocks import Block, Output
from planner.binder.statement import Statement
from planner.bound import type_of
from planner.semantics import build, comparison
from planner.semantics.casts import stored_shape
from planner.types import Coercion
from storage.types import TEXT, Kind, SqlType


class Settling:
    """Gives outputs of one statement's blocks their final types."""

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self._casts = statement.casts

    def settle(self, block: Block, targets: Sequence[SqlType] | None = None) -> None:
        """Every output in its final type: the target's, or text where none was found."""
        settled = []
        for index, output in enumerate(block.outputs):
            target = targets[index] if targets is not None else None
            settled.append(self._settle_output(block.tree, index, output, target))
        block.outputs = settled

    def _settle_output(
        self, tree: exp.Expr, index: int, output: Output, target: SqlType | None
    ) -> Output:
        if isinstance(tree, exp.SetOperation):
            wanted = target or (TEXT if output.type.kind is Kind.UNKNOWN else output.type)
            left = self._settle_output(tree.this, index, output, wanted)
            self._settle_output(tree.expression, index, output, wanted)
            return left
        if isinstance(tree, (exp.Subquery, exp.Paren)):
            return self._settle_output(tree.this, index, output, target)
        alias = tree.expressions[index]
        node = alias.this
        source = type_of(node)
        wanted = target or (TEXT if source.kind is Kind.UNKNOWN else source)
        coerced = comparison.normalised(self._casts.coerce(node, wanted, Coercion.IMPLICIT))
        if target is not None:
            coerced = stored_shape(coerced, target)
        if coerced is not node:
            alias.set("this", coerced)
        final = type_of(coerced)
        alias.meta["type"] = final
        return Output(output.name, output.alias, final)

    def assign(self, block: Block, targets: Sequence[SqlType]) -> None:
        """Every output as a value stored in a column of that type."""
        tree = block.tree
        if not isinstance(tree, exp.Select) or tree.args.get("distinct") is not None:
            self.settle(block)
            wrapped = self.wrapped(block)
            block.tree, tree = wrapped.tree, wrapped.tree
        assigned = []
        for index, output in enumerate(block.outputs):
            alias = tree.expressions[index]
            if index < len(targets):
                node = self.assigned(alias.this, targets[index])
            else:
                node = alias.this
            alias.set("this", node)
            alias.meta["type"] = type_of(node)
            assigned.append(Output(output.name, output.alias, type_of(node)))
        block.outputs = assigned

    def assigned(self, node: exp.Expr, target: SqlType) -> exp.Expr:
        """The value as a column of that type stores it."""
        coerced = self._casts.coerce(node, target, Coercion.ASSIGNMENT)
        return stored_shape(comparison.normalised(coerced), target)

    def wrapped(self, block: Block) -> Block:
        """The block as a derived table of a plain SELECT."""
        unique = self._statement.unique_name("q")
        outputs = [
            build.aliased(build.column(o.alias, unique, o.type), o.alias) for o in block.outputs
        ]
        inner = exp.Subquery(this=block.tree, alias=exp.TableAlias(this=build.identifier(unique)))
        select = exp.Select(expressions=outputs, from_=exp.From(this=inner))
        return Block(select, list(block.outputs))
