"""`hyperserve train`: meta-training from the command line, with the code that the server serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from app.cli.command_options import takes_options
from app.cli.console import messages, training_progress
from app.cli.errors import CommandError
from app.cli.recorded_command import recorded_command
from app.cli.train_data import FUNCTIONS, PUBLISHED, DatasetChoice, function_family, published_data
from app.cli.train_options import TrainOptions
from app.cli.train_recipe import (
    Settings,
    as_options,
    class_recipe,
    default_name,
    explicit_settings,
    function_recipe,
)
from app.cli.zoo import learner_at
from app.core.allocator import keep_freed_memory
from hyperserve.version import __version__
from models.artifact import Artifact
from models.data import files
from models.training import functions as function_training
from models.training import recipe as class_training
from models.training import user_dataset
from models.training.trainer import Report, TrainingDivergedError


@takes_options(TrainOptions)
def train(options: TrainOptions) -> None:
    """Meta-train a learner.

    Run again after a kill, the training goes on where it was. Settings come from --recipe, then options, then --set.
    """
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = explicit_settings(options)
    options = replace(options, name=options.name or default_name(settings))
    chosen = DatasetChoice.parse(settings["dataset"])
    try:
        if chosen.name in FUNCTIONS:
            digest = _train_on_functions(options, settings, chosen.name)
        else:
            digest = _train_on_classes(options, settings, chosen)
    except TrainingDivergedError as error:
        raise CommandError(f"{error}") from error
    messages.print(f"{options.runs / options.name / 'learner'}  {digest[:16]}")


def _train_on_classes(options: TrainOptions, settings: Settings, chosen: DatasetChoice) -> str:
    start = None if options.init is None else learner_at(options.init)
    warm_start = None if start is None else start.digest
    if chosen.name in PUBLISHED:
        recipe = class_recipe(settings, None, warm_start)
        data = published_data(chosen, options.data, options.emnist, crop=recipe.crop)
    else:
        encoder, hparams = settings.get("encoder", "conv4"), settings.get("encoder_hparams", {})
        for line in files.reading_report(Path(chosen.name)):
            messages.print(line)
        given = files.load(Path(chosen.name), pictures=user_dataset.pictures(encoder, hparams))
        recipe = class_recipe(settings, tuple(given.inputs.shape[1:]), warm_start)
        ways = user_dataset.ways_of(recipe.method, recipe.hparams, recipe.encoder, recipe.encoder_hparams)
        data = user_dataset.training_data(
            given,
            recipe.encoder,
            recipe.train.seed,
            ways,
            settings=recipe.encoder_hparams,
            mirrored=chosen.mirrored,
        )
    steps = recipe.train.steps + (recipe.pretraining.steps if recipe.pretraining else 0)
    with _reported(steps, lambda score: f"{100 * score:.2f} %") as report:
        return class_training.train(
            recipe,
            data,
            options.runs / options.name,
            __version__,
            _command(options, settings, start),
            report,
            None if start is None else start.learner,
        )


def _train_on_functions(options: TrainOptions, settings: Settings, dataset: str) -> str:
    family = function_family(dataset, options.data)
    recipe = function_recipe(settings, family)
    with _reported(recipe.train.steps, lambda score: f"{recipe.chosen_by} {-score:.4f}") as report:
        return function_training.train(
            recipe,
            family,
            options.runs / options.name,
            __version__,
            _command(options, settings, None),
            report,
        )


@contextmanager
def _reported(steps: int, shown: Callable[[float], str]) -> Iterator[Report]:
    """Show a progress bar; the function that it yields takes the row of each step."""
    with training_progress() as progress:
        task = progress.add_task("training", total=steps, note="")

        def report(row: dict[str, float]) -> None:
            note = f"loss {row['loss']:.3f}"
            if "score" in row:
                note = f"{note}  validation {shown(row['score'])}"
                messages.print(f"step {int(row['step'])}: {note}")
            progress.update(task, completed=row["step"], note=note)

        yield report


def _command(options: TrainOptions, settings: Settings, start: Artifact | None) -> str:
    """Return the command that makes the learner again, after that of the learner it starts from.

    A recipe file may not be at hand then: its settings are written out.
    """
    words = None
    if options.recipe is not None:
        init = () if options.init is None else ("--init", options.init)
        words = ["train", "--name", options.name, *init, *as_options(settings)]
    command = recorded_command("--data", "--emnist", "--runs", words=words)
    return command if start is None else f"{start.config.training.get('command')} && {command}"
