"""Stream tasks of any labelled images, SLDA beside our learners, and the figures of `unknown`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from experiments.continual.baselines.continual_method import ComparisonSetting
from experiments.continual.baselines.slda import Slda, SldaConfig
from experiments.continual.harness import ComparisonPlan, measure
from experiments.continual.task_streams import load_images, split_pairs
from models.data.dataset import DatasetError

SIDE, CLASSES, EACH = 16, 6, 30


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy bars: those of class c lie in row 2c + 2."""
    drawn = np.random.default_rng(0)
    label = np.repeat(np.arange(CLASSES), EACH)
    image = drawn.integers(0, 120, (len(label), SIDE, SIDE), dtype=np.uint8)
    for row, one in zip(label, image, strict=True):
        one[2 * row + 2, 3:13] = 200
    path = tmp_path_factory.mktemp("images") / "bars.npz"
    np.savez(path, image=image, label=label)
    return path


def test_each_seed_divides_the_images_anew(images: Path) -> None:
    data = load_images(images)
    for seed in (0, 1):
        train, test = data.divided(seed)
        chosen, measured = data.held_out(0).divided(seed)
        assert not {*train.tolist()} & {*test.tolist()}
        assert not ({*chosen.tolist()} | {*measured.tolist()}) & {*test.tolist()}
        assert (len(train), len(test), len(chosen)) == (24 * CLASSES, 6 * CLASSES, 18 * CLASSES)
    assert not data.divided(0)[1].equal(data.divided(1)[1])
    with pytest.raises(DatasetError, match="1 to 3"):
        split_pairs(data, 4)


def test_a_file_without_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npz"
    np.savez(path, image=np.zeros((3, 4)), label=np.zeros(3))
    with pytest.raises(DatasetError, match="uint8"):
        load_images(path)


@pytest.mark.parametrize("method", ["slda", "analytic"])
def test_methods_learn_pairs(images: Path, method: str) -> None:
    plan = ComparisonPlan("split-pairs", "cl3", tasks=2)
    given = {"features": {"count": 64}} if method == "analytic" else {}
    record = measure(plan, load_images(images), method, 0, given, "", lambda _text: None)
    assert record.final > 0.8
    if method == "slda":
        assert record.unknown is None
        return
    assert record.unknown is not None
    assert len(record.unknown) == 2
    assert record.foreign_auroc is not None
    assert None not in record.foreign_auroc, "a third pair is foreign to both versions"


def test_slda_gives_the_closed_form_of_all_examples() -> None:
    """However they came."""
    setting = ComparisonSetting("cl3", tasks=2, way=2, shape=(3, 3), encoder=nn.Flatten())
    method = Slda(setting, SldaConfig(shrinkage=0.01))
    drawn = torch.Generator().manual_seed(0)
    x, y = torch.randn(80, 3, 3, generator=drawn), torch.arange(80) % 4
    x = x + y[:, None, None]
    for task in range(2):
        method.learn(task, x[y // 2 == task], y[y // 2 == task] % 2)
    flat = x.flatten(1).double()
    means = torch.stack([flat[y == label].mean(0) for label in range(4)])
    within = flat - means[y]
    covariance = 0.99 * within.T @ within / len(y) + 0.01 * torch.eye(9)
    rows = torch.linalg.inv(covariance) @ means.T
    expected = (flat @ rows - (means.T * rows).sum(0) / 2).argmax(1)
    found = method.predict(x, None)
    assert found.task is not None
    assert (2 * found.task + found.label).equal(expected)
