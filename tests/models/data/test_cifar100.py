"""CIFAR-100 out of the files of CIFAR-FS: whole classes only, in their own training and test pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.data import cifar100
from models.data.cifar100 import Pictures
from models.data.dataset import DatasetError
from tests.models.data.test_cifarfs import write


def flags(*counts: int) -> np.ndarray:
    """Mark 100 test pictures of each class, every other one from the start."""
    found = np.zeros((len(counts), max(counts)), np.uint8)
    found[:, 0:200:2] = 1
    return np.concatenate([row[:count] for row, count in zip(found, counts, strict=True)])


def folder(path: Path) -> Path:
    """pear and kiwi are whole, fig and yam are not. Pixels say a class's number in its file and a picture's."""
    write(path / "cifarfs_train.npz", (100, 100), ("pear", "fig"), from_cifar_test=flags(100, 100))
    rest = np.tile((np.arange(500) < 50).astype(np.uint8), 2)[:-200]
    write(path / "cifarfs_train_rest.npz", (500, 300), ("pear", "fig"), from_cifar_test=rest)
    write(path / "cifarfs_test.npz", (600, 250), ("kiwi", "yam"), from_cifar_test=flags(600, 250))
    return path


def small() -> Pictures:
    """Three classes, five training pictures of each one after the other; a picture's number is in its first pixel."""
    x = torch.zeros(15, 3, 32, 32, dtype=torch.uint8)
    x[:, 0, 0, 0] = torch.arange(15)
    return Pictures(x, torch.arange(15) % 3, x[:3], torch.arange(3), ("a", "b", "c"))


def test_whole_classes_are_taken_in_the_order_of_their_names(tmp_path: Path) -> None:
    found = cifar100.load(folder(tmp_path))
    assert found.names == ("kiwi", "pear")
    assert found.train_x.shape == (1000, 3, 32, 32)
    assert found.train_y.bincount().tolist() == [500, 500]
    assert found.test_y.bincount().tolist() == [100, 100]
    # Of kiwi, the first class of its file, pictures 0, 2, …, 198 are test pictures.
    assert found.test_x[found.test_y == 0, :, 5, 5].tolist() == [[0, n, 7] for n in range(0, 200, 2)]


def test_what_is_held_out_are_the_last_training_pictures_of_each_class() -> None:
    held = small().held_out(6)
    assert held.test_x[:, 0, 0, 0].tolist() == list(range(9, 15))
    assert held.test_y.tolist() == [0, 1, 2] * 2
    assert held.train_x[:, 0, 0, 0].tolist() == list(range(9))
    for count in (2, 15):
        with pytest.raises(DatasetError, match="cannot be held out"):
            small().held_out(count)


def test_files_that_are_missing_or_say_too_little_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no cifarfs_train\.npz"):
        cifar100.load(tmp_path)
    write(tmp_path / "cifarfs_train.npz")
    write(tmp_path / "cifarfs_test.npz")
    with pytest.raises(DatasetError, match="need from_cifar_test"):
        cifar100.load(tmp_path)
    for split in ("train", "test"):
        write(tmp_path / f"cifarfs_{split}.npz", from_cifar_test=np.zeros(9, np.uint8))
    with pytest.raises(DatasetError, match=r"cifarfs_train_rest\.npz belongs there"):
        cifar100.load(tmp_path)
    write(tmp_path / "cifarfs_train.npz", from_cifar_test=np.zeros(8, np.uint8))
    with pytest.raises(DatasetError, match="8 flags, not 9"):
        cifar100.load(tmp_path)
