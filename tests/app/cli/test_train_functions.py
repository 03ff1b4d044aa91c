"""Training on functions as a user runs it, and measuring what came of it."""

from pathlib import Path

import numpy as np
import pytest

from models import artifact
from tests.app.cli.commands import run

SHORT = ("--steps", "4", "--validate-every", "2", "--tasks", "4")


def test_sinusoids_are_trained_on_and_measured(tmp_path: Path) -> None:
    words = ("train", "--name", "mine", "--dataset", "sinusoids", "--runs", str(tmp_path), *SHORT)
    words = (*words, "--hparam", "width=8", "--hparam", "features=4", "--max-shot", "5")
    code, said = run(*words)
    assert code == 0, said
    folder = tmp_path / "mine" / "learner"
    made = artifact.load(folder)
    assert made.config.method == "bayes-linear"
    assert made.config.hparams["features"] == 4
    assert made.config.hparams["target"] == 1
    assert set(made.config.metrics["validation"]) == {"mse_5s", "nll_5s"}
    code, _ = run(*words)
    assert code == 0
    assert artifact.load(folder).digest == made.digest, "a finished run stays as it is"
    code, said = run("evaluate", "sinusoid", "--learner", str(folder), "--tasks", "4", "--update-card")
    assert code == 0, said
    assert "by shots" in said
    again = artifact.load(folder)
    assert again.digest == made.digest
    assert again.config.metrics["sinusoid"]["tasks"] == 4


def test_functions_of_any_length_are_trained_on_and_measured(tmp_path: Path) -> None:
    words = ("train", "--name", "any", "--dataset", "random-functions", "--runs", str(tmp_path), *SHORT)
    code, said = run(*words, "--hparam", "width=8", "--hparam", "steps=1", "--max-shot", "4")
    assert code == 0, said
    folder = tmp_path / "any" / "learner"
    made = artifact.load(folder)
    assert (made.config.method, made.config.input.model_dump()["dim"]) == ("gaussian-process", None)
    assert set(made.config.metrics["validation"]) == {
        f"{measure}_{shot}s" for measure in ("mse", "nll") for shot in (1, 2, 4)
    }
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3))
    np.savez(tmp_path / "tables.npz", plane_x=x, plane_y=x.sum(1))
    data = ("--data", str(tmp_path / "tables.npz"), "--splits", "2", "--restarts", "0")
    code, said = run("evaluate", "regression", "--learner", str(folder), *data, "--table-shots", "50")
    assert code == 0, said
    assert "| plane | 3 | 50 | scikit-learn GP |" in said
    code, said = run("evaluate", "regression", "--learner", str(folder), *data, "--table-shots", "few")
    assert (code, "no whole numbers" in " ".join(said.split())) == (2, True)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--dataset", "sinusoids", "--method", "protonet"), "protonet is a classifier"),
        (("--dataset=gp", "--method", "magic"), "unknown method"),
        (("--dataset", "sinusoids", "--hparam", "target=2"), "map 1 to 1 numbers"),
        (("--dataset", "gp", "--min-shot", "9", "--max-shot", "3"), "no range"),
        (("--dataset", "gp", "--chosen-by", "luck"), "'nll' or 'mse'"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_reason(
    tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    code, said = run("train", "--name", "mine", *words, "--runs", str(tmp_path), *SHORT)
    assert code == 2, said
    assert reason in " ".join(said.split())


def test_a_learner_of_classes_is_not_measured_on_functions() -> None:
    code, said = run("evaluate", "sinusoid", "--learner", "vectors")
    assert code == 2
    assert "from 1 to 1 numbers" in " ".join(said.split())
