"""Descriptions of methods: the axes of the survey, papers, hyperparameters."""

from __future__ import annotations

from typing import get_args

import pytest

from hyperserve import types
from models import protocol
from models.methods import described
from models.registry import METHODS
from models.training import search

AXES = {
    "protonet": "embedding",
    "ridge": "embedding",
    "logistic": "embedding",
    "hyperset": "feed-forward",
    "hypershot": "feed-forward",
    "bayeshypershot": "feed-forward",
    "hypermaml": "feed-forward",
    "bayeshmaml": "feed-forward",
    "ppa": "feed-forward",
    "cnp": "feed-forward",
    "cnp-regression": "feed-forward",
    "metanet": "feed-forward",
    "bayes-linear": "embedding",
    "mann": "black-box memory",
    "maml": "initialisation",
    "maml-regression": "initialisation",
}


@pytest.mark.parametrize("name", AXES)
def test_bundled_methods_stand_on_the_axes_of_the_survey(name: str) -> None:
    method = described()[name]
    assert (method.representation, method.optimiser, method.objective) == (AXES[name], "gradient", "few-shot")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_is(name: str) -> None:
    method = described()[name]
    assert 20 < len(method.summary) < 140
    assert method.hparams["properties"].keys() == METHODS[name].Config.model_fields.keys()
    assert method.optimisers[0] == "gradient"


def test_papers_are_those_of_the_methods() -> None:
    papers = {name: method.paper for name, method in described().items()}
    assert papers["maml"] == "1703.03400"
    assert papers["protonet"] == "1703.05175"
    assert papers["cnp"] == "1807.01613"
    assert papers["hyperset"] is None


def test_flags_are_those_of_the_traits() -> None:
    assert described()["bayeshmaml"].flags["stochastic"]
    assert described()["ppa"].flags["incremental"]
    assert not described()["ppa"].fixed_way
    assert described()["hypermaml"].fixed_way


def test_without_parameters_outside_the_encoder_there_is_nothing_to_search() -> None:
    assert described()["protonet"].optimisers == ["gradient"]
    assert described()["ppa"].optimisers == ["gradient", "evolution", "cma-es", "reinforce"]


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("representation", protocol.Representation),
        ("optimiser", protocol.Optimiser),
        ("objective", protocol.Objective),
        ("optimisers", search.Trainer),
    ],
)
def test_the_wire_has_the_words_of_the_protocol(field: str, words: object) -> None:
    annotation = types.Method.model_fields[field].annotation
    listed = get_args(annotation)
    assert (get_args(listed[0]) or listed) == get_args(words)
