"""Content-addressed blobs. Raw inputs are the state of record; features are a cache that can be made again."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from app.core.errors import NO_ROOM, OUT_OF_FILES, AppError, UnavailableError
from app.db.disk import Disk
from app.db.free_space import is_low

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

T = TypeVar("T")
RAW = "raw"
"""Folder of raw inputs."""
_PATIENCE: ClientConfig = {"connect_timeout": "3s"}
_RETRIES: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=5)}
"""For a store over the network: a request that waits for it must learn soon that it is away."""
_AT_ONCE = 64
_PART_BYTES = 8 << 20
_LISTED_AT_ONCE = 500
_OS_ERROR = re.compile(r"\(os error (\d+)\)")

log = logging.getLogger("hyperserve")


class BlobError(AppError):
    """The base of errors of the blob store."""


class BlobMissingError(BlobError):
    """A blob that the database names is not in the store."""


class BlobStoreError(BlobError, UnavailableError):
    """The store cannot be read or written now."""


class BlobStoreFullError(BlobStoreError):
    """The store has no room for more."""


class BlobStoreBusyError(BlobStoreError):
    """The process has no file descriptor left for the store."""


@contextmanager
def _store_errors(reading: str | None = None) -> Iterator[None]:
    """Raise what the store raises in the block as an error of this module. `reading` is the path that is read."""
    try:
        yield
    except (BaseError, OSError) as error:
        if reading is not None and isinstance(error, NotFoundError | FileNotFoundError):
            raise BlobMissingError(reading) from error
        # The first line: obstore adds its own internals.
        raise _kind(error)(f"the blob store failed: {error}".partition("\n")[0]) from error


def _kind(error: Exception) -> type[BlobStoreError]:
    if isinstance(error, OSError) and error.errno is not None:
        numbers = {error.errno}
    else:
        # obstore tells the number of the system's error in its message alone.
        numbers = {int(number) for number in _OS_ERROR.findall(f"{error}")}
    if numbers & NO_ROOM:
        return BlobStoreFullError
    return BlobStoreBusyError if numbers & OUT_OF_FILES else BlobStoreError


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Blobs:
    """Raw inputs at `raw/<tenant>/<2 hex digits>/<sha256>`, features at `features/<learner>/<version>`.

    Files of other resources are at `<folder>/<tenant>/…`: see `FOLDER` of their repositories. Every method raises
    `BlobStoreError` if the store does not answer.
    """

    def __init__(self, store: ObjectStore, disk: Disk | None = None) -> None:
        """Write to a store. With a disk, blobs are flushed to it when they are put; other stores do so themselves."""
        self._store = store
        self._disk = disk

    @classmethod
    def at(cls, url: str | None, data_dir: Path) -> Blobs:
        """Return the store at a URL, or in a folder of `data_dir`."""
        if url is not None and url.startswith("file://"):
            return cls(from_url(url), Disk(Path(unquote(urlsplit(url).path))))
        if url is not None:
            return cls(from_url(url, client_options=_PATIENCE, retry_config=_RETRIES), None)
        folder = (data_dir / "blobs").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        # Not by a URL, whose path may not have every character of a file name.
        return cls(LocalStore(folder), Disk(folder))

    async def put_missing(self, tenant: str, blobs: Mapping[str, bytes], *, again: bool = False) -> None:
        """Write raw inputs that are missing or damaged; then all are durable. `again` if they were so before."""
        await self._put({_raw(tenant, name): data for name, data in blobs.items()}, again)

    async def sweep(self) -> int:
        """Delete the files that killed processes have left half-written; return their number."""
        with _store_errors():
            return 0 if self._disk is None else await asyncio.to_thread(self._disk.sweep)

    async def get(self, tenant: str, names: Sequence[str]) -> list[bytes]:
        """Return raw inputs in the order of the names. Raises `BlobMissingError`."""
        return await _gather(partial(self._read, _raw(tenant, name)) for name in names)

    async def delete(self, tenant: str, names: Collection[str]) -> None:
        await self._delete([_raw(tenant, name) for name in names])

    @property
    def is_full(self) -> bool:
        """True if nothing is written any more, because the disk has little room left."""
        return self._disk is not None and is_low(self._disk.folder)

    async def put_features(self, learner: str, version: str, data: bytes) -> None:
        """Write features; without room they are left out, because they can be made again."""
        try:
            self._check_room()
            with _store_errors():
                await obstore.put_async(self._store, _features(learner, version), data)
        except BlobStoreFullError as error:
            log.warning("features are not cached: %s", error)

    async def get_features(self, learner: str, version: str) -> bytes | None:
        try:
            return await self._read(_features(learner, version))
        except BlobMissingError:
            return None

    async def delete_features(self, versions: Collection[tuple[str, str]]) -> None:
        """Delete the features of pairs (learner digest, version id)."""
        await self._delete([_features(*version) for version in versions])

    async def put_file(self, path: str, file: BinaryIO) -> None:
        """Write a file in parts, little of it in memory at a time. It is durable then."""
        self._check_room()
        with _store_errors():
            file.seek(0)
            await obstore.put_async(self._store, path, file, use_multipart=True)
            await self._flush([path])

    async def put_files(self, files: Mapping[str, bytes], *, again: bool = False) -> None:
        """Write files that are missing or damaged, by path; then all are durable. `again` if they were so before."""
        await self._put(files, again)

    async def has_file(self, path: str) -> bool:
        return await self._size(path) is not None

    async def get_file(self, path: str) -> bytes:
        """Return the content of a file. Raises `BlobMissingError`."""
        return await self._read(path)

    async def fetch_file(self, path: str, target: Path) -> None:
        """Copy a blob to a local file, little of it in memory at a time. Raises `BlobMissingError`."""
        with _store_errors(path):
            answer = await obstore.get_async(self._store, path)
        with target.open("wb") as file:
            chunks = answer.stream(min_chunk_size=_PART_BYTES).__aiter__()
            while (chunk := await _next_chunk(chunks)) is not None:
                await asyncio.to_thread(file.write, chunk)

    async def delete_files(self, paths: Sequence[str]) -> None:
        await self._delete(paths)

    async def listed_files(self, prefix: str) -> AsyncIterator[list[str]]:
        """Yield all paths below a prefix such as datasets/, some at a time."""
        async for paths in self._paths(prefix):
            yield paths

    async def listed(self) -> AsyncIterator[tuple[str, list[str]]]:
        """Yield all raw inputs: a tenant and some of its digests at a time."""
        async for paths in self._paths(f"{RAW}/"):
            tenants: dict[str, list[str]] = {}
            for _, tenant, *_, name in (path.split("/") for path in paths):
                tenants.setdefault(tenant, []).append(name)
            for tenant, names in tenants.items():
                yield tenant, names

    async def listed_features(self) -> AsyncIterator[list[tuple[str, str]]]:
        """Yield all features as pairs (learner digest, version id), some at a time."""
        async for paths in self._paths("features/"):
            yield [(learner, version) for _, learner, version in (path.split("/") for path in paths)]

    async def _paths(self, prefix: str) -> AsyncIterator[list[str]]:
        chunks = obstore.list(self._store, prefix, chunk_size=_LISTED_AT_ONCE).__aiter__()
        while (chunk := await _next_chunk(chunks)) is not None:
            yield [entry["path"] for entry in chunk]

    async def _put(self, files: Mapping[str, bytes], again: bool = False) -> None:
        written: list[str] = []

        async def one(path: str, data: bytes) -> None:
            # A power cut may have left a file without its content.
            if await self._size(path) != len(data):
                self._check_room()
                await obstore.put_async(self._store, path, data)
                written.append(path)

        with _store_errors():
            await _gather(partial(one, path, data) for path, data in files.items())
            # An existing file may be that of another request, which has not flushed it yet.
            await self._flush(written if again else list(files))

    def _check_room(self) -> None:
        if self.is_full:
            raise BlobStoreFullError("the disk of the blob store has little room left")

    async def _flush(self, paths: Sequence[str]) -> None:
        if self._disk is not None and paths:
            await self._disk.flush(paths)

    async def _size(self, path: str) -> int | None:
        """Return the size of a file, or None if it is missing."""
        try:
            with _store_errors(path):
                return (await obstore.head_async(self._store, path))["size"]
        except BlobMissingError:
            return None

    async def _read(self, path: str) -> bytes:
        with _store_errors(path):
            answer = await obstore.get_async(self._store, path)
            return bytes(await answer.bytes_async())

    async def _delete(self, paths: Sequence[str]) -> None:
        async def one(path: str) -> None:
            with suppress(BlobMissingError), _store_errors(path):
                await obstore.delete_async(self._store, path)

        await _gather(partial(one, path) for path in paths)


@dataclass(frozen=True)
class TenantBlobs:
    """Raw inputs of one tenant."""

    blobs: Blobs
    tenant: str

    async def get(self, names: Sequence[str]) -> list[bytes]:
        """Return raw inputs in the order of the names. Raises `BlobMissingError`."""
        return await self.blobs.get(self.tenant, names)


@dataclass(frozen=True)
class Files:
    """Files below one folder of the blob store, by their paths in it."""

    blobs: Blobs
    folder: str
    """Ends in a slash."""

    async def put(self, path: str, file: BinaryIO) -> None:
        """Write a file in parts, little of it in memory at a time. It is durable then."""
        await self.blobs.put_file(self.folder + path, file)

    async def put_all(self, files: Mapping[str, bytes], *, again: bool = False) -> None:
        """Write files as `Blobs.put_files` does."""
        await self.blobs.put_files({self.folder + path: data for path, data in files.items()}, again=again)

    async def has(self, path: str) -> bool:
        return await self.blobs.has_file(self.folder + path)

    async def get(self, path: str) -> bytes:
        """Return the content of a file. Raises `BlobMissingError`."""
        return await self.blobs.get_file(self.folder + path)

    async def fetch(self, path: str, target: Path) -> None:
        """Copy to a local file, little of it in memory at a time. Raises `BlobMissingError`."""
        await self.blobs.fetch_file(self.folder + path, target)

    async def delete(self, paths: Collection[str]) -> None:
        await self.blobs.delete_files([self.folder + path for path in paths])


async def _next_chunk(chunks: AsyncIterator[T]) -> T | None:
    """Return the next chunk, or None at the end."""
    with _store_errors():
        return await anext(chunks, None)


async def _gather(calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Return results in order, making some calls at a time. If it raises, no call is left running: it may write."""
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


def raw_path(name: str) -> str:
    """Return the path of a raw input below its tenant's folder."""
    return f"{name[:2]}/{name}"


def _raw(tenant: str, name: str) -> str:
    return f"{RAW}/{tenant}/{raw_path(name)}"


def _features(learner: str, version: str) -> str:
    return f"features/{learner}/{version}"
