"""Cleanup deletes what is not needed and nothing else, and a dry run only counts it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from app.core.settings import Settings
from app.datasets import repository as datasets
from app.db.blob_collector import BlobCollector
from app.db.blobs import Blobs, digest
from app.db.clock import now_ms
from app.db.database import Database
from app.db.tables import ChangeRow, IdempotencyRow, JobRow, PredictionRow
from app.learners import files as learner_files
from app.learners import repository as learners
from app.maintenance.cleanup import Cleanup
from app.streams import files as stream_files
from app.streams import repository as streams
from app.tasks import repository as tasks
from tests.app.maintenance.stock import INPUT, MINE, PAST, add, contents, count, job, key, paths, prediction
from tests.app.stores import store_of

ORPHAN = b"orphan"
GARBAGE = {
    "inputs": 1,
    "features": 1,
    "dataset_files": 1,
    "learner_files": 2,
    "stream_parts": 1,
    "predictions": 1,
    "idempotency_keys": 2,
    "jobs": 1,
    "job_folders": 2,
    "changes": 1,
}


async def litter(database: Database, blobs: Blobs, data_dir: Path) -> None:
    await blobs.put_missing("t", {digest(ORPHAN): ORPHAN})
    await blobs.put_features("d", "ver_2", b"x")
    store = store_of(database, "t", blobs)
    await store.files(datasets.FOLDER).put(digest(ORPHAN), io.BytesIO(ORPHAN))
    await learner_files.keep(store.files(learners.FOLDER), "gone", {"config.json": b"x", "README.md": b"x"})
    await stream_files.keep(store.files(streams.FOLDER), {digest(ORPHAN): ORPHAN})
    lapsed = {"status": None, "lease_until": now_ms() - 1}
    await add(
        database,
        (PredictionRow, prediction("pred_2", digest(INPUT), PAST)),
        (IdempotencyRow, key("idem_2", -1)),
        (IdempotencyRow, key("idem_3", 60_000) | lapsed),
        (JobRow, job("job_3", "dead", PAST)),
        (
            ChangeRow,
            {"id": "chg_0", "at": 0, "kind": "task", "subject": "x", "detail": [], "tenant": MINE["tenant"]},
        ),
    )
    for name in ("job_1", "job_2", "job_3"):
        (data_dir / "jobs" / name / "1").mkdir(parents=True)


def cleanup(database: Database, blobs: Blobs, data_dir: Path) -> Cleanup:
    return Cleanup(database, BlobCollector(database, blobs), Settings(data_dir=data_dir))


def test_all_that_is_not_needed_goes(run: Callable[..., None], tmp_path: Path) -> None:
    async def test(database: Database, blobs: Blobs) -> None:
        before, kept = await contents(database), await paths(blobs)
        await litter(database, blobs, tmp_path)
        work = cleanup(database, blobs, tmp_path)
        littered = await contents(database), await paths(blobs)
        assert asdict(await work.collect(dry_run=True)) == GARBAGE
        assert (await contents(database), await paths(blobs)) == littered
        assert asdict(await work.collect()) == GARBAGE
        assert await contents(database) == before
        assert await paths(blobs) == kept
        assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["job_1"]
        assert [found async for found in blobs.listed_features()] == [[("d", "ver_1")]]
        assert set(asdict(await work.collect()).values()) == {0}

    run(test)


def test_blobs_of_what_lapses_go_in_the_same_run(run: Callable[..., None], tmp_path: Path) -> None:
    async def test(database: Database, blobs: Blobs) -> None:
        kept = await paths(blobs)
        await blobs.put_missing("t", {digest(ORPHAN): ORPHAN})
        await add(database, (PredictionRow, prediction("pred_2", digest(ORPHAN), PAST)))
        await cleanup(database, blobs, tmp_path).collect()
        assert await paths(blobs) == kept

    run(test)


@pytest.mark.parametrize("state", ["queued", "running"])
def test_work_in_progress_stays(run: Callable[..., None], tmp_path: Path, state: str) -> None:
    async def test(database: Database, blobs: Blobs) -> None:
        await add(database, (JobRow, job("job_3", state, None)))
        assert (await cleanup(database, blobs, tmp_path).collect()).jobs == 0

    run(test)


def test_expired_predictions_go_with_their_inputs(run: Callable[..., None], tmp_path: Path) -> None:
    """Neither before their time, nor with inputs that an example has by then."""

    async def test(database: Database, blobs: Blobs) -> None:
        kept = await paths(blobs)
        await blobs.put_missing("t", {digest(ORPHAN): ORPHAN})
        await add(
            database,
            (PredictionRow, prediction("pred_2", digest(ORPHAN), PAST)),
            (PredictionRow, prediction("pred_3", digest(INPUT), PAST)),
        )
        work = cleanup(database, blobs, tmp_path)
        await work.collector.sweep(tasks.INPUTS)
        assert len(await paths(blobs)) == len(kept) + 1, "predictions name their inputs"
        assert await work.drop_expired_predictions() == 2
        assert await paths(blobs) == kept
        assert await count(database, PredictionRow) == 1
        assert await work.drop_expired_predictions() == 0

    run(test)


def test_many_predictions_expire_in_batches(
    run: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(database: Database, blobs: Blobs) -> None:
        rows = [(PredictionRow, prediction(f"pred_x{index}", digest(INPUT), PAST)) for index in range(7)]
        await add(database, *rows)
        assert await cleanup(database, blobs, tmp_path).drop_expired_predictions() == 7

    monkeypatch.setattr(tasks, "LAPSED_AT_ONCE", 3)
    run(test)
