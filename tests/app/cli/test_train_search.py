"""`hyperserve train --optimiser …` and `hyperserve methods`, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from app.learners.served_learners import ServedLearners
from models import artifact
from tests.app.cli.commands import run


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 20)
    x = rng.standard_normal((30, 8))[labels] + 0.1 * rng.standard_normal((600, 8))
    path = tmp_path_factory.mktemp("vectors") / "v.npz"
    np.savez(path, x=x.astype(np.float32), label=labels)
    return path


def train(vectors: Path, runs: Path, *words: str) -> tuple[int, str]:
    flags = ("--method", "ppa", "--hparam", "hidden=8", "--encoder", "identity", "--max-way", "5")
    short = ("--steps", "3", "--population", "4", "--examples-per-step", "30", "--calibration-tasks", "4")
    place = ("--name", "head", "--dataset", str(vectors), "--runs", str(runs))
    return run("train", *place, *flags, *short, *words)


def test_a_searched_learner_says_how_it_was_trained(vectors: Path, tmp_path: Path) -> None:
    words = ("--optimiser", "reinforce", "--objective", "accuracy", "--searched", "hypernet.2")
    code, said = train(vectors, tmp_path, *words)
    assert code == 0, said
    made = artifact.load(tmp_path / "head" / "learner")
    assert made.config.training["optimiser"] == "reinforce"
    assert made.config.training["searched"] == "hypernet.2"
    assert ServedLearners({"head": made}, {}).describe(made).traits["optimiser"] == "reinforcement"
    code, said = train(vectors, tmp_path, *words, "--sigma", "0.2")
    assert code == 2
    assert "another training" in " ".join(said.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--optimiser", "annealing"), "optimiser"),
        (("--optimiser", "evolution", "--population", "5"), "must be even"),
        (("--optimiser", "evolution", "--searched", "encoder"), "there are: hypernet"),
    ],
)
def test_a_search_that_cannot_be_says_why(
    vectors: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    code, said = train(vectors, tmp_path, *words)
    assert code == 2
    assert message in " ".join(said.split())


def test_methods_are_listed() -> None:
    code, said = run("methods")
    assert code == 0
    assert "hypershot: HyperShot" in said
    assert "trained by gradient, evolution, cma-es, reinforce" in said
    code, said = run("methods", "--json")
    assert {"maml", "protonet"} <= {method["name"] for method in json.loads(said)}
