"""Names to classes. A new method or encoder is one new file and one line here, or an entry point of another package.

Other packages register in the entry point groups `hyperserve.methods` and `hyperserve.encoders` (see
`docs/write-a-method.md`). Classes are imported at first use, so that a server loads only what its learners need.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.encoder_protocol import Encoder
from models.inputs import ImageInput, InputSpec
from models.protocol import LearnerError, MetaLearner
from models.stream_protocol import StreamLearner

Module = TypeVar("Module", Encoder, MetaLearner, StreamLearner)


class RegistryError(LearnerError):
    """A learner's description has a name or a hyperparameter that this code does not know, or a plug-in is broken."""


class LearnerConfig(BaseModel):
    """A learner's description: all that is needed to build it again, and how it was made."""

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


class Registry(Mapping[str, type[Module]], Generic[Module]):
    """Read-only mapping of names to classes, given as `module:Class` and imported at first use.

    Any look-up raises `RegistryError` if two packages claim one name, and the look-up of a plug-in if it is broken.
    """

    def __init__(
        self, kind: str, base: type[Module], paths: dict[str, str], plugin_group: str | None = None
    ) -> None:
        self.kind = kind
        self.paths = paths
        self._base: type[Module] = base
        self._group = plugin_group

    def __getitem__(self, name: str) -> type[Module]:
        if name in self.plugins:
            return self._loaded(name, self.plugins[name])
        if name not in self.paths:
            raise KeyError(name)
        module, _, attribute = self.paths[name].partition(":")
        found: type[Module] = getattr(importlib.import_module(module), attribute)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.paths or name in self.plugins

    def __iter__(self) -> Iterator[str]:
        yield from self.paths
        yield from self.plugins

    def __len__(self) -> int:
        return len(self.paths) + len(self.plugins)

    @cached_property
    def plugins(self) -> dict[str, EntryPoint]:
        """Entry points of other packages by name. Raises `RegistryError` if a name is taken already."""
        points = [] if self._group is None else list(entry_points(group=self._group))
        claims = Counter(point.name for point in points)
        for point in points:
            if point.name in self.paths:
                raise RegistryError(
                    f"{_package(point)} registers the {self.kind} {point.name!r}, a name that hyperserve itself "
                    f"has; rename the entry point in its group {self._group!r}"
                )
            if claims[point.name] > 1:
                packages = sorted(_package(other) for other in points if other.name == point.name)
                raise RegistryError(
                    f"{' and '.join(packages)} both register the {self.kind} {point.name!r} in the entry point "
                    f"group {self._group!r}; rename one or uninstall its package"
                )
        return {point.name: point for point in sorted(points, key=lambda point: point.name)}

    def check_plugins(self) -> None:
        """Import every plug-in. Raises `RegistryError` for the first that is broken or claims a taken name."""
        for name, point in self.plugins.items():
            self._loaded(name, point)

    def configured(self, name: str, hparams: Mapping[str, Any]) -> tuple[type[Module], BaseModel]:
        """Return the class and its validated `Config`. Raises `RegistryError` naming the culprit."""
        if name not in self:
            hint = (
                ""
                if self._group is None
                else f" (a package may be missing that registers it in {self._group!r})"
            )
            raise RegistryError(f"unknown {self.kind} {name!r}; known are {', '.join(sorted(self))}{hint}")
        found = self[name]
        schema: type[BaseModel] = found.Config
        try:
            return found, schema.model_validate(dict(hparams))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise RegistryError(f"{self.kind} {name!r}, hyperparameter {where!r}: {first['msg']}") from error

    def _loaded(self, name: str, point: EntryPoint) -> type[Module]:
        origin = f"{self.kind} {name!r} of {_package(point)}"
        try:
            found = point.load()
        except Exception as error:
            # Importing another package runs its code, which may raise anything.
            raise RegistryError(
                f"the {origin} cannot be loaded from {point.value!r}: {type(error).__name__}: {error}"
            ) from error
        if not (isinstance(found, type) and issubclass(found, self._base)):
            raise RegistryError(
                f"the {origin} ({point.value}) is no subclass of {self._base.__module__}.{self._base.__name__}"
            )
        config = getattr(found, "Config", None)
        if not (isinstance(config, type) and issubclass(config, BaseModel)):
            raise RegistryError(f"the {origin} ({point.value}) has no pydantic model `Config`")
        return found


def _package(point: EntryPoint) -> str:
    return (
        "an unnamed package" if point.dist is None else f"the package {point.dist.name} {point.dist.version}"
    )


METHODS: Registry[MetaLearner] = Registry(
    "method",
    MetaLearner,  # type: ignore[type-abstract]
    {
        "protonet": "models.fewshot.protonet:ProtoNet",
        "hyperset": "models.fewshot.hyperset:HyperSet",
        "hyperkernel": "models.fewshot.hyperkernel:HyperKernel",
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
        "gaussian-process": "models.fewshot.gaussian_process:GaussianProcessLearner",
        "metanet": "models.fewshot.metanet:MetaNet",
        "cnp": "models.fewshot.cnp:Cnp",
        "mann": "models.fewshot.mann:Mann",
    },
    "hyperserve.methods",
)
ENCODERS: Registry[Encoder] = Registry(
    "encoder",
    Encoder,  # type: ignore[type-abstract]
    {
        "conv4": "models.encoders.conv4:Conv4",
        "depths": "models.encoders.depths:Depths",
        "conv4-rgb": "models.encoders.conv4_rgb:Conv4Rgb",
        "identity": "models.encoders.identity:Identity",
        "pixels": "models.encoders.pixels:Pixels",
    },
    "hyperserve.encoders",
)
STREAMS: Registry[StreamLearner] = Registry(
    "stream method",
    StreamLearner,  # type: ignore[type-abstract]
    {
        "hypernetwork": "models.continual.hypernetwork:HyperStream",
        "analytic": "models.continual.analytic:AnalyticStream",
    },
)


def build(config: LearnerConfig) -> MetaLearner:
    """Build an untrained learner. Raises `RegistryError` for unknown names and hyperparameters."""
    encoder_class, encoder_config = ENCODERS.configured(config.encoder, config.encoder_hparams)
    method_class, method_config = METHODS.configured(config.method, config.hparams)
    return method_class(encoder_class(encoder_config), method_config)


def complete(config: LearnerConfig) -> LearnerConfig:
    """Return the description with every default written out, so that a later default cannot change it."""
    _, encoder_config = ENCODERS.configured(config.encoder, config.encoder_hparams)
    _, method_config = METHODS.configured(config.method, config.hparams)
    return config.model_copy(
        update={
            # None is no setting: descriptions older than an option keep their digest.
            "hparams": {
                name: value
                for name, value in method_config.model_dump(mode="json").items()
                if value is not None or name in config.hparams
            },
            "encoder_hparams": encoder_config.model_dump(mode="json", exclude_none=True),
        }
    )


def blank_encoder(name: str, hparams: Mapping[str, Any] | None = None) -> Encoder:
    """Build an encoder without memory, on the meta device, to read its input and augmentation off.

    Raises `RegistryError` for unknown names and hyperparameters.
    """
    found, config = ENCODERS.configured(name, hparams or {})
    with torch.device("meta"):
        encoder: Encoder = found(config)
    return encoder


def blank_learner(
    method: str,
    hparams: Mapping[str, Any],
    encoder: str,
    encoder_hparams: Mapping[str, Any] | None = None,
) -> MetaLearner:
    """Build a learner without memory, on the meta device, to read its traits off.

    Raises `LearnerError` if the method does not take the encoder, `RegistryError` for unknown names.
    """
    found, config = METHODS.configured(method, hparams)
    with torch.device("meta"):
        return found(blank_encoder(encoder, encoder_hparams), config)


def input_of(encoder: str, hparams: Mapping[str, Any] | None = None, *, crop: bool = False) -> InputSpec:
    """Return the input that an encoder takes, with `crop` of glyphs cut out of their paper. Raises `RegistryError`."""
    spec = blank_encoder(encoder, hparams).input_spec()
    return spec.model_copy(update={"crop": crop}) if isinstance(spec, ImageInput) else spec
