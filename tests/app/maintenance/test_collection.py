"""What goes, what stays, and that a dry run says so."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from app.core.settings import Settings
from app.datasets import repository as datasets
from app.db.blobs import Blobs, digest
from app.db.clock import now_ms
from app.db.engine import Database
from app.db.tables import ChangeRow, IdempotencyRow, JobRow, PredictionRow
from app.learners import repository as learners
from app.maintenance.collection import Maintenance
from app.streams import files as stream_files
from app.tasks.garbage import Collector
from tests.app.maintenance.stock import MINE, PAST, add, contents, job, key, paths, prediction

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
    await blobs.put_file(datasets.path("t", digest(ORPHAN)), io.BytesIO(ORPHAN))
    await blobs.put_files({learners.path("t", "gone", name): b"x" for name in ("config.json", "README.md")})
    await stream_files.keep(blobs, "t", {digest(ORPHAN): ORPHAN})
    lapsed = {"status": None, "lease_until": now_ms() - 1}
    await add(
        database,
        (PredictionRow, prediction("pred_2", digest(b"input"), PAST)),
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


def maintenance(database: Database, blobs: Blobs, data_dir: Path) -> Maintenance:
    return Maintenance(database, blobs, Collector(database, blobs), Settings(data_dir=data_dir))


def test_all_that_is_not_needed_goes(run: Callable[..., None], tmp_path: Path) -> None:
    async def test(database: Database, blobs: Blobs) -> None:
        before, kept = await contents(database), await paths(blobs)
        await litter(database, blobs, tmp_path)
        work = maintenance(database, blobs, tmp_path)
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
        await maintenance(database, blobs, tmp_path).collect()
        assert await paths(blobs) == kept

    run(test)


@pytest.mark.parametrize("state", ["queued", "running"])
def test_work_in_progress_stays(run: Callable[..., None], tmp_path: Path, state: str) -> None:
    async def test(database: Database, blobs: Blobs) -> None:
        await add(database, (JobRow, job("job_3", state, None)))
        assert (await maintenance(database, blobs, tmp_path).collect()).jobs == 0

    run(test)
