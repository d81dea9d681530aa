"""A whole cluster in one thread: the node's own code on simulated machines, from one seed.

run         one simulation: set up, faults and clients, calm, checks
  world     what the seed draws: network, faults, bounds
  cluster   the machines and their network
  machine   one machine: disk, stores, and the lives of the node on it
    stores  DuckDB in memory, with the memory of a crash
    stages  query stages without threads
  nemesis   faults while it runs
  client    one client: an answer, a refusal, or nobody knows
  workloads what clients do, and what must then be true
    linearizability   the checker of registers
    dependencies      the checker of lists
  checks    progress, equal replicas, equal catalogs
  errors    how it ends badly
  trace     everything that happened, as one number
"""
