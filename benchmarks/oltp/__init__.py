"""Point work beside PostgreSQL 18: selects, TPC-B, transfers between nodes, inserts.

`workloads` says what is run, `pgbench` runs it, `__main__` starts both servers, runs them in turn
and prints the ratios. `budget` takes a point select and a block apart, by `wire_client`.
"""
