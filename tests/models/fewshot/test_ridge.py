"""Ridge regression in closed form against least squares by another road, and against its own derivative."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from models.encoder_protocol import EncoderConfig
from models.encoders.identity import Identity
from models.fewshot.ridge import Ridge, RidgeConfig, ridge_solution
from models.protocol import Support
from tests.models.fewshot.short_training import trained

TARGETS = torch.tensor([[0, 1, 2, 0, 2, 0]])


def learner_of(**changes: object) -> Ridge:
    return Ridge(Identity(EncoderConfig()), RidgeConfig.model_validate(changes)).eval()


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dim", [2, 5, 6, 40], ids=lambda dim: f"{dim}-features-of-6-examples")
def test_the_answer_is_that_of_least_squares_with_an_intercept(dim: int) -> None:
    """‖XW − Y‖² + λ‖W‖² as plain least squares on a longer X: √λ on the diagonal, below it."""
    x, query = drawn(1, 6, dim), drawn(1, 4, dim, seed=2)
    longer = torch.cat((torch.cat((x[0], torch.ones(6, 1)), 1), 0.7**0.5 * torch.eye(dim + 1)))
    y = torch.cat((torch.eye(3)[TARGETS[0]], torch.zeros(dim + 1, 3)))
    solution = torch.linalg.lstsq(longer, y).solution
    expected = 3.0 * torch.cat((query[0], torch.ones(4, 1)), 1) @ solution
    learner = learner_of(penalty=0.7, scale=3.0)
    with torch.no_grad():
        answer = learner.predict(learner.adapt(Support.of(x, TARGETS)), query)
    assert_close(answer.log_probs[0], expected.log_softmax(-1), atol=1e-5, rtol=1e-4)
    assert answer.epistemic is None
    assert answer.unknown is None


def test_gradients_pass_through_both_forms() -> None:
    y, penalty = torch.eye(2, dtype=torch.double)[None], torch.tensor(0.5, dtype=torch.double)
    for dim in (1, 4):
        x = drawn(1, 2, dim).double().requires_grad_()
        assert torch.autograd.gradcheck(ridge_solution, (x, y, penalty.clone().requires_grad_()))


@pytest.mark.parametrize("size", [1e-18, 1e-3, 1e3, 1e9])
def test_pitfall_23_non_pd_equal_examples_of_any_size_give_finite_answers(size: float) -> None:
    x = size * drawn(1, 1, 3).expand(1, 6, 3)
    learner = learner_of(penalty=1e-8)
    with torch.no_grad():
        answer = learner.predict(learner.adapt(Support.of(x, TARGETS)), x)
    assert answer.log_probs.isfinite().all()
    # Nothing but their numbers tells the classes apart: 3, 1 and 2 of 6.
    assert (answer.log_probs[0].argmax(-1) == 0).all()


def test_the_penalty_and_the_scale_are_learned_with_the_encoder(tmp_path: Path) -> None:
    made = trained(tmp_path, "ridge", training_steps=20)
    assert made.config.metrics["validation"]["accuracy_5w1s"] > 0.4
    assert isinstance(made.learner, Ridge)
    assert float(made.learner.log_penalty) != 0.0
    assert float(made.learner.log_scale) != pytest.approx(2.302585)
