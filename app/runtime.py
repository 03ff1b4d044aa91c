"""What a serving process has once, and every resource is built from."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from app.cluster import Cluster
from app.core.settings import Settings
from app.db.blob_collector import BlobCollector
from app.db.blobs import Blobs
from app.db.database import Database
from app.db.tenancy import Store
from app.serving.engine import Engine


@dataclass(frozen=True)
class Runtime:
    settings: Settings
    database: Database
    blobs: Blobs
    collector: BlobCollector
    engine: Engine
    cluster: Cluster
    decoders: Executor
    """Threads that parse bodies and decode inputs."""
    builders: Executor
    """Threads that build the networks of streams."""

    def store(self, tenant: str) -> Store:
        return Store(tenant, self.database, self.blobs)

    @property
    def scratch(self) -> Path:
        """A folder for files in passing."""
        return self.settings.data_dir / "scratch"
