"""`hyperserve evaluate own`: pages, JSON, resumption, several data sets, refusals as one line and status 2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.app.cli.commands import run
from tests.models.glyph_data import glyphs

FAST = ("--tasks", "3", "--jobs", "1")


def own(data: Path, *words: str) -> tuple[int, str]:
    return run("evaluate", "own", "--data", str(data), *FAST, *words)


def table(path: Path, classes: int = 4, examples: int = 9) -> Path:
    rng = np.random.default_rng(2)
    labels = np.arange(classes).repeat(examples)
    rows = rng.standard_normal((classes, 5))[labels] + rng.standard_normal((len(labels), 5))
    lines = [
        f"{label},{','.join(f'{value:.4f}' for value in row)}"
        for label, row in zip(labels, rows, strict=True)
    ]
    path.write_text("\n".join(["label,a,b,c,d,e", *lines]) + "\n")
    return path


def folder(path: Path, classes: int = 3, examples: int = 7) -> Path:
    data = glyphs(classes, examples, side=28)
    for number, (pixels, label) in enumerate(zip(data.inputs, data.labels.tolist(), strict=True)):
        (path / f"c{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - pixels.numpy()).save(path / f"c{label}" / f"{number}.png")
    return path


def test_a_folder_of_data_sets_is_measured_by_the_learners_that_take_each(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    folder(data / "signs")
    table(data / "flowers.csv")
    words = ("--learner", "glyphs", "--learner", "vectors", "--write", str(out))
    code, said = own(data, *words, "--json")
    assert code == 0, said
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    learners = {line["data"]: [name.split()[0] for name in line["learners"]] for line in lines}
    assert learners == {"flowers.csv": ["vectors"], "signs": ["glyphs"]}
    assert sorted(file.name for file in out.iterdir()) == [
        "flowers.json",
        "flowers.md",
        "signs.json",
        "signs.md",
    ]
    assert json.loads((out / "signs.json").read_text()) == lines[1]

    code, said = own(data, *words)
    assert code == 0, said
    assert said.count("measured already") == 2
    assert (out / "flowers.md").read_text() in said
    code, said = own(data, *words, "--seed", "1")
    assert said.count("measured already") == 0
    assert json.loads((out / "signs.json").read_text())["seed"] == 1


def one_class(path: Path) -> Path:
    return folder(path / "one", classes=1)


def one_example_each(path: Path) -> Path:
    return table(path / "small.csv", examples=1)


def a_table(path: Path) -> Path:
    return table(path / "t.csv")


def nothing(path: Path) -> Path:
    return path / "none"


def without_data(path: Path) -> Path:
    return path


@pytest.mark.parametrize(
    ("data", "learner", "message"),
    [
        (nothing, "vectors", "none: no such file or folder"),
        (without_data, "vectors", "neither class folders with pictures nor zips, npz or CSV files in it"),
        (one_class, "glyphs", "1 class folders with pictures; at least 2 are needed"),
        (
            one_example_each,
            "vectors",
            "small.csv: no task can be drawn: fewer than 2 classes have 2 examples",
        ),
        (a_table, "glyphs", "glyphs takes images, t.csv holds vectors"),
        (a_table, "sinusoid", "sinusoid does not classify"),
        (a_table, "no[bold]", "no[bold]"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    data: object, learner: str, message: str, tmp_path: Path
) -> None:
    assert callable(data)
    code, said = own(data(tmp_path), "--learner", learner)
    assert code == 2
    last = [line for line in said.splitlines() if line.startswith("hyperserve: ")]
    assert len(last) == 1
    assert message in last[0]


def test_of_several_data_sets_those_that_cannot_be_measured_are_named_at_the_end(tmp_path: Path) -> None:
    table(tmp_path / "good.csv")
    table(tmp_path / "bad.csv", examples=1)
    code, said = own(tmp_path, "--learner", "vectors")
    assert code == 2
    assert "# good.csv" in said
    assert said.rstrip().endswith("bad.csv: no task can be drawn: fewer than 2 classes have 2 examples")
