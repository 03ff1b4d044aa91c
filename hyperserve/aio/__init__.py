"""Asynchronous client; tools/make_sync.py generates hyperserve/sync from it."""
