"""Names become learners; what is unknown is named."""

import subprocess
import sys

import pytest

from models.encoders.base import Encoder
from models.inputs import ImageInput, VectorInput
from models.protocol import MetaLearner
from models.registry import ENCODERS, METHODS, LearnerConfig, RegistryError, build, complete


def config(**changes: object) -> LearnerConfig:
    fields: dict[str, object] = {
        "code_version": "0",
        "method": "protonet",
        "encoder": "identity",
        "input": VectorInput(),
    }
    return LearnerConfig.model_validate({**fields, **changes})


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_a_meta_learner(name: str) -> None:
    assert issubclass(METHODS[name], MetaLearner)
    assert METHODS[name].Config()


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_is_an_encoder(name: str) -> None:
    assert issubclass(ENCODERS[name], Encoder)


def test_a_description_builds_a_learner() -> None:
    learner = build(config(encoder="conv4", encoder_hparams={"width": 4}, input=ImageInput()))
    assert type(learner) is METHODS["protonet"]
    assert learner.encoder.dim == 4


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"method": "astrology"}, "unknown method 'astrology'.*protonet"),
        ({"encoder": "eye"}, "unknown encoder 'eye'.*conv4"),
        ({"hparams": {"metrik": "cosine"}}, "'protonet'.*'metrik'"),
        ({"hparams": {"metric": "cosinus"}}, "'protonet'.*'metric'"),
        ({"encoder_hparams": {"width": 3}}, "'identity'.*'width'"),
    ],
)
def test_the_culprit_is_named(changes: dict[str, object], culprit: str) -> None:
    with pytest.raises(RegistryError, match=culprit):
        build(config(**changes))


def test_a_complete_description_holds_every_default() -> None:
    completed = complete(config())
    assert completed.hparams == {"metric": "euclidean"}
    assert complete(completed) == completed


def test_nothing_is_imported_before_it_is_needed() -> None:
    lines = (
        "import sys, models.registry as r",
        "assert 'models.fewshot.hyperset' not in sys.modules and 'models.encoders.conv4' not in sys.modules",
        "r.METHODS['hyperset']",
        "assert 'models.fewshot.hyperset' in sys.modules",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_a_catalogue_is_a_mapping() -> None:
    assert "protonet" in METHODS
    assert "astrology" not in METHODS
    assert len(METHODS) == len(list(METHODS))
    with pytest.raises(KeyError):
        METHODS["astrology"]
