"""`hyperserve train`: meta-training from the command line, by what the server serves."""

from __future__ import annotations

import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.cli.options import key_value as key_value
from app.core import devices
from app.core.allocator import keep_freed_memory
from app.core.settings import REPOSITORY
from models import artifact
from models.artifact import Artifact, ArtifactError
from models.data import cifarfs, emnist, files, omniglot, vectors
from models.data.augment import AugmentConfig
from models.data.augment_photo import PhotoAugmentConfig
from models.data.dataset import DatasetError
from models.data.episodes import Augmentation
from models.protocol import LearnerError
from models.registry import METHODS
from models.training import recipe as training
from models.training import user_dataset
from models.training.run_folder import RecipeError
from models.training.trainer import TrainConfig, TrainingDivergedError

Optimiser = Annotated[
    str, typer.Option(help="gradient, or a search outside the encoder: evolution, cma-es, reinforce.")
]
Objective = Annotated[
    str, typer.Option(help="Of a search: accuracy of the queries, or loss, which is minus that.")
]
Population = Annotated[int, typer.Option(help="Of a search: parameter vectors of a step.")]
Sigma = Annotated[float, typer.Option(help="Of a search: standard deviation of their noise.")]
Searched = Annotated[
    list[str] | None,
    typer.Option(help="Of a search: name of parameters; all outside the encoder if not given."),
]


def search(
    optimiser: str, objective: str, population: int, sigma: float, searched: list[str] | None
) -> dict[str, Any] | None:
    """`Recipe.search`: none for gradient descent."""
    if optimiser == "gradient":
        return None
    return {
        "optimiser": optimiser,
        "objective": objective,
        "population": population,
        "sigma": sigma,
        "parameters": tuple(searched or ()),
    }


console = Console(stderr=True)
OMNIGLOT, CROSS, BACKGROUND = "omniglot", "omniglot-emnist", "omniglot-background"
SYNTHETIC, CIFAR = "synthetic-vectors", "cifar-fs"
PUBLISHED = (OMNIGLOT, CROSS, BACKGROUND, SYNTHETIC, CIFAR)
_SPACES = 12
_LOCAL = ("--data", "--emnist", "--runs")
_LOCAL_WITH_VALUE = tuple(f"{name}=" for name in _LOCAL)
REFUSALS = (ArtifactError, DatasetError, LearnerError, RecipeError, TrainingDivergedError)


def train(
    name: Annotated[str, typer.Option(help="Name of the learner, and of the folder of its training.")],
    method: Annotated[str, typer.Option(help=f"{', '.join(sorted(METHODS))}.")] = "hyperset",
    dataset: Annotated[
        str,
        typer.Option(
            help="omniglot, omniglot-emnist, omniglot-background, cifar-fs, synthetic-vectors, a path (class folders, "
            "zip, npz, CSV), or functions with options of their own: sinusoids, gp, completion."
        ),
    ] = OMNIGLOT,
    data: Annotated[
        Path | None, typer.Option(help="The data on disk; Omniglot is downloaded when not given.")
    ] = None,
    emnist_data: Annotated[
        Path | None, typer.Option("--emnist", help="EMNIST as an npz, which validates omniglot-emnist.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="conv4 for glyphs, conv4-rgb for photos, identity for vectors.")
    ] = "conv4",
    encoder_hparam: Annotated[
        list[str] | None, typer.Option(help="Hyperparameter of the encoder, key=value.")
    ] = None,
    hparam: Annotated[list[str] | None, typer.Option(help="Hyperparameter of the method, key=value.")] = None,
    min_way: Annotated[int | None, typer.Option(help="5, or what the method takes.")] = None,
    max_way: Annotated[int | None, typer.Option(help="60, or what the method takes.")] = None,
    min_shot: int = 1,
    max_shot: int = 5,
    queries: Annotated[int, typer.Option(help="Known queries per class and task.")] = 5,
    foreign: Annotated[float, typer.Option(help="Share of queries of classes not in the support set.")] = 0.1,
    within_domain: Annotated[float, typer.Option(help="Share of tasks within one alphabet.")] = 0.5,
    examples_per_step: int = 300,
    augmentation: Annotated[
        float, typer.Option(help="Strength of the changes made to pictures; 0 leaves them as they are.")
    ] = 1.0,
    thicker: Annotated[
        float | None, typer.Option(help="Pixels of 56 by which strokes grow at most, on each side.")
    ] = None,
    crop: Annotated[bool, typer.Option(help="Cut glyphs out of their paper.")] = False,
    mirrored: Annotated[
        bool, typer.Option(help="Mirror images of training classes are classes too.")
    ] = False,
    rotated: Annotated[bool, typer.Option(help="Rotations of training classes are classes too.")] = True,
    init: Annotated[
        str | None,
        typer.Option(
            help="Start from this learner, or its encoder where it is of another method: path or name."
        ),
    ] = None,
    optimiser: Optimiser = "gradient",
    objective: Objective = "accuracy",
    population: Population = 32,
    sigma: Sigma = 0.05,
    searched: Searched = None,
    pretraining_steps: Annotated[
        int, typer.Option(help="Batches on which the encoder first learns to tell all classes apart.")
    ] = 0,
    steps: int = 14_000,
    lr: float = 2e-3,
    ema: Annotated[float, typer.Option(help="Decay of the moving average of weights.")] = 0.998,
    seed: int = 0,
    device: Annotated[str, typer.Option(help=devices.HELP)] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "bf16",
    validate_every: int = 500,
    calibration_tasks: Annotated[int, typer.Option(help="Validation tasks per way and shot.")] = 100,
    threads: Annotated[int, typer.Option(help="torch threads; 0 leaves torch's choice.")] = 0,
    runs: Annotated[Path, typer.Option(help="Where trainings live; one folder each.")] = Path("runs"),
) -> None:
    """Meta-train a learner. Run again after a kill, the training goes on where it was."""
    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    tasks = {"min_shot": min_shot, "max_shot": max_shot, "queries": queries}
    tasks |= {"examples_per_step": examples_per_step}
    hparams = dict(map(key_value, hparam or []))
    schedule = {"steps": steps, "lr": lr, "ema": ema, "seed": seed, "validate_every": validate_every}
    # A short training must not spend itself on warming up.
    schedule |= {"warm_up": min(TrainConfig().warm_up, max(1, steps // 10))}
    calibration = {"tasks": calibration_tasks, "set_tasks": 10 * calibration_tasks}
    try:
        settings = dict(map(key_value, encoder_hparam or []))
        kept = user_dataset.pictures(encoder, settings)
        given = None if dataset in PUBLISHED else files.load(Path(dataset), pictures=kept)
        if given is not None:
            settings = user_dataset.encoder_hparams(encoder, tuple(given.inputs.shape[1:])) | settings
        tasks |= training.task_ways(method, hparams, encoder, min_way, max_way, settings)
        start = None if init is None else learner_at(init)
        chosen = training.Recipe.model_validate(
            {
                "method": method,
                "hparams": hparams,
                "encoder": encoder,
                "encoder_hparams": settings,
                "crop": crop,
                "dataset": _described(dataset, mirrored=mirrored, rotated=rotated),
                "warm_start": None if start is None else start.digest,
                "episodes": tasks | {"foreign": foreign, "within_domain": within_domain},
                "augmentation": _augmentation(encoder, augmentation, thicker),
                "train": schedule | {"device": devices.chosen(device), "precision": precision},
                "calibration": calibration | {"gold_tasks": max(2, calibration_tasks * 6 // 10)},
                "pretraining": {"steps": pretraining_steps} if pretraining_steps else None,
                "search": search(optimiser, objective, population, sigma, searched),
            }
        )
        if given is None:
            material = _published_data(
                dataset, data, emnist_data, crop=crop, mirrored=mirrored, rotated=rotated
            )
        else:
            ways = user_dataset.ways_of(method, hparams, encoder, settings)
            material = user_dataset.training_data(
                given, encoder, seed, ways, settings=settings, mirrored=mirrored
            )
        digest = _run(chosen, material, runs / name, command_of(sys.argv[1:], start), start)
    except (*REFUSALS, ValidationError) as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        raise typer.Exit(2) from error
    console.print(f"{runs / name / 'learner'}  {digest[:16]}", highlight=False)


def _run(
    chosen: training.Recipe,
    material: training.TrainingData,
    folder: Path,
    command: str,
    start: Artifact | None,
) -> str:
    """Trains under a progress bar; the digest of what came of it."""
    with bar() as progress:
        total = chosen.train.steps + (chosen.pretraining.steps if chosen.pretraining else 0)
        task = progress.add_task("training", total=total, note="")

        def report(row: dict[str, float]) -> None:
            note = f"loss {row['loss']:.3f}"
            if "score" in row:
                note = f"{note}  validation {100 * row['score']:.2f} %"
                progress.console.print(f"step {int(row['step'])}: {note}")
            progress.update(task, completed=row["step"], note=note)

        learner = None if start is None else start.learner
        return training.train(chosen, material, folder, version("hyperserve"), command, report, learner)


def _described(dataset: str, *, mirrored: bool, rotated: bool) -> str:
    """The data set with what is unusual of its classes."""
    turned = "" if rotated or dataset not in (OMNIGLOT, CROSS, BACKGROUND) else ", not rotated"
    return f"{dataset}{', mirrored' if mirrored else ''}{turned}"


def _augmentation(encoder: str, strength: float, thicker: float | None) -> Augmentation | None:
    if not strength or encoder == "identity":
        return None
    if encoder == training.COLOUR:
        return PhotoAugmentConfig().scaled(strength)
    scaled = AugmentConfig().scaled(strength)
    return scaled if thicker is None else scaled.model_copy(update={"thicker": thicker})


def _published_data(
    dataset: str,
    data: Path | None,
    emnist_data: Path | None,
    *,
    crop: bool,
    mirrored: bool,
    rotated: bool,
) -> training.TrainingData:
    if dataset == SYNTHETIC:
        return training.TrainingData(None, [vectors.space(index) for index in range(_SPACES)])
    if dataset == CIFAR:
        if data is None:
            raise DatasetError("cifar-fs needs --data, the folder of its npz files")
        fitting = cifarfs.load(data, "train")
        fitting = fitting.mirrored() if mirrored else fitting
        return training.TrainingData(fitting, [cifarfs.load(data, "validation")])
    if dataset == CROSS:
        if emnist_data is None:
            raise DatasetError("omniglot-emnist needs --emnist, EMNIST as an npz, to validate on")
        fitting, validation = omniglot.load(data, "no-latin"), emnist.load(emnist_data, "validation")
    elif dataset == BACKGROUND:
        fitting, validation = omniglot.load(data, "background"), omniglot.load(data, "lake-validation")
    else:
        fitting, validation = omniglot.load(data, "train"), omniglot.load(data, "validation")
    fitting = fitting.glyphs(crop=crop)
    fitting = fitting.mirrored() if mirrored else fitting
    return training.TrainingData(fitting.rotations() if rotated else fitting, [validation])


def learner_at(name: str) -> Artifact:
    """A learner by its name in the zoo, or by its path. Raises `ArtifactError`."""
    zoo = REPOSITORY / "models" / "zoo" / name
    folder = zoo if zoo.is_dir() else Path(name)
    # A training keeps its learner in a folder `learner`; its name is that of the training.
    return artifact.load(folder, folder.resolve().parent.name if folder.name == "learner" else None)


def command_of(words: list[str], start: Artifact | None) -> str:
    """How to make the learner again, from the first; where this machine keeps data and runs is its own affair."""
    kept, skip = [], False
    for word in words:
        if skip or word.startswith(_LOCAL_WITH_VALUE):
            skip = False
        elif word in _LOCAL:
            skip = True
        else:
            kept.append(word)
    command = shlex.join(["hyperserve", *kept])
    return command if start is None else f"{start.config.training.get('command')} && {command}"


def bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
