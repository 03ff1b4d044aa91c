"""The analytic stream: exact removal, answers that never move, a gate that knows what it does not know."""

from itertools import permutations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from models.continual.analytic import AnalyticConfig, AnalyticStream
from models.continual.fixed_features import FeatureConfig
from models.continual.stream_config import Scenario, StreamConfig, build
from models.inputs import ImageInput, VectorInput
from models.protocol import LearnerError
from models.stream_protocol import StreamVersion
from tests.models.continual.blobs import DIM, examples, labels

CONFIG = AnalyticConfig(features=FeatureConfig(count=48))


def learner_of(scenario: Scenario = "cl3", **changes: object) -> AnalyticStream:
    config = CONFIG.model_copy(update=changes)
    return AnalyticStream((DIM,), scenario, config, None, seed=0)


def registered(learner: AnalyticStream, *tasks: int) -> StreamVersion:
    version = None
    for task in tasks:
        version = learner.register(version, f"task {task}", labels(task), *examples(task))
    assert version is not None
    return version


def same(one: StreamVersion, other: StreamVersion) -> bool:
    """To the bit, whatever order tasks have."""
    tasks = [(a, b) for task in one.per_task for a, b in [(one.per_task[task], other.per_task[task])]]
    return set(one.per_task) == set(other.per_task) and all(
        a[name].equal(b[name]) for a, b in tasks for name in a
    )


def test_a_forgotten_task_leaves_the_version_that_never_saw_it() -> None:
    learner = learner_of()
    less = learner.forget(registered(learner, 0, 1, 2, 3), "task 2")
    never = registered(learner, 0, 1, 3)
    assert same(less, never)
    assert less.shared.keys() == never.shared.keys()
    assert all(less.shared[name].equal(never.shared[name]) for name in less.shared)


def test_the_order_of_registration_leaves_no_trace() -> None:
    learner = learner_of()
    x = learner.embed(examples(1, seed=7)[0])
    answers = []
    for order in permutations(range(3)):
        found = learner.infer(registered(learner, *order), x)
        assert found.unknown is not None
        answers.append((found.probabilities[:, [order.index(task) for task in range(3)]], found.unknown))
    for probabilities, unknown in answers[1:]:
        assert_close(probabilities, answers[0][0], atol=1e-6, rtol=0)
        assert_close(unknown, answers[0][1], atol=1e-6, rtol=0)


def test_later_tasks_do_not_move_an_answer_by_a_bit() -> None:
    learner = learner_of()
    x = learner.embed(examples(0, seed=7)[0])[None]
    one, three = registered(learner, 0), registered(learner, 0, 1, 2)
    before, after = (learner.predict(learner.weights(version, "task 0"), x) for version in (one, three))
    assert before.log_probs.equal(after.log_probs)
    assert learner.drift(three) == {"task 0": 0.0, "task 1": 0.0, "task 2": 0.0}


@pytest.mark.parametrize("precision", ["float32", "int16"])
def test_classes_are_found_with_the_task_told_or_not(precision: str) -> None:
    learner = learner_of(precision=precision)
    version = registered(learner, *range(4))
    for index, task in enumerate(version.tasks):
        x, y = examples(index, seed=7)
        features = learner.embed(x)
        within = learner.predict(learner.weights(version, task), features[None])
        assert (within.log_probs[0].argmax(1) == y).float().mean() > 0.95
        found = learner.infer(version, features)
        assert (found.probabilities.argmax(1) == index).float().mean() > 0.9


def test_tasks_that_share_their_labels_keep_heads_of_their_own() -> None:
    """CL2: P(label) is the mean over tasks, each weighing as it is likely."""
    learner = learner_of("cl2")
    version = None
    for task in range(3):
        x, y = examples(task)
        few = y < 2
        version = learner.register(version, f"task {task}", ("odd", "even"), x[few], y[few])
    assert version is not None
    x, y = examples(1, seed=7)
    features = learner.embed(x[y < 2])
    tasks = learner.infer(version, features).probabilities
    heads = [learner.predict(learner.weights(version, task), features[None]) for task in version.tasks]
    mixed = sum(tasks[:, index, None] * head.probabilities[0] for index, head in enumerate(heads))
    assert isinstance(mixed, Tensor)
    assert_close(mixed.sum(1), torch.ones(len(mixed)))
    assert (mixed.argmax(1) == y[y < 2]).float().mean() > 0.9


def test_confidence_is_that_of_examples_never_seen() -> None:
    learner = learner_of()
    version = registered(learner, *range(4))
    features = torch.cat([learner.embed(examples(task, seed=7)[0]) for task in range(4)])
    of = torch.cat([torch.full((len(examples(task)[1]),), task) for task in range(4)])
    confidence, label = learner.infer(version, features).probabilities.max(1)
    assert abs(float(confidence.mean()) - float((label == of).float().mean())) < 0.06


def test_a_stream_is_built_of_its_description() -> None:
    hparams = {"features": {"count": 48}, "sample": 8}
    config = StreamConfig(method="analytic", hparams=hparams, input=VectorInput(), shape=(DIM,))
    learner = build(config)
    version = learner.register(None, "task 0", labels(0), *examples(0))
    assert learner.weights(version, "task 0").rows["row"].shape == (1, 2, 48)


def test_features_of_a_frozen_encoder_are_what_is_fitted() -> None:
    encoder = torch.nn.Linear(DIM, 5)
    learner = AnalyticStream((5,), "cl3", CONFIG, encoder, seed=0)
    x, y = examples(0)
    version = learner.register(None, "task 0", labels(0), x, y)
    assert learner.embed(x)[:, :5].equal(encoder(x).detach())
    assert learner.weights(version, "task 0").rows["row"].shape == (1, 2, 48)


def test_progress_is_told() -> None:
    told: list[float] = []
    learner_of().register(
        None, "task 0", labels(0), *examples(0), report=lambda at: told.append(at["step"] / at["steps"])
    )
    assert told == sorted(told)
    assert told[-1] == 1


def test_the_only_task_is_not_forgotten() -> None:
    learner = learner_of()
    with pytest.raises(LearnerError, match="'task 0' is the only one"):
        learner.forget(registered(learner, 0), "task 0")


def test_a_refused_registration_names_the_label() -> None:
    learner = learner_of()
    with pytest.raises(LearnerError, match="'0/1'"):
        learner.register(registered(learner, 0), "again", ("0/1", "new"), *examples(0))


def test_images_are_looked_at_beside_an_encoder() -> None:
    """Half of the features; streams of the first format have those of the encoder alone."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 4, bias=False)).requires_grad_(False)
    nn.init.zeros_(encoder[1].weight)
    hparams = {"features": {"count": 64}}
    named = {"encoder": "blind", "encoder_digest": "d", "input": ImageInput(size=28), "shape": (4,)}
    x, y = torch.zeros(40, 1, 28, 28), torch.arange(40) % 2
    x[y == 0, 0, 10:20, 4] = 1
    x[y == 1, 0, 10, 4:14] = 1
    x += 0.1 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    right = []
    for format in (1, 2):
        config = StreamConfig(format=format, method="analytic", hparams=hparams, **named)
        learner = build(config, encoder)
        version = learner.register(None, "bars", ("upright", "flat"), x, y)
        answer = learner.predict(learner.weights(version, "bars"), learner.embed(x)[None])
        right.append(float((answer.probabilities[0].argmax(1) == y).float().mean()))
    assert right[0] < 0.7
    assert right[1] == 1
