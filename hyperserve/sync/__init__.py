"""The synchronous client. All but io.py is made from hyperserve/aio by tools/make_sync.py."""
