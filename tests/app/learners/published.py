"""Learners in the database and the blob store, as a training job leaves them."""

from __future__ import annotations

from pathlib import Path

from app.core.ids import new_id
from app.core.settings import Settings
from app.db.blobs import Blobs
from app.db.database import Database
from app.db.invalidation_log import Change, record
from app.db.tables import LearnerRow
from app.db.tenancy import Store
from app.http.dependencies import DEFAULT_TENANT
from app.learners import files, repository
from tests.app.learner import save_learner


async def publish(data_dir: Path, name: str, *, seed: int = 0, damaged: bool = False) -> None:
    """An untrained learner of vectors, ready, with the news of it. Another seed is another digest."""
    folder = data_dir / "made" / name
    save_learner(folder, "conv4", {"width": 8}, {"kind": "image"}, seed=seed)
    data = files.read(folder)
    digest = files.bundle_digest(data)
    blobs = Blobs.at(None, data_dir)
    store = Store(DEFAULT_TENANT, Database(Settings(data_dir=data_dir).database), blobs)
    stored = store.files(repository.FOLDER)
    await files.keep(stored, digest, data)
    if damaged:
        path = data_dir / "blobs" / stored.folder / digest / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
    row = LearnerRow(id=new_id("lrn"), name=name, method="protonet", status="ready", digest=digest)
    async with store.write() as session:
        before = await repository.get(session, name)
        if before is not None:
            await repository.remove(session, before.row.id)
        await repository.add(session, row)
        await record(session, Change(DEFAULT_TENANT, "learner", name))
    await store.database.close()
    if before is not None and before.row.digest not in (None, digest):
        await stored.delete([f"{before.row.digest}/{name}" for name in files.FILES])
