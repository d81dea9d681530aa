"""SQL text to statements.

In the order control flows:

    entry                 a query string split, each statement sent to its reader
    tokens, keywords      what readers walk, and which words may name what
    changes, merge        INSERT, UPDATE, DELETE, TRUNCATE; MERGE
    copying               COPY
    tables, clauses       CREATE TABLE; foreign_keys, indexes, sequences: of and beside it
    alterations           ALTER TABLE
    objects, comments     schemas, views, DROP; COMMENT ON
    settings, transactions
                          SET and SHOW; BEGIN to COMMIT
    cursors, maintenance  prepared statements and cursors; ANALYZE and VACUUM
    distribute            calls that cut a table, as statements
    past, system_time     AS OF SYSTEM TIME
    grammar               what PostgreSQL accepts as a query, without building anything
    grammar_expressions   operators, over precedence; grammar_primaries, grammar_constructs,
                          grammar_calls: operands; grammar_parts: what all of them are made of
    types                 names of types
    builder, expressions  sqlglot trees of accepted tokens; of texts that the catalog keeps
"""

from planner.parser.entry import parse

__all__ = ["parse"]
