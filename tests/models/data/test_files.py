from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.data import files
from models.data.dataset import DatasetError, model_input
from models.data.errors import ReadOptions
from models.inputs import PhotoInput
from tests.models.data.archives import zipped


def write_classes(root: Path, count: int = 6) -> Path:
    for index in range(count):
        folder = root / f"class{index}"
        folder.mkdir(parents=True)
        for example in range(2):
            pixels = np.full((40, 30, 3), 255, np.uint8)
            pixels[5 + index : 9 + index, 5:25] = 20 * example
            Image.fromarray(pixels).save(folder / f"{example}.png")
    return root


def test_a_folder_of_class_folders_becomes_ink(tmp_path: Path) -> None:
    data = files.load(write_classes(tmp_path))
    assert data.class_names == tuple(f"class{index}" for index in range(6))
    assert data.inputs.shape == (12, 56, 56)
    assert int(data.inputs.max()) == 255


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    root = write_classes(tmp_path)
    (root / "class3" / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match=r"class3/bad\.png"):
        files.load(root)


def test_leftovers_and_documents_are_no_pictures(tmp_path: Path) -> None:
    root = write_classes(tmp_path, 2)
    for name in (
        "class0/.DS_Store",
        "class0/._0.png",
        "class1/notes.txt",
        "README.md",
        ".git/0.png",
        "docs/a.md",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"text")
    assert files.load(root).counts == {"class0": 2, "class1": 2}


def test_labels_of_folders_are_in_nfc(tmp_path: Path) -> None:
    root = write_classes(tmp_path, 2)
    (root / "class0").rename(root / "A\u0308pfel")
    assert set(files.load(root).class_names) == {"\u00c4pfel", "class1"}
    (root / "class1").rename(root / "\u00c4pfel")
    with pytest.raises(DatasetError, match="NFC"):
        files.load(root)


def test_an_npz_of_vectors_keeps_names_and_splits(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "v.npz",
        test_x=np.eye(4, dtype=np.float32),
        test_label=[2, 2, 5, 5],
        class_name=list("abcdef"),
    )
    data = files.load(tmp_path / "v.npz", "test")
    assert data.class_names == ("c", "f")
    assert data.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [({"x": np.eye(2)}, "needs label"), ({"x": np.array([[np.nan], [1]]), "label": [0, 1]}, "not finite")],
)
def test_an_npz_that_cannot_be_used_says_why(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    np.savez(tmp_path / "v.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=message):
        files.load(tmp_path / "v.npz")


def test_a_report_says_how_a_file_was_read(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(",x,y,species\n0,1,2,a\n1,3,4,b\n")
    reading, index = files.reading_report(tmp_path / "v.csv")
    assert reading == "v.csv: the labels are species, the inputs x, y"
    assert index.endswith("(column 0, without a name)")
    assert files.reading_report(tmp_path) == []
    (tmp_path / "v.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(DatasetError, match=r"v\.csv: label: .* Candidates: a, b"):
        files.reading_report(tmp_path / "v.csv")


def test_options_say_how_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("a,q\n1.5,0\n2.5,1\n")
    with pytest.raises(DatasetError, match="Candidates: a, q"):
        files.load(tmp_path / "v.csv")
    data = files.from_file(tmp_path / "v.csv", "csv", "v", options=ReadOptions(label="q"))
    assert (data.class_names, data.inputs.tolist()) == (("0", "1"), [[1.5], [2.5]])


def test_classes_are_split_without_overlap(tmp_path: Path) -> None:
    train, validation = files.split_classes(files.load(write_classes(tmp_path, 12)), 0.25, seed=0)
    assert len(train.class_names) == 9
    assert not set(train.class_names) & set(validation.class_names)
    with pytest.raises(DatasetError, match="too few"):
        files.split_classes(validation, 0.5, seed=0)


@pytest.mark.parametrize("how", ["folder", "zip"])
def test_pictures_are_kept_in_colour_where_that_is_asked(tmp_path: Path, how: str) -> None:
    root = write_classes(tmp_path / "classes")
    path = root
    if how == "zip":
        path = tmp_path / "classes.zip"
        members = {f"{file.relative_to(root)}": file.read_bytes() for file in root.glob("*/*.png")}
        path.write_bytes(zipped(members).getvalue())
    data = files.load(path, pictures=PhotoInput())
    assert (data.inputs.shape, data.inputs.dtype) == ((12, 32, 32, 3), torch.uint8)
    assert int(data.inputs.max()) == 255


def test_pictures_of_an_npz_stay_and_become_photos_or_ink(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 40, 50, 3), dtype=np.uint8)
    np.savez(tmp_path / "v.npz", image=pixels, label=[0, 0, 1, 1])
    data = files.load(tmp_path / "v.npz")
    assert data.photos(32).inputs.shape == (4, 32, 32, 3)
    assert data.glyphs().inputs.shape == (4, 56, 56)
    same = data.photos(32)
    assert same.photos(32) is same
    kept = model_input(same, PhotoInput())
    torch.testing.assert_close(kept, model_input(data, PhotoInput()), atol=0.5 / 255 + 1e-6, rtol=0)
