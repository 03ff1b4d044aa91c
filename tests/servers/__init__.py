"""Real PostgreSQL and Redis servers for tests.

By URL (HYPERSERVE_TEST_DATABASE_URL, HYPERSERVE_TEST_REDIS_URL), else by a program that is installed, else by
the one in a wheel from PyPI. Where none is found tests are skipped, or fail under HYPERSERVE_REQUIRE_SERVERS=1.
"""
