"""What a serving process has once, and every resource is built from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from app.cluster import Cluster
from app.core.settings import Settings
from app.db.blob_collector import BlobCollector
from app.db.blobs import Blobs
from app.db.database import Database
from app.db.tenancy import Store
from app.serving.engine import Engine

P = ParamSpec("P")
R = TypeVar("R")


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

    async def in_decoder(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run in a thread that parses and decodes; return the result."""
        call = partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self.decoders, call)

    @property
    def scratch(self) -> Path:
        """A folder for files in passing."""
        return self.settings.data_dir / "scratch"
