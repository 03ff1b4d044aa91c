import torch

from models.data.glyph_augmentation import GlyphAugmentation, augment
from tests.models.glyph_data import glyphs

PICTURES = glyphs(classes=4, examples=3).inputs
TASK = torch.arange(12) // 6
STILL = GlyphAugmentation(turn=0, shear=0, scale=0, shift=0, elastic=0, thicker=0, thinner=0, blur=0)


def test_no_strength_is_the_plain_area_average() -> None:
    made = augment(PICTURES, TASK, STILL, torch.Generator().manual_seed(0))
    plain = torch.nn.functional.avg_pool2d(PICTURES[:, None].float() / 255, 2)
    assert torch.allclose(made, plain, atol=1e-4)


def test_changes_are_bounded_and_keyed_by_the_generator() -> None:
    one, same, other = (
        augment(PICTURES, TASK, GlyphAugmentation(), torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)
    assert one.shape == (12, 1, 28, 28)
    assert float(one.min()) >= 0
    assert float(one.max()) <= 1 + 1e-5


def test_stroke_width_alone_adds_or_removes_ink() -> None:
    config = STILL.model_copy(update={"thicker": 1.0, "thinner": 1.0, "one_hand": 0.0})
    made = augment(PICTURES, TASK, config, torch.Generator().manual_seed(0))
    change = made.sum((1, 2, 3)) / (PICTURES.float().sum((1, 2)) / 255 / 4)
    assert float(change.max()) > 1.1
    assert float(change.min()) < 0.9
