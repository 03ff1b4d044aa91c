"""Fixed features follow from a seed, in any process, and take inputs of any leading dimensions."""

import pytest
import torch
from torch.testing import assert_close

from models.continual.fixed_features import (
    FeatureConfig,
    Patches,
    PatchesAndEdges,
    Projection,
    fixed_features,
)
from models.protocol import LearnerError

PICTURE = (1, 28, 28)
SMALL = FeatureConfig(count=90)
PIXELS = FeatureConfig(kind="auto", count=90)


@pytest.mark.parametrize("shape", [PICTURE, (28, 28), (3, 32, 32), (8,), (784,), (4, 5)])
def test_any_shape_has_features(shape: tuple[int, ...]) -> None:
    features = fixed_features(shape, SMALL, seed=0)
    x = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    found = features(x)
    assert found.shape == (2, 3, features.dim)
    assert isinstance(features, PatchesAndEdges) == (len(shape) > 1 and min(shape[-2:]) == shape[-1] >= 28)
    assert_close(features(x[1, 2]), found[1, 2], atol=1e-6, rtol=1e-5)
    assert features(x[:0]).shape == (0, 3, features.dim)


def test_a_picture_is_averaged_over_whole_grids() -> None:
    assert fixed_features(PICTURE, FeatureConfig(kind="patches", count=100, grid=3), seed=0).dim == 99
    assert fixed_features(PICTURE, FeatureConfig(count=100), seed=0).dim == 54 + 48


def test_a_seed_draws_the_same_in_any_process() -> None:
    """So a version stored by one is read by another."""
    one, other = (fixed_features(PICTURE, PIXELS, seed).filters for seed in (7, 8))
    assert_close(one[0, 0, 0, :3], torch.tensor([-0.0900, 0.0434, 0.0987]), atol=1e-4, rtol=0)
    assert not one.equal(other)
    both = fixed_features(PICTURE, SMALL, seed=7)
    assert isinstance(both, PatchesAndEdges)
    assert_close(both.edges.filters[0, 0, 0], torch.tensor([-0.1286, 0.1507, 0.2277]), atol=1e-4, rtol=0)


def test_streams_from_before_there_were_edges_have_their_features() -> None:
    """Their configurations have every default written out."""
    before = FeatureConfig.model_validate({"kind": "auto", "count": 90, "side": 9, "grid": 3})
    assert isinstance(fixed_features(PICTURE, before, seed=0), Patches)
    assert isinstance(fixed_features((8,), before, seed=0), Projection)


def test_edges_are_as_strong_in_a_faint_image() -> None:
    """Unlike pixels: what they are compared with is around them."""
    features = fixed_features(PICTURE, SMALL, seed=0)
    assert isinstance(features, PatchesAndEdges)
    x = torch.zeros(1, *PICTURE)
    x[..., 8:20, 12:16] = 1
    ratios = [float(part(x / 2).norm() / part(x).norm()) for part in (features.patches, features.edges)]
    assert ratios[0] < 0.6 < 0.7 < ratios[1]


def test_short_vectors_stand_among_their_projections() -> None:
    features = fixed_features((8,), SMALL, seed=0)
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    assert features.dim == 90
    assert features(x)[:, :8].equal(x)
    assert features(x)[:, 8:].min() >= 0


def test_vectors_longer_than_there_is_room_for_are_projected() -> None:
    features = fixed_features((784,), SMALL, seed=0)
    assert isinstance(features, Projection)
    assert features.dim == 90


@pytest.mark.parametrize("shape", [(1, 27, 28), (784,), (2, 3, 28, 28)])
def test_an_input_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LearnerError, match=r"\[1, 28, 28\]"):
        fixed_features(PICTURE, SMALL, seed=0)(torch.zeros(*shape))


def test_patches_are_refused_where_there_are_none() -> None:
    with pytest.raises(LearnerError, match="images"):
        fixed_features((784,), FeatureConfig(kind="patches"), seed=0)


def test_pixels_in_another_order_may_be_projected() -> None:
    assert isinstance(fixed_features(PICTURE, FeatureConfig(kind="projection"), seed=0), Projection)


@pytest.mark.parametrize(
    ("shape", "config"),
    [
        ((3, 128, 128), FeatureConfig(count=4096, kind="projection")),
        ((3, 128, 128), FeatureConfig(kind="patches", count=4096, grid=1)),
    ],
)
def test_more_numbers_than_there_is_memory_for_are_refused(
    shape: tuple[int, ...], config: FeatureConfig
) -> None:
    with pytest.raises(LearnerError, match=r"features\.count"):
        fixed_features(shape, config, seed=0)


def test_large_pictures_are_taken_a_few_at_a_time() -> None:
    large, small = (fixed_features((3, side, side), FeatureConfig(), seed=0) for side in (128, 28))
    for one, other in ((large.patches, small.patches), (large.edges, small.edges)):
        assert one.chunk < other.chunk == 128
