"""The learners of streams: built of a description, as all that they have learned lies in versions."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from app.http.problems import fail
from app.learners.service import Learners
from app.serving.served_models import ServedStream
from app.streams.versions import StreamHead
from models.continual.config import StreamConfig, build
from models.protocol import LearnerError
from models.stream_protocol import StreamLearner

KEPT = 64
"""Learners of streams that are asked; one is as large as its fixed random features."""


@dataclass(frozen=True)
class Built:
    learner: StreamLearner
    served: ServedStream


class StreamLearners:
    """Belongs to the event loop. Streams of one description share a learner."""

    def __init__(self, learners: Learners, device: str) -> None:
        self._learners = learners
        self._device = torch.device(device)
        self._built: OrderedDict[tuple[str, str], asyncio.Task[Built]] = OrderedDict()

    async def of(self, head: StreamHead) -> Built:
        """Raises `ProblemError` 503 where the learner whose encoder it needs is gone, or another one."""
        encoder = await self._encoder(head.config)
        key = head.digest, head.config.encoder_digest or ""
        flight = self._built.get(key)
        if flight is None or (flight.done() and flight.exception() is not None):
            made = asyncio.to_thread(self._build, head.config, encoder)
            flight = self._built[key] = asyncio.create_task(made)
            if len(self._built) > KEPT:
                self._built.popitem(last=False)
        self._built.move_to_end(key)
        # Shielded: a client that leaves takes only itself away.
        return await asyncio.shield(flight)

    async def _encoder(self, config: StreamConfig) -> nn.Module | None:
        if config.encoder is None:
            return None
        artifact = await self._learners.find(config.encoder)
        if artifact is None or artifact.digest != config.encoder_digest:
            detail = (
                f"The learner {config.encoder}, whose encoder the stream stands on, is not served any more."
            )
            raise fail("learner_unavailable", detail)
        encoder: nn.Module | None = getattr(artifact.learner, "encoder", None)
        if encoder is None:
            raise fail("learner_unavailable", f"The learner {config.encoder} has no encoder.")
        return encoder

    def _build(self, config: StreamConfig, encoder: nn.Module | None) -> Built:
        try:
            learner = build(config, encoder)
        except LearnerError as error:
            raise fail("learner_unavailable", f"The stream cannot be built: {error}.") from error
        return Built(learner, ServedStream.of(learner, self._device))
