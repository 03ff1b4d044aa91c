"""Learners, in PyTorch only: no HTTP, no database, no queue."""
