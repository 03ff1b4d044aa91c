"""`hyperserve evaluate sinusoid`, `completion` and `regression`: protocols of regression."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.errors import MisuseError
from app.cli.evaluation_command import LearnerOptions, evaluation
from experiments.fewshot import regression_baselines, regression_protocol, regression_tasks
from experiments.fewshot.baselines import check_sklearn
from models.data import omniglot
from models.data.dataset import model_input
from models.data.functions import Completion
from models.evaluation import functions as functions_protocol


@evaluation("sinusoid", LearnerOptions)
def sinusoid(options: LearnerOptions) -> dict[str, Any]:
    """Measure regression on MAML's sinusoids.

    Learners given together are measured side by side.
    """
    plan, first = options.plan(), options.learner
    learners = {found.name: found.learner for found in (first, *options.learners[1:])}
    return functions_protocol.merge_learners(
        {
            name: functions_protocol.sinusoid(learner, plan.tasks, plan.seed)
            for name, learner in learners.items()
        }
    )


@evaluation("completion", LearnerOptions)
def completion(options: LearnerOptions) -> dict[str, Any]:
    """Measure the completion of pictures.

    All pixels of Omniglot's test characters are predicted from some of them.
    """
    learner, plan = options.learner.learner, options.plan()
    pictures = Completion(model_input(omniglot.load(options.data, "test")))
    return functions_protocol.completion(learner, pictures, plan.tasks, plan.seed)


@dataclass(frozen=True)
class RegressionOptions(LearnerOptions):
    """Options of `hyperserve evaluate regression`."""

    tables: Annotated[
        str | None, typer.Option(help="Tables of the npz of --data, with commas; all that are large enough.")
    ] = None
    table_shots: Annotated[str, typer.Option(help="Rows of a table that are examples, with commas.")] = (
        ",".join(map(str, regression_tasks.TABLE_SHOTS))
    )
    splits: Annotated[int, typer.Option(min=2, help="Random splits of each table.")] = 10
    restarts: Annotated[int, typer.Option(min=0, help="Restarts of scikit-learn's Gaussian process.")] = 2
    kept: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps the answers of the Gaussian process for the next time."),
    ] = None


@evaluation("regression", RegressionOptions)
def regression(options: RegressionOptions) -> dict[str, Any]:
    """Measure regression beside scikit-learn's Gaussian process and ridge.

    Functions of textbooks; with --data (an npz of tables: <name>_x, <name>_y) rows of tables instead. Learners that
    are given after the first are measured where they take the functions.
    """
    check_sklearn()
    first, tasks = options.learner, options.plan(regression_protocol.TASKS).tasks
    learners = {found.name: found.learner for found in (first, *options.learners[1:])}
    result: dict[str, Any] = {"protocol": regression_protocol.DESCRIPTION, "restarts": options.restarts}
    if options.data is None:
        sets = regression_tasks.function_sets(tasks, options.seed)
        result |= {"functions_of_a_kind": tasks}
    else:
        names = [] if options.tables is None else options.tables.split(",")
        sets = regression_tasks.table_sets(
            options.data, names, options.splits, options.seed, _numbers(options.table_shots)
        )
        result |= {"data": options.data.stem, "splits": options.splits}
    baselines = regression_baselines.baselines(options.restarts, options.kept)
    found = regression_protocol.measured(learners, baselines, sets, lambda done: typer.echo(done, err=True))
    return {**result, "seed": options.seed, **regression_protocol.verdict(found["differences"]), **found}


def _numbers(words: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in words.split(","))
    except ValueError as error:
        raise MisuseError(
            f"--table-shots: {words!r} are no whole numbers with commas between them"
        ) from error
