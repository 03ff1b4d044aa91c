import torch

from models.inputs.ink import area_resize, ink


def drawing(
    paper: tuple[int, int, int], pen: tuple[int, int, int], height: int = 60, width: int = 60
) -> torch.Tensor:
    picture = torch.tensor(paper, dtype=torch.uint8).expand(1, height, width, 3).clone()
    picture[:, height // 3 : height // 2, 10 : width - 10] = torch.tensor(pen, dtype=torch.uint8)
    return picture


def test_colour_and_polarity_do_not_matter() -> None:
    white = ink(drawing((255, 255, 255), (0, 0, 0)))
    for paper, pen in (
        ((0, 0, 0), (255, 255, 255)),
        ((250, 240, 0), (250, 0, 0)),
        ((90, 90, 90), (140, 90, 90)),
    ):
        assert torch.allclose(ink(drawing(paper, pen)), white, atol=1e-6)


def test_ink_is_high_and_spans_the_unit_interval() -> None:
    x = ink(drawing((255, 255, 255), (40, 40, 40)))
    assert float(x[0, 0, 0, 0]) == 0
    assert float(x.max()) == 1


def test_a_blank_or_nearly_blank_picture_is_all_zero() -> None:
    assert not ink(drawing((200, 200, 200), (205, 200, 200))).any()


def test_a_wide_picture_is_padded_with_background_not_stretched() -> None:
    x = ink(drawing((255, 255, 255), (0, 0, 0), height=30, width=90))[0, 0]
    assert not x[:9].any()
    assert not x[-9:].any()


def test_area_resize_keeps_the_mean_exactly_at_uneven_ratios() -> None:
    x = torch.rand(3, 1, 105, 105)
    assert torch.allclose(area_resize(x, 28).mean((1, 2, 3)), x.mean((1, 2, 3)), atol=1e-6)
    assert torch.allclose(area_resize(area_resize(x, 56), 28), area_resize(x, 28), atol=1e-5)


def test_a_cropped_glyph_depends_on_neither_its_place_nor_its_size() -> None:
    page = torch.full((2, 120, 120, 1), 255, dtype=torch.uint8)
    page[0, 10:34, 12:24] = 0
    page[1, 40:112, 60:96] = 0
    small, large = ink(page, crop=True)
    assert torch.allclose(small, large, atol=0.05)
    assert not bool(small[0, :2].any())
    assert float(small[0, 14, 14]) == 1


def test_a_blank_picture_can_be_cropped() -> None:
    assert not ink(torch.full((1, 40, 30, 3), 200, dtype=torch.uint8), crop=True).any()
