"""The macros every node's DuckDB gets once: PostgreSQL's functions in its SQL.

A macro's argument is pasted wherever it is named, so what is dear to compute is named once
where that can be helped. Errors are raised with `error('[SQLSTATE] message')`, which
`planner.semantics.errors` turns into the right class. The names all begin with `pg_`; none is
one that DuckDB has itself. What a macro cannot do is in `planner.udfs`.

Modules, a family each: numbers, texts, strings, times, arrays, system, and over_udfs, which
`planner.udfs` installs behind its functions.
"""

from __future__ import annotations

from collections.abc import Mapping

from planner.macros.arrays import ARRAYS
from planner.macros.numbers import NUMBERS
from planner.macros.over_udfs import OVER_UDFS
from planner.macros.strings import STRINGS
from planner.macros.system import SYSTEM
from planner.macros.texts import INPUT, OUTPUT
from planner.macros.times import TIMES


def _statements(*families: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(
        f"CREATE OR REPLACE MACRO {head} AS {body}"
        for family in families
        for head, body in family.items()
    )


# Run once on a node's DuckDB instance.
SETUP_SQL = _statements(NUMBERS, OUTPUT, INPUT, STRINGS, TIMES, ARRAYS, SYSTEM)
# Macros that call functions of `planner.udfs`, whose `register` runs them.
OVER_UDFS_SQL = _statements(OVER_UDFS)
