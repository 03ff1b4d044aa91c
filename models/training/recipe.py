"""A training from start to artifact: build, train, select and calibrate on validation classes, save."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    model_serializer,
    model_validator,
)

from models import artifact
from models.augmentation import Augmentation
from models.data.dataset import ClassDataset, DatasetError, model_input
from models.data.episodes import EpisodeConfig, EpisodeSampler
from models.data.glyph_augmentation import GlyphAugmentation
from models.evaluation.calibrate import CalibrationPlan, calibrate
from models.evaluation.episodic import Cell, Features, accuracy, answers, cells_of, embed_all, nll
from models.inputs import InputSpec
from models.protocol import MetaLearner, Span, Traits
from models.registry import LearnerConfig, RegistryError, blank_encoder, blank_learner, build, input_of
from models.training.card import write_card
from models.training.population import trainer_of
from models.training.pretraining import PretrainingConfig, pretrain
from models.training.run_folder import RecipeError, claim
from models.training.search import SearchConfig, summary
from models.training.trainer import Report, TrainConfig

VALIDATION_WAYS, VALIDATION_SHOTS = (5, 20), (1, 5)
_VALIDATION_TASKS = 200
_VALIDATION_SEED = 1


class Recipe(BaseModel):
    """Settings of a training: with its data they decide what it makes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    hparams: dict[str, object] = Field(default_factory=dict)
    encoder: str = "conv4"
    encoder_hparams: dict[str, object] = Field(default_factory=dict)
    crop: bool = False
    """Cut glyphs out of their paper (`ImageInput.crop`)."""
    dataset: str
    warm_start: str | None = None
    """Digest of the learner whose weights training starts from."""
    episodes: EpisodeConfig = EpisodeConfig()
    augmentation: SerializeAsAny[Augmentation] | None = GlyphAugmentation()
    """Read from JSON as the augmentation that the encoder brings."""
    train: TrainConfig = TrainConfig()
    calibration: CalibrationPlan = CalibrationPlan()
    pretraining: PretrainingConfig | None = None
    """Training of the encoder alone, before the episodes."""
    search: SearchConfig | None = None
    """In place of gradient descent."""

    @model_validator(mode="before")
    @classmethod
    def _augmentation_is_the_encoders(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not isinstance(settings := given.get("augmentation"), Mapping):
            return given
        encoder = given.get("encoder", cls.model_fields["encoder"].default)
        try:
            own = blank_encoder(encoder, given.get("encoder_hparams")).augmentation()
        except RegistryError as error:
            raise ValueError(f"{error}") from error
        # Recipes for vectors hold the default, which does nothing to them.
        kind = GlyphAugmentation if own is None else type(own)
        return {**given, "augmentation": kind.model_validate(settings)}

    @model_serializer(mode="wrap")
    def _described(self, describe: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Leave out later options that are off: trainings older than them can be resumed."""
        described: dict[str, Any] = describe(self)
        off = [name for name in ("pretraining", "search") if described[name] is None]
        return {name: value for name, value in described.items() if name not in off}


@dataclass(frozen=True)
class TrainingData:
    """Training classes as `InputSpec.stored_form` has them, and validation classes: several sets are several spaces."""

    train: ClassDataset | None
    validation: Sequence[ClassDataset]


def train(
    recipe: Recipe,
    data: TrainingData,
    folder: Path,
    code_version: str,
    command: str,
    report: Report,
    start: MetaLearner | None = None,
    name: str | None = None,
) -> str:
    """Train into `folder`, resuming a training there, save the learner in `folder/learner`, return its digest.

    `start` is the learner of `recipe.warm_start`, `name` the learner's name on its card, by default the folder's.
    Raises `RecipeError` if the folder holds another training or the two learners differ in shape.
    """
    claim(folder, recipe)
    torch.manual_seed(recipe.train.seed)
    config = _config(recipe, data, code_version)
    learner = build(config)
    if start is not None:
        _warm_start(learner, start)
    made: dict[str, object] = {"command": command, "dataset": recipe.dataset, "seed": recipe.train.seed}
    if data.train is not None and any(p.requires_grad for p in learner.parameters()):
        _check_ways(recipe, learner.traits.ways)
        before = 0
        if recipe.pretraining is not None:
            made |= _pretrain(learner, recipe, recipe.pretraining, data, folder, report)
            before = recipe.pretraining.steps
        sampler = EpisodeSampler(data.train, recipe.episodes, recipe.train.seed, ways=learner.traits.ways)
        trainer = trainer_of(learner, sampler, recipe.augmentation, recipe.train, recipe.search, folder)
        learner = trainer.run(
            lambda candidate: validate(candidate, data.validation, config.input),
            lambda row: report({**row, "step": before + row["step"]}),
        )
        made |= {
            "steps": recipe.train.steps,
            "best_step": trainer.progress.best_step,
            "train_seconds": round(trainer.progress.seconds),
            "device": recipe.train.device,
            "precision": recipe.train.precision,
            **summary(recipe.search, recipe.train.steps),
        }
    learner = learner.to("cpu").eval().requires_grad_(False)
    spaces = [embed(learner, dataset, config.input) for dataset in data.validation]
    made |= learner.select(lambda: _validation_loss(learner, spaces))
    if learner.calibration is not None:
        calibrate(learner, spaces, recipe.calibration)
    scores = score(learner, spaces)
    config = config.model_copy(update={"training": made, "metrics": {"validation": scores}})
    return artifact.save(folder / "learner", learner, config, write_card(name or folder.name, config))


def task_ways(
    method: str,
    hparams: Mapping[str, object],
    encoder: str,
    low: int | None = None,
    high: int | None = None,
    encoder_hparams: Mapping[str, object] | None = None,
) -> dict[str, int]:
    """Return the ways to train on: as given, else the default as far as the method takes it.

    Raises `RegistryError` for names and hyperparameters that the registry does not know.
    """
    ways, default = blank_learner(method, hparams, encoder, encoder_hparams).traits.ways, EpisodeConfig()
    if high is None:
        high = max(low or 0, ways.nearest(default.max_way))
    return {"min_way": min(high, ways.nearest(default.min_way)) if low is None else low, "max_way": high}


def embed(learner: MetaLearner, dataset: ClassDataset, spec: InputSpec) -> Features:
    """Embed a whole data set."""
    return embed_all(learner, model_input(dataset, spec), dataset.labels, dataset.domains)


def validate(learner: MetaLearner, validation: Sequence[ClassDataset], spec: InputSpec) -> dict[str, float]:
    """Return accuracies on fixed validation tasks; "score" is their mean."""
    return score(learner, [embed(learner, dataset, spec) for dataset in validation])


def score(learner: MetaLearner, spaces: Sequence[Features]) -> dict[str, float]:
    """Return accuracy and NLL of each validation cell. Raises `DatasetError` if the classes are too few or small."""
    found: dict[str, float] = {}
    for cell in _validation_cells(learner.traits, spaces):
        per_task = [
            torch.stack((accuracy(batch), nll(batch)))
            for features in spaces
            if features.hold(cell)
            for batch in answers(
                learner, features, cell, max(1, _VALIDATION_TASKS // len(spaces)), _VALIDATION_SEED
            )
        ]
        if per_task:
            mean = torch.cat(per_task, dim=1).mean(1)
            found[f"accuracy_{cell.way}w{cell.shot}s"] = float(mean[0])
            found[f"nll_{cell.way}w{cell.shot}s"] = float(mean[1])
    if not found:
        classes = max(len(features.members) for features in spaces)
        raise DatasetError(
            f"{classes} validation classes are too few or too small for a learner of {learner.traits.ways} ways"
        )
    accuracies = [value for name, value in found.items() if name.startswith("accuracy")]
    return {**found, "score": sum(accuracies) / len(accuracies)}


def _validation_cells(traits: Traits, spaces: Sequence[Features]) -> list[Cell]:
    """Return the cells of every training; of data too small for all of them, the largest that they hold."""
    cells = cells_of(traits, VALIDATION_WAYS, VALIDATION_SHOTS)
    if any(features.hold(cell) for cell in cells for features in spaces):
        return cells
    way = traits.ways.nearest(min(VALIDATION_WAYS[0], max(len(features.members) for features in spaces)))
    shot = traits.shots.nearest(VALIDATION_SHOTS[0])
    return [Cell(way, shot, max(1, max(features.smallest for features in spaces) - shot))]


def _validation_loss(learner: MetaLearner, spaces: Sequence[Features]) -> float:
    """Return the sum of the validation NLLs."""
    return sum(loss for name, loss in score(learner, spaces).items() if name.startswith("nll"))


def _config(recipe: Recipe, data: TrainingData, code_version: str) -> LearnerConfig:
    classes = data.train.digest if data.train is not None else None
    if classes is None:
        names = "\n".join(sorted(dataset.digest for dataset in data.validation))
        classes = hashlib.sha256(names.encode()).hexdigest()
    return LearnerConfig(
        code_version=code_version,
        method=recipe.method,
        hparams=recipe.hparams,
        encoder=recipe.encoder,
        encoder_hparams=recipe.encoder_hparams,
        input=input_of(recipe.encoder, recipe.encoder_hparams, crop=recipe.crop),
        training_classes=classes,
    )


def _pretrain(
    learner: MetaLearner,
    recipe: Recipe,
    config: PretrainingConfig,
    data: TrainingData,
    folder: Path,
    report: Report,
) -> dict[str, object]:
    """Give the learner a pre-trained encoder; return what its card says about that."""
    assert data.train is not None
    spec = input_of(recipe.encoder, recipe.encoder_hparams, crop=recipe.crop)
    state = pretrain(
        copy.deepcopy(learner.encoder),
        data.train,
        config,
        recipe.augmentation,
        recipe.train,
        folder,
        lambda candidate: validate(candidate, data.validation, spec),
        report,
    )
    learner.encoder.load_state_dict(state)
    return {"pretraining_steps": config.steps, "pretraining_batch": config.batch}


def _check_ways(recipe: Recipe, ways: Span) -> None:
    low, high = recipe.episodes.min_way, recipe.episodes.max_way
    if low > high or low not in ways or high not in ways:
        given = f"{low} to {high}" if low != high else f"{low}"
        raise RecipeError(
            f"{recipe.method} as described takes {ways} classes, not tasks of {given} (min_way, max_way)"
        )


def _warm_start(learner: MetaLearner, start: MetaLearner) -> None:
    """Take all weights of a learner of the same method, else its encoder's; the calibration is fitted anew."""
    own, part = learner.state_dict(), "" if type(start) is type(learner) else "encoder."
    taken = {name: value for name, value in start.state_dict().items() if name.startswith(part)}
    taken = {name: value for name, value in taken.items() if not name.startswith("calibration.")}
    wrong = [name for name, value in taken.items() if name not in own or own[name].shape != value.shape]
    if wrong:
        raise RecipeError(f"the learner to start from has other shapes: {wrong[0]}")
    learner.load_state_dict({**own, **taken})
