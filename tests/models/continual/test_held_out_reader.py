"""A file's examples are what its inputs would be as queries."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from models.continual.held_out import read_examples
from models.data.errors import DatasetFileError
from models.inputs import ImageBytes, ImageInput, PhotoInput, VectorInput
from tests.models.data.archives import folders, picture, zipped


def stored(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("spec", [ImageInput(), ImageInput(size=20, crop=True), PhotoInput(size=16)])
def test_pictures_of_an_archive(tmp_path: Path, spec: ImageInput | PhotoInput) -> None:
    path = stored(tmp_path, "x.zip", zipped(folders(classes=3, examples=2)).getvalue())
    x, y = read_examples(path, "zip", spec, ("class-2", "class-0"))
    assert y.tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    for index, tilt in enumerate((0, 1) if y[0] == 1 else (6, 7)):
        decoded = torch.from_numpy(spec.decode(ImageBytes(picture(tilt))))
        assert_close(x[index], decoded, atol=0.51 / 255, rtol=0)


@pytest.mark.parametrize("spec", [ImageInput(), ImageInput(size=20), PhotoInput(size=16)])
def test_pictures_of_arrays(tmp_path: Path, spec: ImageInput | PhotoInput) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 24, 24), dtype=np.uint8)
    path = stored(tmp_path, "x.npz", npz(image=image, label=np.array(["a", "a", "b", "b"])))
    x, y = read_examples(path, "npz", spec, ("b", "a"))
    assert (x.shape, y.tolist()) == ((4, spec.channels, spec.size, spec.size), [1, 1, 0, 0])


def test_vectors(tmp_path: Path) -> None:
    path = stored(tmp_path, "x.csv", b"a,1,2\nb,3,4\nc,5,6\n")
    x, y = read_examples(path, "csv", VectorInput(dim=2), ("c", "a"))
    assert dict(zip(y.tolist(), x.tolist(), strict=True)) == {0: [5.0, 6.0], 1: [1.0, 2.0]}


@pytest.mark.parametrize(
    ("spec", "labels", "code"),
    [
        (VectorInput(dim=3), ("a", "b"), "dataset_mismatch"),
        (ImageInput(), ("a", "b"), "dataset_mismatch"),
        (VectorInput(dim=2), ("a", "z"), "unknown_class"),
    ],
)
def test_what_the_stream_does_not_take(tmp_path: Path, spec: Any, labels: tuple[str, ...], code: str) -> None:
    path = stored(tmp_path, "x.csv", b"a,1,2\nb,3,4\n")
    with pytest.raises(DatasetFileError) as caught:
        read_examples(path, "csv", spec, labels)
    assert caught.value.code == code
