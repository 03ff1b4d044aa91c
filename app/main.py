"""The application: services are built when it starts and closed when it stops."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from obstore.exceptions import BaseError as StoreError

from app.cluster import Between, between
from app.core.settings import Settings
from app.datasets import routes as dataset_routes
from app.datasets.service import DatasetService
from app.db.blobs import Blobs
from app.db.engine import Database
from app.db.failures import NO_ANSWER, at_fault, busy
from app.db.migrate import prepare_database
from app.http import handlers, openapi
from app.http.body import Intake
from app.http.idempotency import Idempotency
from app.http.limits import LIMITS
from app.http.middleware import DrainBody, RequestContext
from app.http.problems import ProblemError, fail
from app.http.shutdown import Draining
from app.http.upload import Spool
from app.jobs import routes as job_routes
from app.jobs.events import Followers
from app.jobs.service import JobService
from app.learners import openapi_examples as learner_documents
from app.learners import routes as learner_routes
from app.learners.library import Library
from app.learners.service import Learners
from app.learners.trainings import TrainingService
from app.maintenance.collection import Maintenance
from app.meta import methods as method_routes
from app.meta import metrics as telemetry_routes
from app.meta import routes as meta_routes
from app.payloads.openapi_examples import SCHEMAS
from app.sampler import Sampler
from app.serving.engine import Engine
from app.serving.errors import EngineBusy, EngineClosed, NotFinite, UnknownLearner
from app.streams import openapi_examples as stream_documents
from app.streams import routes as stream_routes
from app.streams.predict import StreamAsking
from app.streams.registrations import Registrations
from app.streams.service import StreamService
from app.streams.wiring import wire
from app.tasks import openapi_examples
from app.tasks import routes as task_routes
from app.tasks.cache import Heads, Invalidation
from app.tasks.garbage import Collector
from app.tasks.service import TaskService
from app.tasks.weights import Restorer
from app.telemetry import tracing
from app.telemetry.access import Access
from app.telemetry.gauges import JobGauges, StreamGauges
from models.protocol import LearnerError

DECODERS = 2
"""Threads that parse and decode; Pillow and base64 leave the interpreter lock for part of the time."""
MAKERS = 2
"""Threads that make networks of streams."""
UPLOADS = 4
"""Datasets that are received at a time; each lies on the disk until it is in the blob store."""
VERSION = "0.1.0"

log = logging.getLogger("hyperserve")


@dataclass(frozen=True)
class Services:
    """What routes reach through `app.state.services`."""

    learners: Learners
    tasks: TaskService
    intake: Intake
    idempotency: Idempotency
    jobs: JobService
    datasets: DatasetService
    trainings: TrainingService
    streams: StreamService
    registrations: Registrations
    stream_asking: StreamAsking


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI application. Without settings they are read from the environment, as several workers need."""
    settings = settings or Settings()
    app = FastAPI(
        title="hyperserve",
        version=VERSION,
        description="Post a support set, get a model made for that task, query it with uncertainty.",
        lifespan=_lifespan,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        telemetry=tracing.CONFIG,
    )
    app.state.settings = settings
    app.state.ready = False
    app.state.draining = Draining(settings.drain_seconds)
    app.add_middleware(DrainBody)
    app.add_middleware(Access)
    app.add_middleware(RequestContext)
    handlers.install(app, _TRANSLATIONS)
    for resource in (
        task_routes,
        learner_routes,
        method_routes,
        dataset_routes,
        job_routes,
        stream_routes,
        meta_routes,
        telemetry_routes,
    ):
        app.include_router(resource.router)
    bodies = (openapi_examples, learner_documents, stream_documents)
    openapi.install(app, [model for one in bodies for model in one.MODELS], SCHEMAS)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """A wrong database or a broken learner stops the start; `/livez` already answers while learners warm."""
    settings: Settings = app.state.settings
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    await asyncio.to_thread(prepare_database, settings)
    # What is entered first ends last, and however far the start came.
    async with AsyncExitStack() as ties:
        database = Database(settings.database)
        ties.push_async_callback(database.close)
        ties.enter_context(tracing.exporting(VERSION))
        others = await ties.enter_async_context(between(settings, database))
        learners = await asyncio.to_thread(_learners, settings)
        blobs = Blobs.at(settings.blob_url, settings.data_dir)
        garbage = Collector(database, blobs)
        pool = ties.enter_context(ThreadPoolExecutor(DECODERS, thread_name_prefix="decode"))
        makers = ThreadPoolExecutor(MAKERS, thread_name_prefix="streams")
        # Not waited for: they may wait for this loop.
        ties.callback(makers.shutdown, wait=False, cancel_futures=True)
        engine = _engine(settings, learners, others)
        ties.callback(engine.close)
        heads, followers = Heads(), Followers(database)
        datasets = DatasetService(database, blobs, _spool(settings))
        streams = await wire(settings, database, blobs, learners, datasets, engine, others, pool, makers)
        library = Library(database, blobs, learners, engine, _scratch(settings), settings.device)
        for listener in (Invalidation(heads, engine), streams.asking.invalidation, followers, library.heard):
            others.watcher.listen(listener)
        learners.check_defaults(settings.chosen_defaults, await library.names())
        restorer = Restorer(database, blobs, engine, pool, others.cache, others.tiers)
        app.state.engine = engine
        app.state.others = others
        app.state.job_gauges, app.state.stream_gauges = JobGauges(database), StreamGauges(database)
        app.state.sampler = sampler = Sampler(engine, others.tiers)
        app.state.services = Services(
            learners,
            TaskService(
                database,
                blobs,
                learners,
                engine,
                pool,
                heads,
                garbage,
                restorer,
                settings.prediction_seconds,
            ),
            _intake(settings),
            Idempotency(database),
            JobService(database, followers),
            datasets,
            TrainingService(database, blobs, learners, library),
            streams.service,
            streams.registrations,
            streams.asking,
        )
        running = (
            _warm(app, engine, library),
            garbage.run(),
            Maintenance(database, blobs, garbage, settings).run(),
            others.run(),
            followers.run(),
            sampler.run(),
            _end_streams(app.state.draining, followers),
        )
        background = [asyncio.create_task(work) for work in running]
        try:
            with app.state.draining.on_signals():
                yield
        finally:
            app.state.ready = False
            followers.close()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)


def _learners(settings: Settings) -> Learners:
    folders = (settings.learners_dir, settings.data_dir / "learners")
    return Learners.load(folders, settings.defaults, settings.device)


def _engine(settings: Settings, learners: Learners, others: Between) -> Engine:
    engine = Engine(
        learners.artifacts,
        device=settings.device,
        arena_bytes=settings.arena_bytes,
        queue_limit=settings.queue_limit,
        tiers=others.tiers,
    )
    engine.start()
    return engine


def _intake(settings: Settings) -> Intake:
    return Intake(
        held_bytes=settings.body_bytes, held_bodies=settings.queue_limit, seconds=settings.body_seconds
    )


def _spool(settings: Settings) -> Spool:
    return Spool(
        _scratch(settings), most=LIMITS.dataset_bytes, at_once=UPLOADS, seconds=settings.body_seconds
    )


def _scratch(settings: Settings) -> Path:
    return settings.data_dir / "scratch"


async def _end_streams(draining: Draining, followers: Followers) -> None:
    """The server waits for every answer in flight, and a stream would go on."""
    await draining.wait()
    followers.close()


async def _warm(app: FastAPI, engine: Engine, library: Library) -> None:
    try:
        await asyncio.to_thread(engine.warm)
        await library.start()
    except Exception:
        log.exception("a learner failed to answer; the server stays unready")
        raise
    app.state.ready = True


def _busy(error: EngineBusy) -> ProblemError:
    seconds = max(1, math.ceil(error.retry_after))
    return fail("busy", "Too many requests are waiting.", headers={"Retry-After": str(seconds)})


def _database_failed(error: Exception) -> ProblemError:
    if at_fault(error):
        log.error("the database refused a statement", exc_info=error)
        return fail("internal_error", "The server failed to answer.")
    log.warning("the database did not answer: %s", getattr(error, "orig", error))
    if busy(error):
        return fail("busy", "The database is busy.", headers={"Retry-After": "1"})
    return fail("database_unavailable", "The database does not answer.", headers={"Retry-After": "2"})


def _store_failed(error: Exception) -> ProblemError:
    log.error("the blob store failed: %s", type(error).__name__, exc_info=error)
    return fail("storage_unavailable", "The store of inputs does not answer.", headers={"Retry-After": "2"})


_TRANSLATIONS: dict[type[Exception], Callable[[Any], ProblemError]] = {
    EngineBusy: _busy,
    EngineClosed: lambda _: fail("busy", "The server is stopping.", headers={"Retry-After": "5"}),
    UnknownLearner: lambda _: fail("learner_unavailable", "The learner is not served any more."),
    NotFinite: lambda error: fail(
        "numerical_overflow",
        "The numbers overflow; scale the inputs down.",
        "/support" if error.support else "/queries",
    ),
    LearnerError: lambda error: fail("unsupported_support", f"{error}", "/support"),
    StoreError: _store_failed,
    **dict.fromkeys(NO_ANSWER, _database_failed),
}
