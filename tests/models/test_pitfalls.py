"""Faults that others' code has had, each with tests that carry its number: `test_pitfall_07_…`.

| number | pitfall | where |
|---|---|---|
| 1 | answers depend on other queries | `models/testing`, `fewshot/test_maml_network`, `evaluation/test_transductive` |
| 2 | cached weights answer otherwise than fresh ones | `models/testing` |
| 3 | HyperShot's tensors without its supports | `fewshot/test_hypershot`, `test_bayeshypershot` |
| 4 | order and names of classes | `models/testing`, `evaluation/test_cells`, each method |
| 5 | another way than the one trained for | `models/testing`, each method of a fixed way, `app/tasks/test_fixed_way` |
| 6 | a loss divided by the wrong thing; the label as a number | `fewshot/test_hypershot`, `test_hypermaml` |
| 7 | HyperMAML's gradients of several steps | `fewshot/test_hypermaml` |
| 8 | schedules of the switch and of the divergence | `fewshot/test_hypermaml`, `test_bayeshmaml` |
| 9 | divergence of the wrong variance, shifted, summed or not | `test_variational`, the Bayesian methods |
| 10 | mixture prior of the whole vector | `test_variational` |
| 11 | fine-tuning that fails in silence | `fewshot/common/test_fine_tuning` |
| 12 | stale targets, or a gradient through the look-ahead | `continual/test_regulariser`, `test_two_step` |
| 13 | task inference that the first task always wins | `continual/test_hypernetwork` and others |
| 14 | figures of one scenario taken for those of another | `evaluation/test_continual` |
| 15 | an optimiser that was handed a spent iterator | `test_variational`, `fewshot/test_hypermaml` |
| 16 | EMNIST lying on its side or inverted; images without a source | `data/test_emnist`, `evaluation/test_family` |
| 17 | checkpoints chosen on test classes | `data/test_emnist` |
| 18 | intervals of which nobody says what they are over | `evaluation/test_family` |
| 20 | queries that write to memory | `fewshot/test_mann` |
| 21 | a search that does not reproduce | `training/test_strategies`, `test_population` |
| 23 | a matrix that is not positive definite | `fewshot/test_bayes_linear`, `test_ridge` |
| 24 | sum or mean over tasks | `fewshot/test_maml`, `test_hypermaml` |
| 25 | inner steps that end in NaN | `fewshot/test_maml`, `test_logistic` and others |

19 concerns learned update rules and 22 flows: they come with those families.
"""

from __future__ import annotations

import re
from pathlib import Path

_TESTS = Path(__file__).parents[1]
_CONTRACTS = Path(__file__).parents[2] / "models" / "testing"
_NAMED = re.compile(r"^ *def test_pitfall_(\d+)_", re.MULTILINE)
_LISTED = re.compile(r"^\| (\d+) \|", re.MULTILINE)


def test_every_pitfall_that_is_listed_has_a_test_of_its_name() -> None:
    listed = {int(number) for number in _LISTED.findall(__doc__ or "")}
    found = {
        int(number)
        for file in (*_TESTS.rglob("test_*.py"), *_CONTRACTS.glob("*_contract.py"))
        for number in _NAMED.findall(file.read_text("utf-8"))
    }
    assert listed == found
    assert listed >= {*range(1, 19), 20, 21, *range(23, 26)}
