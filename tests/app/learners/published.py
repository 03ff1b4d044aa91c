"""Learners in the database and the blob store, as a training job leaves them."""

from __future__ import annotations

from pathlib import Path

from app.core.ids import new_id
from app.core.settings import Settings
from app.db.blobs import Blobs
from app.db.engine import Database
from app.db.invalidation_log import Change, record
from app.db.tables import LearnerRow
from app.learners import files, repository
from tests.app.learner import save_learner


async def publish(data_dir: Path, name: str, *, seed: int = 0, damaged: bool = False) -> None:
    """An untrained learner of vectors, ready, with the news of it. Another seed is another digest."""
    folder = data_dir / "made" / name
    save_learner(folder, "conv4", {"width": 8}, {"kind": "image"}, seed=seed)
    data = files.read(folder)
    digest = files.bundle_digest(data)
    blobs = Blobs.at(None, data_dir)
    await files.keep(blobs, "default", digest, data)
    if damaged:
        path = data_dir / "blobs" / repository.path("default", digest, "model.safetensors")
        path.write_bytes(path.read_bytes()[:-1])
    database = Database(Settings(data_dir=data_dir).database)
    row = LearnerRow(
        id=new_id("lrn"), tenant="default", name=name, method="protonet", status="ready", digest=digest
    )
    async with database.write() as session:
        before = await repository.get(session, "default", name)
        if before is not None:
            await repository.remove(session, before.row.id)
        await repository.add(session, row)
        await record(session, Change("default", "learner", name))
    await database.close()
    if before is not None and before.row.digest not in (None, digest):
        await files.drop(blobs, "default", before.row.digest)
