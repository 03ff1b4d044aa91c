"""Serving: queries of many tasks meet in one batch; weights live in an arena. Knows no HTTP and no database."""
