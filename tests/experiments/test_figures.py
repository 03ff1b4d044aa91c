"""Figures are PNG files; without matplotlib the error says what to install."""

import importlib.util
import io

import pytest
from PIL import Image

from experiments import figures
from experiments.errors import ExperimentError


def test_a_figure_becomes_a_png_of_its_size_and_the_same_one_twice() -> None:
    drawn = []
    for _ in range(2):
        figure = figures.new_figure(3, 2)
        figure.subplots().plot([0, 1], [1, 0], label="a line")
        drawn.append(figures.to_png(figure))
    assert drawn[0] == drawn[1]
    picture = Image.open(io.BytesIO(drawn[0]))
    assert (picture.format, picture.size) == ("PNG", (300, 200))


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExperimentError, match=r"pip install -e '\.\[plots\]'"):
        figures.new_figure(3, 2)
