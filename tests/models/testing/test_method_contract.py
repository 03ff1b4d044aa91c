"""The contract finds faults and says which call broke which property; without faults it passes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor

from models.fewshot.protonet import ProtoNet, ProtoNetConfig
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import Episodes, Losses, Support, TaskWeights, Traits, Trial
from models.registry import METHODS
from models.testing.case import Case
from models.testing.failures import ContractError
from models.testing.method_contract import MethodContract

TRIAL = Trial(tasks="vectors", encoder="identity", encoder_hparams={"dim": 8}, steps=0, floor=0.5)


class LooseConfig(ProtoNetConfig):
    model_config = ConfigDict(extra="ignore")


class Loose(ProtoNet):
    Config = LooseConfig


class Padded(ProtoNet):
    """Takes padding for examples."""

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        return super().adapt(replace(support, mask=torch.ones_like(support.mask)), prior)


class Neighbourly(ProtoNet):
    """Centres queries on the mean of the batch."""

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        return super().predict(weights, features - features.mean((0, 1)), noise)


class Transductive(ProtoNet):
    """Centres queries on the mean of their task."""

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        return super().predict(weights, features - features.mean(1, keepdim=True), noise)


class Forgetful(ProtoNet):
    """Holds state that no parameter or buffer has."""

    scale = 1.0

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        self.scale += 1
        return super().adapt(replace(support, features=support.features * self.scale), prior)


class Random(ProtoNet):
    """Draws from the global generator."""

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        return super().predict(weights, features + torch.randn_like(features), noise)


class FirstCounts(ProtoNet):
    """Gives the first example more weight."""

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        weight = torch.ones_like(support.features)
        weight[:, 0] = 3.0
        return super().adapt(replace(support, features=support.features * weight), prior)


class Ordered(ProtoNet):
    """Claims an order that it does not see."""

    traits = Traits(order_dependent=True, incremental=True)

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.traits = replace(self.traits, order_dependent=True)


class Biased(ProtoNet):
    """Prefers the first class."""

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        found = super().predict(weights, features, noise)
        bias = torch.zeros(found.log_probs.shape[-1])
        bias[0] = 1.0
        return replace(found, log_probs=(found.log_probs + bias).log_softmax(-1))


class Indifferent(ProtoNet):
    """Claims that class numbers matter."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.traits = replace(self.traits, label_equivariant=False)


class Amnesic(ProtoNet):
    """Ignores the prior in spite of its traits."""

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        return super().adapt(support)


class Unrefusing(ProtoNet):
    """Ignores the prior, and its traits say nothing of one."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.traits = replace(self.traits, incremental=False)

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        return super().adapt(support)


class Inventive(ProtoNet):
    """Makes up an epistemic part."""

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        found = super().predict(weights, features, noise)
        return replace(found, expected_entropy=found.entropy / 2, samples=8)


class Certain(ProtoNet):
    """Claims to sample and does not."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.traits = replace(self.traits, stochastic=True)


class Shared(ProtoNet):
    """Reports one loss for the batch."""

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        found = super().loss(episodes, progress).total
        return Losses(found.mean().expand(found.shape))


class Infinite(ProtoNet):
    """Loses its loss."""

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        return Losses(super().loss(episodes, progress).total / 0)


class Contrary(ProtoNet):
    """Answers with the farthest class."""

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        found = super().predict(weights, features, noise)
        logits = (-found.log_probs).masked_fill(~weights.class_mask[:, None], -torch.inf)
        return replace(found, log_probs=logits.log_softmax(-1))


class Narrow(ProtoNet):
    """Claims to take two classes and takes any number."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.traits = replace(self.traits, ways=replace(self.traits.ways, low=3, high=3))


CONTRACT = MethodContract()
Check = Callable[[Case], None]


def checked(name: str) -> Check:
    """Return a test of the contract as a function of the case alone."""

    def run(case: Case) -> None:
        test = getattr(CONTRACT, name)
        given = {
            "case": case,
            "learner": case.learner().requires_grad_(False),
            "tasks": case.tasks(5),
            "progress": 0.5,
        }
        test(**{name: given[name] for name in inspect.signature(test).parameters})

    return run


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[ProtoNet]], Case]:
    def registered(found: type[ProtoNet]) -> Case:
        monkeypatch.setitem(METHODS.paths, "faulty", f"{found.__module__}:{found.__name__}")
        return Case.of("faulty", TRIAL)

    return registered


@pytest.mark.parametrize(
    ("faulty", "test", "message"),
    [
        (Loose, "test_hyperparameters_are_checked", "Config: model_config needs extra='forbid'"),
        (
            Padded,
            "test_pitfall_01_alone_as_in_a_ragged_batch",
            "adapt: weights of a task depend on the padding",
        ),
        (
            Neighbourly,
            "test_pitfall_01_neighbours_do_not_matter",
            "predict: answers of a task depend on its neighbours in the batch: log_probs differs by 0",
        ),
        (
            Transductive,
            "test_pitfall_01_other_queries_do_not_matter",
            "predict: an answer depends on the other queries of the task, which traits.transductive=False denies",
        ),
        (
            Forgetful,
            "test_the_same_seed_gives_the_same_answer",
            "predict: the same task and seed are answered in two",
        ),
        (
            Random,
            "test_nothing_is_changed_by_adapting_and_answering",
            "they draw from torch's global generator; use models.noise.Noise",
        ),
        (
            FirstCounts,
            "test_pitfall_04_order_of_the_support_set",
            r"adapt: weights depend on the order .* traits.order_dependent=False denies: rows.prototype differs by",
        ),
        (Ordered, "test_pitfall_04_order_of_the_support_set", "traits.order_dependent=True denies"),
        (
            Biased,
            "test_pitfall_04_order_of_the_classes",
            "traits.label_equivariant=True denies: log_probs differs by",
        ),
        (Indifferent, "test_pitfall_04_order_of_the_classes", "traits.label_equivariant=False denies"),
        (Amnesic, "test_more_examples", "as traits.incremental=True says: rows.prototype"),
        (Unrefusing, "test_more_examples", "adapt: prior is ignored"),
        (
            Narrow,
            "test_pitfall_05_other_numbers_of_classes_are_refused",
            "adapt: a support set of 2 classes is taken",
        ),
        (Inventive, "test_epistemic_part", "predict: an epistemic part, which traits.stochastic=False"),
        (Certain, "test_epistemic_part", "predict: no epistemic part, which traits.stochastic=True"),
        (Certain, "test_another_seed_gives_another_draw", "predict: noise changes nothing"),
        (Infinite, "test_losses_are_per_task_and_finite", "loss: total is not finite at progress 0.5"),
        (Shared, "test_the_loss_of_a_task_is_its_own", "loss: the loss of a task depends on its neighbours"),
        (
            Contrary,
            "test_learns_above_chance",
            r"loss: after 0 steps .* unseen tasks score -?\d\.\d\d, not above 0.5",
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_a_fault_is_named(
    faulty: type[ProtoNet],
    test: str,
    message: str,
    register: Callable[[type[ProtoNet]], Case],
) -> None:
    checked(test)(register(ProtoNet))
    case = register(faulty)
    with pytest.raises(ContractError, match=message):
        checked(test)(case)


def test_a_trial_of_another_kind_is_refused() -> None:
    with pytest.raises(ContractError, match=r"traits\.kind of protonet is classification"):
        Case.of("protonet", Trial(tasks="curves", encoder="identity", encoder_hparams={"dim": 1}))
    with pytest.raises(ContractError, match="regression needs tasks='curves'"):
        Case.of("bayes-linear", Trial(tasks="vectors", encoder="identity", encoder_hparams={"dim": 1}))
