import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.dataset import DatasetError
from models.data.episodes import EpisodeConfig, EpisodeSampler
from models.data.glyph_augmentation import GlyphAugmentation
from models.protocol import FOREIGN, Span
from tests.models.glyph_data import glyphs
from tests.property import examples

DATA = glyphs()
SMALL = EpisodeConfig(min_way=2, max_way=6, max_shot=4, queries=3, foreign=0.25, examples_per_step=60)


@settings(max_examples=examples(25), deadline=None)
@given(step=st.integers(0, 10_000), seed=st.integers(0, 100))
def test_every_task_keeps_its_promises(step: int, seed: int) -> None:
    labels = DATA.labels.numpy()
    for task in EpisodeSampler(DATA, SMALL, seed).step(step):
        way = int(task.support_y.max()) + 1
        assert SMALL.min_way <= way <= SMALL.max_way
        assert set(task.support_y) == set(range(way)), "every class has an example"
        assert np.bincount(task.support_y).max() <= SMALL.max_shot
        assert not set(task.support) & set(task.query), "no query is in the support set"
        classes = {row: set(labels[task.support[task.support_y == row]]) for row in range(way)}
        assert all(len(found) == 1 for found in classes.values())
        known = set().union(*classes.values())
        assert len(known) == way
        for index, target in zip(task.query, task.query_y, strict=True):
            assert (labels[index] not in known) if target == FOREIGN else (labels[index] in classes[target])
        assert (task.query_y == FOREIGN).any()


def test_a_step_is_the_same_whenever_it_is_drawn() -> None:
    first = EpisodeSampler(DATA, SMALL, 3).episodes(17, GlyphAugmentation())
    sampler = EpisodeSampler(DATA, SMALL, 3)
    sampler.episodes(16, GlyphAugmentation())
    again = sampler.episodes(17, GlyphAugmentation())
    for name, value in vars(first).items():
        assert torch.equal(value, getattr(again, name)), name


def test_steps_and_seeds_differ() -> None:
    one, other = EpisodeSampler(DATA, SMALL, 3).step(1), EpisodeSampler(DATA, SMALL, 3).step(2)
    assert not np.array_equal(one[0].query, other[0].query)


def test_half_the_tasks_can_stay_within_one_domain() -> None:
    config = SMALL.model_copy(update={"within_domain": 1.0, "max_way": 3, "min_way": 2})
    domains = DATA.domains.numpy()[DATA.labels.numpy()]
    for task in EpisodeSampler(DATA, config, 0).step(0):
        assert len(set(domains[np.concatenate((task.support, task.query))])) == 1


def test_unseen_classes_appear_in_unseen_tasks_only() -> None:
    unseen = frozenset({0, 1, 2, 3})
    config = SMALL.model_copy(update={"unseen": 0.5, "max_way": 3})
    sampler = EpisodeSampler(DATA, config, 0, unseen)
    kinds = set()
    for step in range(10):
        for task in sampler.step(step):
            found = set(DATA.labels.numpy()[np.concatenate((task.support, task.query))])
            assert found <= unseen if task.unseen else not found & unseen
            kinds.add(task.unseen)
    assert kinds == {True, False}


def test_classes_too_small_for_the_ranges_are_refused() -> None:
    with pytest.raises(DatasetError, match="smallest class has 4 examples"):
        EpisodeSampler(glyphs(examples=4), EpisodeConfig(queries=5), 0)


@pytest.mark.parametrize("foreign", [0.0, 0.25])
@pytest.mark.parametrize("way", [3, 5])
def test_a_fixed_way_is_drawn_exactly(way: int, foreign: float) -> None:
    """The three domains hold four classes each: tasks of five within one domain cannot be, so none is drawn."""
    config = SMALL.model_copy(
        update={"min_way": way, "max_way": way, "foreign": foreign, "within_domain": 0.7}
    )
    sampler = EpisodeSampler(DATA, config, 0, ways=Span(way, way))
    for step in range(10):
        assert {int(task.support_y.max()) + 1 for task in sampler.step(step)} == {way}


def test_fewer_classes_than_a_task_needs() -> None:
    with pytest.raises(DatasetError, match="12 classes are too few to draw tasks of 12"):
        EpisodeSampler(DATA, SMALL, 0, ways=Span(12, 12))
