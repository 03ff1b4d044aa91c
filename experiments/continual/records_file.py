"""The file of all records of continual learning, which several processes may extend and resume."""

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
from experiments.errors import ExperimentError


class RecordFile:
    """A JSON file of records and their summary. Several processes may add to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> list[Record]:
        """Return all records. Raise `ExperimentError` if the file cannot be parsed."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return [Record.model_validate(row) for row in content["records"]]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise ExperimentError(f"{self.path} is not a file of records: {error}") from error

    def has(self, run: Run) -> bool:
        """Return True if the run has been measured."""
        return any(record.run == run for record in self.read())

    def add(self, record: Record, then: Callable[[list[Record]], None]) -> None:
        """Add a record, replacing one of the same run, and call `then` with all records before other processes write.

        So whatever `then` derives from the records is as recent as they are.
        """
        with _locked(self.path.parent):
            records = [other for other in self.read() if other.run != record.run] + [record]
            records.sort(key=lambda one: (*one.run.protocol, one.run.method, one.run.seed))
            rows = ",\n".join(one.model_dump_json() for one in records)
            summary = ",\n".join(json.dumps(row) for row in summaries(records))
            partial = self.path.with_suffix(".part")
            partial.write_text(
                f'{{"summary": [\n{summary}\n],\n"records": [\n{rows}\n]}}\n', encoding="utf-8"
            )
            partial.replace(self.path)
            then(records)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder itself, which leaves no lock file behind and is released when a process is killed."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
