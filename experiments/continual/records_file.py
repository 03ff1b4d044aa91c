"""The file of all records of continual learning, which several processes may fill, and resume."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from experiments.continual.records import Record, Run
from experiments.continual.results_page import summaries
from models.data.dataset import DatasetError


class RecordFile:
    """A JSON list of records. Several processes may add to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> list[Record]:
        """Raises `DatasetError`."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            return [Record.model_validate(row) for row in found["records"]]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise DatasetError(f"{self.path}: not a file of records: {error}") from error

    def has(self, run: Run) -> bool:
        return any(record.run == run for record in self.read())

    def add(self, record: Record, then: Callable[[list[Record]], None]) -> None:
        """`then` sees all records while no other process writes: what is derived from them is as new as they are."""
        with _alone(self.path.parent):
            records = [found for found in self.read() if found.run != record.run] + [record]
            records.sort(key=lambda found: (*found.run.protocol, found.run.method, found.run.seed))
            rows = ",\n".join(found.model_dump_json() for found in records)
            summary = ",\n".join(json.dumps(row) for row in summaries(records))
            being_written = self.path.with_suffix(".part")
            being_written.write_text(
                f'{{"summary": [\n{summary}\n],\n"records": [\n{rows}\n]}}\n', encoding="utf-8"
            )
            being_written.replace(self.path)
            then(records)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Locks the folder: nothing is left behind, and a killed process lets go."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
