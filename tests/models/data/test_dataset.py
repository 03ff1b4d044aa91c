import pytest
import torch

from models.data.dataset import ClassDataset, DatasetError, model_input
from tests.models.glyph_data import glyphs

DATA = glyphs(classes=6, examples=4)


def test_rotations_are_classes_of_their_own_domains() -> None:
    turned = DATA.rotations()
    assert len(turned.class_names) == 24
    assert len(set(turned.domains.tolist())) == 4 * len(set(DATA.domains.tolist()))
    quarter = turned.inputs[turned.labels == 6]
    assert torch.equal(quarter, DATA.inputs[DATA.labels == 0].rot90(1, (1, 2)))


def test_mirror_images_are_classes_of_their_own_domains() -> None:
    both = DATA.mirrored()
    assert both.class_names[6] == "class-0#mirrored"
    assert torch.equal(both.inputs[both.labels == 6], DATA.inputs[DATA.labels == 0].flip(2))
    assert not set(both.domains[:6].tolist()) & set(both.domains[6:].tolist())


def test_a_selection_is_renumbered_in_the_order_given() -> None:
    chosen = DATA.select([4, 1])
    assert chosen.class_names == ("class-4", "class-1")
    assert torch.equal(chosen.inputs[chosen.labels == 0], DATA.inputs[DATA.labels == 4])


def test_the_digest_is_of_the_classes_whatever_their_order() -> None:
    assert DATA.select([0, 1]).digest == DATA.select([1, 0]).digest != DATA.select([0, 2]).digest


def test_a_learner_sees_ink_of_28_pixels() -> None:
    x = model_input(DATA)
    assert x.shape == (24, 1, 28, 28)
    assert float(x.max()) <= 1 + 1e-6


def test_labels_and_names_must_agree() -> None:
    with pytest.raises(DatasetError, match="every class needs an example"):
        ClassDataset("x", torch.zeros(2, 3), torch.tensor([0, 2]), ("a", "b", "c"), torch.zeros(3).long())
