"""The services of streams, tied together when the application starts."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from app.cluster import Between
from app.core.settings import Settings
from app.datasets.service import DatasetService
from app.db.blobs import Blobs
from app.db.engine import Database
from app.learners.service import Learners
from app.serving.engine import Engine
from app.streams.bundled import BundledStreams
from app.streams.learners import StreamLearners
from app.streams.predict import StreamAsking
from app.streams.registrations import Registrations
from app.streams.service import StreamService
from app.streams.versions import StreamHeads
from app.streams.weights import StreamWeights


@dataclass(frozen=True)
class Streams:
    service: StreamService
    registrations: Registrations
    asking: StreamAsking


async def wire(
    settings: Settings,
    database: Database,
    blobs: Blobs,
    learners: Learners,
    datasets: DatasetService,
    engine: Engine,
    others: Between,
    decoders: ThreadPoolExecutor,
    makers: ThreadPoolExecutor,
) -> Streams:
    """`makers` make networks, `decoders` decode inputs. Raises `models.continual.storage.StreamStorageError`."""
    bundled = await asyncio.to_thread(BundledStreams.load, settings.streams_dir)
    asking = StreamAsking(
        database,
        engine,
        decoders,
        StreamHeads(),
        bundled,
        StreamLearners(learners, settings.device),
        StreamWeights(database, blobs, makers, others.cache, others.tiers),
    )
    return Streams(
        StreamService(database, blobs, learners, bundled, asking.invalidation.heard),
        Registrations(database, datasets, bundled),
        asking,
    )
