"""The configuration of a new stream: checked, with every default written out."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from app.http.problems import Fault, ProblemError, fail
from app.http.validation import faults
from app.learners.served_learners import ServedLearners
from app.streams.schemas import CreateStream
from models.artifact import Artifact
from models.continual.stream_config import StreamConfig, build
from models.inputs import ImageInput, InputSpec, PhotoInput, VectorInput
from models.protocol import LearnerError
from models.registry import STREAMS

_INPUT: TypeAdapter[ImageInput | PhotoInput | VectorInput] = TypeAdapter(InputSpec)
_SIDE_MIN = 16


async def stream_config(request: CreateStream, learners: ServedLearners) -> StreamConfig:
    """Raises `ProblemError` 422, which names the field at fault."""
    if request.method not in STREAMS:
        raise fail("unknown_method", f"Known methods: {', '.join(sorted(STREAMS))}.", "/method")
    if (request.input is None) == (request.learner is None):
        raise fail("missing" if request.input is None else "given_twice", "Give input or learner.", "/input")
    artifact = None if request.learner is None else await _encoder_artifact(request.learner, learners)
    spec = artifact.config.input if artifact is not None else _input(request.input)
    assert spec.shape is not None
    config = StreamConfig(
        method=request.method,
        scenario=request.scenario,
        hparams=request.hparams,
        input=spec,
        encoder=None if artifact is None else artifact.name,
        encoder_digest=None if artifact is None else artifact.digest,
        shape=spec.shape,
        seed=request.seed,
    )
    encoder = None if artifact is None else artifact.learner.encoder
    return await asyncio.to_thread(_completed, config, encoder)


def config_digest(config: StreamConfig) -> str:
    """Return a SHA-256 in hex."""
    described = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(described.encode()).hexdigest()


def _completed(config: StreamConfig, encoder: nn.Module | None) -> StreamConfig:
    """Return the config with the shape of its features and the method's defaults.

    Defaults are written out so that a later release cannot change the stream. A config that no learner can be built
    from is refused here, not in a job.
    """
    if encoder is not None:
        with torch.no_grad():
            blank = torch.zeros(1, *config.shape, device=_device(encoder))
            shape = tuple(encoder(blank).shape[1:])
        config = config.model_copy(update={"shape": shape})
    try:
        _, hparams = STREAMS.configured(config.method, config.hparams)
        build(config, encoder)
    except LearnerError as error:
        raise fail("invalid_hparams", f"{error}.", "/hparams") from None
    return config.model_copy(update={"hparams": hparams.model_dump(mode="json")})


async def _encoder_artifact(name: str, learners: ServedLearners) -> Artifact:
    # The error of `named` lists the learners that are served.
    found = await learners.find(name) or learners.named(name)
    spec = found.config.input
    if found.learner.traits.kind != "classification":
        raise fail("unusable_encoder", "The learner has no encoder that a stream can use.", "/learner")
    if isinstance(spec, VectorInput) and spec.dim is None:
        detail = "The learner takes vectors of any length; give input with a length instead."
        raise fail("unusable_encoder", detail, "/learner")
    return found


def _device(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in module.parameters()), torch.device("cpu"))


def _input(given: dict[str, Any] | None) -> ImageInput | PhotoInput | VectorInput:
    try:
        found = _INPUT.validate_python(given, strict=True)
    except ValidationError as error:
        raise ProblemError(_input_faults(error)) from None
    if isinstance(found, VectorInput) and found.dim is None:
        raise fail("missing", "A stream takes vectors of one length; give it as dim.", "/input/dim")
    if not isinstance(found, VectorInput) and found.size < _SIDE_MIN:
        raise fail(
            "out_of_range", f"Images have sides of at least {_SIDE_MIN} pixels.", "/input/size", _SIDE_MIN
        )
    return found


def _input_faults(error: ValidationError) -> list[Fault]:
    # The location of an error in a union begins with the tag of the member.
    return [
        Fault(fault.code, fault.detail, f"/input{fault.pointer}", fault.limit)
        for fault in faults(error.errors(include_url=False, include_input=False), skip=1)
    ]
