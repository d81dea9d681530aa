"""SQL text to distributed plan. Pure: the catalog goes in, a plan comes out; no clock, no I/O.

In the order control flows:

    dialect         sqlglot's two dialects as everything here uses them
    parser          text to statements with PostgreSQL's grammar and our clauses
    statements      one class a kind of statement
    context         what the planner is given besides the statement; temporary: its own schema
    types           PostgreSQL's type rules; datum: values of parameters
    functions       signatures and how a call finds the one it means
    binder          names and types; a query as a tree that DuckDB would answer as PostgreSQL
    semantics       the meaning of each family of types, written in DuckDB's SQL
    macros, udfs    what every node's DuckDB must know for that
    bound           the bound query, which the rest works on
    algebra*        the bound tree as relational operators
    optimizer       rewrites, join order, distribution
    nearness        which nodes are near to another
    localise*       a table as its fragments, reduced to those needed
    duckdb_faults   what DuckDB refuses or answers wrongly, spelled so that it does not
    stages*, plan   stages and exchanges, and the plan they make
    explain*        the plan as text and JSON
    point*, row_*   single rows by key, and expressions over them as Python functions
    index_*         rows by an index, and aggregates over them
    joined_*        rows of several tables joined by their keys
    key_conditions  the keys or the index that a change's WHERE leads to
    locking         what FOR UPDATE and its like lock; locked_relations: how rows tell
    foreign_keys    the queries and changes that keep a foreign key
    ddl*            definitions as catalog commands
    writes, write_* plans of INSERT, UPDATE, DELETE, MERGE, COPY
"""
