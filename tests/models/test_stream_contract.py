"""The contract of stream learners: versions are values, and old stream tasks are not forgotten."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.continual.analytic import AnalyticConfig, AnalyticStream
from models.continual.fixed_features import FeatureConfig
from models.continual.generated_networks import HyperStreamConfig
from models.continual.hypernetwork import HyperStream
from models.continual.storage import assemble, to_bytes
from models.continual.task_gate import GateConfig
from models.predictive import Categorical
from models.protocol import LearnerError
from models.stream_protocol import StreamLearner, StreamVersion
from models.weights import Header, pack, tensors, unpack
from tests.models.toys.stream import RidgeStream

DIM, WAYS = 8, {"first": 2, "second": 3, "third": 2}
MEANS = {
    name: 2 * torch.randn(way, DIM, generator=torch.Generator().manual_seed(way_seed))
    for way_seed, (name, way) in enumerate(WAYS.items())
}


def ridge() -> StreamLearner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return RidgeStream(DIM, width=64)


def analytic() -> StreamLearner:
    return AnalyticStream((DIM,), "cl3", AnalyticConfig(features=FeatureConfig(count=64)), None, seed=0)


def hypernetwork() -> StreamLearner:
    config = HyperStreamConfig(
        hidden=(16,),
        chunk=64,
        task_embedding=8,
        chunk_embedding=8,
        trunk=(16,),
        lr=1e-2,
        iterations=100,
        forget_iterations=80,
        batch=32,
        gate=GateConfig(features=FeatureConfig(count=64)),
    )
    return HyperStream((DIM,), "cl3", config, None, seed=0)


Make = Callable[[], StreamLearner]


@pytest.fixture(params=[ridge, analytic, hypernetwork])
def make(request: pytest.FixtureRequest) -> Make:
    found: Make = request.param
    return found


@pytest.fixture
def learner(make: Make) -> StreamLearner:
    return make()


@pytest.fixture
def whole(make: Make) -> StreamVersion:
    """All tasks registered."""
    return all_registered(make)


def data(task: str, seed: int = 0, shots: int = 40) -> tuple[Tensor, Tensor]:
    y = torch.arange(WAYS[task]).repeat(shots)
    return MEANS[task][y] + torch.randn(len(y), DIM, generator=torch.Generator().manual_seed(seed)), y


def labels(task: str) -> tuple[str, ...]:
    return tuple(f"{task}/{index}" for index in range(WAYS[task]))


def registered(learner: StreamLearner, *tasks: str) -> StreamVersion:
    version = None
    for task in tasks:
        version = learner.register(version, task, labels(task), *data(task))
    assert version is not None
    return version


@functools.cache
def all_registered(make: Make) -> StreamVersion:
    """Once for all tests: a version is a value."""
    return registered(make(), *WAYS)


def answer(learner: StreamLearner, version: StreamVersion, task: str) -> Tensor:
    x, _ = data(task, seed=9)
    predictive = learner.predict(learner.weights(version, task), learner.embed(x)[None])
    assert isinstance(predictive, Categorical)
    return predictive.probabilities[0]


def test_a_version_is_a_value(learner: StreamLearner) -> None:
    first = registered(learner, "first")
    before = {name: value.clone() for name, value in first.per_task["first"].items()}
    second = learner.register(first, "second", labels("second"), *data("second"))
    assert (first.number, first.tasks) == (1, ("first",))
    assert (second.number, second.tasks) == (2, ("first", "second"))
    assert all(before[name].equal(value) for name, value in second.per_task["first"].items())
    assert answer(learner, first, "first").equal(answer(learner, registered(learner, "first"), "first"))


def test_a_version_survives_the_disk_bitwise(learner: StreamLearner, whole: StreamVersion) -> None:
    version = whole
    own = {task: to_bytes(version.per_task[task]) for task in version.tasks}
    again = assemble(version.number, version.labels, to_bytes(version.shared), own)
    assert answer(learner, version, "second").equal(answer(learner, again, "second"))


@pytest.mark.parametrize("task", WAYS)
def test_every_stream_task_is_answered_after_all_are_registered(
    learner: StreamLearner, whole: StreamVersion, task: str
) -> None:
    probabilities = answer(learner, whole, task)
    _, y = data(task, seed=9)
    assert probabilities.shape[1] == WAYS[task]
    assert_close(probabilities.sum(1), torch.ones(len(y)))
    assert (probabilities.argmax(1) == y).float().mean() > 0.9


def test_the_stream_task_is_inferred(learner: StreamLearner, whole: StreamVersion) -> None:
    for index, task in enumerate(WAYS):
        posterior = learner.infer(whole, learner.embed(data(task, seed=9)[0]))
        assert posterior.tasks == tuple(WAYS)
        assert_close(posterior.probabilities.sum(1), torch.ones(len(posterior.probabilities)))
        assert (posterior.probabilities.argmax(1) == index).float().mean() > 0.6


def test_order_of_registration_does_not_matter_where_that_is_promised(learner: StreamLearner) -> None:
    if learner.traits.order_dependent:
        pytest.skip("its shared network depends on the order")
    one, other = registered(learner, "first", "third"), registered(learner, "third", "first")
    assert_close(answer(learner, one, "third"), answer(learner, other, "third"), atol=1e-4, rtol=0)


def test_weights_are_cached_like_any_others(learner: StreamLearner, whole: StreamVersion) -> None:
    weights = learner.weights(whole, "second")
    again, _ = unpack(pack(weights, Header("", labels("second"), seed=0)))
    assert all(value.equal(dict(tensors(again))[name]) for name, value in tensors(weights))


def test_a_stream_task_is_registered_once(learner: StreamLearner, whole: StreamVersion) -> None:
    with pytest.raises(LearnerError, match="'first'"):
        learner.register(whole, "first", labels("first"), *data("first"))


def test_an_unregistered_stream_task_is_refused(learner: StreamLearner, whole: StreamVersion) -> None:
    with pytest.raises(LearnerError, match="'fourth'"):
        learner.weights(whole, "fourth")


def test_a_forgotten_task_is_dropped_and_the_others_stay(
    learner: StreamLearner, whole: StreamVersion
) -> None:
    version = learner.forget(whole, "second")
    assert version.tasks == ("first", "third") == tuple(version.per_task)
    _, y = data("first", seed=9)
    assert (answer(learner, version, "first").argmax(1) == y).float().mean() > 0.9
    with pytest.raises(LearnerError, match="'second'"):
        learner.forget(version, "second")


def test_order_of_the_labels_is_as_the_traits_say(make: Make) -> None:
    x, y = data("second")
    permutation = torch.tensor([2, 0, 1])
    named = labels("second")
    turned = tuple(named[index] for index in permutation.argsort().tolist())
    one, other = make(), make()
    plain = answer(one, one.register(None, "second", named, x, y), "second")
    again = answer(other, other.register(None, "second", turned, x, permutation[y]), "second")[:, permutation]
    assert torch.allclose(plain, again, atol=1e-4) is one.traits.label_equivariant
