"""Options of `hyperserve train`. None means "not given": then the recipe file decides, and else the default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from app.core import devices
from models.registry import METHODS

_TASKS, _SCHEDULE, _SEARCH = "Tasks", "Schedule", "Search without a gradient"
_DATA, _LEARNER = "Data", "Learner"


@dataclass(frozen=True)
class TrainOptions:
    """Daily options of a training; `recipe` and `settings` reach everything else."""

    name: Annotated[
        str,
        typer.Option(
            show_default="METHOD-DATASET", help="Name of the learner and of the folder of its training."
        ),
    ] = ""
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="JSON or TOML of settings, such as the recipe.json of a training; options override it.",
        ),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting of the recipe: path=value, such as train.weight_decay=0."),
    ] = None
    init: Annotated[
        str | None,
        typer.Option(help="Learner to start from, path or name; if of another method, its encoder is used."),
    ] = None
    runs: Annotated[Path, typer.Option(help="Folder of trainings, one folder each.")] = Path("runs")
    threads: Annotated[int, typer.Option(help="torch threads; 0 leaves torch's choice.")] = 0
    device: Annotated[str | None, typer.Option(help=f"{devices.HELP} Default cpu.")] = None
    dataset: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_DATA,
            help="omniglot (default), omniglot-emnist, omniglot-background, cifar-fs, synthetic-vectors, a path "
            "(class folders, zip, npz, CSV), or functions: sinusoids, gp, completion, random-functions.",
        ),
    ] = None
    data: Annotated[
        Path | None,
        typer.Option(rich_help_panel=_DATA, help="The data on disk; Omniglot is downloaded if left out."),
    ] = None
    emnist: Annotated[
        Path | None,
        typer.Option(rich_help_panel=_DATA, help="EMNIST as an npz, which validates omniglot-emnist."),
    ] = None
    crop: Annotated[
        bool | None, typer.Option(rich_help_panel=_DATA, help="Cut glyphs out of their paper.")
    ] = None
    mirrored: Annotated[
        bool | None,
        typer.Option(rich_help_panel=_DATA, help="Mirror images of training classes are classes too."),
    ] = None
    rotated: Annotated[
        bool | None,
        typer.Option(
            rich_help_panel=_DATA,
            help="Rotations of training classes are classes too (default for Omniglot).",
        ),
    ] = None
    augmentation: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=_DATA, help="Strength of the changes made to pictures; default 1, 0 makes none."
        ),
    ] = None
    thicker: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=_DATA, help="Most pixels of 56 by which strokes are thickened on each side."
        ),
    ] = None
    method: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_LEARNER,
            help=f"{', '.join(sorted(METHODS))}. Default hyperset; of functions bayes-linear.",
        ),
    ] = None
    hparam: Annotated[
        list[str] | None,
        typer.Option(rich_help_panel=_LEARNER, help="Hyperparameter of the method, key=value."),
    ] = None
    encoder: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_LEARNER,
            help="conv4 (default) for glyphs, conv4-rgb for photos, identity for vectors.",
        ),
    ] = None
    encoder_hparam: Annotated[
        list[str] | None,
        typer.Option(rich_help_panel=_LEARNER, help="Hyperparameter of the encoder, key=value."),
    ] = None
    min_way: Annotated[
        int | None, typer.Option(rich_help_panel=_TASKS, help="Default 5, or what the method takes.")
    ] = None
    max_way: Annotated[
        int | None, typer.Option(rich_help_panel=_TASKS, help="Default 60, or what the method takes.")
    ] = None
    min_shot: Annotated[
        int | None, typer.Option(rich_help_panel=_TASKS, help="Default 1; of functions 10, of gp 3.")
    ] = None
    max_shot: Annotated[
        int | None, typer.Option(rich_help_panel=_TASKS, help="Default 5; of functions 10, completion 200.")
    ] = None
    queries: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_TASKS,
            help="Known queries for each class, default 5; of functions all queries, 10, completion 200.",
        ),
    ] = None
    foreign: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=_TASKS, help="Share of queries of classes not in the support set; default 0.1."
        ),
    ] = None
    within_domain: Annotated[
        float | None,
        typer.Option(rich_help_panel=_TASKS, help="Share of tasks within one alphabet; default 0.5."),
    ] = None
    examples_per_step: Annotated[
        int | None, typer.Option(rich_help_panel=_TASKS, help="Examples in a step; default 300.")
    ] = None
    tasks: Annotated[
        int | None, typer.Option(rich_help_panel=_TASKS, help="Of functions: tasks in a step; default 25.")
    ] = None
    steps: Annotated[
        int | None, typer.Option(rich_help_panel=_SCHEDULE, help="Default 14,000; of functions 20,000.")
    ] = None
    lr: Annotated[
        float | None,
        typer.Option(rich_help_panel=_SCHEDULE, help="Learning rate; default 0.002, of functions 0.001."),
    ] = None
    ema: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=_SCHEDULE, help="Decay of the moving average of weights; default 0.998."
        ),
    ] = None
    seed: Annotated[
        int | None, typer.Option(rich_help_panel=_SCHEDULE, help="Seed of all random draws; default 0.")
    ] = None
    precision: Annotated[
        str | None, typer.Option(rich_help_panel=_SCHEDULE, help="bf16 (default) or fp32.")
    ] = None
    validate_every: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_SCHEDULE, help="Steps between validations; default 500, functions 1,000."
        ),
    ] = None
    chosen_by: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_SCHEDULE, help="Of functions: score of the best checkpoint, nll or mse."
        ),
    ] = None
    pretraining_steps: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_SCHEDULE,
            help="Batches in which the encoder first learns to classify all classes; default 0.",
        ),
    ] = None
    calibration_tasks: Annotated[
        int | None,
        typer.Option(rich_help_panel=_SCHEDULE, help="Validation tasks for each way and shot; default 100."),
    ] = None
    optimiser: Annotated[
        str | None,
        typer.Option(rich_help_panel=_SEARCH, help="gradient (default), evolution, cma-es or reinforce."),
    ] = None
    objective: Annotated[
        str | None, typer.Option(rich_help_panel=_SEARCH, help="accuracy (default) or loss, of the queries.")
    ] = None
    population: Annotated[
        int | None, typer.Option(rich_help_panel=_SEARCH, help="Parameter vectors in a step; default 32.")
    ] = None
    sigma: Annotated[
        float | None,
        typer.Option(rich_help_panel=_SEARCH, help="Standard deviation of their noise; default 0.05."),
    ] = None
    searched: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=_SEARCH, help="Name of parameters to search; all outside the encoder if left out."
        ),
    ] = None
