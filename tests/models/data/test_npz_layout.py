"""Layouts of an npz: names, types of labels, axes and ranges of pictures; every guess is shown or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.data import npz_file
from models.data.errors import DatasetFileError, ReadOptions
from tests.models.data.test_npz_file import LABEL, X, npz

GRAY = np.arange(4 * 6 * 5).reshape(4, 6, 5) * 2
COLOUR = np.arange(4 * 6 * 5 * 3).reshape(4, 6, 5, 3) % 256
COLOUR.flat[0] = 255
FIRST = COLOUR.transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("labels", "names", "warned"),
    [
        (LABEL, ["0", "1"], False),
        (np.array(LABEL, "u1"), ["0", "1"], False),
        (np.array(LABEL, ">i4"), ["0", "1"], False),
        (np.array(["b", "b", "a", "a"]), ["a", "b"], False),
        (np.array(LABEL)[:, None], ["0", "1"], True),
        (np.array([b"b", b"b", "ä".encode(), "ä".encode()]), ["b", "ä"], True),
        (np.array([b"b", b"b", b"a", b"a"])[:, None], ["a", "b"], True),
        (np.array(LABEL, "f4"), ["0", "1"], True),
        (np.array(LABEL, "f8")[:, None], ["0", "1"], True),
        (np.array([-1.0, -1.0, 1.0, 1.0], "f2"), ["-1", "1"], True),
        (np.array(LABEL, bool), ["False", "True"], True),
    ],
)
def test_labels_of_any_type_that_names_classes(labels: Any, names: list[str], warned: bool) -> None:
    file = npz(x=X, y=labels)
    found = npz_file.inspect(file)
    assert found.classes == dict.fromkeys(names, 2)
    assert [warning.code for warning in found.warnings] == ["npz_labels_converted"] * warned
    loaded = npz_file.load(file, "v")
    assert loaded.class_names == tuple(names)
    assert sorted(loaded.labels.tolist()) == [0, 0, 1, 1]


@pytest.mark.parametrize("labels", [LABEL, np.array(LABEL, float), np.array(LABEL, bool)])
@pytest.mark.parametrize("names", [["cat", "dog"], [b"cat", b"dog"]])
@pytest.mark.parametrize("key", ["class_name", "class_names", "target_names", "label_names", "classes"])
def test_labels_may_be_positions_of_names(labels: Any, names: list[str] | list[bytes], key: str) -> None:
    assert npz_file.inspect(npz(x=X, y=labels, **{key: names})).classes == {"cat": 2, "dog": 2}


@pytest.mark.parametrize(
    ("inputs", "labels", "others"),
    [
        ("x", "label", ()),
        ("X", "y", ()),
        ("embedding", "label", ()),
        ("embeddings", "labels", ()),
        ("features", "targets", ("feature_names",)),
        ("data", "target", ("feature_names",)),
        ("x_train", "y_train", ("x_test", "y_test")),
        ("X_train", "y_train", ("X_val", "y_val", "X_test", "y_test")),
        ("train_data", "train_labels", ("test_data", "test_labels")),
        ("x", "y", ("x_test", "y_test", "note")),
        ("x_test", "y_test", ()),
    ],
)
def test_arrays_are_known_by_common_names(inputs: str, labels: str, others: tuple[str, ...]) -> None:
    found = npz_file.inspect(npz(**{inputs: X, labels: LABEL}, **dict.fromkeys(others, np.eye(5))))
    assert found.reading is not None
    assert (found.reading.label, found.reading.inputs) == (labels, (inputs,))
    assert (found.shape, found.classes) == ((3,), {"0": 2, "1": 2})
    assert sorted(found.reading.left_out) == sorted(others)
    left_out = [warning for warning in found.warnings if warning.code == "npz_left_out"]
    assert [(warning.count, sorted(warning.examples)) for warning in left_out] == (
        [(len(others), sorted(others))] if others else []
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_that_is_asked_for_is_read(split: str) -> None:
    arrays = {"x_train": X, "y_train": LABEL, "x_test": X[:2] + 1, "y_test": [0, 1]}
    found = npz_file.inspect(npz(**arrays), split)
    assert found.examples == {"train": 4, "test": 2}[split]


@pytest.mark.parametrize(
    ("name", "pictures", "pixels", "warned"),
    [
        ("image", GRAY.astype("u1"), GRAY, []),
        ("image", COLOUR.astype("u1"), COLOUR, []),
        ("images", GRAY.astype("u1")[..., None], GRAY[..., None], []),
        ("images", FIRST.astype("u1"), COLOUR, ["npz_pictures"]),
        ("x", GRAY.astype("u1"), GRAY, ["npz_pictures"]),
        ("x_train", GRAY.astype("u1")[:, None], GRAY[..., None], ["npz_pictures"]),
        ("images", FIRST / 255, COLOUR, ["npz_pictures", "npz_scaled"]),
        ("images", (COLOUR / 255).astype("f4"), COLOUR, ["npz_scaled"]),
        ("images", np.asfortranarray(FIRST / 255), COLOUR, ["npz_pictures", "npz_scaled"]),
        ("images", COLOUR.astype("f8"), COLOUR, ["npz_scaled"]),
        ("images", COLOUR.astype("f8") - 0.25 * (COLOUR > 0), COLOUR, ["npz_scaled"]),
        ("images", COLOUR.astype(">i8"), COLOUR, ["npz_scaled"]),
        ("images", GRAY % 2 == 0, 255 * (GRAY % 2 == 0), ["npz_scaled"]),
        ("images", (GRAY // 2 % 2).astype("u1"), 255 * (GRAY // 2 % 2), ["npz_scaled"]),
        ("images", np.zeros((4, 6, 5), "u1"), np.zeros((4, 6, 5)), []),
    ],
)
def test_pictures_of_any_axes_and_range(name: str, pictures: Any, pixels: Any, warned: list[str]) -> None:
    label = "y_train" if name.endswith("_train") else "y"
    file = npz(**{name: pictures, label: LABEL})
    found = npz_file.inspect(file)
    assert (found.kind, found.shape) == ("image", (6, 5))
    assert [warning.code for warning in found.warnings] == warned
    loaded = npz_file.load(file, "v")
    np.testing.assert_array_equal(loaded.inputs.numpy(), pixels)


@pytest.mark.parametrize(
    ("arrays", "code", "where", "detail"),
    [
        ({"x": X, "data": X, "y": LABEL}, "npz_layout", None, "inputs: x, data"),
        ({"data": X, "images": GRAY, "target": LABEL}, "npz_layout", None, "inputs: data, images"),
        ({"x": X, "y": LABEL, "label": LABEL}, "npz_layout", None, "labels: y, label"),
        ({"arr_0": X, "arr_1": LABEL}, "npz_layout", None, "arr_0, arr_1"),
        ({"x_test": X, "y_test": LABEL, "x_val": X, "y_val": LABEL}, "npz_layout", None, "x_test, y_test"),
        ({"x_train": X, "y": LABEL}, "npz_layout", None, "x_train, y"),
        ({"images": FIRST / 127.5 - 1, "y": LABEL}, "npz_values", "images.npy", "-1 to 1"),
        ({"images": GRAY * 300, "y": LABEL}, "npz_values", "images.npy", "0 to 71400"),
        ({"images": GRAY / 100, "y": LABEL}, "npz_values", "images.npy", "0 to 2.38"),
        ({"images": np.zeros((4, 3, 5, 3)), "y": LABEL}, "npz_shape", "images.npy", "only one can be"),
        ({"images": np.zeros((4, 1, 5, 1)), "y": LABEL}, "npz_shape", "images.npy", "only one can be"),
        ({"images": np.zeros((4, 5, 5, 4)), "y": LABEL}, "npz_shape", "images.npy", "[n, 1 or 3,"),
        ({"images": X, "y": LABEL}, "npz_shape", "images.npy", "[n, height, width]"),
        ({"x": np.zeros((4, 50, 3)), "y": LABEL}, "npz_shape", "x.npy", "a name such as image"),
        ({"embedding": GRAY, "y": LABEL}, "npz_shape", "embedding.npy", "[n, d]"),
        ({"x": X, "y": np.eye(4)}, "npz_shape", "y.npy", "argmax"),
        ({"x": X, "y": [0, 0.5, 1, 1]}, "npz_dtype", "y.npy", "fractions"),
        ({"x": X, "y": [0, np.nan, 1, 1]}, "npz_dtype", "y.npy", "not finite"),
        ({"x": X, "y": np.array([1, 2, 1, 2], complex)}, "npz_dtype", "y.npy", "whole numbers"),
        ({"x": X, "y": np.array([b"\xff", b"a", b"a", b"a"])}, "npz_labels", "y.npy", "UTF-8"),
        ({"x": X, "y": np.array(["a", "b"] * 2, object)}, "npz_pickle", "y.npy", "astype(str)"),
    ],
)
def test_what_is_not_plain_is_refused_with_the_candidates(
    arrays: dict[str, Any], code: str, where: str | None, detail: str
) -> None:
    with pytest.raises(DatasetFileError) as caught:
        npz_file.inspect(npz(**arrays))
    assert (caught.value.code, caught.value.where) == (code, where)
    assert detail in caught.value.detail


@pytest.mark.parametrize(
    ("names", "label", "inputs"),
    [(("arr_0", "arr_1"), "arr_1", "arr_0"), (("x", "coarse"), "coarse", "x"), (("x", "y"), "y", "x")],
)
def test_a_chosen_array_holds_the_labels(names: tuple[str, str], label: str, inputs: str) -> None:
    options = ReadOptions(label=label)
    file = npz(**{names[0]: X, names[1]: LABEL}, other=np.eye(7))
    found = npz_file.inspect(file, options=options)
    assert found.reading is not None
    assert (found.reading.label, found.reading.inputs) == (label, (inputs,))
    np.testing.assert_array_equal(npz_file.load(file, "v", options=options).inputs.numpy(), X)


def test_a_chosen_array_that_does_not_exist_lists_the_arrays() -> None:
    with pytest.raises(DatasetFileError, match="it holds x, y") as caught:
        npz_file.inspect(npz(x=X, y=LABEL), options=ReadOptions(label="z"))
    assert caught.value.code == "unknown_label_column"
