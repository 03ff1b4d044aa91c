"""Training on a user's data set: the settings a client chooses, the check of the data, the recipe.

The command line and the training job share it.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from models.augmentation import Augmentation
from models.data import files
from models.data.dataset import ClassDataset, DatasetError
from models.data.episodes import EpisodeConfig
from models.data.errors import DatasetFileError, shown
from models.data.zip_file import GLYPHS
from models.evaluation.calibrate import CalibrationPlan
from models.inputs import PictureInput, VectorInput
from models.protocol import Span
from models.registry import ENCODERS, RegistryError, blank_encoder, blank_learner, input_of
from models.training.recipe import Recipe, TrainingData
from models.training.trainer import TrainConfig

HELD_OUT = 0.2
"""Share of the classes that validation takes."""
LEAST_EXAMPLES = 4
"""Least examples of each class, so that validation can draw support sets anew."""
MOST_PARAMETERS = 100_000_000
_MOST_HPARAM = 2_048
_LEAST_CLASSES = 3


class TrainingOptions(BaseModel):
    """Settings of a training that a client chooses. Ranges are closed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    hparams: dict[str, object] = Field(default_factory=dict)
    encoder: str
    min_way: int
    max_way: int
    min_shot: int
    max_shot: int
    queries: int
    steps: int
    seed: int


def least_classes(ways: Span) -> int:
    """Return the classes that training and validation need each: a task, and one class foreign to it."""
    return max(_LEAST_CLASSES, ways.low + 1)


def encoder_hparams(encoder: str, shape: tuple[int, ...] | None) -> dict[str, object]:
    """Return the encoder's hyperparameters that follow from the shape of the data's inputs, if they have one.

    Raises `RegistryError` for an unknown encoder.
    """
    if encoder not in ENCODERS:
        raise RegistryError(f"unknown encoder {encoder!r}; known are {', '.join(sorted(ENCODERS))}")
    return {} if shape is None else ENCODERS[encoder].hparams_for(shape)


def pictures(encoder: str, settings: Mapping[str, object] | None = None) -> PictureInput:
    """Return the form in which pictures of a data set are read, that of glyphs if the encoder takes none."""
    form = input_of(encoder, settings).stored_form
    return GLYPHS if isinstance(form, VectorInput) else form


def augmentation(encoder: str, settings: Mapping[str, object] | None = None) -> Augmentation | None:
    """Return the changes made to examples for an encoder, at common strength."""
    return blank_encoder(encoder, settings).augmentation()


def training_data(
    given: ClassDataset,
    encoder: str,
    seed: int,
    ways: Span,
    *,
    settings: Mapping[str, object] | None = None,
    mirrored: bool = False,
) -> TrainingData:
    """Hold out a share of the classes; pictures become ink or photos. Raises `DatasetError`."""
    taken = input_of(encoder, settings)
    if given.kind != taken.kind:
        raise DatasetError(f"{given.source} holds {given.kind}s; the encoder {encoder} takes {taken.kind}s")
    fitting, validation = files.split_classes(given, HELD_OUT, seed, least_classes(ways))
    fitting = fitting.stored_as(taken.stored_form)
    if mirrored and given.kind == "image":
        fitting = fitting.mirrored()
    return TrainingData(fitting, [validation])


def ways_of(method: str, hparams: Mapping[str, object], encoder: str, settings: Mapping[str, object]) -> Span:
    """Return the ways that a learner of this description takes; `settings` are the encoder's.

    Nothing is allocated. Raises `RegistryError`.
    """
    if any(isinstance(value, int) and abs(value) > _MOST_HPARAM for value in hparams.values()):
        raise RegistryError(f"a hyperparameter is larger than {_MOST_HPARAM}")
    learner = blank_learner(method, hparams, encoder, settings)
    if sum(parameter.numel() for parameter in learner.parameters()) > MOST_PARAMETERS:
        raise RegistryError(f"the learner would have more than {MOST_PARAMETERS} parameters")
    if learner.traits.kind == "regression":
        raise RegistryError(f"{method} answers with values; a data set of classes cannot train it")
    return learner.traits.ways


def check(options: TrainingOptions, counts: Mapping[str, int], ways: Span) -> None:
    """Raise `DatasetFileError` dataset_too_small for too few classes or examples, with the number needed."""
    least, count = least_classes(ways), len(counts)
    needed = max(least, options.min_way + 1)
    held = files.held_out(count, HELD_OUT, least)
    if count - held < needed:
        enough = next(
            n for n in range(count, 4 * needed + 20) if n - files.held_out(n, HELD_OUT, least) >= needed
        )
        detail = (
            f"The data set has {count} classes, of which {held} are held out for validation; tasks of "
            f"{options.min_way} classes and a foreign one need {needed} of the others, {enough} in all."
        )
        raise DatasetFileError("dataset_too_small", detail, limit=enough)
    name, smallest = min(counts.items(), key=lambda entry: entry[1])
    examples = max(LEAST_EXAMPLES, options.min_shot + options.queries)
    if smallest < examples:
        detail = (
            f"The class {shown(name)} has {smallest} examples; tasks of {options.min_shot} shots and "
            f"{options.queries} queries need {examples} of each class."
        )
        raise DatasetFileError("dataset_too_small", detail, limit=examples)


def recipe(options: TrainingOptions, source: str, settings: Mapping[str, object], device: str) -> Recipe:
    """Return the recipe; a short training has a short schedule and calibration. The card names the data `source`."""
    steps = options.steps
    tasks = max(10, min(100, steps // 20))
    return Recipe(
        method=options.method,
        hparams=options.hparams,
        encoder=options.encoder,
        encoder_hparams=dict(settings),
        dataset=source,
        episodes=EpisodeConfig(
            min_way=options.min_way,
            max_way=options.max_way,
            min_shot=options.min_shot,
            max_shot=options.max_shot,
            queries=options.queries,
        ),
        augmentation=augmentation(options.encoder, settings),
        train=TrainConfig(
            steps=steps,
            seed=options.seed,
            warm_up=min(300, max(1, steps // 10)),
            # An average of the last twentieth at most, or it would still hold what training began with.
            ema=max(0.0, min(0.998, 1 - 20 / steps)),
            precision="bf16" if device.startswith("cuda") else "fp32",
            device=device,
            validate_every=max(1, min(500, steps // 4)),
            checkpoint_every=max(1, min(100, steps // 10)),
        ),
        calibration=CalibrationPlan(tasks=tasks, gold_tasks=max(4, tasks * 6 // 10), set_tasks=10 * tasks),
    )
