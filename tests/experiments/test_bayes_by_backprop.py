"""The MNIST protocol on small drawings made here: what it reports, and that it reads no test digit to train."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from experiments.bayes_by_backprop import PRUNED, evaluate
from experiments.bayes_by_backprop_training import VariationalConfig
from models.data import mnist
from models.data.dataset import DatasetError
from models.data.mnist import Digits

CONFIG = VariationalConfig(units=16, layers=1, epochs=8, batch=50, lr=1e-2)


def drawings(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bar whose row is the digit, on noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.uint8)
    images = rng.integers(0, 60, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 4 : 2 * label + 6] = 255
    return images, labels


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (train_x, train_y), (test_x, test_y) = drawings(400, 0), drawings(100, 1)
    path = tmp_path_factory.mktemp("mnist") / "digits.npz"
    np.savez(path, train_image=train_x, train_label=train_y, test_image=test_x, test_label=test_y)
    return path


@pytest.fixture(scope="module")
def digits(file: Path) -> Digits:
    return mnist.load(file)


def test_digits_are_read_by_either_naming(file: Path, digits: Digits, tmp_path: Path) -> None:
    assert digits.train_x.shape == (400, 28, 28)
    assert float(digits.train_x.max()) == 1
    with np.load(file) as archive:
        names = {
            "x_train": "train_image",
            "y_train": "train_label",
            "x_test": "test_image",
            "y_test": "test_label",
        }
        np.savez(tmp_path / "keras.npz", **{new: archive[old] for new, old in names.items()})
    again = mnist.load(tmp_path / "keras.npz")
    assert_close(again.test_x, digits.test_x)
    assert again.test_y.equal(digits.test_y)


def test_held_out_digits_are_training_digits(digits: Digits) -> None:
    held = digits.held_out(100)
    assert len(held.train_y) == 300
    assert held.test_x.equal(digits.train_x[300:])
    with pytest.raises(DatasetError, match="held out"):
        digits.held_out(400)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    images, labels = drawings(5, 0)
    made = {"train_image": images, "train_label": labels, "test_image": images, "test_label": labels}
    for name, wrong in (
        ("train_image", images[:, :9]),
        ("test_label", labels[:2]),
        ("train_label", labels + 9),
    ):
        np.savez(tmp_path / "wrong.npz", **{**made, name: wrong})
        with pytest.raises(DatasetError, match=r"wrong\.npz"):
            mnist.load(tmp_path / "wrong.npz")
    with pytest.raises(DatasetError, match="train_image"):
        mnist.load(tmp_path / "missing.npz")


def test_error_calibration_pruning_and_entropy_are_reported(digits: Digits) -> None:
    epochs: list[dict[str, float]] = []
    result = evaluate(digits, CONFIG, epochs.append)
    assert len(epochs) == CONFIG.epochs
    mean, averaged = result["answers"]
    assert mean["error_percent"]["mean"] < 20
    assert averaged["error_percent"]["n"] == 100
    assert [row["share_at_0"] for row in result["pruned_by_signal_to_noise"]] == [0.0, *PRUNED]
    assert result["pruned_by_signal_to_noise"][0]["error_percent"] == mean["error_percent"]
    usual, *strange = result["entropy"]
    assert all(row["mutual_information"] <= row["entropy"] for row in result["entropy"])
    assert max(row["auroc_entropy"] for row in strange) > 0.7
    assert usual["entropy"] < max(row["entropy"] for row in strange)


def test_test_digits_take_no_part_in_training(digits: Digits) -> None:
    other = Digits(digits.train_x, digits.train_y, torch.rand(7, 28, 28), torch.arange(7))
    short = CONFIG.model_copy(update={"epochs": 1})
    found = [evaluate(each, short, lambda row: None)["posterior_sha256"] for each in (digits, other)]
    assert found[0] == found[1]
