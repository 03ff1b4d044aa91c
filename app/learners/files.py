"""Artifacts in the blob store: three files in a folder named by a digest of them all."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

from app.db.blob_collector import BlobFolder
from app.db.blobs import Files
from app.learners import repository
from models.artifact import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, Artifact, ArtifactError, load

FILES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE)


def bundle_digest(files: dict[str, bytes]) -> str:
    """Return the SHA-256 over names and contents. The artifact's own digest covers what it answers, not its card."""
    return digest_of_files({name: hashlib.sha256(files[name]).hexdigest() for name in FILES})


def digest_of_files(digests: Mapping[str, str]) -> str:
    """Return the `bundle_digest` of files, given the SHA-256 of each."""
    sha = hashlib.sha256()
    for name in FILES:
        sha.update(f"{name}\0{digests[name]}\n".encode())
    return sha.hexdigest()


async def fetch(files: Files, digest: str) -> dict[str, bytes]:
    """Fetch an artifact. Raises `BlobMissingError`, and `ArtifactError` if the files do not have the digest."""
    found = {name: await files.get(f"{digest}/{name}") for name in FILES}
    if bundle_digest(found) != digest:
        raise ArtifactError("the stored files of the learner are damaged")
    return found


async def keep(files: Files, digest: str, artifact: dict[str, bytes]) -> None:
    """Write what is missing."""
    await files.put_all({f"{digest}/{name}": data for name, data in artifact.items()})


ARTIFACTS = BlobFolder(
    repository.FOLDER, repository.unreferenced, paths=lambda digest: [f"{digest}/{name}" for name in FILES]
)


def read(folder: Path) -> dict[str, bytes]:
    """Read the files of an artifact on disk."""
    return {name: (folder / name).read_bytes() for name in FILES}


def load_files(files: dict[str, bytes], name: str, scratch: Path, device: str) -> Artifact:
    """Load an artifact through a temporary folder in `scratch`. Raises `ArtifactError`."""
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="learner-", dir=scratch) as folder:
        for file, data in files.items():
            (Path(folder) / file).write_bytes(data)
        return load(folder, name, device)
