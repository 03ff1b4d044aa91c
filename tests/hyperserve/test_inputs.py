"""User data becomes JSON inputs, or an error that names the class and the example."""

import base64
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from hyperserve import inputs

PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def opened(wire: inputs.Wire) -> Image.Image:
    assert list(wire) == ["image"]
    image = Image.open(BytesIO(base64.b64decode(wire["image"], validate=True)))
    image.load()
    return image


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_sends_the_bytes_of_its_file(tmp_path: Path, kind: type) -> None:
    (tmp_path / "a.jpg").write_bytes(b"any bytes")
    assert inputs.encode(kind(tmp_path / "a.jpg")) == {"image": base64.b64encode(b"any bytes").decode()}


@pytest.mark.parametrize("data", [b"xyz", bytearray(b"xyz"), memoryview(b"xyz"), BytesIO(b"xyz")])
def test_bytes_and_open_files_are_images(data: Any) -> None:
    assert inputs.encode(data) == {"image": "eHl6"}


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "CMYK", "YCbCr", "F", "PA"]
)
def test_a_pil_image_of_any_mode_is_sent_as_png(mode: str) -> None:
    image = opened(inputs.encode(Image.new(mode, (5, 7))))
    assert (image.format, image.size) == ("PNG", (5, 7))


def test_a_pil_image_keeps_its_orientation_and_nothing_else_of_its_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker of the camera"
    Image.fromarray(PIXELS).resize((40, 30)).save(tmp_path / "sideways.jpg", exif=exif, quality=100)
    with Image.open(tmp_path / "sideways.jpg") as photo:
        sent = opened(inputs.encode(photo))
        assert dict(sent.getexif()) == {0x0112: 6}
        assert ImageOps.exif_transpose(sent).tobytes() == ImageOps.exif_transpose(photo).tobytes()


@pytest.mark.parametrize("array", [PIXELS, torch.from_numpy(PIXELS), PIXELS[:, :, None], PIXELS.T.copy().T])
def test_a_uint8_array_is_an_image(array: Any) -> None:
    assert np.array_equal(np.asarray(opened(inputs.encode(array))), PIXELS)


@pytest.mark.parametrize(("channels", "mode"), [(2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_channels_come_last(channels: int, mode: str) -> None:
    assert opened(inputs.encode(np.zeros((6, 5, channels), np.uint8))).mode == mode


@pytest.mark.parametrize(
    "vector",
    [
        [1, 2.5],
        (1, 2.5),
        np.array([1, 2.5]),
        np.array([1, 2.5], np.float16),
        torch.tensor([1, 2.5], requires_grad=True),
        torch.tensor([1, 2.5], dtype=torch.bfloat16),
        [np.float32(1), np.float64(2.5)],
        {"vector": [1, 2.5]},
    ],
)
def test_numbers_are_a_vector(vector: Any) -> None:
    assert inputs.encode(vector) == {"vector": [1.0, 2.5]}


def test_inputs_of_the_wire_pass() -> None:
    assert inputs.encode({"text": "hello"}) == {"text": "hello"}
    assert inputs.encode({"image": "eHl6"}) == {"image": "eHl6"}


def test_support_is_a_map_of_classes_or_pairs_in_order() -> None:
    vector = {"vector": [1.0]}
    assert inputs.support({"cat": [[1], [1]], "dog": ([1],)}) == {"cat": [vector, vector], "dog": [vector]}
    pairs = [([1], "dog"), ([1], "cat"), ([1], "dog")]
    assert inputs.support(pairs) == [{"input": vector, "label": label} for label in ("dog", "cat", "dog")]


def test_the_first_axis_of_a_batch_counts_inputs() -> None:
    assert inputs.queries(np.eye(2)) == [{"vector": [1.0, 0.0]}, {"vector": [0.0, 1.0]}]
    assert len(inputs.queries(np.zeros((3, 28, 28), np.uint8))) == 3
    assert len(inputs.queries(np.zeros((3, 28, 28, 3), np.uint8))) == 3


@pytest.mark.parametrize("number", [7, np.int64(7), np.uint8(7), np.array(7), torch.tensor(7)])
def test_a_whole_number_is_a_label(number: Any) -> None:
    vector = {"vector": [1.0]}
    assert inputs.support([([1], number), ([1], number)]) == [{"input": vector, "label": "7"}] * 2
    assert inputs.support([([1], number)], "regression") == [{"input": vector, "target": [7.0]}]
    assert inputs.label_or_target(number, kind="classification") == {"label": "7"}
    assert inputs.label_or_target(number) == {"target": [7.0]}


def test_whole_numbers_are_keys_of_classes() -> None:
    vector = {"vector": [1.0]}
    assert inputs.support({0: [[1]], np.int64(1): [[1]]}) == {"0": [vector], "1": [vector]}


@pytest.mark.parametrize(
    ("support", "error", "message"),
    [
        (
            {"cat": ["nowhere.png"]},
            ValueError,
            "class 'cat', example 0: cannot read 'nowhere.png': No such file",
        ),
        ({"cat": [[1], "a" * 5000]}, ValueError, "class 'cat', example 1: cannot read"),
        ({"cat": ["\0"]}, ValueError, "class 'cat', example 0: cannot read"),
        ({"cat": [[1], [1, float("nan")]]}, ValueError, "class 'cat', example 1: nan at 1 is not finite"),
        ({"cat": [[10**400]]}, ValueError, "class 'cat', example 0: inf at 0 is not finite"),
        ({"cat": [[1, "2"]]}, TypeError, "class 'cat', example 0: a vector must hold numbers, not str at 1"),
        ({"cat": [[True]]}, TypeError, "class 'cat', example 0: a vector must hold numbers, not bool at 0"),
        ({"cat": [1.0, 2.0]}, TypeError, "class 'cat', example 0: float is not an input"),
        ({"cat": [None]}, TypeError, "class 'cat', example 0: NoneType is not an input"),
        ({"cat": "one.png"}, TypeError, "class 'cat': expected a list of inputs, not a single str"),
        ({"cat": b"png"}, TypeError, "class 'cat': expected a list of inputs, not a single bytes"),
        ({"cat": PIXELS}, TypeError, "class 'cat': expected a list of inputs, not a single ndarray"),
        (
            {"cat": Image.new("L", (2, 2))},
            TypeError,
            "class 'cat': expected a list of inputs, not a single Image",
        ),
        ({"cat": 7}, TypeError, "class 'cat': expected a list of inputs, not a single int"),
        ({"cat": [PIXELS / 255]}, TypeError, "class 'cat', example 0: .* uint8 .*, not float64"),
        (
            {"cat": [np.zeros((3, 8, 8), np.uint8)]},
            ValueError,
            "class 'cat', example 0: .* not \\(3, 8, 8\\)",
        ),
        (
            {"cat": [np.zeros((0, 8), np.uint8)]},
            ValueError,
            "class 'cat', example 0: 0 bytes do not make an image",
        ),
        (
            {"cat": [np.array(["a"])]},
            TypeError,
            "class 'cat', example 0: a vector must hold numbers, not str at 0",
        ),
        ({"cat": [{"picture": "x"}]}, ValueError, "class 'cat', example 0: a mapping must be"),
        ({"cat": [{"image": b"x"}]}, ValueError, "class 'cat', example 0: a mapping must be"),
        ({"cat": [{"text": "x", "image": "y"}]}, ValueError, "class 'cat', example 0: a mapping must be"),
        ({3.5: [[1]]}, TypeError, "class 3.5: a label must be a string or a whole number, not float"),
        ({3: [[1]], "3": [[1]]}, ValueError, "class '3': class 3 has the same label, '3'"),
        (
            {"\u00e4": [[1]], "a\u0308": [[1]]},
            ValueError,
            "class 'a\u0308': class '\u00e4' has the same label",
        ),
        ([[1], [2]], TypeError, "support example 0: expected an (input, label)"),
        ([([1], "cat"), ([1], 3.0)], TypeError, "class 3.0: a label must be a string or a whole number"),
        ([([1], True)], TypeError, "class True: a label must be a string or a whole number, not bool"),
        ([([1], "cat"), (None, "cat")], TypeError, "support example 1 \\('cat'\\): NoneType is not an input"),
        ("one.png", TypeError, "support: expected a list of inputs, not a single str"),
    ],
)
def test_what_is_no_input_is_named(support: Any, error: type[Exception], message: str) -> None:
    pattern = message if "\\" in message or ".*" in message else re.escape(message)
    with pytest.raises(error, match=f"^{pattern}"):
        inputs.support(support)


def test_a_text_file_handle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("x")
    with (
        (tmp_path / "a.png").open() as file,
        pytest.raises(TypeError, match="query 0: open the file in binary"),
    ):
        inputs.queries([file])
