"""The contract of encoders: what every one promises, whatever its input.

A package proves its encoder by subclassing `EncoderContract` in a test file:

    class TestMine(EncoderContract):
        encoder = "mine"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from models.encoder_protocol import Encoder
from models.inputs import ImageInput, VectorInput
from models.registry import ENCODERS, blank_encoder
from models.testing.failures import require, require_close, require_equal

_INPUTS = 5
_FREE_LENGTH = 8
"""Length of the vectors for an encoder that takes any."""


class EncoderContract:
    """Base of a test class for one encoder, by its registered name and some hyperparameters."""

    encoder: ClassVar[str]
    hparams: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def settings(self) -> tuple[str, Mapping[str, Any]]:
        return self.encoder, self.hparams

    @pytest.fixture
    def network(self, settings: tuple[str, Mapping[str, Any]]) -> Encoder:
        """The encoder with BatchNorm statistics as after a training, in evaluation mode."""
        name, hparams = settings
        found, config = ENCODERS.configured(name, hparams)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network: Encoder = found(config)
            network.train()(_inputs(network, 16))
        return network.eval().requires_grad_(False)

    def test_description_matches_the_network(
        self, settings: tuple[str, Mapping[str, Any]], network: Encoder
    ) -> None:
        blank = blank_encoder(*settings)
        require(
            blank.input_spec() == network.input_spec(),
            "input_spec: it must follow from the configuration alone",
        )
        x = _inputs(network)
        features = network(x)
        length = x.shape[1] if network.dim is None else network.dim
        require(
            features.shape == (len(x), length),
            f"encode: features have shape {list(features.shape)}, not [{len(x)}, {length}] (dim is {network.dim})",
        )
        require(features.dtype == torch.float32, f"encode: features are {features.dtype}, not torch.float32")

    def test_pitfall_01_neighbours_do_not_matter(self, network: Encoder) -> None:
        x = _inputs(network)
        require_close(
            "encode: a feature depends on its neighbours in the batch in evaluation mode",
            {"features": network(x)[:1]},
            {"features": network(x[:1])},
        )

    def test_nothing_is_changed_by_encoding(self, network: Encoder) -> None:
        state = {name: value.clone() for name, value in network.state_dict().items()}
        random_state = torch.get_rng_state()
        network(_inputs(network))
        require_equal("encode: it changes the encoder in evaluation mode", network.state_dict(), state)
        require(torch.get_rng_state().equal(random_state), "encode: it draws from torch's global generator")

    def test_folded_it_is_the_same_function(self, network: Encoder) -> None:
        x = _inputs(network)
        require_close(
            "fold: the folded network gives other features",
            {"features": network(x)},
            {"features": network.fold()(x)},
            atol=1e-4,
        )

    def test_augmented_inputs_are_inputs(self, network: Encoder) -> None:
        augmentation, spec = network.augmentation(), network.input_spec()
        if augmentation is None:
            return
        require(
            not isinstance(spec, VectorInput),
            "augmentation: vectors are never augmented; return None for them",
        )
        assert not isinstance(spec, VectorInput)
        channels, *sides = spec.stored_form.shape
        shape = (_INPUTS, *sides, *([] if isinstance(spec, ImageInput) else [channels]))
        stored = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        task = torch.arange(_INPUTS)
        one, other = (augmentation(stored, task, torch.Generator().manual_seed(1)) for _ in range(2))
        require(
            one.shape[1:] == spec.shape,
            f"augmentation: it makes inputs of shape {list(one.shape[1:])}, the encoder takes {list(spec.shape)}",
        )
        require_equal("augmentation: it does not follow its generator", {"inputs": one}, {"inputs": other})


def _inputs(network: Encoder, count: int = _INPUTS) -> Tensor:
    shape = network.input_spec().shape or (_FREE_LENGTH,)
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(2))
