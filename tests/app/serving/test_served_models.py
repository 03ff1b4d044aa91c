"""A stream in the engine: its gate, and its networks by the features that the gate's answer brings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import torch
from torch.testing import assert_close

from app.serving.engine import Engine
from app.serving.served_models import ServedStream
from models.predictive import Categorical
from models.protocol import TaskWeights
from models.stream_protocol import StreamVersion
from tests.app.serving.engines import never, running
from tests.models.test_stream_contract import DIM, WAYS, data, labels
from tests.models.toys.stream import RidgeStream

Made = tuple[RidgeStream, StreamVersion]


@pytest.fixture(scope="module")
def made() -> Made:
    torch.manual_seed(0)
    learner, version = RidgeStream(DIM, width=64), None
    for task in WAYS:
        version = learner.register(version, task, labels(task), *data(task))
    assert version is not None
    return learner, version


def of(weights: TaskWeights) -> Callable[[], Awaitable[TaskWeights]]:
    async def regenerate() -> TaskWeights:
        return weights

    return regenerate


def test_gate_and_networks_answer_as_the_learner_does(made: Made) -> None:
    learner, version = made
    served, x = ServedStream.of(learner, torch.device("cpu")), data("second", seed=9)[0][:7]
    engine = Engine({}, arena_bytes=1 << 20)

    async def ask() -> tuple[Categorical, Categorical]:
        gate = await engine.predict(
            "v.gate", served.gate, x.numpy(), samples=8, regenerate=of(learner.gate(version))
        )
        own = of(learner.weights(version, "second"))
        answers = await engine.predict_embedded("v.2", served.networks, gate.features, regenerate=own)
        again = await engine.predict_embedded("v.2", served.networks, gate.features, regenerate=never)
        assert isinstance(gate.predictive, Categorical)
        assert isinstance(answers.predictive, Categorical)
        assert isinstance(again.predictive, Categorical)
        assert answers.predictive.log_probs.equal(again.predictive.log_probs)
        assert answers.timing["embed"] == 0
        return gate.predictive, answers.predictive

    with running(engine):
        gate, answers = asyncio.run(ask())
    features = learner.embed(x)
    assert_close(gate.probabilities[0], learner.infer(version, features).probabilities)
    assert_close(
        answers.log_probs, learner.predict(learner.weights(version, "second"), features[None]).log_probs
    )


def test_all_keys_of_a_version_are_evicted_together(made: Made) -> None:
    learner, version = made
    served, engine = ServedStream.of(learner, torch.device("cpu")), Engine({}, arena_bytes=1 << 20)
    x = data("first", seed=9)[0][:1]

    async def ask(key: str) -> None:
        await engine.predict(
            key, served.networks, x.numpy(), samples=8, regenerate=of(learner.weights(version, "first"))
        )

    async def work() -> None:
        for key in ("v1.a", "v1.b", "v10.a"):
            await ask(key)
        engine.evict_all("v1.")

    with running(engine):
        asyncio.run(work())
    assert [key for key in ("v1.a", "v1.b", "v10.a") if engine.holds(key)] == ["v10.a"]
