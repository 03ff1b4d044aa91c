"""The application: resources are opened when it starts and closed when it stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI

import hyperserve
from app import problem_translations
from app.cluster import Cluster, joined_cluster
from app.core.data_folder import open_data_folder
from app.core.settings import Settings
from app.datasets import routes as dataset_routes
from app.datasets.resources import DatasetResources
from app.db.blob_collector import BlobCollector
from app.db.blobs import Blobs
from app.db.database import Database
from app.db.migrate import prepare_database
from app.http import openapi
from app.http.body import BodyReader
from app.http.middleware import DrainBody, RequestContext
from app.http.origins import AllowedHosts, OriginGuard, cors_middleware
from app.http.shutdown import GracefulShutdown
from app.jobs import routes as job_routes
from app.jobs.events import Followers
from app.jobs.resources import JobResources
from app.learners import openapi_examples as learner_examples
from app.learners import routes as learner_routes
from app.learners.resources import LearnerResources, load_learners
from app.learners.served_learners import ServedLearners
from app.maintenance.cleanup import Cleanup
from app.meta import methods, metrics
from app.meta import routes as meta_routes
from app.payloads.openapi_examples import SCHEMAS
from app.runtime import Runtime
from app.sampler import MetricsSampler
from app.serving.engine import Engine
from app.streams import openapi_examples as stream_examples
from app.streams import routes as stream_routes
from app.streams.resources import StreamResources
from app.tasks import openapi_examples as task_examples
from app.tasks import routes as task_routes
from app.tasks.resources import TaskResources
from app.telemetry import tracing
from app.telemetry.access_log import AccessLog
from app.telemetry.gauges import JobGauges, StreamGauges

DECODERS = 2
"""Threads that parse and decode; Pillow and base64 leave the interpreter lock for part of the time."""
BUILDERS = 2
"""Threads that build networks of streams."""

log = logging.getLogger("hyperserve")


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the ASGI application. Without settings they are read from the environment, as several workers need."""
    settings = settings or Settings()
    app = FastAPI(
        title="hyperserve",
        version=hyperserve.__version__,
        description="Post a support set, get a model made for that task, query it with uncertainty.",
        lifespan=_lifespan,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        telemetry=tracing.CONFIG,
    )
    app.state.settings = settings
    app.state.ready = False
    app.state.draining = GracefulShutdown(settings.drain_seconds)
    # The last one added sees a request first.
    if settings.cors_origins:
        app.add_middleware(cors_middleware, origins=settings.cors_origins)
    app.add_middleware(
        OriginGuard,
        hosts=AllowedHosts(settings.host, settings.allowed_hosts),
        origins=settings.cors_origins,
    )
    app.add_middleware(DrainBody)
    app.add_middleware(AccessLog)
    app.add_middleware(RequestContext)
    problem_translations.install(app)
    for resource in (
        task_routes,
        learner_routes,
        methods,
        dataset_routes,
        job_routes,
        stream_routes,
        meta_routes,
        metrics,
    ):
        app.include_router(resource.router)
    bodies = (task_examples, learner_examples, stream_examples)
    openapi.install(app, [model for one in bodies for model in one.MODELS], SCHEMAS)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what the application needs; a database or default learner that cannot be used stops the start.

    `/livez` already answers while learners warm.
    """
    settings: Settings = app.state.settings
    open_data_folder(settings.data_dir)
    await asyncio.to_thread(prepare_database, settings)
    # What is entered first ends last, and however far the start came.
    async with AsyncExitStack() as exits:
        learners, runtime = await _open_runtime(exits, settings)
        background = await _open_resources(app, runtime, learners)
        tasks = [asyncio.create_task(work) for work in background]
        try:
            with app.state.draining.on_signals():
                yield
        finally:
            app.state.ready = False
            app.state.jobs.followers.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _open_runtime(exits: AsyncExitStack, settings: Settings) -> tuple[ServedLearners, Runtime]:
    database = Database(settings.database)
    exits.push_async_callback(database.close)
    exits.enter_context(tracing.exporting(hyperserve.__version__))
    cluster = await exits.enter_async_context(joined_cluster(settings, database))
    learners = await load_learners(settings)
    decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
    # Not waited for: one image may take longer than there is time.
    exits.callback(decoders.shutdown, wait=False, cancel_futures=True)
    builders = ThreadPoolExecutor(BUILDERS, thread_name_prefix="streams")
    # Not waited for: they may wait for this loop.
    exits.callback(builders.shutdown, wait=False, cancel_futures=True)
    engine = _start_engine(settings, learners, cluster)
    exits.callback(engine.close)
    blobs = Blobs.at(settings.blob_url, settings.data_dir)
    return learners, Runtime(
        settings, database, blobs, BlobCollector(database, blobs), engine, cluster, decoders, builders
    )


async def _open_resources(
    app: FastAPI, runtime: Runtime, learners: ServedLearners
) -> tuple[Coroutine[Any, Any, None], ...]:
    """Open every resource at `app.state`, and return what runs in the background until the application stops."""
    state, settings, database, cluster = app.state, runtime.settings, runtime.database, runtime.cluster
    state.runtime = runtime
    state.body_reader = BodyReader(
        held_bytes=settings.body_bytes, held_bodies=settings.queue_limit, seconds=settings.body_seconds
    )
    state.tasks = TaskResources.open(runtime, learners)
    state.datasets = DatasetResources.open(runtime)
    state.streams = await StreamResources.open(runtime, learners, state.datasets)
    state.jobs = JobResources(Followers(database), cluster.watcher)
    cluster.watcher.subscribe(state.jobs.followers)
    state.learners = await LearnerResources.open(runtime, learners)
    state.job_gauges, state.stream_gauges = JobGauges(database), StreamGauges(database)
    state.sampler = MetricsSampler(runtime.engine, cluster.cache_stats)
    return (
        _warm(app),
        Cleanup(database, runtime.collector, settings).run(),
        cluster.run(),
        state.jobs.followers.run(),
        state.sampler.run(),
        _end_event_streams(app),
    )


def _start_engine(settings: Settings, learners: ServedLearners, cluster: Cluster) -> Engine:
    engine = Engine(
        learners.artifacts,
        device=settings.device,
        arena_bytes=settings.arena_bytes,
        queue_limit=settings.queue_limit,
        cache_stats=cluster.cache_stats,
    )
    engine.start()
    return engine


async def _end_event_streams(app: FastAPI) -> None:
    """The server waits for every answer in flight, and an event stream would go on."""
    await app.state.draining.wait()
    app.state.jobs.followers.close()


async def _warm(app: FastAPI) -> None:
    try:
        failed = await asyncio.to_thread(app.state.runtime.engine.warm)
        resources: LearnerResources = app.state.learners
        for name, error in failed.items():
            resources.learners.fail(name, error)
        resources.learners.check_defaults(app.state.settings.chosen_defaults, await resources.library.names())
        await resources.library.start()
    except Exception:
        log.exception("a learner failed to answer; the server stays unready")
        raise
    app.state.ready = True
