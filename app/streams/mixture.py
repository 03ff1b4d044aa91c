"""From whose a query is, and what each stream task's network says, to one answer.

P(class) = Σ P(task) · P(class | task) over the stream tasks whose networks were asked, the most probable ones; what
is left of P(task) is theirs in proportion. In CL1 labels mean something within a stream task only, so that the most
probable one answers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from app.payloads.responses import predictions
from hyperserve.stream_types import StreamPrediction
from models.continual.config import Scenario
from models.predictive import Categorical

ASKED = 2
"""Stream tasks whose networks are asked for a query, if it may be of any."""


@dataclass(frozen=True)
class Told:
    """What one stream task's network says to some of the queries."""

    queries: Int[Tensor, "some"]
    log_probs: Float[Tensor, "some way"]


def told(
    predictive: Categorical, task: str, labels: Sequence[str], *, coverage: float, top: int | None
) -> list[StreamPrediction]:
    """Of one stream task, which was named."""
    found = predictions(predictive, labels, coverage=coverage, top=top)
    return [_prediction(one.model_dump(), task, None) for one in found]


def wanted(posterior: Categorical, scenario: Scenario) -> Int[Tensor, "query asked"]:
    """For each query the stream tasks to be asked, by their index, the most probable one first."""
    return posterior.ranking()[0, :, : 1 if scenario == "cl1" else ASKED]


def combined(
    posterior: Categorical,
    asked: Int[Tensor, "query asked"],
    answers: Mapping[int, Told],
    labels: Sequence[tuple[str, ...]],
    scenario: Scenario,
    names: Sequence[str],
    *,
    coverage: float,
    top: int | None,
) -> list[StreamPrediction]:
    """One for each query. `labels` and `names` are those of all stream tasks."""
    found: dict[int, StreamPrediction] = {}
    for tasks in torch.unique(asked.sort(-1).values, dim=0).tolist():
        queries = (asked.sort(-1).values == torch.tensor(tasks)).all(-1).nonzero()[:, 0]
        log_tasks = posterior.log_probs[0, queries][:, tasks].double()
        parts = [_of(answers[task], queries) + log_tasks[:, place, None] for place, task in enumerate(tasks)]
        if scenario == "cl2":
            classes, log_probs = labels[tasks[0]], torch.stack(parts).logsumexp(0)
        else:
            classes, log_probs = (
                tuple(label for task in tasks for label in labels[task]),
                torch.cat(parts, -1),
            )
        unknown = None if posterior.unknown is None else posterior.unknown[:, queries]
        one = Categorical(log_probs.log_softmax(-1)[None], unknown=unknown)
        of = [task for task in tasks for _ in labels[task]]
        best = one.ranking()[0, :, 0].tolist()
        for query, label, answer in zip(
            queries.tolist(), best, predictions(one, classes, coverage=coverage, top=top), strict=True
        ):
            task = int(asked[query, 0]) if scenario == "cl2" else of[label]
            probability = float(posterior.probabilities[0, query, task])
            found[query] = _prediction(answer.model_dump(), names[task], probability)
    return [found[query] for query in range(len(asked))]


def _of(answer: Told, queries: Int[Tensor, "some"]) -> Float[Tensor, "some way"]:
    """Rows of queries that are all among those it was asked; both are in rising order."""
    return answer.log_probs[torch.searchsorted(answer.queries, queries)].double()


def _prediction(fields: Mapping[str, object], task: str, probability: float | None) -> StreamPrediction:
    return StreamPrediction.model_validate({**fields, "task": task, "task_probability": probability})
