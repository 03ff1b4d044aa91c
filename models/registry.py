"""Names to classes. A new method or encoder is one new file and one line here.

Classes are imported when first looked up, so that a server loads only what its learners need.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.encoders.base import Encoder
from models.inputs import InputSpec
from models.protocol import LearnerError, MetaLearner
from models.stream_protocol import StreamLearner

Module = TypeVar("Module", Encoder, MetaLearner, StreamLearner)


class RegistryError(LearnerError):
    """A learner was described by a name or a hyperparameter that this code does not know."""


class LearnerConfig(BaseModel):
    """All that is needed to build a learner again, and what is worth knowing of how it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    code_version: str
    method: str
    hparams: dict[str, Any] = Field(default_factory=dict)
    encoder: str
    encoder_hparams: dict[str, Any] = Field(default_factory=dict)
    input: InputSpec
    training_classes: str | None = Field(
        default=None, description="SHA-256 of the sorted names of the classes it was trained on."
    )
    training: dict[str, Any] = Field(
        default_factory=dict, description="Command, seed, steps, wall seconds, device."
    )
    metrics: dict[str, Any] = Field(default_factory=dict, description="The measured table.")


class Catalogue(Mapping[str, type[Module]], Generic[Module]):
    """Read-only mapping of names to classes, given as `module:Class` and imported at first use."""

    def __init__(self, kind: str, paths: dict[str, str]) -> None:
        self.kind = kind
        self.paths = paths

    def __getitem__(self, name: str) -> type[Module]:
        if name not in self.paths:
            raise KeyError(name)
        module, _, attribute = self.paths[name].partition(":")
        found: type[Module] = getattr(importlib.import_module(module), attribute)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.paths

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def configured(self, name: str, hparams: Mapping[str, Any]) -> tuple[type[Module], BaseModel]:
        """The class and its validated `Config`. Raises `RegistryError` naming the culprit."""
        if name not in self.paths:
            raise RegistryError(f"unknown {self.kind} {name!r}; known are {', '.join(sorted(self.paths))}")
        found = self[name]
        schema: type[BaseModel] = found.Config
        try:
            return found, schema.model_validate(dict(hparams))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise RegistryError(f"{self.kind} {name!r}, hyperparameter {where!r}: {first['msg']}") from error


METHODS: Catalogue[MetaLearner] = Catalogue(
    "method",
    {
        "protonet": "models.fewshot.protonet:ProtoNet",
        "hyperset": "models.fewshot.hyperset:HyperSet",
        "hypershot": "models.fewshot.hypershot:HyperShot",
        "bayeshypershot": "models.fewshot.bayeshypershot:BayesHyperShot",
        "hypermaml": "models.fewshot.hypermaml:HyperMAML",
        "bayeshmaml": "models.fewshot.bayeshmaml:BayesHMAML",
        "ppa": "models.fewshot.ppa:Ppa",
        "ridge": "models.fewshot.ridge:Ridge",
        "logistic": "models.fewshot.logistic:Logistic",
        "maml": "models.fewshot.maml:Maml",
        "maml-regression": "models.fewshot.maml_regression:MamlRegression",
        "cnp-regression": "models.fewshot.cnp_regression:CnpRegression",
        "bayes-linear": "models.fewshot.bayes_linear:BayesLinear",
        "metanet": "models.fewshot.metanet:MetaNet",
        "cnp": "models.fewshot.cnp:Cnp",
        "mann": "models.fewshot.mann:Mann",
    },
)
ENCODERS: Catalogue[Encoder] = Catalogue(
    "encoder",
    {
        "conv4": "models.encoders.conv4:Conv4",
        "conv4-rgb": "models.encoders.conv4_rgb:Conv4Rgb",
        "identity": "models.encoders.identity:Identity",
        "pixels": "models.encoders.pixels:Pixels",
    },
)
STREAMS: Catalogue[StreamLearner] = Catalogue(
    "stream method",
    {
        "hypernetwork": "models.continual.hypernetwork:HyperStream",
        "analytic": "models.continual.analytic:AnalyticStream",
    },
)


def build(config: LearnerConfig) -> MetaLearner:
    """An untrained learner. Raises `RegistryError` for unknown names and hyperparameters."""
    encoder_class, encoder_config = ENCODERS.configured(config.encoder, config.encoder_hparams)
    method_class, method_config = METHODS.configured(config.method, config.hparams)
    return method_class(encoder_class(encoder_config), method_config)


def complete(config: LearnerConfig) -> LearnerConfig:
    """The same description with every default written out, so that a later default cannot change it."""
    _, encoder_config = ENCODERS.configured(config.encoder, config.encoder_hparams)
    _, method_config = METHODS.configured(config.method, config.hparams)
    return config.model_copy(
        update={
            # None is no setting: descriptions from before an option was there keep their digest.
            "hparams": {
                name: value
                for name, value in method_config.model_dump(mode="json").items()
                if value is not None or name in config.hparams
            },
            "encoder_hparams": encoder_config.model_dump(mode="json", exclude_none=True),
        }
    )
