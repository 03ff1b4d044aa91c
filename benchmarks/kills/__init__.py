"""Kills every kind of process at random instants while jobs run, and counts what was done how often.

`python -m benchmarks.kills`; what it found is in docs/results/kills.md.
"""
