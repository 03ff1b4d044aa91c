"""The inverse temperature of scores: found again where it was put in, and modest where all is right."""

import torch

from models.continual.task_gate import temperature


def test_the_temperature_of_a_draw_is_found() -> None:
    drawn = torch.Generator().manual_seed(0)
    scores = torch.randn(4000, 3, generator=drawn)
    y = torch.multinomial((4 * scores).softmax(1), 1, generator=drawn)[:, 0]
    assert 3.3 < float(temperature(scores, y)) < 4.8


def test_a_few_right_answers_promise_no_certainty() -> None:
    """Confidence grows with the number of examples that were all right."""
    few, many = (temperature(torch.eye(2).repeat(n, 1), torch.arange(2).repeat(n)) for n in (2, 200))
    assert float(torch.sigmoid(few)) < 0.95
    assert few < many
