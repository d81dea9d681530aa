"""A TPC-C of our own over Python's DB-API, on a dqe cluster and on one PostgreSQL 18.

Modules in the order in which a run goes through them:

- `sizes`        how large a database is, and the specification's random choices
- `schema`       the nine tables, for either system
- `population`   their first rows, by COPY
- `transactions` the five transactions
- `terminals`    clients that run them in the specification's mix, and nodes killed meanwhile
- `consistency`  the twelve conditions that must hold afterwards

The mix, the choices and the conditions are those of TPC-C 5.11. What is not: terminals neither
think nor key in, so the figure is a rate of transactions and no tpmC; strings come from a pool.
"""
