"""Gradient, evolution, CMA-ES and REINFORCE on the same head: python -m benchmarks.meta_optimisers [--out STEM]

Protocol: a `ppa` head (Hypernet-PPA) on the frozen features of the bundled learner `glyphs`, on Omniglot by Vinyals'
split without rotations, 5-way 1-shot. An evaluation is one parameter vector on one batch of 20 tasks, for the gradient
one step forwards and backwards; all optimisers have equally many. The best on validation characters is tested on the
test characters. The searches optimise accuracy, which has no gradient, or the loss.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import torch
import typer
from rich.console import Console

from app.cli.zoo import learner_at
from models.artifact import Artifact
from models.data import omniglot
from models.data.dataset import ClassDataset
from models.data.episodes import EpisodeConfig, EpisodeSampler
from models.encoders.identity import Identity, IdentityConfig
from models.evaluation.episodic import Cell, Features, accuracy, answers
from models.evaluation.scores import MeanEstimate
from models.fewshot.ppa import Ppa, PpaConfig
from models.fewshot.protonet import ProtoNet, ProtoNetConfig
from models.protocol import MetaLearner
from models.training.card import table
from models.training.population import trainer_of
from models.training.recipe import embed
from models.training.search import Search, SearchConfig, Subset
from models.training.trainer import TrainConfig

HIDDEN = 16
TASKS = EpisodeConfig(
    min_way=5,
    max_way=5,
    min_shot=1,
    max_shot=1,
    queries=5,
    foreign=0,
    within_domain=0,
    examples_per_step=600,
)
CELLS = Cell(5, 1), Cell(5, 5)
VALIDATIONS = 8
console = Console(stderr=True)


@dataclass(frozen=True)
class OptimiserRun:
    """One optimiser and objective. `lr` and `sigma` are first guesses, not tuned."""

    optimiser: Literal["gradient"] | Search
    objective: Literal["accuracy", "loss"]
    lr: float
    sigma: float = 0.05


RUNS = (
    OptimiserRun("gradient", "loss", 5e-3),
    OptimiserRun("evolution", "loss", 0.05),
    OptimiserRun("evolution", "accuracy", 0.05),
    OptimiserRun("cma-es", "loss", 0.0, 0.1),
    OptimiserRun("cma-es", "accuracy", 0.0, 0.1),
    OptimiserRun("reinforce", "loss", 0.05),
    OptimiserRun("reinforce", "accuracy", 0.05),
)


@dataclass(frozen=True)
class Data:
    """Features of the three splits."""

    train: ClassDataset
    validation: Features
    test: Features


def features_of(source: Artifact, data: Path) -> Data:
    """Return Omniglot as features of a learner's encoder."""
    found = {}
    for split in ("train", "validation", "test"):
        glyphs = omniglot.load(data, split)
        found[split] = glyphs, embed(source.learner, glyphs, source.config.input)
        console.print(f"{split}: {len(glyphs)} features")
    glyphs, features = found["train"]
    scale = features.values.std(0).mean()
    vectors = {split: features.values / scale for split, (_, features) in found.items()}
    return Data(
        ClassDataset(glyphs.source, vectors["train"], glyphs.labels, glyphs.class_names, glyphs.domains),
        *(
            Features(vectors[split], found[split][1].members, found[split][1].domains)
            for split in ("validation", "test")
        ),
    )


def tested(learner: MetaLearner, features: Features, cell: Cell, tasks: int) -> dict[str, Any]:
    """Return the accuracy with its interval."""
    batches = answers(learner, features, cell, tasks, seed=1000)
    return asdict(MeanEstimate.over(torch.cat([accuracy(batch) for batch in batches])))


def head(dim: int, seed: int) -> Ppa:
    """Return a head with random parameters."""
    torch.manual_seed(seed)
    return Ppa(Identity(IdentityConfig(dim=dim)), PpaConfig(hidden=HIDDEN)).eval()


def run_optimiser(
    run: OptimiserRun, data: Data, seed: int, budget: int, population: int, tasks: int
) -> dict[str, Any]:
    """Train one head from random parameters and test it."""
    learner = head(data.train.inputs.shape[1], seed)
    before = tested(learner, data.test, CELLS[0], tasks)
    search = None
    if run.optimiser != "gradient":
        search = SearchConfig(
            optimiser=run.optimiser, objective=run.objective, population=population, sigma=run.sigma
        )
    steps = budget if search is None else budget // population
    config = TrainConfig(
        steps=steps,
        seed=seed,
        lr=run.lr or 1.0,
        warm_up=steps // 20,
        validate_every=steps // VALIDATIONS,
        checkpoint_every=steps,
    )
    sampler = EpisodeSampler(data.train, TASKS, seed)

    def validate(candidate: MetaLearner) -> dict[str, float]:
        return {"score": tested(candidate, data.validation, CELLS[0], 200)["mean"]}

    started = time.process_time()
    with TemporaryDirectory() as folder:
        trainer = trainer_of(learner, sampler, None, config, search, Path(folder))
        made = trainer.run(validate, lambda row: None)
    return {
        "optimiser": run.optimiser,
        "objective": run.objective,
        "seed": seed,
        "evaluations": budget,
        "cpu seconds": round(time.process_time() - started),
        "validation 5w1s": trainer.progress.best_score,
        "before, test 5w1s": before,
        **{f"test {c.way}w{c.shot}s": tested(made, data.test, c, tasks) for c in CELLS},
    }


def main(
    data: Annotated[Path, typer.Option(help="Omniglot on disk.")],
    encoder: Annotated[str, typer.Option(help="Learner whose features are used.")] = "glyphs",
    budget: Annotated[int, typer.Option(help="Evaluations per training.")] = 12_800,
    population: int = 32,
    tasks: Annotated[int, typer.Option(help="Test tasks.")] = 1_000,
    seeds: Annotated[int, typer.Option(help="Trainings per optimiser.")] = 1,
    only: Annotated[str | None, typer.Option(help="Run this optimiser only.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write <out>.json and <out>.md.")] = None,
) -> None:
    torch.set_num_threads(1)
    source = learner_at(encoder)
    found = features_of(source, data)
    dim = found.train.inputs.shape[1]
    rows = []
    for seed in range(seeds):
        for one in RUNS:
            if only in (None, one.optimiser):
                rows.append(run_optimiser(one, found, seed, budget, population, tasks))
                console.print(rows[-1])
    prototypes = ProtoNet(Identity(IdentityConfig(dim=dim)), ProtoNetConfig(metric="euclidean"))
    result = {
        "protocol": "ppa head on frozen features, Omniglot (Vinyals, no rotations), trained 5-way 1-shot",
        "features": f"{source.name} {source.short_digest}",
        "parameters": Subset(head(dim, 0)).size,
        "population": population,
        "tasks": tasks,
        "nearest centroid, test 5w1s": tested(prototypes, found.test, CELLS[0], tasks),
        "nearest centroid, test 5w5s": tested(prototypes, found.test, CELLS[1], tasks),
        "rows": rows,
    }
    page = "\n".join(_page(result))
    typer.echo(page)
    if out is not None:
        out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        out.with_suffix(".md").write_text(page + "\n", encoding="utf-8")


def _page(result: dict[str, Any]) -> list[str]:
    lines = ["# Meta-optimisers on one head", ""]
    for key, value in result.items():
        if key != "rows":
            shown = f"{value['mean']:.4f} ± {value['ci95']:.4f}" if isinstance(value, dict) else value
            lines.append(f"- {key}: {shown}")
    return [*lines, "", *table(result["rows"])]


if __name__ == "__main__":
    typer.run(main)
