"""The contract of few-shot methods: what every learner promises, whatever its family.

A package proves its method by subclassing `MethodContract` in a test file:

    class TestMine(MethodContract):
        method = "mine"
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from models import artifact
from models.noise import Noise
from models.predictive import Categorical, Gaussian, Predictive
from models.protocol import MetaLearner, TaskWeights, Trial, UnsupportedSupportError
from models.registry import METHODS
from models.testing.case import Case
from models.testing.failures import ContractError, differs, require, require_close, require_equal
from models.testing.tasks import Task, episodes_of, queries_of, support_of
from models.weights import Header, pack, tensors, unpack

_NOISE = Noise(8)
_TASKS = 5


class MethodContract:
    """Base of a test class for one method, by its registered name. `trial` replaces the method's own."""

    method: ClassVar[str]
    trial: ClassVar[Trial | None] = None

    @pytest.fixture
    def case(self) -> Case:
        return Case.of(self.method, self.trial)

    @pytest.fixture
    def learner(self, case: Case) -> MetaLearner:
        return case.learner().requires_grad_(False)

    @pytest.fixture
    def tasks(self, case: Case) -> list[Task]:
        return case.tasks(_TASKS)

    def test_hyperparameters_are_checked(self, case: Case) -> None:
        config = METHODS[case.method].Config
        for setting, value in (("extra", "forbid"), ("frozen", True)):
            require(
                config.model_config.get(setting) == value,
                f"Config: model_config needs {setting}={value!r}: hyperparameters stand in the learner's description",
            )

    def test_pitfall_01_alone_as_in_a_ragged_batch(self, learner: MetaLearner, tasks: list[Task]) -> None:
        weights = adapt(learner, *tasks)
        batched = predict(learner, weights, *tasks)
        for index, task in enumerate(tasks):
            require_close(
                "adapt: weights of a task depend on the padding of the batch",
                named(weights.select(index)),
                named(adapt(learner, task)),
            )
            require_close(
                "predict: answers of a task depend on the padding of the batch",
                numbers(cut(batched, index, task)),
                numbers(answer(learner, task)),
            )

    def test_pitfall_01_neighbours_do_not_matter(
        self, case: Case, learner: MetaLearner, tasks: list[Task]
    ) -> None:
        beside = [tasks[0], *case.tasks(_TASKS - 1, seed=5)]
        require_close(
            "predict: answers of a task depend on its neighbours in the batch",
            numbers(cut(predict(learner, adapt(learner, *tasks), *tasks), 0, tasks[0])),
            numbers(cut(predict(learner, adapt(learner, *beside), *beside), 0, tasks[0])),
        )

    def test_pitfall_01_other_queries_do_not_matter(self, learner: MetaLearner, tasks: list[Task]) -> None:
        task, weights = tasks[0], adapt(learner, tasks[0])
        half = replace(task, query_x=task.query_x[::2], query_y=task.query_y[::2])
        whole, part = (numbers(predict(learner, weights, some)) for some in (task, half))
        if learner.traits.transductive:
            return
        shared = {name for name, value in whole.items() if value.shape[1:2] == (len(task.query_x),)}
        require_close(
            "predict: an answer depends on the other queries of the task, which traits.transductive=False denies",
            {name: whole[name][:, ::2] for name in shared},
            {name: part[name] for name in shared},
        )

    def test_saved_and_loaded_answers_bitwise(self, case: Case, tasks: list[Task], tmp_path: Path) -> None:
        learner = case.learner().requires_grad_(False)
        artifact.save(tmp_path / case.method, learner, case.config, "")
        loaded = artifact.load(tmp_path / case.method).learner
        weights, again = adapt(learner, *tasks), adapt(loaded, *tasks)
        claim = (
            "a learner that was saved and loaded answers otherwise (state outside parameters and buffers?)"
        )
        require_equal(f"adapt: {claim}", named(weights), named(again))
        require_equal(
            f"predict: {claim}",
            numbers(predict(learner, weights, *tasks)),
            numbers(predict(loaded, again, *tasks)),
        )

    def test_pitfall_02_weights_packed_and_unpacked_answer_bitwise(
        self, learner: MetaLearner, tasks: list[Task]
    ) -> None:
        weights = adapt(learner, tasks[0])
        again, _ = unpack(pack(weights, Header("", tasks[0].labels, tasks[0].seed)))
        require_equal("adapt: weights change when stored as bytes", named(weights), named(again))
        require_equal(
            "predict: weights that were stored as bytes answer otherwise (state outside TaskWeights?)",
            numbers(predict(learner, weights, tasks[0])),
            numbers(predict(learner, again, tasks[0])),
        )

    def test_the_same_seed_gives_the_same_answer(self, learner: MetaLearner, tasks: list[Task]) -> None:
        require_equal(
            "predict: the same task and seed are answered in two ways",
            numbers(answer(learner, tasks[0])),
            numbers(answer(learner, tasks[0])),
        )

    def test_nothing_is_changed_by_adapting_and_answering(
        self, learner: MetaLearner, tasks: list[Task]
    ) -> None:
        state = {name: value.clone() for name, value in learner.state_dict().items()}
        inputs = {str(index): task.support_x.clone() for index, task in enumerate(tasks)}
        random_state = torch.get_rng_state()
        weights = adapt(learner, *tasks)
        before = {name: value.clone() for name, value in tensors(weights)}
        predict(learner, weights, *tasks)
        require_equal("predict: it changes the task weights", named(weights), before)
        require_equal("adapt, predict: they change the learner", learner.state_dict(), state)
        require_equal(
            "adapt: it changes its inputs",
            {str(index): task.support_x for index, task in enumerate(tasks)},
            inputs,
        )
        require(
            torch.get_rng_state().equal(random_state),
            "adapt, predict: they draw from torch's global generator; use models.noise.Noise",
        )

    def test_pitfall_04_order_of_the_support_set(self, learner: MetaLearner, tasks: list[Task]) -> None:
        """It matters exactly if `traits.order_dependent` says so."""
        if learner.traits.order_dependent:
            task = max(tasks, key=lambda task: len(task.support_x))
            turned = adapt(learner, task.ordered(torch.arange(len(task.support_x)).flip(0)))
            require(
                differs(named(turned), named(adapt(learner, task)), atol=1e-3),
                "adapt: the order of the support set changes nothing, which traits.order_dependent=True denies",
            )
            return
        for task in tasks:
            order = torch.randperm(len(task.support_x), generator=torch.Generator().manual_seed(3))
            require_close(
                "adapt: weights depend on the order of the support set, which traits.order_dependent=False denies",
                named(adapt(learner, task.ordered(order))),
                named(adapt(learner, task)),
            )

    def test_pitfall_04_order_of_the_classes(self, learner: MetaLearner, tasks: list[Task]) -> None:
        """It permutes the answers and changes nothing else exactly if `traits.label_equivariant` says so."""
        classified = [task for task in tasks if task.labels]
        pairs = [_relabelled(learner, task) for task in classified]
        if learner.traits.label_equivariant:
            for one, other in pairs:
                require_close(
                    "predict: renumbering the classes changes the answers, which traits.label_equivariant=True denies",
                    one,
                    other,
                )
        elif classified:
            require(
                any(differs(one, other, atol=1e-3) for one, other in pairs),
                "predict: renumbering the classes changes no answer, which traits.label_equivariant=False denies",
            )

    def test_more_examples(self, learner: MetaLearner, tasks: list[Task]) -> None:
        """`traits.incremental`: adding a part is adapting to the whole; else a prior is refused."""
        if not learner.traits.incremental:
            try:
                learner.adapt(support_of(learner, tasks), prior=adapt(learner, *tasks))
            except UnsupportedSupportError:
                return
            raise ContractError(
                "adapt: prior is ignored, a wrong answer; without traits.incremental raise it with refuse_prior"
            )
        for task in tasks:
            early = _first_part(task)
            first, second = task.ordered(early.nonzero()[:, 0]), task.ordered((~early).nonzero()[:, 0])
            first = replace(first, labels=task.labels[:-1])
            whole = task.ordered(torch.cat((early.nonzero(), (~early).nonzero()))[:, 0])
            grown = learner.adapt(support_of(learner, [second]), prior=adapt(learner, first))
            require_close(
                "adapt: weights with prior are not those of all examples together, as traits.incremental=True says",
                named(grown),
                named(adapt(learner, whole)),
            )

    def test_pitfall_05_other_numbers_of_classes_are_refused(
        self, learner: MetaLearner, tasks: list[Task]
    ) -> None:
        """A bound in `traits.ways` is one of the method: what it does not take it refuses."""
        ways, task = learner.traits.ways, tasks[0]
        way = len(task.labels) - 1
        if not ways.high or way in ways or way < 1:
            return
        assert task.support_y is not None
        fewer = task.ordered((task.support_y < way).nonzero()[:, 0])
        try:
            adapt(learner, replace(fewer, labels=task.labels[:-1]))
        except UnsupportedSupportError:
            return
        raise ContractError(
            f"adapt: a support set of {way} classes is taken, which traits.ways={ways} denies; "
            "raise UnsupportedSupportError (refuse_other_ways)"
        )

    def test_another_seed_gives_another_draw(self, learner: MetaLearner, tasks: list[Task]) -> None:
        """A stochastic learner samples if it is given noise."""
        if not learner.traits.stochastic:
            return
        one = numbers(answer(learner, tasks[0]))
        other = numbers(answer(learner, replace(tasks[0], seed=tasks[0].seed + 1)))
        require(
            any(not value.equal(other[name]) for name, value in one.items()),
            "predict: noise changes nothing, which traits.stochastic=True denies",
        )

    def test_epistemic_part(self, learner: MetaLearner, tasks: list[Task]) -> None:
        """Sampling or an exact posterior gives an epistemic part; without either it would be invented."""
        one = predict(learner, adapt(learner, *tasks), *tasks)
        epistemic = one.epistemic if isinstance(one, Categorical | Gaussian) else None
        traits = learner.traits
        claimed = traits.stochastic or traits.exact_posterior
        require(
            (epistemic is not None) is claimed,
            f"predict: {'no' if claimed else 'an'} epistemic part, which traits.stochastic={traits.stochastic} and "
            f"traits.exact_posterior={traits.exact_posterior} deny",
        )
        if not (traits.stochastic and isinstance(one, Categorical)) or epistemic is None:
            return
        assert one.expected_entropy is not None
        plug_in = epistemic * (_NOISE.samples - 1) / _NOISE.samples
        uncut = epistemic < one.entropy
        require_close(
            "predict: entropy is not expected entropy plus mutual information",
            {"entropy": one.entropy[uncut]},
            {"entropy": (one.expected_entropy + plug_in)[uncut]},
            rtol=0,
        )
        require(
            bool((one.expected_entropy <= one.entropy + 1e-5).all()),
            "predict: expected_entropy exceeds the entropy of the mean; is it the mean entropy of the members?",
        )
        require(
            bool((epistemic >= 0).all()) and bool((epistemic <= one.entropy).all()),
            "predict: the epistemic part is not between 0 and the entropy",
        )
        require(
            bool((epistemic > 0).any()), "predict: the epistemic part is 0 everywhere; are members sampled?"
        )

    def test_probabilities_are_those_of_the_classes_of_the_task(
        self, learner: MetaLearner, tasks: list[Task]
    ) -> None:
        batched = _categorical(learner, tasks)
        for index, task in enumerate(tasks):
            padding = batched.probabilities[index, :, len(task.labels) :]
            require(not bool(padding.any()), "predict: log_probs of padded classes are not −∞")
            one = batched.at(index, len(task.query_x), len(task.labels))
            require_close(
                "predict: probabilities do not sum to 1",
                {"log_probs": one.probabilities.sum(-1)},
                {"log_probs": torch.ones(1, len(task.query_x))},
            )
            require(
                one.unknown is None or bool(((one.unknown >= 0) & (one.unknown <= 1)).all()),
                "predict: unknown is no probability",
            )
            require(
                bool((one.entropy >= 0).all()), "predict: an entropy is negative; are log_probs normalised?"
            )

    def test_prediction_sets_are_never_empty_and_grow_with_coverage(
        self, learner: MetaLearner, tasks: list[Task]
    ) -> None:
        batched = _categorical(learner, tasks)
        label = batched.log_probs.argmax(-1, keepdim=True)
        smaller = torch.zeros_like(batched.log_probs, dtype=torch.bool)
        for coverage in (0.0, 0.5, 0.8, 0.9, 0.99, 1.0):
            sets = batched.prediction_sets(coverage)
            require(
                bool(sets.gather(-1, label).all()), f"predict: the set at coverage {coverage} lacks the label"
            )
            require(bool((sets | ~smaller).all()), f"predict: the set at coverage {coverage} is no larger")
            for index, task in enumerate(tasks):
                beyond = sets[index, :, len(task.labels) :]
                require(
                    not bool(beyond.any()), f"predict: the set at coverage {coverage} holds a padded class"
                )
                alone = batched.at(index, 1, len(task.labels)).prediction_sets(coverage)
                require(bool(alone.any(-1).all()), f"predict: the set at coverage {coverage} is empty")
            smaller = sets

    @pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
    def test_losses_are_per_task_and_finite(self, case: Case, tasks: list[Task], progress: float) -> None:
        learner = case.learner().train()
        losses = learner.loss(episodes_of(tasks), progress)
        for name, value in {"total": losses.total, **losses.parts}.items():
            require(
                value.shape == (len(tasks),),
                f"loss: {name} has shape {list(value.shape)}, not one number for each of {len(tasks)} tasks",
            )
            require(bool(value.isfinite().all()), f"loss: {name} is not finite at progress {progress}")
        if parameters := {n: p for n, p in learner.named_parameters() if p.requires_grad}:
            losses.total.sum().backward()
            gradients = {n: p.grad for n, p in parameters.items() if p.grad is not None}
            for name, gradient in gradients.items():
                require(
                    bool(gradient.isfinite().all()),
                    f"loss: the gradient of {name} is not finite at progress {progress}",
                )
            require(
                any(bool(gradient.any()) for gradient in gradients.values()),
                f"loss: no parameter has a gradient at progress {progress}",
            )

    def test_the_loss_of_a_task_is_its_own(self, case: Case, learner: MetaLearner, tasks: list[Task]) -> None:
        others = [
            replace(new, seed=old.seed)
            for new, old in zip(case.tasks(_TASKS - 1, seed=5), tasks[1:], strict=True)
        ]
        require_close(
            "loss: the loss of a task depends on its neighbours in the batch",
            {"total": learner.loss(episodes_of(tasks), 0.5).total[0]},
            {"total": learner.loss(episodes_of([tasks[0], *others]), 0.5).total[0]},
        )

    def test_learns_above_chance(self, case: Case) -> None:
        learner, unseen = case.learner(), case.tasks(60, seed=99)
        if case.steps:
            optimiser = torch.optim.Adam(learner.parameters(), lr=case.lr)
            learner.train()
            for step in range(case.steps):
                episodes = episodes_of(case.tasks(8, seed=1000 + step))
                loss = learner.loss(episodes, step / case.steps).total.mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            learner.eval()
        score = case.mean_score(learner, unseen)
        require(
            score > case.floor,
            f"loss: after {case.steps} steps at lr={case.lr} unseen tasks score {score:.2f}, not above "
            f"{case.floor}; is the loss that of the answers? (`trial` sets steps, lr and floor)",
        )


def adapt(learner: MetaLearner, *tasks: Task) -> TaskWeights:
    """Adapt to some tasks as one batch."""
    return learner.adapt(support_of(learner, list(tasks)))


def predict(learner: MetaLearner, weights: TaskWeights, *tasks: Task) -> Predictive:
    """Answer the queries of some tasks as one batch, with noise."""
    return learner.predict(weights, queries_of(learner, list(tasks)), _NOISE)


def answer(learner: MetaLearner, task: Task) -> Predictive:
    """Adapt to one task alone and answer it."""
    return predict(learner, adapt(learner, task), task)


def cut(batched: Predictive, index: int, task: Task) -> Predictive:
    """Return the answers to one task of a batch."""
    return batched.at(index, len(task.query_x), len(task.labels))


def named(weights: TaskWeights) -> dict[str, Tensor]:
    """Return all tensors of task weights."""
    return dict(tensors(weights))


def numbers(predictive: Predictive) -> dict[str, Tensor]:
    """Return all tensors of an answer, probabilities in place of their logarithms."""
    found = dict(vars(predictive))
    if isinstance(predictive, Categorical):
        found["log_probs"] = predictive.probabilities
        found["epistemic"] = predictive.epistemic
        found["entropy"] = predictive.entropy
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def _categorical(learner: MetaLearner, tasks: list[Task]) -> Categorical:
    """Return a classifier's answers; skip the test for others."""
    batched = predict(learner, adapt(learner, *tasks), *tasks)
    if not isinstance(batched, Categorical):
        require(
            not any(task.labels for task in tasks),
            f"predict: a classifier answers with Categorical, not {type(batched).__name__}",
        )
        pytest.skip("only classifiers answer with classes")
    return batched


def _relabelled(learner: MetaLearner, task: Task) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the answers to a task, and those after renumbering its classes, numbered back."""
    permutation = torch.randperm(len(task.labels), generator=torch.Generator().manual_seed(len(task.labels)))
    one, other = answer(learner, task), answer(learner, task.relabelled(permutation))
    if not isinstance(one, Categorical) or not isinstance(other, Categorical):
        raise ContractError(f"predict: a classifier answers with Categorical, not {type(one).__name__}")
    return numbers(one), numbers(replace(other, log_probs=other.log_probs[..., permutation]))


def _first_part(task: Task) -> Tensor:
    """Return two thirds of the examples, without the last class: the rest brings it, and more of the others."""
    assert task.support_y is not None
    early = torch.arange(len(task.support_x)) % 3 != 2
    return early & (task.support_y < len(task.labels) - 1) if task.labels else early
