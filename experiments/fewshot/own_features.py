"""Features of a data set: those of each learner's encoder, and the raw input that baselines see beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from experiments.errors import ExperimentError
from experiments.fewshot.baselines import Scaling, scaling_of
from models.artifact import Artifact
from models.data.examples import RawExamples
from models.evaluation.episodic import Features
from models.inputs import InputSpec, PhotoInput, VectorInput

RAW_SIDE = 32
_AT_ONCE = 256


@dataclass(frozen=True)
class FeatureSpace:
    """Rows [n, d] that baselines are run on. `learners` are those whose features they are; none for the raw input."""

    name: str
    scaling: Scaling
    rows: npt.NDArray[np.float32]
    learners: tuple[str, ...] = ()


@dataclass(frozen=True)
class OwnFeatures:
    """Features of each learner by its name, and the spaces of the baselines."""

    by_learner: dict[str, Features]
    spaces: tuple[FeatureSpace, ...]

    def spaces_of(self, learner: str) -> list[FeatureSpace]:
        """Return the spaces whose baselines a learner is compared with: its own features and the raw input."""
        return [space for space in self.spaces if learner in space.learners or not space.learners]


def refusal(learner: Artifact, examples: RawExamples) -> str | None:
    """Return why a learner cannot be measured on a data set, or None if it can."""
    taken = learner.config.input
    if learner.learner.traits.kind != "classification":
        return f"{learner.name} does not classify"
    if isinstance(taken, VectorInput) != (examples.kind == "vector"):
        return f"{learner.name} takes {taken.kind}s, {examples.source} holds {examples.kind}s"
    if isinstance(taken, VectorInput) and taken.dim is not None:
        found = len(examples.decode(examples.stored[0]))
        if found != taken.dim:
            return f"{learner.name} takes vectors of {taken.dim} numbers, those of {examples.source} have {found}"
    return None


@torch.no_grad()
def own_features(learners: Sequence[Artifact], examples: RawExamples) -> OwnFeatures:
    """Embed all examples, some at a time, by learners that take them.

    Raises `DatasetError` for an example that cannot be decoded, `ExperimentError` for features that are not finite.
    """
    parts: dict[str, list[Tensor]] = {one.name: [] for one in learners}
    raw: list[Tensor] = []
    for chunk in _chunks(examples):
        inputs: dict[str, Tensor] = {}
        for one in learners:
            taken = one.config.input
            key = taken.model_dump_json()
            if key not in inputs:
                inputs[key] = _inputs(taken, chunk)
            parts[one.name].append(one.learner.embed(inputs[key]))
        raw.append(_inputs(PhotoInput(size=RAW_SIDE) if examples.kind == "image" else VectorInput(), chunk))
    members = [np.flatnonzero(examples.labels == one) for one in range(len(examples.class_names))]
    domains = np.zeros(len(members), dtype=np.int64)
    by_learner = {}
    for name, found in parts.items():
        by_learner[name] = Features(torch.cat(found), members, domains)
        if not bool(by_learner[name].values.isfinite().all()):
            raise ExperimentError(f"{name}: features of {examples.source} are not finite")
    return OwnFeatures(by_learner, tuple(_spaces(by_learner, _raw_space(torch.cat(raw)))))


def _chunks(examples: RawExamples) -> Iterator[list[npt.NDArray[Any]]]:
    decoded = examples.decoded()
    while chunk := list(islice(decoded, _AT_ONCE)):
        yield chunk


def _inputs(taken: InputSpec, chunk: list[npt.NDArray[Any]]) -> Tensor:
    """Return what a learner of this input embeds."""
    if isinstance(taken, VectorInput):
        return torch.from_numpy(np.stack(chunk))
    if len({pixels.shape for pixels in chunk}) == 1:
        return taken.from_pixels(torch.from_numpy(np.stack(chunk)))
    return torch.cat([taken.from_pixels(torch.from_numpy(pixels)[None]) for pixels in chunk])


def _raw_space(raw: Tensor) -> FeatureSpace:
    """Return the raw input: columns of vectors; pixels of pictures, in one channel if all are grey."""
    if raw.ndim == 2:
        rows = raw.numpy()
        return FeatureSpace("columns", scaling_of(rows), rows)
    grey = bool((raw == raw[:, :1]).all())
    pixels = raw[:, :1] if grey else raw
    return FeatureSpace("pixels", "pixels", np.ascontiguousarray(pixels.flatten(1).numpy()))


def _spaces(by_learner: dict[str, Features], raw: FeatureSpace) -> Iterator[FeatureSpace]:
    """Yield the raw input, and the features of each learner unless they are the raw input or another learner's."""
    found: list[tuple[list[str], npt.NDArray[np.float32]]] = []
    for name, features in by_learner.items():
        rows = features.values.flatten(1).numpy()
        if np.array_equal(rows, raw.rows):
            continue
        same = next((names for names, other in found if np.array_equal(rows, other)), None)
        if same is None:
            found.append(([name], rows))
        else:
            same.append(name)
    for names, rows in found:
        yield FeatureSpace(f"features of {', '.join(names)}", "embedding", rows, tuple(names))
    yield raw
