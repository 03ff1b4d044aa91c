"""Several depths of one network: folded as whole, components in order, and the check of what it was trained on."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from models.encoders.depths import Depths, DepthsConfig


def made(base: str) -> tuple[Depths, torch.Tensor]:
    torch.manual_seed(0)
    hparams: dict[str, object] = {"width": 8} if base == "conv4" else {"widths": [8] * 4, "mirrored": True}
    encoder = Depths(DepthsConfig.model_validate({"base": base, "hparams": hparams, "components": 6})).eval()
    shape = (1, 28, 28) if base == "conv4" else (3, 32, 32)
    x = torch.rand(60, *shape, generator=torch.Generator().manual_seed(1))
    encoder.fit_components(x)
    return encoder.requires_grad_(False), x


@pytest.mark.parametrize("base", ["conv4", "conv4-rgb"])
def test_folded_it_is_the_same_function(base: str) -> None:
    encoder, x = made(base)
    assert encoder.sources is not None
    features = encoder(x)
    assert features.shape[1] == encoder.dim == sum(encoder.sources)
    assert_close(encoder.fold()(x), features, atol=1e-5, rtol=1e-4)


def test_components_come_in_falling_order_and_are_uncorrelated() -> None:
    encoder, x = made("conv4")
    pixels = encoder(x)[:, -6:]
    covariance = torch.cov(pixels.T)
    spread = covariance.diagonal()
    assert bool((spread.diff() <= 1e-6).all())
    assert float((covariance - spread.diag()).abs().max()) < 1e-4 * float(spread.max())


def test_a_support_set_from_elsewhere_does_not_fit() -> None:
    encoder, x = made("conv4")
    features, labels = encoder(x), torch.arange(60) // 6
    support, targets = features[:20][None], torch.arange(20)[None] // 10
    mask = torch.ones(1, 20, dtype=torch.bool)
    assert encoder.familiarity(support, targets, mask) is None
    encoder.fit_domain(features, features, labels)
    home, padded = encoder.familiarity(support, targets, mask), mask.clone()
    padded[:, 10:] = False
    abroad = encoder.familiarity(encoder(5 * (x[:20] > 0.5).float())[None], targets, mask)
    half = encoder.familiarity(support, targets, padded)
    alone = encoder.familiarity(support[:, :10], targets[:, :10], mask[:, :10])
    assert home is not None
    assert abroad is not None
    assert half is not None
    assert alone is not None
    assert float(home) > 0.05 > float(abroad)
    assert_close(half, alone)
