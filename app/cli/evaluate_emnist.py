"""`hyperserve evaluate omniglot-emnist`: one learner, several, or the whole zoo in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from app.cli.console import messages
from app.cli.evaluation_command import LearnerOptions, default_page, evaluation
from app.cli.zoo import zoo_learners
from experiments.fewshot import (
    family_page,
    family_table,
    omniglot_emnist_protocol,
    reliability_diagrams,
    transductive_protocol,
)
from experiments.fewshot.fine_tuning_protocol import PUBLISHED_LR, FineTuned
from experiments.fewshot.table_rows import EvaluationPlan
from experiments.fewshot.transductive_protocol import Transductive
from experiments.figures import check_matplotlib
from models.data import emnist
from models.data.dataset import ClassDataset
from models.protocol import MetaLearner


class Mode(StrEnum):
    """Statistics of BatchNorm: of training or the support set, as served, or of all queries of a task."""

    inductive = "inductive"
    transductive = "transductive"


@dataclass(frozen=True)
class EmnistOptions(LearnerOptions):
    """Options of `hyperserve evaluate omniglot-emnist`."""

    whole_zoo: Annotated[
        bool, typer.Option("--all", help="Measure every learner of the zoo that the protocol allows.")
    ] = False
    mode: Annotated[
        Mode,
        typer.Option("--protocol", help="BatchNorm as served, or as the MAML family was published."),
    ] = Mode.inductive
    finetune: Annotated[
        int | None,
        typer.Option(min=1, help="Steps that tune all parameters on each support set; never served."),
    ] = None
    plots: Annotated[bool, typer.Option(help="Write reliability diagrams beside <out>, PNG.")] = False


def _page(name: str, result: dict[str, Any], options: EmnistOptions) -> str:
    """Return the page of a result; of a table of several learners with diagrams of the stochastic ones."""
    if "family" not in result:
        return default_page(name, result, options)
    if not options.plots or options.out is None:
        return family_page.page(result, [])
    pictures = []
    for row in result["family"]:
        if row["cells"][0]["epistemic"] is None:
            continue
        picture = options.out.with_name(f"{options.out.name}-{row['learner']}.png")
        picture.write_bytes(reliability_diagrams.diagrams(row["cells"], f"{row['learner']} {row['digest']}"))
        pictures.append(picture.name)
    return family_page.page(result, pictures)


@evaluation("omniglot-emnist", EmnistOptions, _page)
def omniglot_emnist(options: EmnistOptions) -> dict[str, Any]:
    """Measure across domains, on EMNIST.

    One learner gets all tables; several, or --all, get one table. There are 600 tasks for each of 5 seeds.
    """
    if options.plots:
        check_matplotlib()
    test = emnist.load(options.required_data("EMNIST as an npz"), "test")
    plan = options.plan(omniglot_emnist_protocol.TASKS)
    if options.mode is Mode.transductive:
        return _in_mode(options, test, plan, "transductive", transductive_protocol.NAME, Transductive)
    if (steps := options.finetune) is not None:
        tuning = f"{steps} steps of Adam at {PUBLISHED_LR:g} (not served)"
        protocol = f"all parameters fine-tuned on each support set: {tuning}"
        return _in_mode(
            options, test, plan, "fine_tuned", protocol, lambda learner: FineTuned(learner, steps)
        )
    if options.whole_zoo or len(options.learners) > 1:
        found = [*(zoo_learners() if options.whole_zoo else ()), *options.learners]
        return family_table.evaluate(found, test, plan, lambda name: messages.print(f"measuring {name}"))
    config = options.learner.config
    return omniglot_emnist_protocol.evaluate(
        options.learner.learner, config.input, config.training_classes, test, plan
    )


def _in_mode(
    options: EmnistOptions,
    test: ClassDataset,
    plan: EvaluationPlan,
    mode: str,
    protocol: str,
    wrap: Callable[[MetaLearner], MetaLearner],
) -> dict[str, Any]:
    learners = options.learners or [options.learner]
    rows = [row for found in learners for row in family_table.rows_in_mode(found, test, plan, mode, wrap)]
    return {
        "protocol": protocol,
        "tasks": plan.tasks,
        "seed": plan.seed,
        "images": test.source,
        "accuracy": rows,
    }
