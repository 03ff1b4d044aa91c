"""Trains a learner on a dataset: `models.training`, with its checkpoints in the attempt's folder."""

from __future__ import annotations

import asyncio
import json
import shutil
from importlib.metadata import version
from pathlib import Path

from safetensors import SafetensorError, safe_open
from sqlalchemy.ext.asyncio import AsyncSession

from app.datasets import repository as datasets
from app.db.blobs import BlobMissingError
from app.db.invalidation_log import Change, record
from app.db.locks import FILES, lock
from app.db.tables import DatasetRow
from app.learners import files as learner_files
from app.learners import repository as learners
from models.artifact import ArtifactError
from models.data import files
from models.data.dataset import DatasetError
from models.data.errors import DatasetFileError
from models.protocol import LearnerError
from models.training import recipe, user_dataset
from models.training.run_folder import RecipeError
from models.training.trainer import STATE_FILE, TrainingDivergedError
from workers.jobs import JobContext, JobFailedError, Outcome

_ABOUT_THE_JOB = ("learner", "name", "dataset")
"""Fields of the payload that are not the training's."""
_SHOWN = ("step", "loss", "score")
"""What clients see of a step: the score is the accuracy on validation tasks."""


async def run(context: JobContext) -> Outcome:
    """Payload: learner (id of its row), name, dataset, and the fields of `models.training.user_dataset.TrainingOptions`.

    Raises `JobFailedError`.
    """
    asked = user_dataset.TrainingOptions.model_validate(
        {k: v for k, v in context.payload.items() if k not in _ABOUT_THE_JOB}
    )
    name = str(context.payload["name"])
    context.progress({"phase": "loading", "step": 0, "steps": asked.steps})
    async with context.database.read() as session:
        dataset = await datasets.get(session, context.tenant, context.payload["dataset"])
    if dataset is None:
        raise JobFailedError("unknown_dataset", "The dataset was deleted.")
    path = context.folder / f"dataset.{dataset.format}"
    try:
        await context.blobs.fetch_file(datasets.path(context.tenant, dataset.blob), path)
        digest = await asyncio.to_thread(_train, context, asked, dataset, path, name)
    except BlobMissingError as error:
        raise JobFailedError("dataset_lost", "The file of the dataset is not in the store.") from error
    except DatasetFileError as error:
        raise JobFailedError(error.code, f"{error}") from error
    except (DatasetError, LearnerError, RecipeError) as error:
        raise JobFailedError("training_refused", f"{error}") from error
    except (TrainingDivergedError, ArtifactError) as error:
        raise JobFailedError("training_diverged", f"{error}") from error
    return await _publish(context, name, digest)


async def _publish(context: JobContext, name: str, digest: str) -> Outcome:
    """The files first; the row becomes ready with the job."""
    data = await asyncio.to_thread(learner_files.read, context.folder / "learner")
    bundle = learner_files.bundle_digest(data)
    await learner_files.keep(context.blobs, context.tenant, bundle, data)

    async def effect(session: AsyncSession) -> None:
        await lock(session, FILES)
        # A learner with the very same files may have been deleted since.
        await learner_files.keep(context.blobs, context.tenant, bundle, data)
        if not await learners.publish(session, str(context.payload["learner"]), context.id, bundle):
            raise JobFailedError("learner_deleted", "The learner was deleted while it was trained.")
        await record(session, Change(context.tenant, "learner", name))

    metrics = json.loads(data["config.json"])["metrics"]
    return Outcome({"learner": name, "digest": digest[:16], "metrics": metrics}, effect)


def _train(
    context: JobContext, asked: user_dataset.TrainingOptions, dataset: DatasetRow, path: Path, name: str
) -> str:
    """Digest of the learner in the attempt's folder."""
    if (state := context.left(STATE_FILE)) is not None:
        resume(state.parent, context.folder)
    settings = user_dataset.encoder_hparams(
        asked.encoder, None if dataset.shape is None else tuple(dataset.shape)
    )
    ways = user_dataset.ways_of(asked.method, asked.hparams, asked.encoder, settings)
    source, pictures = dataset.name or dataset.id, user_dataset.pictures(asked.encoder)
    given = files.from_file(path, dataset.format, source, pictures=pictures)  # type: ignore[arg-type]
    user_dataset.check(asked, given.counts, ways)
    data = user_dataset.training_data(given, asked.encoder, asked.seed, ways)

    def report(row: dict[str, float]) -> None:
        phase = "training" if row["step"] < asked.steps else "calibrating"
        shown = {name: row[name] for name in _SHOWN if name in row}
        context.progress({"phase": phase, "steps": asked.steps, **shown})

    context.progress({"phase": "training", "step": 0, "steps": asked.steps})
    source = f"{dataset.name} ({dataset.id})" if dataset.name else dataset.id
    chosen = user_dataset.recipe(asked, source, settings, context.settings.worker_device)
    return recipe.train(
        chosen,
        data,
        context.folder,
        version("hyperserve"),
        _command(name, asked, dataset.id),
        report,
        name=name,
    )


def resume(previous: Path, folder: Path) -> None:
    """Takes over where an attempt before was killed; the recipe is written anew, for this worker's device."""
    state = folder / STATE_FILE
    try:
        shutil.copyfile(previous / STATE_FILE, state)
        with safe_open(state, framework="pt"):
            return
    except (FileNotFoundError, SafetensorError):
        # None was written yet, or it is damaged: the training begins anew.
        state.unlink(missing_ok=True)


def _command(name: str, asked: user_dataset.TrainingOptions, dataset: str) -> str:
    """How to make the learner again."""
    body = {"name": name, "dataset": dataset} | asked.model_dump(
        include={"method", "hparams", "encoder", "queries", "steps", "seed"}
    )
    ranges = {
        "ways": {"min": asked.min_way, "max": asked.max_way},
        "shots": {"min": asked.min_shot, "max": asked.max_shot},
    }
    return f"POST /v1/learners {json.dumps(body | ranges)}"
