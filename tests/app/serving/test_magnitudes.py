"""Vectors of any magnitude get the answer of their direction or distance, or are refused; never an even guess."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.serving.engine import Engine
from app.serving.engine_types import SupportSet
from app.serving.errors import NotFiniteError
from models.artifact import Artifact, load
from models.inputs import VectorInput
from models.protocol import LearnerError, MetaLearner
from models.registry import METHODS, LearnerConfig, build
from tests.app.serving.engines import run

ZOO = Path(__file__).parents[3] / "models" / "zoo"
DIM = 6
MAGNITUDES = [
    10.0**power for power in (-38, -30, -25, -20, -15, -10, -5, 0, 5, 10, 15, 18, 19, 20, 25, 30, 35, 37)
]
MAGNITUDES += [2e19, 1e38, 3e38]
SCALE_FREE = {"vectors", "protonet auto", "protonet cosine", "logistic"}
"""Learners to which only ratios of numbers matter: they tell classes apart at any magnitude, or refuse it."""
FITTED = {"protonet euclidean", "ridge", "maml"}
"""Learners that are right without training, as soon as numbers are not small."""


@cache
def learners() -> dict[str, MetaLearner]:
    found = {"vectors": load(ZOO / "vectors").learner}
    for method in METHODS:
        options: list[dict[str, Any]] = [{}]
        if method == "protonet":
            options = [{"metric": metric} for metric in ("euclidean", "cosine", "auto")]
        for hparams in options:
            torch.manual_seed(0)
            config = LearnerConfig(
                code_version="0",
                method=method,
                hparams=hparams,
                encoder="identity",
                encoder_hparams={"dim": DIM},
                input=VectorInput(dim=DIM),
            )
            try:
                learner = build(config).eval().requires_grad_(False)
            except LearnerError:
                continue  # a method for functions of one number
            if learner.traits.kind == "classification":
                found[" ".join((method, *hparams.values()))] = learner
    return found


NAMES = sorted(learners())


def answer(name: str, support: np.ndarray, x: np.ndarray, way: int) -> np.ndarray | None:
    """Return the probabilities, None if the support set or the queries are refused."""
    learner = learners()[name]
    config = LearnerConfig(
        code_version="0", method="protonet", encoder="identity", input=VectorInput(dim=DIM)
    )
    engine = Engine({"one": Artifact("one", config, "d" * 64, learner, "", Path())})
    y = np.tile(np.arange(way), 5).astype(np.int64)
    given = SupportSet(support.astype(np.float32), y, tuple(f"class {k}" for k in range(way)), 0)

    async def work() -> np.ndarray | None:
        try:
            adapted = await engine.adapt("one", given)
            answers = await engine.predict_once("one", adapted.weights, x.astype(np.float32), samples=0)
        except (NotFiniteError, LearnerError):
            return None
        return answers.predictive.probabilities[0].numpy()  # type: ignore[union-attr]

    found: np.ndarray | None = run(engine, work)
    return found


def examples(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Return five noisy examples of each unit vector, the unit vectors, and their number."""
    way = 5 if 2 not in learners()[name].traits.ways else 2
    corners = np.eye(DIM)[:way]
    noise = np.random.default_rng(0).normal(size=(5 * way, DIM))
    return np.tile(corners, (5, 1)) + 0.05 * noise, corners, way


def is_right(probabilities: np.ndarray) -> bool:
    best = probabilities.argmax(-1)
    return bool((best == np.arange(len(best))).all() and (np.ptp(probabilities, axis=-1) > 0.05).all())


def is_even(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(np.ptp(probabilities, axis=-1) < 1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("whole_task", [False, True])
def test_no_large_vector_gets_an_even_guess(name: str, whole_task: bool) -> None:
    support, x, way = examples(name)
    usual = answer(name, support, x, way)
    assert usual is not None
    for magnitude in MAGNITUDES:
        scale = magnitude if whole_task else 1.0
        found = answer(name, np.clip(support * scale, -3.4e38, 3.4e38), x * magnitude, way)
        if found is None:
            assert magnitude >= 1e18 or (whole_task and magnitude <= 1e-15)
            continue
        assert np.isfinite(found).all()
        if magnitude >= 1e17:
            assert not is_even(found).any()
        # Of tables the place of a query counts, not its direction alone.
        if name in SCALE_FREE and (whole_task or name not in ("logistic", "vectors")):
            assert is_right(found)
            np.testing.assert_allclose(found, usual, atol=1e-3)
        if name in FITTED and magnitude >= 1:
            assert is_right(found)


@pytest.mark.parametrize("name", ["vectors", "protonet auto", "protonet cosine", "protonet euclidean"])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_far_queries_go_to_the_class_they_point_to(name: str, offset: float) -> None:
    support, x, way = examples(name)
    for magnitude in (1e5, 1e17, 2e19, 1e25, 1e30, 1e38):
        found = answer(name, support + offset, x * magnitude, way)
        assert found is None or is_right(found)


def test_a_refusal_touches_nobody_else() -> None:
    support, x, way = examples("protonet euclidean")
    far = np.concatenate((x, x * 3e38))
    assert answer("protonet euclidean", support * 1e10, far, way) is None
    assert answer("protonet euclidean", support * 1e10, x, way) is not None


def test_equal_examples_are_an_even_guess() -> None:
    for magnitude in (0.0, 1e-30, 1.0, 1e10):
        support = np.full((10, DIM), magnitude)
        found = answer("vectors", support, support[:2], 2)
        assert found is not None
        assert is_even(found).all()
