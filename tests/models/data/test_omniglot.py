"""The loader reads what users have: the authors' archives, their folders, or an npz. Pictures are made here."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.data import omniglot
from models.data.dataset import DatasetError
from models.errors import DownloadError

NAMES = {
    "images_background": ["Latin/character01", "Greek/character01", "Greek/character02"],
    "images_evaluation": ["Angelic/character01", "Manipuri/character02"],
}


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).random((105, 105)) < 0.9
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8) * 255).convert("1").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    for archive, names in NAMES.items():
        with zipfile.ZipFile(tmp_path / f"{archive}.zip", "w") as pack:
            for index, name in enumerate(names):
                for drawer in range(3):
                    pack.writestr(
                        f"{archive}/{name}/{index:04d}_{drawer:02d}.png", picture(10 * index + drawer)
                    )
    return tmp_path


def test_archives_and_their_folders_are_the_same(archives: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "unpacked"
    for archive in NAMES:
        zipfile.ZipFile(archives / f"{archive}.zip").extractall(unpacked)
    packed, folders = omniglot.load(archives), omniglot.load(unpacked)
    assert packed.class_names == folders.class_names
    assert (packed.inputs == folders.inputs).all()
    assert packed.inputs.shape == (15, 105, 105)


def test_splits_follow_the_published_lists(archives: Path) -> None:
    def names(split: str) -> set[str]:
        return set(omniglot.load(archives, split).class_names)

    assert names("all") == {name for group in NAMES.values() for name in group}
    assert names("no-latin") == names("all") - {"Latin/character01"}
    assert names("background") == set(NAMES["images_background"])
    assert names("evaluation") == set(NAMES["images_evaluation"])
    with pytest.raises(DatasetError, match="no split 'val'"):
        omniglot.load(archives, "val")


def test_the_vinyals_split_has_its_published_sizes() -> None:
    table = omniglot._table()
    sizes = {name: sum(map(len, table[name].values())) for name in ("validation", "test")}
    assert sizes == {"validation": 172, "test": 423}
    assert len(table["evaluation_alphabets"]) == 20


def test_an_npz_of_ink_masks_reads_as_published_pictures(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((4, 105, 105)) < 0.1
    file = tmp_path / "masks.npz"
    np.savez(
        file,
        bits=np.packbits(masks.reshape(4, -1), axis=1),
        label=[0, 0, 1, 1],
        class_name=["Greek/character01", "Latin/character02"],
    )
    data = omniglot.load(file)
    assert (data.inputs.numpy() == np.where(masks, 0, 255)).all(), "dark ink on white"


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="images_background"):
        omniglot.load(tmp_path)
    np.savez(tmp_path / "bad.npz", x=[1])
    with pytest.raises(DatasetError, match="needs label"):
        omniglot.load(tmp_path / "bad.npz")


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "socks4://x", "http://[x"])
def test_a_download_that_fails_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(
        DownloadError, match=r"^Omniglot cannot be downloaded from https?://.+; give it by --data$"
    ):
        omniglot.load()
