"""Kills every kind of process at random instants while jobs run, and counts what was done how often.

`python -m benchmarks.fault_injection`; what it found is in docs/results/kills.md.
"""
