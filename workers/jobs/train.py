"""The job that trains a learner on a dataset by `models.training`, with checkpoints in the attempt's folder."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from safetensors import SafetensorError, safe_open

from app.datasets import repository as datasets
from app.db.blobs import BlobMissingError
from app.db.invalidation_log import Change, record
from app.db.tables import DatasetRow
from app.db.tenancy import TenantSession
from app.learners import files as learner_files
from app.learners import repository as learners
from hyperserve.version import __version__
from models.artifact import ArtifactError
from models.data import files
from models.data.dataset import DatasetError
from models.data.errors import DatasetFileError
from models.protocol import LearnerError
from models.training import recipe, user_dataset
from models.training.run_folder import RecipeError
from models.training.trainer import STATE_FILE, TrainingDivergedError
from models.training.user_dataset import TrainingOptions
from workers.jobs import JobContext, JobError, Outcome

_JOB_FIELDS = ("learner", "name", "dataset")
"""Fields of the payload besides the options of the training."""
_REPORTED = ("step", "loss", "score")
"""Values of a step that clients see; the score is the accuracy on validation tasks."""


async def run(context: JobContext) -> Outcome:
    """Payload: learner (id of its row), name, dataset, and the fields of `user_dataset.TrainingOptions`.

    Raises `JobError`.
    """
    options = TrainingOptions.model_validate(
        {name: value for name, value in context.payload.items() if name not in _JOB_FIELDS}
    )
    name = str(context.payload["name"])
    context.progress({"phase": "loading", "step": 0, "steps": options.steps})
    async with context.store.read() as session:
        dataset = await datasets.get(session, context.payload["dataset"])
    if dataset is None:
        raise JobError("unknown_dataset", "The dataset was deleted.")
    path = context.folder / f"dataset.{dataset.format}"
    try:
        await context.store.files(datasets.FOLDER).fetch(dataset.blob, path)
        digest = await asyncio.to_thread(_train, context, options, dataset, path, name)
    except BlobMissingError as error:
        raise JobError("dataset_lost", "The file of the dataset is missing from the blob store.") from error
    except DatasetFileError as error:
        raise JobError(error.code, f"{error}") from error
    except (DatasetError, LearnerError, RecipeError) as error:
        raise JobError("training_refused", f"{error}") from error
    except (TrainingDivergedError, ArtifactError) as error:
        raise JobError("training_diverged", f"{error}") from error
    return await _publish(context, name, digest)


async def _publish(context: JobContext, name: str, digest: str) -> Outcome:
    """Write the files; the row becomes ready when the job ends."""
    data = await asyncio.to_thread(learner_files.read, context.folder / "learner")
    bundle = learner_files.bundle_digest(data)
    stored_files = context.store.files(learners.FOLDER)
    await learner_files.keep(stored_files, bundle, data)

    async def effect(session: TenantSession) -> None:
        # A learner with the same files may have been deleted since.
        await learner_files.keep(stored_files, bundle, data)
        if not await learners.publish(session, str(context.payload["learner"]), context.id, bundle):
            raise JobError("learner_deleted", "The learner was deleted while it was trained.")
        await record(session, Change(session.tenant, "learner", name))

    metrics = json.loads(data["config.json"])["metrics"]
    return Outcome({"learner": name, "digest": digest[:16], "metrics": metrics}, effect)


def _train(context: JobContext, options: TrainingOptions, dataset: DatasetRow, path: Path, name: str) -> str:
    """Train into the attempt's folder and return the digest of the learner."""
    if (state := context.checkpoint(STATE_FILE)) is not None:
        resume(state.parent, context.folder)
    settings = user_dataset.encoder_hparams(
        options.encoder, None if dataset.shape is None else tuple(dataset.shape)
    )
    ways = user_dataset.ways_of(options.method, options.hparams, options.encoder, settings)
    source, pictures = dataset.name or dataset.id, user_dataset.pictures(options.encoder)
    given = files.from_file(
        path,
        dataset.format,  # type: ignore[arg-type]
        source,
        pictures=pictures,
        options=datasets.options_of(dataset),
    )
    user_dataset.check(options, given.counts, ways)
    data = user_dataset.training_data(given, options.encoder, options.seed, ways)

    def report(row: dict[str, float]) -> None:
        phase = "training" if row["step"] < options.steps else "calibrating"
        shown = {name: row[name] for name in _REPORTED if name in row}
        context.progress({"phase": phase, "steps": options.steps, **shown})

    context.progress({"phase": "training", "step": 0, "steps": options.steps})
    source = f"{dataset.name} ({dataset.id})" if dataset.name else dataset.id
    chosen = user_dataset.recipe(options, source, settings, context.settings.worker_device)
    return recipe.train(
        chosen,
        data,
        context.folder,
        __version__,
        _command(name, options, dataset.id),
        report,
        name=name,
    )


def resume(previous: Path, folder: Path) -> None:
    """Copy the state that an earlier attempt left; the recipe is written anew, for this worker's device."""
    state = folder / STATE_FILE
    try:
        shutil.copyfile(previous / STATE_FILE, state)
        with safe_open(state, framework="pt"):
            return
    except (FileNotFoundError, SafetensorError):
        # It was not written yet, or is damaged: the training starts again.
        state.unlink(missing_ok=True)


def _command(name: str, options: TrainingOptions, dataset: str) -> str:
    """Return the request that makes the learner again."""
    body = {"name": name, "dataset": dataset} | options.model_dump(
        include={"method", "hparams", "encoder", "queries", "steps", "seed"}
    )
    ranges = {
        "ways": {"min": options.min_way, "max": options.max_way},
        "shots": {"min": options.min_shot, "max": options.max_shot},
    }
    return f"POST /v1/learners {json.dumps(body | ranges)}"
