"""What each command does to the catalog: pure functions over a draft of the next version.

draft      the catalog being changed, look-ups with PostgreSQL's errors
scheme     cutting a table: method, groups, parts, tablets
tables     create and drop tables; parts attached and detached; re-cutting
readable   from when on a table's fragments hold what it held
columns    what ALTER TABLE does to columns and names
constraints   what it does to constraints, types and identity
definitions  those of transactions: staged, committed, aborted
foreign_keys   what ties rows to those of other tables
indexes    secondary indexes
sequences  sequences, and those of serial and identity columns
schemas    schemas and views
renames    a schema's new name, for all that is in it
comments   COMMENT ON
nodes      the cluster itself, its nodes, settings and statistics
replicas   where tablets are to lie, and that one goes on without its majority
recovery   the same of the catalog
"""
