"""Regression tasks with the client: pairs of numbers in, estimates out."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

import hyperserve as hs
from hyperserve import inputs
from hyperserve.query_batches import QueryBatches
from hyperserve.requests import support_body

PAIRS = [(x / 3, 2 * math.sin(x / 3)) for x in range(6)]


def body_of(batches: QueryBatches) -> Any:
    body = batches.request(batches.whole).body
    assert isinstance(body, bytes)
    return json.loads(body)


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        (1, [1.0]),
        ([1, 2.5], [1.0, 2.5]),
        ((0.5,), [0.5]),
        (np.float32(0.5), [0.5]),
        (np.array([1, 2]), [1.0, 2.0]),
        (np.array(3.0), [3.0]),
        (torch.tensor([0.5, 1.0], requires_grad=True), [0.5, 1.0]),
        (torch.tensor(2.0), [2.0]),
    ],
)
def test_what_targets_may_be(target: object, sent: list[float]) -> None:
    assert inputs.support([([0.0], target)], "regression") == [{"input": {"vector": [0.0]}, "target": sent}]
    body = body_of(QueryBatches.of("/", [0.0], targets=[target]))
    assert body == {"queries": [{"vector": [0.0]}], "targets": [sent]}


@pytest.mark.parametrize("numbers", [np.linspace(0, 1, 3), torch.linspace(0, 1, 3), [0, np.array(0.5), 1.0]])
def test_a_loop_over_an_array_or_a_tensor_gives_numbers(numbers: Any) -> None:
    vectors = [{"vector": [0.0]}, {"vector": [0.5]}, {"vector": [1.0]}]
    assert inputs.queries(numbers) == vectors
    pairs = inputs.support(list(zip(numbers, numbers, strict=True)), "regression")
    assert pairs == [{"input": x, "target": x["vector"]} for x in vectors]


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ([(0, 1), (1, "a")], TypeError, "support example 1: a target must be a number or a list"),
        ([(0, None)], TypeError, "support example 0: a target must be a number or a list"),
        ([(0, [True])], TypeError, "support example 0: a vector must hold numbers, not bool at 0"),
        ([(0, math.nan)], ValueError, "support example 0: nan at 0 is not finite"),
        ([(0, 1), (0, [1, math.inf])], ValueError, "support example 1: inf at 1 is not finite"),
    ],
)
def test_what_is_no_target_is_named(pairs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        support_body(pairs, kind="regression")


def test_bodies() -> None:
    options = {"kind": "regression", "learner": None}
    body = body_of(QueryBatches.of("/", [1], options, targets=[2], support=PAIRS[:1]))
    support = [{"input": {"vector": [0.0]}, "target": [0.0]}]
    queries = {"queries": [{"vector": [1]}], "targets": [[2.0]]}
    assert body == {"kind": "regression", "support": support, **queries}


def test_a_task_of_values(live: hs.Client) -> None:
    task = live.tasks.create(kind="regression", support=PAIRS, name="wave")
    assert (task.kind, task.learner, task.examples, task.classes) == ("regression", "regression", 6, [])
    answer = task.predict([0.5, [1.0]], targets=[1.0, [1.7]], coverage=0.8, store=True)
    assert answer.kind == "regression"
    for found in answer.predictions:
        assert isinstance(found, hs.Estimate)
        ((low, high),) = found.interval
        assert low < found.mean[0] < high
        assert found.aleatoric[0] > 0
        assert found.epistemic is None
        assert isinstance(found.nll, float)
    taught = answer.predictions[0].feedback(0.96)
    assert (taught.version, taught.examples) == (2, 7)
    grown = task.add([(4.0, [-1.5])])
    (*_, last) = grown.support()
    assert (last.label, last.target) == (None, [-1.5])
    assert grown.relabel(last, -1.6).version == 4
    (*_, last) = task.refresh().support()
    assert last.target == [-1.6]
    assert live.feedback(answer.predictions[1].id, [1.7]).examples == 9
    once = live.predict(None, PAIRS, [0.5], kind="regression", targets=[1.0])
    assert once.predictions[0].mean == pytest.approx(
        task.predict([0.5], version=1).predictions[0].mean, abs=1e-5
    )
    task.delete()


def test_without_asyncio_and_with(live: hs.Client) -> None:
    async def main() -> hs.AsyncPredictions:
        async with hs.AsyncClient(str(live._http.base_url)) as client:
            task = await client.tasks.create(PAIRS, kind="regression")
            answer = await task.predict(np.array([[0.5], [1.0]]), store=True)
            assert isinstance(answer.predictions[0], hs.AsyncEstimate)
            assert (await answer.predictions[0].feedback(1)).examples == 7
            await task.delete()
            return answer

    answer = asyncio.run(main())
    task = live.tasks.create(PAIRS, kind="regression")
    known = task.predict([0.5, 1.0])
    task.delete()
    assert [found.mean for found in known.predictions] == [found.mean for found in answer.predictions]


def test_the_kind_is_said_and_not_guessed(live: hs.Client) -> None:
    with pytest.raises(hs.UnprocessableError, match="regression") as raised:
        live.tasks.create(PAIRS)
    assert raised.value.code == "wrong_task_kind"
