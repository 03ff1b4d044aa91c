"""The store of a tenant over a database that a test has at hand."""

from __future__ import annotations

from typing import cast

from app.db.blobs import Blobs
from app.db.database import Database
from app.db.tenancy import Store


def store_of(database: Database, tenant: str = "t", blobs: Blobs | None = None) -> Store:
    """Return the tenant's store; without blobs it has rows alone."""
    return Store(tenant, database, cast(Blobs, blobs))
