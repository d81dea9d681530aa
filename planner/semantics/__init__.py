"""PostgreSQL's meaning, written in DuckDB's SQL.

The problem: a user holds PostgreSQL's manual, and DuckDB runs the query. Most of SQL means the
same to both; what does not is rewritten here, call by call and cast by cast, while the query is
bound. DuckDB is never asked to behave otherwise by a setting (sqlglot writes ORDER BY and `/`
for DuckDB's defaults, and other users of the instance rely on them): the tree says it all.

The idea: every scalar carries its PostgreSQL type, and DuckDB holds that type in just the form
`storage.types.duckdb_type` says. So each rule is local: arguments of known types in, a node
of a known type out. Four ways to write a rule, the first that does:

1. DuckDB's own operator or function, cast where its result is wider (`length` is bigint there).
2. A constant worked out at once: literals, parameters, session functions, date arithmetic.
3. A macro of `planner.macros`, for what SQL can say (`pg_substr3`, `pg_divide_numeric`).
4. A Python function over Arrow columns of `planner.udfs`, for what it cannot (`to_char`).

Invariants, checked by tests/planner/test_semantics_postgres.py against PostgreSQL 18:
an expression of type T is held as `duckdb_type(T)`; a numeric's precision and scale are those of
DuckDB's DECIMAL; char(n) is held without padding and padded for the client; jsonb is in normal
form wherever it is seen; whatever depends on the session's time zone names it.

Left out is in docs/sql.md.

Modules:

    environment, build, rules     the session; typed nodes; short forms of rules
    literals                      constants, over text_times, text_intervals, text_arrays, text_json
    casts                         from one type to another
    numbers, comparison, strings, patterns, characters, times, arrays, jsonb, records
                                  a family of types each; json_texts: the JSON text of any value
    time_templates, time_writing, time_reading, number_templates
                                  to_char, to_date, to_timestamp, to_number, run by planner.udfs
    text_functions, json_edits    format() and changes of jsonb, run there, too
    aggregates, windows, sets     calls over many rows, and those that return them
    session_values                the time, who is connected: constants of a statement
    system, system_constants      information functions; those that say the same of everything
    relation_names                relations named by texts that are no constants
    catalogue                     all of them by name
    passthrough                   what only DuckDB knows
    system_relations              pg_catalog in FROM
    errors                        what fails as the query runs
"""
