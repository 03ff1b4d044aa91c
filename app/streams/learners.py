"""The learners of streams, built from their configs: everything that they have learned is in versions."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from app.http.problems import fail
from app.learners.served_learners import ServedLearners
from app.serving.served_models import ServedStream
from app.streams.versions import StreamVersionRef
from models.continual.stream_config import StreamConfig, build
from models.protocol import LearnerError
from models.stream_protocol import StreamLearner

CAPACITY = 64
"""Learners in memory; each is as large as its fixed random features."""


@dataclass(frozen=True)
class BuiltStreamLearner:
    learner: StreamLearner
    served: ServedStream


class StreamLearners:
    """The learners that were used last. Streams with the same config share one. Belongs to the event loop."""

    def __init__(self, learners: ServedLearners, device: str) -> None:
        self._learners = learners
        self._device = torch.device(device)
        self._built: OrderedDict[tuple[str, str], asyncio.Task[BuiltStreamLearner]] = OrderedDict()

    async def get(self, version: StreamVersionRef) -> BuiltStreamLearner:
        """Raises `ProblemError` 503 if the learner whose encoder the stream uses is gone or was replaced."""
        encoder = await self._encoder(version.config)
        key = version.digest, version.config.encoder_digest or ""
        flight = self._built.get(key)
        if flight is None or (flight.done() and flight.exception() is not None):
            work = asyncio.to_thread(self._build, version.config, encoder)
            flight = self._built[key] = asyncio.create_task(work)
            if len(self._built) > CAPACITY:
                self._built.popitem(last=False)
        self._built.move_to_end(key)
        # Shielded: a client that disconnects cancels only its own wait.
        return await asyncio.shield(flight)

    async def _encoder(self, config: StreamConfig) -> nn.Module | None:
        if config.encoder is None:
            return None
        artifact = await self._learners.find(config.encoder)
        if artifact is None or artifact.digest != config.encoder_digest:
            detail = f"The learner {config.encoder}, whose encoder the stream uses, is no longer served."
            raise fail("learner_unavailable", detail)
        return artifact.learner.encoder

    def _build(self, config: StreamConfig, encoder: nn.Module | None) -> BuiltStreamLearner:
        try:
            learner = build(config, encoder)
        except LearnerError as error:
            raise fail("learner_unavailable", f"The stream cannot be built: {error}.") from error
        return BuiltStreamLearner(learner, ServedStream.of(learner, self._device))
