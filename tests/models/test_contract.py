"""What every learner promises, whatever its family: written once, kept by all of `cases.CASES`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models import artifact
from models.noise import Noise
from models.predictive import Categorical, Predictive
from models.protocol import MetaLearner, TaskWeights, UnsupportedSupportError
from models.registry import METHODS
from models.weights import Header, pack, tensors, unpack
from tests.models.cases import CASES, CLASSIFIERS, TOYS, Case
from tests.models.episodes import Task, episodes_of, queries_of, support_of

SAMPLES = Noise(8)

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_classifier = pytest.mark.parametrize("case", CLASSIFIERS, ids=lambda case: case.name)


def cases_where(trait: str, value: bool = True) -> pytest.MarkDecorator:
    with pytest.MonkeyPatch.context() as patch:
        for name, path in TOYS.items():
            patch.setitem(METHODS.paths, name, path)
        kept = [case for case in CASES if getattr(case.learner().traits, trait) is value]
    return pytest.mark.parametrize("case", kept, ids=lambda case: case.name)


@pytest.fixture(autouse=True, scope="module")
def _toys_are_registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, path in TOYS.items():
            patch.setitem(METHODS.paths, name, path)
        yield


@pytest.fixture
def learner(case: Case) -> MetaLearner:
    return case.learner().requires_grad_(False)


@pytest.fixture
def tasks(case: Case) -> list[Task]:
    return case.tasks(5)


def adapt(learner: MetaLearner, *tasks: Task) -> TaskWeights:
    return learner.adapt(support_of(learner, list(tasks)))


def predict(learner: MetaLearner, weights: TaskWeights, *tasks: Task) -> Predictive:
    return learner.predict(weights, queries_of(learner, list(tasks)), SAMPLES)


def answer(learner: MetaLearner, task: Task) -> Predictive:
    return predict(learner, adapt(learner, task), task)


def numbers(predictive: Predictive) -> dict[str, Tensor]:
    """All that an answer says, as tensors."""
    said = dict(vars(predictive))
    if isinstance(predictive, Categorical):
        said["log_probs"] = predictive.probabilities
        said["epistemic"] = predictive.epistemic
        said["entropy"] = predictive.entropy
    return {name: value for name, value in said.items() if isinstance(value, Tensor)}


def near(one: TaskWeights, other: TaskWeights) -> None:
    assert_close(dict(tensors(one)), dict(tensors(other)), atol=1e-5, rtol=1e-4)


def near_answers(one: Predictive, other: Predictive) -> None:
    assert_close(numbers(one), numbers(other), atol=1e-5, rtol=1e-4)


def bitwise(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.equal(other[name]), name


@each_case
def test_pitfall_01_alone_as_in_a_ragged_batch(learner: MetaLearner, tasks: list[Task]) -> None:
    weights = adapt(learner, *tasks)
    batched = predict(learner, weights, *tasks)
    for index, task in enumerate(tasks):
        near(weights.select(index), adapt(learner, task))
        near_answers(batched.at(index, len(task.query_x), len(task.labels)), answer(learner, task))


@each_case
def test_pitfall_01_neighbours_do_not_matter(case: Case, learner: MetaLearner, tasks: list[Task]) -> None:
    beside = [tasks[0], *case.tasks(4, seed=5)]
    first = predict(learner, adapt(learner, *tasks), *tasks)
    again = predict(learner, adapt(learner, *beside), *beside)
    size = len(tasks[0].query_x), len(tasks[0].labels)
    near_answers(first.at(0, *size), again.at(0, *size))


@each_case
def test_saved_and_loaded_answers_bitwise(case: Case, tasks: list[Task], tmp_path: Path) -> None:
    learner = case.learner().requires_grad_(False)
    artifact.save(tmp_path / case.method, learner, case.config, "")
    loaded = artifact.load(tmp_path / case.method).learner
    weights, again = adapt(learner, *tasks), adapt(loaded, *tasks)
    bitwise(dict(tensors(weights)), dict(tensors(again)))
    bitwise(numbers(predict(learner, weights, *tasks)), numbers(predict(loaded, again, *tasks)))


@each_case
def test_pitfall_02_weights_packed_and_unpacked_answer_bitwise(
    learner: MetaLearner, tasks: list[Task]
) -> None:
    weights = adapt(learner, tasks[0])
    again, _ = unpack(pack(weights, Header("", tasks[0].labels, tasks[0].seed)))
    bitwise(dict(tensors(weights)), dict(tensors(again)))
    bitwise(numbers(predict(learner, weights, tasks[0])), numbers(predict(learner, again, tasks[0])))


@each_case
def test_the_same_seed_gives_the_same_answer(learner: MetaLearner, tasks: list[Task]) -> None:
    bitwise(numbers(answer(learner, tasks[0])), numbers(answer(learner, tasks[0])))


@each_case
def test_nothing_is_changed_by_adapting_and_answering(learner: MetaLearner, tasks: list[Task]) -> None:
    state = {name: value.clone() for name, value in learner.state_dict().items()}
    inputs = [task.support_x.clone() for task in tasks]
    random_state = torch.get_rng_state()
    weights = adapt(learner, *tasks)
    before = {name: value.clone() for name, value in tensors(weights)}
    predict(learner, weights, *tasks)
    bitwise(dict(tensors(weights)), before)
    bitwise(learner.state_dict(), state)
    assert all(task.support_x.equal(x) for task, x in zip(tasks, inputs, strict=True))
    assert torch.get_rng_state().equal(random_state)


@cases_where("order_dependent", False)
def test_pitfall_04_order_of_the_support_does_not_matter(learner: MetaLearner, tasks: list[Task]) -> None:
    for task in tasks:
        order = torch.randperm(len(task.support_x), generator=torch.Generator().manual_seed(3))
        near(adapt(learner, task.ordered(order)), adapt(learner, task))


@cases_where("order_dependent")
def test_order_of_the_support_matters(learner: MetaLearner, tasks: list[Task]) -> None:
    task = max(tasks, key=lambda task: len(task.support_x))
    turned = adapt(learner, task.ordered(torch.arange(len(task.support_x)).flip(0)))
    said = dict(tensors(turned))
    assert any(not value.allclose(said[name], atol=1e-3) for name, value in tensors(adapt(learner, task)))


@cases_where("label_equivariant")
def test_pitfall_04_permuted_labels_give_permuted_answers(learner: MetaLearner, tasks: list[Task]) -> None:
    for task in (task for task in tasks if task.labels):
        permutation = torch.randperm(
            len(task.labels), generator=torch.Generator().manual_seed(len(task.labels))
        )
        one, other = answer(learner, task), answer(learner, task.relabelled(permutation))
        assert isinstance(one, Categorical)
        assert isinstance(other, Categorical)
        turned = replace(other, log_probs=other.log_probs[..., permutation])
        near_answers(one, turned)


@cases_where("incremental")
def test_adding_a_part_is_adapting_to_the_whole(learner: MetaLearner, tasks: list[Task]) -> None:
    for task in tasks:
        early = first_part(task)
        first, second = task.ordered(early.nonzero()[:, 0]), task.ordered((~early).nonzero()[:, 0])
        first = replace(first, labels=task.labels[:-1])
        whole = task.ordered(torch.cat((early.nonzero(), (~early).nonzero()))[:, 0])
        grown = learner.adapt(support_of(learner, [second]), prior=adapt(learner, first))
        near(grown, adapt(learner, whole))


def first_part(task: Task) -> Tensor:
    """Two thirds of the examples, without the last class: the rest brings it, and more of the others."""
    assert task.support_y is not None
    early = torch.arange(len(task.support_x)) % 3 != 2
    return early & (task.support_y < len(task.labels) - 1) if task.labels else early


@cases_where("incremental", False)
def test_a_prior_is_refused_where_it_would_be_ignored(learner: MetaLearner, tasks: list[Task]) -> None:
    with pytest.raises(UnsupportedSupportError):
        learner.adapt(support_of(learner, tasks), prior=adapt(learner, *tasks))


@cases_where("stochastic")
def test_another_seed_gives_another_draw(learner: MetaLearner, tasks: list[Task]) -> None:
    one, other = answer(learner, tasks[0]), answer(learner, replace(tasks[0], seed=tasks[0].seed + 1))
    assert any(not value.equal(numbers(other)[name]) for name, value in numbers(one).items())


@cases_where("stochastic")
def test_entropy_is_expected_entropy_and_mutual_information(learner: MetaLearner, tasks: list[Task]) -> None:
    one = predict(learner, adapt(learner, *tasks), *tasks)
    assert isinstance(one, Categorical)
    assert one.expected_entropy is not None
    assert one.epistemic is not None
    plug_in = one.epistemic * (SAMPLES.samples - 1) / SAMPLES.samples
    uncut = one.epistemic < one.entropy
    assert_close(one.entropy[uncut], (one.expected_entropy + plug_in)[uncut], atol=1e-5, rtol=0)
    assert (one.expected_entropy <= one.entropy + 1e-5).all()
    assert (one.epistemic >= 0).all()
    assert (one.epistemic <= one.entropy).all()
    assert (one.epistemic > 0).any()


@cases_where("stochastic", False)
def test_a_deterministic_learner_has_no_epistemic_part(learner: MetaLearner, tasks: list[Task]) -> None:
    one = answer(learner, tasks[0])
    assert (getattr(one, "epistemic", None) is not None) is learner.traits.exact_posterior


@each_classifier
def test_probabilities_are_those_of_the_classes_of_the_task(learner: MetaLearner, tasks: list[Task]) -> None:
    batched = predict(learner, adapt(learner, *tasks), *tasks)
    assert isinstance(batched, Categorical)
    for index, task in enumerate(tasks):
        assert not batched.probabilities[index, :, len(task.labels) :].any()
        one = batched.at(index, len(task.query_x), len(task.labels))
        assert_close(one.probabilities.sum(-1), torch.ones(1, len(task.query_x)))
        assert (one.entropy >= 0).all()
        assert one.unknown is None or ((one.unknown >= 0) & (one.unknown <= 1)).all()


@each_classifier
def test_prediction_sets_are_never_empty_and_grow_with_coverage(
    learner: MetaLearner, tasks: list[Task]
) -> None:
    batched = predict(learner, adapt(learner, *tasks), *tasks)
    assert isinstance(batched, Categorical)
    label = batched.log_probs.argmax(-1, keepdim=True)
    smaller = torch.zeros_like(batched.log_probs, dtype=torch.bool)
    for coverage in (0.0, 0.5, 0.8, 0.9, 0.99, 1.0):
        sets = batched.prediction_sets(coverage)
        assert sets.gather(-1, label).all()
        assert (sets | ~smaller).all()
        for index, task in enumerate(tasks):
            assert not sets[index, :, len(task.labels) :].any()
            assert batched.at(index, 1, len(task.labels)).prediction_sets(coverage).any(-1).all()
        smaller = sets


@each_case
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_losses_are_per_task_and_finite(case: Case, tasks: list[Task], progress: float) -> None:
    learner = case.learner().train()
    losses = learner.loss(episodes_of(tasks), progress)
    for value in (losses.total, *losses.parts.values()):
        assert value.shape == (len(tasks),)
        assert value.isfinite().all()
    if parameters := [p for p in learner.parameters() if p.requires_grad]:
        losses.total.sum().backward()
        gradients = [p.grad for p in parameters if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.any() for gradient in gradients)


@each_case
def test_the_loss_of_a_task_is_its_own(case: Case, learner: MetaLearner, tasks: list[Task]) -> None:
    others = [replace(new, seed=old.seed) for new, old in zip(case.tasks(4, seed=5), tasks[1:], strict=True)]
    one = learner.loss(episodes_of(tasks), 0.5).total[0]
    assert_close(one, learner.loss(episodes_of([tasks[0], *others]), 0.5).total[0], atol=1e-5, rtol=1e-4)


@each_case
def test_learns_above_chance(case: Case) -> None:
    learner, unseen = case.learner(), case.tasks(60, seed=99)
    if case.steps:
        optimiser = torch.optim.Adam(learner.parameters(), lr=case.lr)
        learner.train()
        for step in range(case.steps):
            loss = learner.loss(episodes_of(case.tasks(8, seed=1000 + step)), step / case.steps).total.mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        learner.eval()
    assert case.mean_score(learner, unseen) > case.floor
