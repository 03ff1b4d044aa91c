"""Predictions from the posterior over stream tasks and the predictive distribution of each candidate task.

P(class) = Σ P(task) · P(class | task) over the candidates, the most probable stream tasks of a query, whose P(task)
are scaled to sum to 1. In CL1 labels have a meaning only within a stream task, so the most probable one answers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from app.payloads.responses import predictions
from hyperserve.stream_types import StreamPrediction
from models.continual.stream_config import Scenario
from models.predictive import Categorical

CANDIDATES = 2
"""Stream tasks whose networks answer a query for which no stream task is named."""


@dataclass(frozen=True)
class TaskPredictive:
    """The predictive distribution of one stream task for those queries that it is a candidate for."""

    queries: Int[Tensor, "some"]
    """Indices of the queries, in rising order."""
    log_probs: Float[Tensor, "some way"]


def task_predictions(
    predictive: Categorical, task: str, labels: Sequence[str], *, coverage: float, top: int | None
) -> list[StreamPrediction]:
    """Return the predictions for queries that name their stream task."""
    found = predictions(predictive, labels, coverage=coverage, top=top)
    return [_prediction(one.model_dump(), task, None) for one in found]


def candidate_tasks(posterior: Categorical, scenario: Scenario) -> Int[Tensor, "query candidate"]:
    """Return the indices of the candidate tasks of each query, the most probable one first."""
    return posterior.ranking()[0, :, : 1 if scenario == "cl1" else CANDIDATES]


def mixture_predictions(
    posterior: Categorical,
    candidates: Int[Tensor, "query candidate"],
    components: Mapping[int, TaskPredictive],
    labels: Sequence[tuple[str, ...]],
    scenario: Scenario,
    names: Sequence[str],
    *,
    coverage: float,
    top: int | None,
) -> list[StreamPrediction]:
    """Return one prediction per query. `labels` and `names` are those of all stream tasks."""
    found: dict[int, StreamPrediction] = {}
    # Queries with the same candidates have the same classes, so that they form one batch.
    ordered = candidates.sort(-1).values
    for tasks in torch.unique(ordered, dim=0).tolist():
        queries = (ordered == torch.tensor(tasks)).all(-1).nonzero()[:, 0]
        log_tasks = posterior.log_probs[0, queries][:, tasks].double()
        joint = [_rows(components[task], queries) + log_tasks[:, i, None] for i, task in enumerate(tasks)]
        if scenario == "cl2":
            classes, log_probs = labels[tasks[0]], torch.stack(joint).logsumexp(0)
        else:
            classes, log_probs = (
                tuple(label for task in tasks for label in labels[task]),
                torch.cat(joint, -1),
            )
        unknown = None if posterior.unknown is None else posterior.unknown[:, queries]
        mixture = Categorical(log_probs.log_softmax(-1)[None], unknown=unknown)
        task_of_class = [task for task in tasks for _ in labels[task]]
        best = mixture.ranking()[0, :, 0].tolist()
        answers = predictions(mixture, classes, coverage=coverage, top=top)
        for query, label, answer in zip(queries.tolist(), best, answers, strict=True):
            task = int(candidates[query, 0]) if scenario == "cl2" else task_of_class[label]
            probability = float(posterior.probabilities[0, query, task])
            found[query] = _prediction(answer.model_dump(), names[task], probability)
    return [found[query] for query in range(len(candidates))]


def _rows(component: TaskPredictive, queries: Int[Tensor, "some"]) -> Float[Tensor, "some way"]:
    """Return the rows of queries, which the component must hold; both are in rising order."""
    return component.log_probs[torch.searchsorted(component.queries, queries)].double()


def _prediction(fields: Mapping[str, object], task: str, probability: float | None) -> StreamPrediction:
    return StreamPrediction.model_validate({**fields, "task": task, "task_probability": probability})
