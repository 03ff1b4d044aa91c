"""Labelled arrays."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

import numpy as np
import pytest

from models.data import npz_file
from models.data.errors import MAX_EXAMPLES, DatasetFileError
from tests.models.data.archives import zipped

LABEL = [0, 0, 1, 1]
X = np.arange(12, dtype=np.float32).reshape(4, 3)
IMAGE = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)


def npz(**arrays: Any) -> io.BytesIO:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8", "<i8", "|u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_vectors_of_any_real_type(dtype: str, order: str) -> None:
    file = npz(x=np.asarray(X, dtype, order=order), label=LABEL)  # type: ignore[call-overload]
    found = npz_file.inspect(file)
    assert (found.kind, found.shape, found.classes) == ("vector", (3,), {"0": 2, "1": 2})
    data = npz_file.load(file, "v")
    np.testing.assert_array_equal(data.inputs.numpy(), X)


def test_pictures_and_names() -> None:
    found = npz_file.inspect(npz(image=IMAGE, label=LABEL, class_name=["cat", "dog"]))
    assert (found.kind, found.shape, found.classes) == ("image", (5, 6), {"cat": 2, "dog": 2})
    assert npz_file.load(npz(image=IMAGE, label=["b", "b", "a", "a"]), "p").labels.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("arrays", "code", "where"),
    [
        ({"x": X}, "npz_layout", None),
        ({"label": LABEL}, "npz_layout", None),
        ({"x": X, "label": LABEL, "extra": np.array([{}], object)}, "npz_pickle", "extra.npy"),
        ({"x": np.array([[1, "a"]] * 4, object), "label": LABEL}, "npz_pickle", "x.npy"),
        ({"x": X.astype(complex), "label": LABEL}, "npz_dtype", "x.npy"),
        ({"x": X.astype(str), "label": LABEL}, "npz_dtype", "x.npy"),
        ({"image": IMAGE.astype(complex), "label": LABEL}, "npz_dtype", "image.npy"),
        ({"x": X, "label": [0.5] * 4}, "npz_dtype", "label.npy"),
        ({"x": X[0], "label": [0, 1, 0]}, "npz_shape", "x.npy"),
        ({"x": X[:, :0], "label": LABEL}, "npz_shape", "x.npy"),
        ({"x": X, "label": LABEL[:3]}, "npz_shape", "label.npy"),
        ({"x": X, "label": [LABEL]}, "npz_shape", "label.npy"),
        ({"x": np.zeros((4, 8193), "f4"), "label": LABEL}, "npz_shape", "x.npy"),
        ({"image": IMAGE[..., None].repeat(4, 3), "label": LABEL}, "npz_shape", "image.npy"),
        ({"x": X * np.nan, "label": LABEL}, "not_finite", "x.npy"),
        ({"x": X.astype(float) * 1e300, "label": LABEL}, "not_finite", "x.npy"),
        ({"x": X, "label": LABEL, "class_name": ["cat"]}, "npz_labels", "class_name.npy"),
        ({"x": X, "label": [-1, -1, 0, 0], "class_name": ["cat", "dog"]}, "npz_labels", "class_name.npy"),
        ({"x": X, "label": LABEL, "class_name": ["cat", "cat"]}, "duplicate_label", "label.npy"),
        ({"x": X, "label": LABEL, "class_name": ["cat", ""]}, "invalid_label", "class_name.npy"),
        ({"x": X, "label": [0] * 4}, "too_few_classes", None),
        ({"x": X[:0], "label": np.zeros(0, int)}, "too_few_classes", None),
    ],
)
def test_the_array_at_fault_is_named(arrays: dict[str, Any], code: str, where: str | None) -> None:
    with pytest.raises(DatasetFileError) as caught:
        npz_file.inspect(npz(**arrays))
    assert (caught.value.code, caught.value.where) == (code, where)


@pytest.mark.parametrize(
    ("member", "code"),
    [
        (b"not an array", "archive_damaged"),
        (b"\x93NUMPY\x01\x00\x10\x00{'shape': (9**9,)", "archive_damaged"),
        (
            b"\x93NUMPY\x01\x00\x46\x00"
            + b"{'descr': '<f4', 'fortran_order': False, 'shape': (9, 9)}".ljust(70),
            "archive_damaged",
        ),
    ],
)
def test_headers_that_lie(member: bytes, code: str) -> None:
    with pytest.raises(DatasetFileError) as caught:
        npz_file.inspect(zipped({"x.npy": member, "label.npy": member}))
    assert (caught.value.code, caught.value.where) == (code, "x.npy")


def array(descr: object, shape: tuple[int, ...], data: bytes) -> bytes:
    """An array that numpy itself would not write."""
    head = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + data


@pytest.mark.parametrize(
    ("descr", "data", "code"),
    [
        ("<U0", b"", "npz_dtype"),
        ("|V0", b"", "npz_dtype"),
        (("<i8", (3,)), bytes(96), "npz_dtype"),
        ([("a", "<i8")], bytes(32), "npz_dtype"),
        ("<U1", b"\x00\x00\x11\x00" * 4, "npz_labels"),
        (">U1", b"\x00\x11\x00\x00" * 4, "npz_labels"),
    ],
)
@pytest.mark.parametrize("name", ["label", "class_name"])
def test_types_that_hold_no_labels(descr: object, data: bytes, code: str, name: str) -> None:
    members = {"x": array("<f4", (4, 3), X.tobytes()), "label": array("<i8", (4,), np.array(LABEL).tobytes())}
    members[name] = array(descr, (4,), data)
    with pytest.raises(DatasetFileError) as caught:
        npz_file.inspect(zipped({f"{key}.npy": value for key, value in members.items()}))
    assert (caught.value.code, caught.value.where) == (code, f"{name}.npy")


def test_a_long_header_is_not_read() -> None:
    header = b"\x93NUMPY\x02\x00" + (12 << 20).to_bytes(4, "little") + bytes(12 << 20)
    tracemalloc.start()
    with pytest.raises(DatasetFileError) as caught:
        npz_file.inspect(zipped({"x.npy": header}))
    assert caught.value.code == "archive_damaged"
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_many_labels_are_not_sorted() -> None:
    many = MAX_EXAMPLES + 1
    with pytest.raises(DatasetFileError) as caught:
        npz_file.inspect(npz(x=np.zeros((many, 1), "u1"), label=np.zeros(many, "u1")))
    assert caught.value.code == "dataset_too_many_examples"


def test_other_members_are_refused() -> None:
    with pytest.raises(DatasetFileError) as caught:
        npz_file.inspect(zipped({"run.sh": b""}))
    assert caught.value.code == "npz_layout"
