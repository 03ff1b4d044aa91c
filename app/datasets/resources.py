"""Process-wide state of datasets."""

from __future__ import annotations

from dataclasses import dataclass

from app.db.blob_collector import BlobCollector
from app.http.limits import LIMITS
from app.http.upload import Spool
from app.runtime import Runtime

UPLOADS = 4
"""Datasets that are received at a time; each lies on the disk until it is in the blob store."""


@dataclass(frozen=True)
class DatasetResources:
    spool: Spool
    collector: BlobCollector

    @classmethod
    def open(cls, runtime: Runtime) -> DatasetResources:
        seconds = runtime.settings.body_seconds
        spool = Spool(runtime.scratch, most=LIMITS.dataset_bytes, at_once=UPLOADS, seconds=seconds)
        return cls(spool, runtime.collector)
