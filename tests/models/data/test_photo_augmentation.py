"""Views of photos: each picture on its own, within bounds, keyed by the generator."""

import pytest
import torch
from torch.nn import functional as F

from models.data.photo_augmentation import PhotoAugmentation, augment_photo
from tests.models.photo_data import photos

PICTURES = photos(classes=4, examples=5).inputs
PLAIN = PICTURES.permute(0, 3, 1, 2).float() / 255
STILL = PhotoAugmentation(pixels=0, mirrored=0, brightness=0, contrast=0, saturation=0)


def made(seed: int = 0, **changes: float) -> torch.Tensor:
    config = PhotoAugmentation.model_validate(STILL.model_dump() | changes)
    return augment_photo(PICTURES, config, torch.Generator().manual_seed(seed))


def test_no_strength_leaves_pictures_as_they_are() -> None:
    torch.testing.assert_close(made(), PLAIN, atol=1e-6, rtol=0)


def test_changes_are_bounded_and_keyed_by_the_generator() -> None:
    one, same, other = (
        augment_photo(PICTURES, PhotoAugmentation(), torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert one.equal(same)
    assert not one.allclose(other)
    assert one.shape == (20, 3, 32, 32)
    assert 0 <= float(one.min()) <= float(one.max()) <= 1


def test_shifts_are_crops_of_the_picture_padded_by_reflection() -> None:
    padded = F.pad(PLAIN, (4, 4, 4, 4), mode="reflect")
    crops = torch.stack([padded[..., r : r + 32, c : c + 32] for r in range(9) for c in range(9)])
    differs = (made(pixels=4) - crops).abs().amax((2, 3, 4))
    assert bool((differs.amin(0) < 1e-6).all())
    assert len(differs.argmin(0).unique()) > 5


def test_half_of_the_pictures_are_mirrored() -> None:
    found = made(mirrored=0.5)
    turned = (found - PLAIN.flip(-1)).abs().amax((1, 2, 3)) < 1e-6
    kept = (found - PLAIN).abs().amax((1, 2, 3)) < 1e-6
    assert bool((turned ^ kept).all())
    assert 0 < int(turned.sum()) < len(PICTURES)
    assert made(mirrored=1.0).allclose(PLAIN.flip(-1))


@pytest.mark.parametrize("change", ["brightness", "contrast", "saturation"])
def test_light_changes_each_picture_by_its_own_factor(change: str) -> None:
    found = made(**{change: 0.2})
    inside = (found > 0.01) & (found < 0.99)
    moved = torch.where(inside, (found - PLAIN).abs(), 0).amax((1, 2, 3))
    assert len(moved.unique()) == len(PICTURES)
    assert 0 < float(moved.max()) <= 0.21


def test_without_colour_saturation_changes_nothing() -> None:
    grey = PICTURES[..., :1].expand(-1, -1, -1, 3).contiguous()
    config = STILL.model_copy(update={"saturation": 0.5})
    found = augment_photo(grey, config, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, grey.permute(0, 3, 1, 2) / 255, atol=1e-3, rtol=0)


def test_a_scaled_strength_keeps_mirroring() -> None:
    half = PhotoAugmentation().scaled(0.5)
    assert (half.pixels, half.mirrored, half.contrast) == (2, 0.5, 0.15)
