"""Every registered encoder keeps the contract."""

from collections.abc import Mapping
from typing import Any

import pytest

from models.registry import ENCODERS
from models.testing.encoder_contract import EncoderContract

VARIANTS: list[tuple[str, Mapping[str, Any]]] = [
    ("conv4", {"width": 4}),
    ("conv4-rgb", {"widths": [4, 4, 4, 4], "size": 16, "mirrored": True, "radius": 2.0}),
    ("identity", {"dim": 3}),
]


class TestEveryEncoder(EncoderContract):
    @pytest.fixture(params=[*((name, {}) for name in ENCODERS), *VARIANTS], ids=str)
    def settings(self, request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
        name, hparams = request.param
        return name, hparams
