"""Baselines give scikit-learn's results on columns scaled as its users would."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.svm import SVC

from experiments.errors import ExperimentError
from experiments.fewshot import baselines
from experiments.fewshot.baseline_runs import runner


def task(way: int = 4, shot: int = 5, dim: int = 30, queries: int = 6) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(way * 100 + shot)
    means = rng.standard_normal((way, dim))
    labels, targets = np.arange(way).repeat(shot), np.arange(way).repeat(queries)
    units = 10.0 ** rng.uniform(-2, 2, dim)
    support = (means[labels] + rng.standard_normal((len(labels), dim))) * units
    return support, labels, (means[targets] + rng.standard_normal((len(targets), dim))) * units, targets


def probabilities(answer: baselines.BaselineAnswer | None) -> np.ndarray:
    assert answer is not None
    assert answer.log_probs is not None
    found: np.ndarray = np.exp(answer.log_probs)
    return found


@pytest.mark.parametrize(("way", "shot", "dim"), [(4, 5, 30), (2, 3, 30), (3, 10, 6), (2, 20, 5)])
def test_results_are_those_of_scikit_learn(way: int, shot: int, dim: int) -> None:
    support, labels, query, _ = task(way, shot, dim)
    for scaling in ("embedding", "table"):
        if scaling == "embedding":
            rows, queries, scale = normalize(support), normalize(query), baselines.UNIT_SCALE
        else:
            scaler = StandardScaler().fit(support)
            rows, queries, scale = scaler.transform(support), scaler.transform(query), 1.0
        found = baselines.answer(scaling, support, labels, query)
        lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(rows, labels)
        assert np.allclose(probabilities(found["shrinkage LDA"]), lda.predict_proba(queries), atol=1e-8)
        svm = SVC(kernel="linear" if scaling == "embedding" else "rbf", C=10).fit(rows, labels)
        assert found["SVM"] is not None
        assert (found["SVM"].label == svm.predict(queries)).mean() > 0.95, "ties of votes aside"
        logistic = probabilities(found["logistic regression"])
        fits = [
            LogisticRegression(C=c, max_iter=5000, tol=1e-8).fit(scale * rows, labels)
            for c in baselines.PENALTIES
        ]
        errors = [np.abs(fit.predict_proba(scale * queries) - logistic).max() for fit in fits]
        assert min(errors) < 5e-3, "one of the four penalties was chosen, and its optimum found"
        assert found["centroid"] is not None
        if scaling == "table":
            assert (found["centroid"].label == NearestCentroid().fit(rows, labels).predict(queries)).all()
            unscaled = found["centroid, columns unscaled"]
            assert unscaled is not None
            assert (unscaled.label == NearestCentroid().fit(support, labels).predict(query)).all()


def test_at_one_shot_the_penalty_is_1_and_nothing_has_a_spread() -> None:
    support, labels, query, _ = task(shot=1)
    found = baselines.answer("embedding", support, labels, query)
    assert found["shrinkage LDA"] is None
    fitted = LogisticRegression(C=1, max_iter=5000, tol=1e-8).fit(10 * normalize(support), labels)
    expected = fitted.predict_proba(10 * normalize(query))
    assert np.allclose(probabilities(found["logistic regression"]), expected, atol=2e-3)


def test_a_column_that_is_constant_in_the_support_set_is_not_divided_by_0() -> None:
    support, labels, query, _ = task()
    support[:, 0] = 7.5
    for answer in baselines.answer("table", support, labels, query).values():
        assert answer is not None
        assert answer.log_probs is None or np.isfinite(answer.log_probs).all()


def test_rows_of_unit_norm_are_embeddings() -> None:
    rows = task()[0]
    assert baselines.scaling_of(rows) == "table"
    assert baselines.scaling_of(normalize(rows).astype(np.float16)) == "embedding"
    assert baselines.names_for("pixels") == ("centroid", "logistic regression")


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_processes() -> None:
    support, labels, query, targets = task()
    rows = np.concatenate((support, query)).astype(np.float32)
    positions = np.arange(len(rows))
    drawn = [(np.arange(4), positions[: len(labels)], positions[len(labels) :])] * 12
    results = []
    for jobs in (1, 2):
        with runner(jobs) as made:
            results.append(made.run("table", rows, drawn, 4, 5))
    for name, one in results[0].items():
        other = results[1][name]
        assert one is not None
        assert other is not None
        assert one.accuracy.shape == (12,)
        assert (one.accuracy == other.accuracy).all()
        assert one.nll is None or (other.nll is not None and (one.nll == other.nll).all())
        assert one.right.shape == (12, len(targets))


def test_without_scikit_learn_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExperimentError, match=r"pip install -e '\.\[evaluate\]'"):
        baselines.check_sklearn()
