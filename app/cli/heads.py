"""`hyperserve train-head` and `assemble`: a head for any feature space, and learners that put it on an encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from app.cli.command_options import key_values, takes_options
from app.cli.console import messages, training_progress
from app.cli.recorded_command import recorded_command
from app.cli.train_data import PUBLISHED, DatasetChoice, published_data
from app.cli.zoo import learner_at
from app.core.allocator import keep_freed_memory
from hyperserve.version import __version__
from models.data import files
from models.training import assembly, spaces
from models.training.spaces import SpacesRecipe


@dataclass(frozen=True)
class HeadOptions:
    """Options of `hyperserve train-head`."""

    data: Annotated[Path, typer.Option(help="Folder of feature spaces, see tools/feature_spaces.py.")]
    name: Annotated[str, typer.Option(help="Name of the learner and of the folder of its training.")] = (
        "vectors"
    )
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Setting of the recipe, such as epochs=20.")
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of all random draws.")] = 0
    threads: Annotated[int, typer.Option(help="torch threads.")] = 1
    runs: Annotated[Path, typer.Option(help="Folder of trainings, one folder each.")] = Path("runs")


@takes_options(HeadOptions)
def train_head(options: HeadOptions) -> None:
    """Train a head for vectors of any origin, over many feature spaces.

    The learner takes vectors; `assemble` puts it on an encoder of pictures.
    """
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    recipe = SpacesRecipe.model_validate({**key_values(options.settings or []), "seed": options.seed})
    with training_progress() as progress:
        task = progress.add_task("fitting experts", total=None, note="")

        def report(row: dict[str, float]) -> None:
            if row["step"]:
                messages.print(
                    f"epoch {int(row['step'])}: loss {row['loss']:.4f}, validation {row['score']:.4f}"
                )
            progress.update(task, note=f"{int(row.get('spaces', 0))} spaces")

        digest = spaces.train(
            recipe,
            options.data,
            options.runs / options.name,
            __version__,
            recorded_command("--runs", "--data"),
            report,
        )
    messages.print(f"{options.runs / options.name / 'learner'}  {digest[:16]}")


@dataclass(frozen=True)
class AssembleOptions:
    """Options of `hyperserve assemble`."""

    name: Annotated[str, typer.Option(help="Name of the learner and of its folder.")]
    encoder: Annotated[str, typer.Option(help="Learner whose encoder is used, path or name.")]
    head: Annotated[str, typer.Option(help="Learner of method hyperkernel whose head is used, path or name.")]
    dataset: Annotated[str, typer.Option(help="Data set of the encoder: omniglot, cifar-fs, … or a path.")]
    data: Annotated[Path | None, typer.Option(help="The data on disk.")] = None
    emnist: Annotated[Path | None, typer.Option(help="EMNIST as an npz, for omniglot-emnist.")] = None
    threads: Annotated[int, typer.Option(help="torch threads.")] = 1
    runs: Annotated[Path, typer.Option(help="Folder of trainings, one folder each.")] = Path("runs")


@takes_options(AssembleOptions)
def assemble(options: AssembleOptions) -> None:
    """Put a trained head on a trained encoder.

    Fits the principal components of the encoder's depths and the check of the domain; nothing else is trained.
    """
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    base, head = learner_at(options.encoder), learner_at(options.head)
    chosen = DatasetChoice.parse(options.dataset)
    if chosen.name in PUBLISHED:
        crop = getattr(base.config.input, "crop", False)
        data = published_data(chosen, options.data, options.emnist, crop=crop)
        assert data.train is not None
        fitting, validation = data.train, data.validation[0]
    else:
        fitting = validation = files.load(Path(options.dataset))
    digest = assembly.assemble(
        base,
        head,
        fitting,
        validation,
        options.runs / options.name,
        __version__,
        recorded_command("--runs", "--data", "--emnist"),
    )
    messages.print(f"{options.runs / options.name / 'learner'}  {digest[:16]}")
