"""Training on a data set of a user's own: what is asked, whether the data suffice, the recipe for it.

The command line and the training job share it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import BaseModel, ConfigDict, Field

from models.data import files
from models.data.augment import AugmentConfig
from models.data.augment_photo import PhotoAugmentConfig
from models.data.dataset import GLYPH_SIDE, ClassDataset, DatasetError
from models.data.episodes import Augmentation, EpisodeConfig
from models.data.errors import DatasetFileError, shown
from models.evaluation.calibrate import CalibrationPlan
from models.inputs import ImageInput, PhotoInput
from models.protocol import Span
from models.registry import LearnerConfig, RegistryError, build
from models.training.recipe import COLOUR, Recipe, TrainingData, input_of
from models.training.trainer import TrainConfig

HELD_OUT = 0.2
"""Share of the classes that validation takes."""
LEAST_EXAMPLES = 4
"""Of each class, so that validation can draw support sets anew."""
MOST_PARAMETERS = 100_000_000
_MOST_HPARAM = 2_048
_LEAST_CLASSES = 3


class Asked(BaseModel):
    """What a client chooses of a training. Ranges are closed."""

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
    """Classes that training and validation need each: a task, and one class that is foreign to it."""
    return max(_LEAST_CLASSES, ways.low + 1)


def encoder_hparams(encoder: str, shape: tuple[int, ...] | None) -> dict[str, object]:
    """Vectors of one data set have one length, and methods that need to know it are told."""
    return {"dim": shape[0]} if encoder == "identity" and shape is not None else {}


def pictures(encoder: str, settings: Mapping[str, object] | None = None) -> ImageInput | PhotoInput:
    """As what the pictures of a data set are kept: glyphs larger than the learner's input, or photos."""
    taken = input_of(encoder, settings)
    return taken if isinstance(taken, PhotoInput) else ImageInput(size=GLYPH_SIDE)


def augmentation(encoder: str) -> Augmentation | None:
    """The changes made to examples of a kind, of common strength."""
    if encoder == "identity":
        return None
    return PhotoAugmentConfig() if encoder == COLOUR else AugmentConfig()


def training_data(
    given: ClassDataset,
    encoder: str,
    seed: int,
    ways: Span,
    *,
    settings: Mapping[str, object] | None = None,
    mirrored: bool = False,
) -> TrainingData:
    """A share of the classes is held out; pictures become ink or photos. Raises `DatasetError`."""
    are_pictures = given.inputs.dtype == torch.uint8
    if are_pictures == (encoder == "identity"):
        takes, holds = ("vectors", "pictures") if are_pictures else ("pictures", "vectors")
        raise DatasetError(f"{given.source} holds {holds}; the encoder {encoder} takes {takes}")
    fitting, validation = files.split_classes(given, HELD_OUT, seed, least_classes(ways))
    if are_pictures:
        kept = pictures(encoder, settings)
        fitting = fitting.photos(kept.size) if isinstance(kept, PhotoInput) else fitting.glyphs()
        fitting = fitting.mirrored() if mirrored else fitting
    return TrainingData(fitting, [validation])


def ways_of(method: str, hparams: Mapping[str, object], encoder: str, settings: Mapping[str, object]) -> Span:
    """The ways that a learner of this make takes; `settings` are the encoder's.

    Nothing is allocated. Raises `RegistryError`.
    """
    if any(isinstance(value, int) and abs(value) > _MOST_HPARAM for value in hparams.values()):
        raise RegistryError(f"a hyperparameter is larger than {_MOST_HPARAM}")
    config = LearnerConfig(
        code_version="",
        method=method,
        hparams=dict(hparams),
        encoder=encoder,
        encoder_hparams=dict(settings),
        input=input_of(encoder, settings),
    )
    with torch.device("meta"):
        learner = build(config)
    if sum(parameter.numel() for parameter in learner.parameters()) > MOST_PARAMETERS:
        raise RegistryError(f"the learner would have more than {MOST_PARAMETERS} parameters")
    if learner.traits.kind != "classification":
        raise RegistryError(f"{method} answers with values; a data set of classes cannot train it")
    return learner.traits.ways


def check(asked: Asked, counts: Mapping[str, int], ways: Span) -> None:
    """Raises `DatasetFileError` dataset_too_small, which says what is short."""
    least, count = least_classes(ways), len(counts)
    needed = max(least, asked.min_way + 1)
    held = files.held_out(count, HELD_OUT, least)
    if count - held < needed:
        enough = next(
            n for n in range(count, 4 * needed + 20) if n - files.held_out(n, HELD_OUT, least) >= needed
        )
        detail = (
            f"The data set has {count} classes, of which {held} are held out for validation; tasks of "
            f"{asked.min_way} classes and a foreign one need {needed} of the others, {enough} in all."
        )
        raise DatasetFileError("dataset_too_small", detail, limit=enough)
    name, smallest = min(counts.items(), key=lambda entry: entry[1])
    examples = max(LEAST_EXAMPLES, asked.min_shot + asked.queries)
    if smallest < examples:
        detail = (
            f"The class {shown(name)} has {smallest} examples; tasks of {asked.min_shot} shots and "
            f"{asked.queries} queries need {examples} of each class."
        )
        raise DatasetFileError("dataset_too_small", detail, limit=examples)


def recipe(asked: Asked, source: str, settings: Mapping[str, object], device: str) -> Recipe:
    """`source` is what the card calls the data; a short training has a short schedule and calibration."""
    steps = asked.steps
    tasks = max(10, min(100, steps // 20))
    return Recipe(
        method=asked.method,
        hparams=asked.hparams,
        encoder=asked.encoder,
        encoder_hparams=dict(settings),
        dataset=source,
        episodes=EpisodeConfig(
            min_way=asked.min_way,
            max_way=asked.max_way,
            min_shot=asked.min_shot,
            max_shot=asked.max_shot,
            queries=asked.queries,
        ),
        augmentation=augmentation(asked.encoder),
        train=TrainConfig(
            steps=steps,
            seed=asked.seed,
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
