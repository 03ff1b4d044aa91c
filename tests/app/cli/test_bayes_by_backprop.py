"""Refusals of `hyperserve evaluate bayes-by-backprop`; its measurements are tested in tests/experiments."""

from pathlib import Path

import numpy as np
import pytest

from tests.app.cli.commands import run


@pytest.fixture
def data(tmp_path: Path) -> str:
    labels = np.arange(40, dtype=np.uint8) % 10
    images = np.random.default_rng(0).integers(0, 60, (40, 28, 28)).astype(np.uint8)
    images[np.arange(40), 2 + 2 * labels] = 255
    path = tmp_path / "digits.npz"
    np.savez(path, train_image=images, train_label=labels, test_image=images[:10], test_label=labels[:10])
    return str(path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--split", "test"), "it has validation"),
        (("--split", "validation"), "cannot be held out"),
    ],
)
def test_other_splits_and_too_few_digits_are_refused(data: str, words: tuple[str, str], message: str) -> None:
    code, said = run("evaluate", "bayes-by-backprop", "--data", data, *words)
    assert code == 2
    assert message in " ".join(said.split())
