"""Examples as they arrive: the same for folder, zip and npz, drawn by a seed, and data sets found in a folder."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.data.dataset import DatasetError
from models.data.examples import RawExamples, data_sets, open_examples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three grey pictures of different sizes, and a document."""
    rng = np.random.default_rng(0)
    for name in ("b", "a"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (20 + number, 24), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{number}.png")
    (tmp_path / "set" / "README.md").write_text("x")
    return tmp_path / "set"


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder))
    return path


def of_counts(*counts: int) -> RawExamples:
    labels = np.arange(len(counts)).repeat(counts)
    stored = list(np.arange(len(labels), dtype=np.float32)[:, None])
    names = tuple(f"c{one}" for one in range(len(counts)))
    return RawExamples("made", "vector", stored, labels, names, lambda x: x, lambda x: x.tobytes())


def test_a_folder_and_its_zip_have_the_same_pixels(folder: Path) -> None:
    with open_examples(folder) as plain, open_examples(zipped(folder)) as packed:
        for found in (plain, packed):
            assert found.class_names == ("a", "b")
            assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
            assert found.kind == "image"
        pairs = list(zip(plain.decoded(), packed.decoded(), strict=True))
    assert [one.shape for one, _ in pairs] == [(20, 24, 1), (21, 24, 1), (22, 24, 1)] * 2
    assert all((one == other).all() for one, other in pairs)


def test_arrays_are_read_by_their_split(tmp_path: Path) -> None:
    x, y = np.arange(12.0).reshape(6, 2), np.array([0, 1] * 3)
    np.savez(tmp_path / "v.npz", x_train=x, y_train=y, x_test=-x[:4], y_test=y[:4])
    with open_examples(tmp_path / "v.npz", "test") as found:
        assert (found.kind, len(found)) == ("vector", 4)
        assert np.stack(list(found.decoded())).min() == -7


def test_a_picture_that_cannot_be_decoded_is_named(folder: Path) -> None:
    (folder / "a" / "9.png").write_bytes(b"no picture")
    with open_examples(folder) as found, pytest.raises(DatasetError, match=r"9\.png: "):
        list(found.decoded())
    with (
        open_examples(zipped(folder)) as found,
        pytest.raises(DatasetError, match=r"set\.zip: a/9\.png: "),
    ):
        list(found.decoded())


def test_large_classes_are_cut_to_one_size_and_small_ones_stay() -> None:
    whole = of_counts(500, 30, 200)
    used = whole.drawn(130, seed=3)
    assert used.counts.tolist() == [50, 30, 50]
    assert used.class_names == whole.class_names
    assert all(whole.labels[int(x[0])] == y for x, y in zip(used.decoded(), used.labels, strict=True))
    assert used.digest == whole.drawn(130, seed=3).digest != whole.drawn(130, seed=4).digest
    assert whole.drawn(730, seed=3) is whole


def test_classes_are_left_out_before_they_become_too_small() -> None:
    used = of_counts(*[40] * 10).drawn(100, seed=0)
    assert used.counts.tolist() == [25] * 4
    assert len(set(used.class_names)) == 4


def test_a_folder_is_one_data_set_or_holds_several(folder: Path) -> None:
    archive = zipped(folder)
    (folder.parent / "notes.txt").write_text("x")
    (folder.parent / ".hidden.csv").write_text("x")
    assert data_sets(folder) == [folder]
    assert data_sets(archive) == [archive]
    assert data_sets(folder.parent) == [folder, archive]


def test_what_is_no_data_set_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file or folder"):
        data_sets(tmp_path / "none")
    with pytest.raises(DatasetError, match="neither class folders"):
        data_sets(tmp_path)
    (tmp_path / "one" / "only").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "one" / "only" / "1.png")
    assert data_sets(tmp_path / "one") == [tmp_path / "one"]
    with pytest.raises(DatasetError, match="1 class folders"), open_examples(tmp_path / "one"):
        pass
