"""Content-addressed blobs: raw inputs are the truth of a task, features a cache that can be made again."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore, from_url

from app.db.disk import Disk

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

T = TypeVar("T")
STORE_ERRORS = (BaseError, OSError)
"""What a store raises that cannot be read or written."""
_PATIENCE: ClientConfig = {"connect_timeout": "3s"}
_RETRIES: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=5)}
"""Of a store over the network: a request that waits for it shall hear that it is away."""
_AT_ONCE = 64
_PART_BYTES = 8 << 20
_LISTED_AT_ONCE = 500


class BlobMissingError(Exception):
    """A blob that the database names is not in the store."""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Blobs:
    """Raw inputs at `raw/<tenant>/<2 hex digits>/<sha256>`, features at `features/<learner>/<version>`.

    Files of other resources have paths of their own: see `app.datasets.repository`, `app.learners.repository`.
    """

    def __init__(self, store: ObjectStore, disk: Disk | None = None) -> None:
        """With a disk, raw inputs are on it when they are `put`; other stores see to that themselves."""
        self._store = store
        self._disk = disk

    @classmethod
    def at(cls, url: str | None, data_dir: Path) -> Blobs:
        """The store at a URL, or a folder in `data_dir`."""
        if url is not None and url.startswith("file://"):
            return cls(from_url(url), Disk(Path(unquote(urlsplit(url).path))))
        if url is not None:
            return cls(from_url(url, client_options=_PATIENCE, retry_config=_RETRIES), None)
        folder = (data_dir / "blobs").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        return cls(from_url(folder.as_uri()), Disk(folder))

    async def put_missing(self, tenant: str, blobs: Mapping[str, bytes], *, again: bool = False) -> None:
        """Writes what is not there, or damaged; all of it is durable then. `again` says that it was so before."""
        await self._put({_raw(tenant, name): data for name, data in blobs.items()}, again)

    async def sweep(self) -> int:
        """Deletes what killed processes have left half-written. Answers how many files it were."""
        return 0 if self._disk is None else await asyncio.to_thread(self._disk.sweep)

    async def get(self, tenant: str, names: Sequence[str]) -> list[bytes]:
        """In the order of the names. Raises `BlobMissingError`."""
        return await _gather(partial(self._read, _raw(tenant, name)) for name in names)

    async def delete(self, tenant: str, names: Collection[str]) -> None:
        await self._delete([_raw(tenant, name) for name in names])

    async def put_features(self, learner: str, version: str, data: bytes) -> None:
        await obstore.put_async(self._store, _features(learner, version), data)

    async def get_features(self, learner: str, version: str) -> bytes | None:
        try:
            return await self._read(_features(learner, version))
        except BlobMissingError:
            return None

    async def delete_features(self, versions: Collection[tuple[str, str]]) -> None:
        """Of pairs (learner digest, version id)."""
        await self._delete([_features(*version) for version in versions])

    async def put_file(self, path: str, file: BinaryIO) -> None:
        """Writes a file in parts, little of it in memory at a time. It is durable then."""
        file.seek(0)
        await obstore.put_async(self._store, path, file, use_multipart=True)
        await self._flush([path])

    async def put_files(self, files: Mapping[str, bytes]) -> None:
        """Writes those that are not there, or damaged, by path; all of it is durable then."""
        await self._put(files)

    async def has_file(self, path: str) -> bool:
        return await self._size(path) is not None

    async def get_file(self, path: str) -> bytes:
        """Raises `BlobMissingError`."""
        return await self._read(path)

    async def fetch_file(self, path: str, target: Path) -> None:
        """Copies a blob to a local file, little of it in memory at a time. Raises `BlobMissingError`."""
        try:
            answer = await obstore.get_async(self._store, path)
        except (NotFoundError, FileNotFoundError) as error:
            raise BlobMissingError(path) from error
        with target.open("wb") as file:
            async for chunk in answer.stream(min_chunk_size=_PART_BYTES):
                await asyncio.to_thread(file.write, chunk)

    async def delete_files(self, paths: Sequence[str]) -> None:
        await self._delete(paths)

    async def listed_files(self, prefix: str) -> AsyncIterator[list[str]]:
        """All paths below a prefix such as datasets/, some at a time."""
        async for paths in self._paths(prefix):
            yield paths

    async def listed(self) -> AsyncIterator[tuple[str, list[str]]]:
        """All raw inputs: a tenant and some of its digests at a time."""
        async for paths in self._paths("raw/"):
            tenants: dict[str, list[str]] = {}
            for _, tenant, *_, name in (path.split("/") for path in paths):
                tenants.setdefault(tenant, []).append(name)
            for tenant, names in tenants.items():
                yield tenant, names

    async def listed_features(self) -> AsyncIterator[list[tuple[str, str]]]:
        """All features as pairs (learner digest, version id), some at a time."""
        async for paths in self._paths("features/"):
            yield [(learner, version) for _, learner, version in (path.split("/") for path in paths)]

    async def _paths(self, prefix: str) -> AsyncIterator[list[str]]:
        async for chunk in obstore.list(self._store, prefix, chunk_size=_LISTED_AT_ONCE):
            yield [entry["path"] for entry in chunk]

    async def _put(self, files: Mapping[str, bytes], again: bool = False) -> None:
        written: list[str] = []

        async def one(path: str, data: bytes) -> None:
            # A power cut may have left a file without its content.
            if await self._size(path) != len(data):
                await obstore.put_async(self._store, path, data)
                written.append(path)

        await _gather(partial(one, path, data) for path, data in files.items())
        # What is there already may be another request's, which has not flushed it yet.
        await self._flush(written if again else list(files))

    async def _flush(self, paths: Sequence[str]) -> None:
        if self._disk is not None and paths:
            await self._disk.flush(paths)

    async def _size(self, path: str) -> int | None:
        """None where there is nothing."""
        try:
            return (await obstore.head_async(self._store, path))["size"]
        except (NotFoundError, FileNotFoundError):
            return None

    async def _read(self, path: str) -> bytes:
        try:
            answer = await obstore.get_async(self._store, path)
            return bytes(await answer.bytes_async())
        except (NotFoundError, FileNotFoundError) as error:
            raise BlobMissingError(path) from error

    async def _delete(self, paths: Sequence[str]) -> None:
        async def one(path: str) -> None:
            try:
                await obstore.delete_async(self._store, path)
            except (NotFoundError, FileNotFoundError):
                return

        await _gather(partial(one, path) for path in paths)


@dataclass(frozen=True)
class TenantBlobs:
    """Raw inputs of one tenant."""

    blobs: Blobs
    tenant: str

    async def put_missing(self, blobs: Mapping[str, bytes], *, again: bool = False) -> None:
        """As `Blobs.put_missing`."""
        await self.blobs.put_missing(self.tenant, blobs, again=again)

    async def get(self, names: Sequence[str]) -> list[bytes]:
        """In the order of the names. Raises `BlobMissingError`."""
        return await self.blobs.get(self.tenant, names)

    async def delete(self, names: Collection[str]) -> None:
        await self.blobs.delete(self.tenant, names)


@dataclass(frozen=True)
class Files:
    """Files below one folder of the blob store, by their paths in it."""

    blobs: Blobs
    folder: str
    """Ends in a slash."""

    async def put(self, path: str, file: BinaryIO) -> None:
        """Write a file in parts, little of it in memory at a time. It is durable then."""
        await self.blobs.put_file(self.folder + path, file)

    async def put_all(self, files: Mapping[str, bytes]) -> None:
        """Write those that are missing or damaged, by path; all of it is durable then."""
        await self.blobs.put_files({self.folder + path: data for path, data in files.items()})

    async def has(self, path: str) -> bool:
        return await self.blobs.has_file(self.folder + path)

    async def get(self, path: str) -> bytes:
        """Raises `BlobMissingError`."""
        return await self.blobs.get_file(self.folder + path)

    async def fetch(self, path: str, target: Path) -> None:
        """Copy to a local file, little of it in memory at a time. Raises `BlobMissingError`."""
        await self.blobs.fetch_file(self.folder + path, target)

    async def delete(self, paths: Collection[str]) -> None:
        await self.blobs.delete_files([self.folder + path for path in paths])


async def _gather(calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Results in order, some calls at a time. When it raises, no call is left running: it may write."""
    listed = list(calls)
    waiting = enumerate(listed)
    results: dict[int, T] = {}

    async def work() -> None:
        for index, call in waiting:
            results[index] = await call()

    workers = [asyncio.create_task(work()) for _ in range(min(_AT_ONCE, len(listed)))]
    try:
        if workers:
            await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        # Waited for, not cancelled: the store finishes what it has begun all the same.
        deque(waiting, maxlen=0)
        await asyncio.gather(*workers, return_exceptions=True)
    for worker in workers:
        worker.result()
    return [results[index] for index in range(len(listed))]


def _raw(tenant: str, name: str) -> str:
    return f"raw/{tenant}/{name[:2]}/{name}"


def _features(learner: str, version: str) -> str:
    return f"features/{learner}/{version}"
