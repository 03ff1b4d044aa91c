"""Queries of many tasks meet in one batch; their weights live in an arena. Knows no HTTP and no database."""
