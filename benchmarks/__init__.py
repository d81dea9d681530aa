"""Benchmarks against peers started in the same run; each module is a command.

`python -m benchmarks.tpch`, `python -m benchmarks.copy`, `python -m benchmarks.rpc`. They print
a table of ratios and write JSON under `benchmarks/results/`.
"""
