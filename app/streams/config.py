"""What a client asks a stream to be, as a description with every default written out."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from app.http.problems import Fault, ProblemError, fail
from app.http.validation import faults
from app.learners.service import Learners
from app.streams.schemas import CreateStream
from models.artifact import Artifact
from models.continual.config import StreamConfig, build
from models.inputs import ImageInput, InputSpec, PhotoInput, VectorInput
from models.protocol import LearnerError
from models.registry import STREAMS

_INPUT: TypeAdapter[ImageInput | PhotoInput | VectorInput] = TypeAdapter(InputSpec)
_SMALLEST = 16


async def describe(wanted: CreateStream, learners: Learners) -> StreamConfig:
    """Raises `ProblemError` 422 naming the field at fault."""
    if wanted.method not in STREAMS:
        raise fail("unknown_method", f"Known are: {', '.join(sorted(STREAMS))}.", "/method")
    if (wanted.input is None) == (wanted.learner is None):
        raise fail("missing" if wanted.input is None else "given_twice", "Give input or learner.", "/input")
    encoder = None if wanted.learner is None else await _encoder(wanted.learner, learners)
    taken = encoder.config.input if encoder is not None else _input(wanted.input)
    config = StreamConfig(
        method=wanted.method,
        scenario=wanted.scenario,
        hparams=wanted.hparams,
        input=taken,
        encoder=None if encoder is None else encoder.name,
        encoder_digest=None if encoder is None else encoder.digest,
        shape=_raw_shape(taken),
        seed=wanted.seed,
    )
    return await asyncio.to_thread(_completed, config, encoder)


def _completed(config: StreamConfig, encoder: Artifact | None) -> StreamConfig:
    """With the shape of its features, and the method's defaults: a later default cannot change the stream. What no
    learner can be built of is refused here, not in a job."""
    if encoder is not None:
        with torch.no_grad():
            blank = torch.zeros(1, *config.shape, device=_device(encoder.learner))
            shape = tuple(_network(encoder)(blank).shape[1:])
        config = config.model_copy(update={"shape": shape})
    try:
        _, hparams = STREAMS.configured(config.method, config.hparams)
        build(config, None if encoder is None else _network(encoder))
    except LearnerError as error:
        raise fail("invalid_hparams", f"{error}.", "/hparams") from None
    return config.model_copy(update={"hparams": hparams.model_dump(mode="json")})


async def _encoder(name: str, learners: Learners) -> Artifact:
    found = await learners.find(name)
    if found is None:
        # It says which are served.
        found = learners.named(name)
    taken = found.config.input
    if found.learner.traits.kind != "classification" or not hasattr(found.learner, "encoder"):
        raise fail("unusable_encoder", "The learner has no encoder that a stream could take.", "/learner")
    if isinstance(taken, VectorInput) and taken.dim is None:
        detail = "The learner takes vectors of any length; give input with the length instead."
        raise fail("unusable_encoder", detail, "/learner")
    return found


def _network(encoder: Artifact) -> nn.Module:
    return cast(nn.Module, encoder.learner.encoder)


def _device(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in module.parameters()), torch.device("cpu"))


def _input(given: dict[str, Any] | None) -> ImageInput | PhotoInput | VectorInput:
    try:
        found = _INPUT.validate_python(given, strict=True)
    except ValidationError as error:
        raise ProblemError(_under(error)) from None
    if isinstance(found, VectorInput) and found.dim is None:
        raise fail("missing", "A stream takes vectors of one length.", "/input/dim")
    if not isinstance(found, VectorInput) and found.size < _SMALLEST:
        raise fail("out_of_range", f"Pictures have at least {_SMALLEST} a side.", "/input/size", _SMALLEST)
    return found


def _under(error: ValidationError) -> list[Fault]:
    """Locations of a union begin with the tag of its member."""
    return [
        Fault(fault.code, fault.detail, f"/input{fault.pointer}", fault.limit)
        for fault in faults(error.errors(include_url=False, include_input=False), skip=1)
    ]


def _raw_shape(taken: ImageInput | PhotoInput | VectorInput) -> tuple[int, ...]:
    if isinstance(taken, VectorInput):
        assert taken.dim is not None
        return (taken.dim,)
    return taken.channels, taken.size, taken.size
