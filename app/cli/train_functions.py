"""`hyperserve train --dataset sinusoids|gp|completion`: meta-training of learners that answer with values."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import torch
import typer
from pydantic import ValidationError

from app.cli.train import REFUSALS, bar, command_of, console, key_value
from app.core import devices
from app.core.allocator import keep_freed_memory
from models.data import omniglot
from models.data.dataset import DatasetError, model_input
from models.data.functions import Completion, Family, FunctionConfig, GaussianProcess, Sinusoids
from models.training import functions as training
from models.training.trainer import TrainConfig

SINUSOIDS, GP, COMPLETION = "sinusoids", "gp", "completion"
_SHOTS = {SINUSOIDS: (10, 10), GP: (3, 10), COMPLETION: (10, 200)}
_QUERIES = {SINUSOIDS: 10, GP: 10, COMPLETION: 200}
_CHOSEN_BY = {"maml-regression": "mse"}
"""Of methods whose loss is not a likelihood."""


def train(
    name: Annotated[str, typer.Option(help="Name of the learner, and of the folder of its training.")],
    dataset: Annotated[str, typer.Option(help="sinusoids, gp, or completion of glyphs.")],
    method: Annotated[
        str, typer.Option(help="bayes-linear, cnp-regression, maml-regression.")
    ] = "bayes-linear",
    data: Annotated[Path | None, typer.Option(help="Omniglot on disk, for completion.")] = None,
    hparam: Annotated[list[str] | None, typer.Option(help="Hyperparameter of the method, key=value.")] = None,
    min_shot: Annotated[int | None, typer.Option(help="10; gp 3.")] = None,
    max_shot: Annotated[int | None, typer.Option(help="10; completion 200.")] = None,
    queries: Annotated[int | None, typer.Option(help="Points beside the shots: 10; completion 200.")] = None,
    tasks: Annotated[int, typer.Option(help="Tasks of a step.")] = 25,
    chosen_by: Annotated[
        str | None, typer.Option(help="nll or mse: what the best checkpoint is best in.")
    ] = None,
    steps: int = 20_000,
    lr: float = 1e-3,
    ema: Annotated[float, typer.Option(help="Decay of the moving average of weights.")] = 0.998,
    seed: int = 0,
    device: Annotated[str, typer.Option(help=devices.HELP)] = "cpu",
    validate_every: int = 1_000,
    threads: Annotated[int, typer.Option(help="torch threads; 0 leaves torch's choice.")] = 0,
    runs: Annotated[Path, typer.Option(help="Where trainings live; one folder each.")] = Path("runs"),
) -> None:
    """Meta-train a learner of functions. Run again after a kill, the training goes on where it was."""
    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    try:
        family = _family(dataset, data)
        low, high = _SHOTS[dataset]
        high = max(high, min_shot or 0) if max_shot is None else max_shot
        functions = FunctionConfig(
            min_shot=min(low, high) if min_shot is None else min_shot,
            max_shot=high,
            queries=_QUERIES[dataset] if queries is None else queries,
            tasks=tasks,
        )
        schedule = TrainConfig(
            steps=steps,
            lr=lr,
            ema=ema,
            seed=seed,
            device=devices.chosen(device),
            validate_every=validate_every,
            weight_decay=0.0,
            warm_up=min(TrainConfig().warm_up, max(1, steps // 10)),
        )
        recipe = training.FunctionRecipe.model_validate(
            {
                "method": method,
                "hparams": {"dim": family.dim, "target": family.target, **dict(map(key_value, hparam or []))},
                "dataset": dataset,
                "functions": functions,
                "chosen_by": chosen_by or _CHOSEN_BY.get(method, "nll"),
                "train": schedule,
            }
        )
        digest = _run(recipe, family, runs / name, command_of(sys.argv[1:], None))
    except (*REFUSALS, ValidationError) as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        raise typer.Exit(2) from error
    console.print(f"{runs / name / 'learner'}  {digest[:16]}", highlight=False)


def _family(dataset: str, data: Path | None) -> Family:
    if dataset == SINUSOIDS:
        return Sinusoids()
    if dataset == GP:
        return GaussianProcess()
    if dataset == COMPLETION:
        return Completion(model_input(omniglot.load(data, "train")))
    raise DatasetError(f"{dataset!r} is no family of functions; there are {', '.join(_SHOTS)}")


def _run(recipe: training.FunctionRecipe, family: Family, folder: Path, command: str) -> str:
    """Trains under a progress bar; the digest of what came of it."""
    with bar() as progress:
        task = progress.add_task("training", total=recipe.train.steps, note="")

        def report(row: dict[str, float]) -> None:
            note = f"loss {row['loss']:.3f}"
            if "score" in row:
                note = f"{note}  validation {recipe.chosen_by} {-row['score']:.4f}"
                progress.console.print(f"step {int(row['step'])}: {note}")
            progress.update(task, completed=row["step"], note=note)

        return training.train(recipe, family, folder, version("hyperserve"), command, report)
