"""Learners that lie in folders: all that load, and the reason for each that does not."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from app.http.fields import SLUG
from models.artifact import CONFIG_FILE, WEIGHTS_FILE, Artifact, ArtifactError, load
from models.errors import LEARNER_ERRORS

NAME_CHARACTERS = 255
"""Of a folder."""


@dataclass(frozen=True)
class LearnerFailure:
    """A folder that is no learner that can be served; `method` as far as its config tells."""

    method: str
    reason: str


@dataclass(frozen=True)
class LoadedFolders:
    """Learners and failures, by the names of their folders."""

    artifacts: dict[str, Artifact]
    failures: dict[str, LearnerFailure]


def load_folders(folders: Sequence[Path], device: str) -> LoadedFolders:
    """Load every learner in the folders.

    Raises `models.artifact.ArtifactError` if the device cannot be used, or if there are learners and none loads.
    """
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        for path in _learners_in(folder):
            found[path.name].append(path)
    if found:
        _check_device(device)
    loaded = LoadedFolders({}, {})
    for name, paths in sorted(found.items()):
        try:
            loaded.artifacts[name] = _load(paths, device)
        except LEARNER_ERRORS as error:
            loaded.failures[name] = failure(paths[0], error)
    if loaded.failures and not loaded.artifacts:
        reasons = "; ".join(f"{name}: {one.reason}" for name, one in loaded.failures.items())
        raise ArtifactError(f"no learner in {' or '.join(map(str, folders))} can be loaded: {reasons}")
    return loaded


def failure(path: Path, error: Exception) -> LearnerFailure:
    """Return the failure of a folder, without the path of its parent, which clients need not know."""
    shown = f"{error}".partition("\n")[0].replace(f"{path.parent}/", "")
    return LearnerFailure(_method_in(path), shown or type(error).__name__)


def _learners_in(folder: Path) -> Iterator[Path]:
    """Yield the folders that hold a config, or weights without one."""
    files = [path for name in (CONFIG_FILE, WEIGHTS_FILE) for path in folder.glob(f"*/{name}")]
    yield from sorted({path.parent for path in files})


def _load(paths: Sequence[Path], device: str) -> Artifact:
    path, *others = paths
    if re.fullmatch(SLUG, path.name) is None:
        raise ArtifactError(f"{path.name}: the name of a learner's folder must match {SLUG}")
    if others:
        raise ArtifactError(
            f"{' and '.join(map(str, paths))} are learners of the same name: remove or rename one"
        )
    return load(path, device=device)


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = f"{error}".partition("\n")[0]
        raise ArtifactError(f"the device {device} cannot be used: {reason}") from error


def _method_in(path: Path) -> str:
    try:
        described = json.loads((path / CONFIG_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return "unknown"
    method = described.get("method") if isinstance(described, dict) else None
    return method if isinstance(method, str) else "unknown"
