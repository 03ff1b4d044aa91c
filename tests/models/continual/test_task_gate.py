"""The gate beside another learner's tensors: what it keeps, what it says, and what a query of it costs."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.continual.fixed_features import FeatureConfig
from models.continual.task_gate import PREFIX, Gate, GateConfig
from models.evaluation.scores import auroc
from models.protocol import LearnerError, TaskWeights
from models.stream_protocol import StreamVersion
from models.weights import Header, pack, tensors, unpack
from tests.models.continual.blobs import DIM, examples, labels, way

CONFIG = GateConfig(features=FeatureConfig(count=48), sample=20)


@pytest.fixture(scope="module")
def gate() -> Gate:
    return Gate((DIM,), seed=0, config=CONFIG)


def version_of(gate: Gate, *tasks: int) -> StreamVersion:
    """Return a version that also holds tensors of another learner."""
    other = {"embedding": torch.zeros(3)}
    own = {f"task {task}": {**other, **gate.task_part(*examples(task), way(task))} for task in tasks}
    named = {f"task {task}": labels(task) for task in tasks}
    return StreamVersion(1, named, {"hnet.weight": torch.zeros(2), **gate.fit(named, own)}, own)


def drawn(task: int) -> Tensor:
    return examples(task, seed=7)[0]


def test_all_it_keeps_goes_by_its_prefix(gate: Gate) -> None:
    version = version_of(gate, 0, 1)
    kept = {**version.per_task["task 0"], **version.shared}
    assert {name for name in kept if not name.startswith(PREFIX)} == {"embedding", "hnet.weight"}


def test_its_weights_are_cached_like_any_others(gate: Gate) -> None:
    weights = gate.weights(version_of(gate, 0, 1, 2))
    again, _ = unpack(pack(weights, Header("", ("task 0", "task 1", "task 2"), seed=0)))
    assert all(value.equal(dict(tensors(again))[name]) for name, value in tensors(weights))


def test_gates_of_several_streams_answer_in_one_batch(gate: Gate) -> None:
    """Padded to the most tasks of them, each answers as it does alone."""
    streams = [gate.weights(version_of(gate, *tasks)) for tasks in ((0, 1), (3, 1, 2))]
    x = torch.stack((drawn(1)[:8], drawn(2)[:8]))
    both = gate.posterior(_padded(streams), x)
    for index, weights in enumerate(streams):
        alone = gate.posterior(weights, x[index : index + 1])
        tasks = int(weights.n_way[0])
        assert_close(both.log_probs[index, :, :tasks], alone.log_probs[0], atol=1e-5, rtol=1e-5)
        assert (both.log_probs[index, :, tasks:] == -torch.inf).all()
        assert both.unknown is not None
        assert alone.unknown is not None
        assert_close(both.unknown[index], alone.unknown[0], atol=1e-5, rtol=1e-5)


def _padded(streams: list[TaskWeights]) -> TaskWeights:
    most = max(int(weights.n_way[0]) for weights in streams)

    def rows(value: Tensor) -> Tensor:
        return torch.cat((value, value.new_zeros(1, most - value.shape[1], *value.shape[2:])), 1)

    return TaskWeights(
        {name: torch.cat([one.task[name] for one in streams]) for name in streams[0].task},
        {name: torch.cat([rows(one.rows[name]) for one in streams]) for name in streams[0].rows},
        torch.cat([one.n_way for one in streams]),
        torch.cat([rows(one.class_key) for one in streams]),
        torch.zeros(2, dtype=torch.long),
    )


def test_one_task_alone_tells_what_is_unknown(gate: Gate) -> None:
    foreign = torch.cat([drawn(task) for task in range(10, 16)])
    weights = gate.weights(version_of(gate, 0))
    known, others = gate.posterior(weights, drawn(0)[None]), gate.posterior(weights, foreign[None])
    assert_close(known.probabilities, torch.ones_like(known.log_probs))
    assert known.unknown is not None
    assert others.unknown is not None
    assert (known.unknown > 0.5).float().mean() < 0.1
    assert (others.unknown > 0.5).float().mean() > 0.4


@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_few_queries_of_registered_tasks_are_unknown(tasks: int) -> None:
    """Though the clouds overlap: at even odds a fifth of them would be."""
    drawn = torch.Generator().manual_seed(3)
    gate = Gate((DIM,), seed=0, config=GateConfig(features=FeatureConfig(count=48)))
    centers = torch.randn(2 * tasks, DIM, generator=drawn)

    def cloud(task: int, count: int) -> tuple[Tensor, Tensor]:
        y = torch.arange(count) % 2
        return centers[2 * task + y] + 1.5 * torch.randn(count, DIM, generator=drawn), y

    own = {f"task {task}": gate.task_part(*cloud(task, 400), 2) for task in range(tasks)}
    named = {name: (f"{name} a", f"{name} b") for name in own}
    weights = gate.weights(StreamVersion(1, named, gate.fit(named, own), own))
    answer = gate.posterior(weights, torch.cat([cloud(task, 2000)[0] for task in range(tasks)])[None])
    assert answer.unknown is not None
    assert 0 < (answer.unknown > 0.5).float().mean() < 0.05


def test_queries_of_no_task_are_unknown(gate: Gate) -> None:
    weights = gate.weights(version_of(gate, *range(5)))
    known = torch.cat([drawn(task) for task in range(5)])
    foreign = torch.cat([drawn(task) for task in range(10, 16)])
    answer = gate.posterior(weights, torch.cat((known, foreign))[None])
    assert answer.unknown is not None
    is_foreign = torch.arange(len(known) + len(foreign)) >= len(known)
    assert auroc(answer.unknown[0], is_foreign) > 0.85
    assert answer.unknown[0, : len(known)].mean() < 0.35
    assert answer.unknown[0, len(known) :].mean() > 0.6


def test_a_query_far_from_every_example_is_unknown(gate: Gate) -> None:
    weights = gate.weights(version_of(gate, *range(3)))
    far = 40 * torch.randn(1, 20, DIM, generator=torch.Generator().manual_seed(0))
    answer = gate.posterior(weights, far)
    assert answer.unknown is not None
    assert answer.unknown.mean() > 0.9
    assert answer.log_probs.isfinite().all()


def test_a_query_costs_little_more_with_a_hundred_tasks_than_with_five() -> None:
    """Counted, not timed: features are most of it, and rows of a hundred tasks of two classes the rest."""
    gate = Gate((1, 28, 28), seed=0)
    lift = gate.features.patches.filters.numel() * 20 * 20 + gate.features.edges.filters.numel() * 14 * 14

    def operations(tasks: int) -> int:
        return lift + gate.features.dim * (2 * tasks + 64)

    assert operations(100) <= 1.5 * operations(5)


def test_a_version_without_a_gate_has_no_weights(gate: Gate) -> None:
    version = version_of(gate, 0)
    with pytest.raises(LearnerError, match="no gate"):
        gate.weights(StreamVersion(1, version.labels, {}, version.per_task))
