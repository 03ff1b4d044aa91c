"""A tenant's own view of the state of record: a session and a store that see its rows and its blobs, no others.

The tenant is bound once, when a `Store` is made. Every statement of a `TenantSession` is restricted to its rows by
the session itself, and every row it adds becomes the tenant's: repository functions neither take a tenant nor can
forget one. Work that spans tenants (jobs, maintenance, metrics) uses `Database.read` and `Database.write` instead.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event, insert, literal
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from app.core.errors import AppError
from app.db.base import Base
from app.db.blobs import Blobs, Files, TenantBlobs
from app.db.database import Database

_TENANT = "tenant"


class ForeignTenantError(AppError):
    """A row of one tenant was added to the session of another. It is a fault of the program."""


class _TenantSyncSession(Session):
    """The synchronous session under a `TenantSession`; the listeners below hang on it."""


class TenantSession(AsyncSession):
    """A session that reads, changes and deletes rows of one tenant alone, whatever a statement says."""

    sync_session_class = _TenantSyncSession

    @property
    def tenant(self) -> str:
        tenant: str = self.info[_TENANT]
        return tenant


@dataclass(frozen=True)
class Store:
    """All that one tenant has stored: rows by `read` and `write`, raw inputs by `blobs`, files by `files`."""

    tenant: str
    database: Database
    all_blobs: Blobs

    @asynccontextmanager
    async def read(self) -> AsyncIterator[TenantSession]:
        async with self.database.read(TenantSession, info={_TENANT: self.tenant}) as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[TenantSession]:
        """Commits at the end, rolls back on an exception."""
        async with self.database.write(TenantSession, info={_TENANT: self.tenant}) as session:
            yield session

    @property
    def blobs(self) -> TenantBlobs:
        return TenantBlobs(self.all_blobs, self.tenant)

    def files(self, kind: str) -> Files:
        """Files of a kind such as `datasets`, by their paths below `kind/tenant/`."""
        return Files(self.all_blobs, f"{kind}/{self.tenant}/")


@event.listens_for(_TenantSyncSession, "do_orm_execute")
def _restrict(state: ORMExecuteState) -> None:
    tenant: str = state.session.info[_TENANT]
    if state.is_insert:
        state.statement = _inserting(state.statement, tenant)
    elif hasattr(state.statement, "options"):
        # Statements without rows, such as the taking of a lock, have no options.
        own = with_loader_criteria(Base, lambda table: table.tenant == tenant, include_aliases=True)
        state.statement = state.statement.options(own)


def _inserting(statement: Any, tenant: str) -> Any:
    """Return an INSERT of the tenant's rows. One that copies rows copies those of the tenant alone."""
    if statement.select is None:
        return statement.values(tenant=tenant)
    # Criteria of a loader do not reach the SELECT of an INSERT. Its columns are named as those they go to.
    source = statement.select
    source = source.where(*(table.c.tenant == tenant for table in source.get_final_froms()))
    source = source.add_columns(literal(tenant).label(_TENANT))
    return insert(statement.table).from_select(source.selected_columns.keys(), source)


@event.listens_for(_TenantSyncSession, "before_flush")
def _claim(session: Session, _context: object, _instances: object) -> None:
    tenant: str = session.info[_TENANT]
    for row in session.new:
        if row.tenant not in (None, tenant):
            raise ForeignTenantError(f"a row of {row.tenant!r} in a session of {tenant!r}")
        row.tenant = tenant
