"""Synchronous client; tools/make_sync.py generates all of it but io.py from hyperserve/aio."""
