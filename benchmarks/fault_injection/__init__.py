"""Fault injection: kills processes of every kind at random times while jobs run, and counts how often each job took
effect.

`python -m benchmarks.fault_injection`; results are in docs/results/kills.md.
"""
