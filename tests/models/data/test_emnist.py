"""The 62 classes of EMNIST ByClass, split by their index."""

from pathlib import Path

import numpy as np
import pytest

from models.data import emnist
from models.data.dataset import DatasetError, model_input
from models.data.emnist import CLASSES, merged


def write(path: Path, classes: int = 62, side: int = 28) -> Path:
    labels = np.repeat(np.arange(classes, dtype=np.uint8), 3)
    pictures = np.zeros((len(labels), side, side), np.uint8)
    pictures[:, 0, 0] = labels
    np.savez(path, image=pictures, label=labels)
    return path


def test_pitfall_17_even_classes_validate_and_odd_ones_test(tmp_path: Path) -> None:
    file = write(tmp_path / "emnist.npz")
    validation, test = (emnist.load(file, split) for split in ("validation", "test"))
    assert "".join(validation.class_names) == CLASSES[::2]
    assert "".join(test.class_names) == CLASSES[1::2]
    assert len(test.class_names) == 31
    assert {"P", "p", "1", "l"} <= {*validation.class_names, *test.class_names}
    # Each picture carries its class in a corner.
    assert test.inputs[:, 0, 0].tolist() == [CLASSES.index(test.class_names[label]) for label in test.labels]


@pytest.mark.parametrize("inverted", [False, True])
def test_pitfall_16_pictures_are_read_upright_and_of_either_polarity(tmp_path: Path, inverted: bool) -> None:
    """torchvision's EMNIST lies on its side; an L that stands in the file stands before the encoder, as ink."""
    letter = np.zeros((28, 28), np.uint8)
    letter[4:24, 6:9] = letter[21:24, 6:20] = 255
    labels = np.repeat(np.arange(62, dtype=np.uint8), 2)
    pictures = np.repeat((255 - letter if inverted else letter)[None], len(labels), axis=0)
    np.savez(tmp_path / "emnist.npz", image=pictures, label=labels)
    read = model_input(emnist.load(tmp_path / "emnist.npz", "test"))[0, 0]
    assert read[4:24, 6:9].mean() > 0.9, "the stem of the L is upright"
    assert read[4:20, 12:20].mean() < 0.1, "and its foot is at the bottom"


@pytest.mark.parametrize(
    ("classes", "side", "said"), [(61, 28, "each of the 62"), (62, 32, r"\[n, 28, 28\]")]
)
def test_another_file_is_refused(tmp_path: Path, classes: int, side: int, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        emnist.load(write(tmp_path / "other.npz", classes, side), "test")


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"x\.npz"):
        emnist.load(tmp_path / "x.npz", "test")
    with pytest.raises(DatasetError, match="no split"):
        emnist.load(tmp_path / "x.npz", "novel")


def test_case_and_l_and_1_are_one_where_they_are_merged() -> None:
    assert merged("p") == merged("P") != merged("b")
    assert merged("l") == merged("1")
    assert merged("L") != merged("l")
