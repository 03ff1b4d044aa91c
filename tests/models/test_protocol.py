"""Support sets, task weights and episodes: ragged, masked, and checked."""

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from models.protocol import (
    Episodes,
    Losses,
    MetaLearner,
    Servable,
    Span,
    Support,
    TaskWeights,
    Traits,
    UnsupportedSupportError,
    refuse_prior,
)
from models.stream_protocol import StreamLearner

X = torch.randn(2, 4, 3)
Y = torch.tensor([[0, 1, 0, 1], [2, 1, 0, 2]])


def weights() -> TaskWeights:
    return TaskWeights(
        task={"scale": torch.tensor([1.0, 2.0])},
        rows={"row": torch.arange(12.0).view(2, 3, 2), "shots": torch.tensor([[2, 2, 0], [1, 1, 2]])},
        n_way=torch.tensor([2, 3]),
        class_key=torch.tensor([[7, 8, 0], [9, 7, 5]]),
        seed=torch.tensor([1, 2]),
    )


def test_a_span_is_closed() -> None:
    assert [value in Span(2, 4) for value in range(1, 6)] == [False, True, True, True, False]
    assert 10**9 in Span(2)
    assert 1 not in Span(2)
    assert [Span(3, 5).nearest(value) for value in (1, 4, 9)] == [3, 4, 5]
    assert Span(3).nearest(10**9) == 10**9


def test_a_span_picks_among_candidates() -> None:
    assert Span(2).among((5, 20)) == (5, 20)
    assert Span(5, 5).among((5, 20)) == (5,)
    assert Span(7, 7).among((5, 20)) == (7,)


def test_a_span_reads_as_words() -> None:
    assert [str(Span(2)), str(Span(5, 5)), str(Span(2, 4))] == ["at least 2", "5", "2 to 4"]


def test_default_traits_are_those_of_a_plain_classifier() -> None:
    traits = Traits()
    assert 2 in traits.ways
    assert 1 in traits.shots
    named = ("transductive", "stochastic", "incremental", "order_dependent", "zero_shot", "label_equivariant")
    assert [name for name in named if getattr(traits, name)] == ["label_equivariant"]


def test_a_support_fills_what_was_not_said() -> None:
    support = Support.of(X, Y)
    assert support.n_way.tolist() == [2, 3]
    assert support.mask.all()
    assert support.class_key.tolist() == [[1, 2, 0], [1, 2, 3]]
    assert support.seed.tolist() == [0, 0]


def test_the_class_mask_tells_classes_from_padding() -> None:
    expected = [[True, True, False], [True, True, True]]
    assert Support.of(X, Y).class_mask.tolist() == expected
    assert weights().class_mask.tolist() == expected


@pytest.mark.parametrize("targets", [None, torch.zeros(2, 4, 1)])
def test_a_support_may_have_values_or_nothing_as_targets(targets: Tensor | None) -> None:
    support = Support.of(X, targets)
    assert support.n_way.tolist() == [0, 0]
    assert support.class_key.shape == (2, 0)
    assert support.class_mask.shape == (2, 0)


def test_one_task_is_selected_without_padding() -> None:
    one = weights().select(0)
    assert one.rows["row"].tolist() == [[[0.0, 1.0], [2.0, 3.0]]]
    assert one.rows["shots"].tolist() == [[2, 2]]
    assert one.task["scale"].tolist() == [1.0]
    assert one.class_key.tolist() == [[7, 8]]
    assert (one.n_way.tolist(), one.seed.tolist()) == ([2], [1])
    assert weights().select(1).select(0).class_key.tolist() == [[9, 7, 5]]


def test_a_prior_is_refused() -> None:
    refuse_prior(None)
    with pytest.raises(UnsupportedSupportError):
        refuse_prior(weights())


def episodes(**changes: Tensor | None) -> Episodes:
    mask = torch.ones(2, 4, dtype=torch.bool)
    two = torch.tensor([2, 3])
    given = {
        "support_x": X,
        "support_y": Y,
        "support_mask": mask,
        "query_x": X,
        "query_y": Y,
        "query_mask": mask,
        "n_way": two,
        "unseen": two > 2,
    }
    return Episodes(**{**given, **changes})  # type: ignore[arg-type]


def test_episodes_move_with_all_that_they_hold() -> None:
    moved = episodes(support_y=None, seed=torch.tensor([1, 2])).to("meta")
    assert moved.support_y is None
    assert moved.seed is not None
    held = [value for value in vars(moved).values() if value is not None]
    assert {value.device.type for value in held} == {"meta"}
    assert episodes().to("cpu").seed is None


@pytest.mark.parametrize(
    "changes",
    [
        {"support_mask": torch.ones(2, 5, dtype=torch.bool)},
        {"support_mask": torch.ones(2, 4)},
        {"query_mask": torch.ones(3, 4, dtype=torch.bool)},
        {"n_way": torch.tensor([2, 3, 4])},
        {"n_way": torch.tensor([2.0, 3.0])},
    ],
)
def test_shapes_are_checked_when_the_tests_run(changes: dict[str, Tensor]) -> None:
    with pytest.raises(TypeCheckError):
        episodes(**changes)


def test_losses_are_per_task() -> None:
    assert Losses(torch.zeros(3)).parts == {}
    with pytest.raises(TypeCheckError):
        Losses(torch.zeros(()))


@pytest.mark.parametrize("base", [Servable, MetaLearner, StreamLearner])
def test_the_bases_are_abstract(base: type) -> None:
    with pytest.raises(TypeError, match="abstract"):
        base()
