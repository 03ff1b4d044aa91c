"""The asynchronous client, and the source of the other: tools/make_sync.py makes hyperserve/sync of it."""
