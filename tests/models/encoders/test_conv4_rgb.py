"""Conv-4 in colour: its widths, its features, what serving makes of it; and that grey Conv-4 is as it was."""

import pytest
import torch
from torch.testing import assert_close

from models.encoders.conv4 import Conv4, Conv4Config
from models.encoders.conv4_rgb import Conv4Rgb, Conv4RgbConfig
from models.inputs import ImageInput, PhotoInput
from models.registry import LearnerConfig, RegistryError, build, complete

SMALL = (4, 6, 8, 10)


def encoder(
    *,
    mirrored: bool = False,
    size: int = 32,
    widths: tuple[int, ...] = SMALL,
    radius: float | None = None,
) -> Conv4Rgb:
    torch.manual_seed(0)
    made = Conv4Rgb(Conv4RgbConfig(widths=widths, size=size, mirrored=mirrored, radius=radius))
    made.train()(torch.rand(40, 3, size, size))
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize(("size", "dim"), [(16, 10), (32, 40), (40, 40), (84, 250)])
def test_a_feature_is_the_last_width_at_every_place_left(size: int, dim: int) -> None:
    made = encoder(size=size)
    assert made.dim == dim
    assert made(torch.rand(2, 3, size, size)).shape == (2, dim)


def test_the_wide_one_has_the_widths_of_r2d2() -> None:
    convolutions = [block[0] for block in encoder(widths=(96, 192, 384, 512)).blocks]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [
        (3, 96),
        (96, 192),
        (192, 384),
        (384, 512),
    ]


@pytest.mark.parametrize(("mirrored", "radius"), [(False, None), (True, None), (True, 4.0)])
def test_serving_runs_the_same_function_without_batch_norm(mirrored: bool, radius: float | None) -> None:
    made, x = encoder(mirrored=mirrored, radius=radius), torch.rand(5, 3, 32, 32)
    served = made.fold()
    assert_close(served(x), made(x), atol=1e-5, rtol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in served.modules())


def test_a_picture_and_its_mirror_image_have_one_feature_where_that_is_asked() -> None:
    x = torch.rand(5, 3, 32, 32)
    made = encoder(mirrored=True)
    assert_close(made(x), made(x.flip(-1)))
    plain = encoder()
    assert not torch.allclose(plain(x), plain(x.flip(-1)), atol=1e-3)
    assert_close(made(x), 0.5 * (plain(x) + plain(x.flip(-1))))


def test_features_lie_on_a_sphere_where_that_is_asked() -> None:
    x = torch.rand(5, 3, 32, 32)
    on_sphere, plain = encoder(mirrored=True, radius=4.0)(x), encoder(mirrored=True)(x)
    assert_close(on_sphere.norm(dim=1), torch.full((5,), 4.0))
    assert_close(torch.cosine_similarity(on_sphere, plain), torch.ones(5))


def test_in_training_each_view_counts_for_itself() -> None:
    x = torch.rand(5, 3, 32, 32)
    one, other = encoder(mirrored=True).train(), encoder(mirrored=False).train()
    assert_close(one(x), other(x))


def test_a_feature_does_not_depend_on_its_neighbours() -> None:
    made, x = encoder(), torch.rand(9, 3, 32, 32)
    assert_close(made(x)[:1], made(x[:1]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("widths", [[64, 64, 64], [64] * 5, "wide", 64])
def test_other_than_four_widths_are_refused(widths: object) -> None:
    config = LearnerConfig(
        code_version="0",
        method="protonet",
        encoder="conv4-rgb",
        encoder_hparams={"widths": widths},
        input=PhotoInput(),
    )
    with pytest.raises(RegistryError, match="'conv4-rgb', hyperparameter 'widths'"):
        build(config)


def test_the_description_names_the_widths() -> None:
    config = LearnerConfig(code_version="0", method="protonet", encoder="conv4-rgb", input=PhotoInput())
    described = complete(config).model_dump(mode="json")
    assert described["encoder_hparams"] == {"widths": [64, 64, 64, 64], "size": 32, "mirrored": False}
    assert described["input"] == {"kind": "image", "size": 32, "channels": 3}


def test_the_grey_one_is_described_and_named_as_before() -> None:
    config = LearnerConfig(code_version="0", method="protonet", encoder="conv4", input=ImageInput())
    described = complete(config).model_dump(mode="json")
    assert described["encoder_hparams"] == {"width": 64}
    assert described["input"] == {"kind": "image", "size": 28, "channels": 1}
    names = {name.split(".", 2)[2] for name in Conv4(Conv4Config(width=4)).state_dict()}
    batch_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert names == {"0.weight", *(f"1.{name}" for name in batch_norm)}


def test_relu_after_the_pool_is_relu_before_it() -> None:
    made = Conv4(Conv4Config(width=4)).eval()
    x = torch.rand(3, 1, 28, 28)
    by_hand = x
    for block in made.blocks:
        convolution, norm = block[0], block[1]
        by_hand = torch.nn.functional.max_pool2d(torch.relu(norm(convolution(by_hand))), 2)
    assert torch.equal(made(x), by_hand.flatten(1))
