"""Examples of a stream task: reading them, holding some out, and measuring a version on those held out.

Files are read by the functions that decode queries, so that both give the same inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.data import files
from models.data.dataset import ClassDataset, model_input
from models.data.errors import READ_DEFAULTS, DatasetFileError, Format, ReadOptions
from models.inputs import InputSpec, VectorInput
from models.predictive import Categorical
from models.stream_protocol import StreamLearner, StreamVersion

SHARE, MOST = 0.1, 500
"""Default share of the examples held out, and the most of them."""
MEASURED_EXAMPLES = 5_000
"""Examples measured over all stream tasks, so that measuring costs about the same for any number of them."""
LEAST_PER_TASK = 20
"""Examples measured of each stream task, if it has as many."""


def held_out_counts(counts: Sequence[int], total_held_out: int | None = None) -> list[int]:
    """Return how many examples of each class to hold out, given the size of each class.

    `total_held_out` is divided in proportion, but each class keeps an example for training. None is the default share.
    """
    total = sum(counts)
    most = total - len(counts)
    target = min(MOST, int(SHARE * total)) if total_held_out is None else min(total_held_out, most)
    shares = [target * count / total for count in counts]
    held = [min(int(share), count - 1) for share, count in zip(shares, counts, strict=True)]
    # The remainder of rounding down goes to the classes that lost most by it, then to any that have enough.
    order = sorted(range(len(counts)), key=lambda index: (int(shares[index]) - shares[index], index))
    while (left := target - sum(held)) > 0:
        for index in [index for index in order if held[index] < counts[index] - 1][:left]:
            held[index] += 1
    return held


def split(
    labels: Int[Tensor, "n"], held: Sequence[int], seed: int
) -> tuple[Int[Tensor, "learned"], Int[Tensor, "held"]]:
    """Return the indices of examples for training and of those held out, `held` of each class, drawn from the seed."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    out = torch.zeros(len(labels), dtype=torch.bool)
    for label, count in enumerate(held):
        out[order[labels[order] == label][:count]] = True
    return (~out).nonzero()[:, 0], out.nonzero()[:, 0]


def read_examples(
    path: Path,
    format: Format,
    spec: InputSpec,
    labels: Sequence[str],
    options: ReadOptions = READ_DEFAULTS,
) -> tuple[Float[Tensor, "n *input"], Int[Tensor, "n"]]:
    """Return the examples of these labels, in their order, and the label index of each. Raise `DatasetFileError`."""
    if isinstance(spec, VectorInput):
        dataset = _chosen(files.from_file(path, format, path.name, options=options), labels)
        if dataset.inputs.ndim != 2 or dataset.inputs.shape[1] != spec.dim:
            raise DatasetFileError("dataset_mismatch", f"The stream takes vectors of {spec.dim} numbers.")
        return dataset.inputs, dataset.labels
    dataset = _chosen(files.from_file(path, format, path.name, pictures=spec, options=options), labels)
    if dataset.inputs.dtype != torch.uint8:
        raise DatasetFileError("dataset_mismatch", "The stream takes images.")
    # Images of a zip have been decoded to ink or photos already; those of an npz have not.
    return (_decoded(dataset.inputs) if format == "zip" else model_input(dataset, spec)), dataset.labels


def _chosen(dataset: ClassDataset, labels: Sequence[str]) -> ClassDataset:
    names = {name: index for index, name in enumerate(dataset.class_names)}
    if missing := [label for label in labels if label not in names]:
        raise DatasetFileError("unknown_class", f"The dataset has no class {missing[0]!r}.")
    return dataset.select([names[label] for label in labels])


def _decoded(pictures: Tensor) -> Float[Tensor, "n channels side side"]:
    """Invert the conversion by which data sets store decoded images."""
    scaled = pictures.float() / 255
    return scaled[:, None] if pictures.ndim == 3 else scaled.permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class TaskMeasurement:
    """Figures of one stream task on its held-out examples; None if it has none."""

    accuracy: float | None
    """Share of examples whose label is right, given the stream task."""
    inferred: float | None
    """Share of examples whose stream task is inferred correctly."""
    drift: float
    """Change of the task's network since its registration, relative to its size."""


@torch.no_grad()
def measure(
    learner: StreamLearner,
    version: StreamVersion,
    held_out: Mapping[str, tuple[Float[Tensor, "n *input"], Int[Tensor, "n"]]],
) -> dict[str, TaskMeasurement]:
    """Measure every stream task of the version on the first of its held-out examples, whose order is random."""
    drift = learner.drift(version)
    gate = learner.gate(version)
    each = max(LEAST_PER_TASK, MEASURED_EXAMPLES // len(version.tasks))
    measured = {}
    for index, task in enumerate(version.tasks):
        accuracy = inferred = None
        x, y = held_out.get(task, (torch.empty(0), torch.empty(0, dtype=torch.long)))
        x, y = x[:each], y[:each]
        if len(y):
            features = learner.embed(x)[None]
            answer = learner.predict(learner.weights(version, task), features)
            assert isinstance(answer, Categorical)
            accuracy = _share(answer.probabilities[0].argmax(1).cpu() == y)
            posterior = learner.posterior(gate, features)
            inferred = _share(posterior.probabilities[0].argmax(1) == index)
        measured[task] = TaskMeasurement(accuracy, inferred, float(drift[task]))
    return measured


def has_degraded(
    measurement: TaskMeasurement, accuracy_registered: float | None, most_drift: float, most_drop: float
) -> bool:
    """Return True if a stream task has drifted by more than `most_drift`, or if its accuracy has dropped by more than
    `most_drop` since its registration."""
    now = measurement.accuracy
    drop = 0.0 if accuracy_registered is None or now is None else accuracy_registered - now
    return measurement.drift > most_drift or drop > most_drop


def _share(right: Tensor) -> float:
    return float(right.float().mean())
