"""One training of a hypernetwork for one more network, whatever its loss is."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from models.continual.chunked_hypernetwork import ChunkedHypernetwork
from models.continual.output_regulariser import DirectRegulariser, GramRegulariser, OutputSnapshot
from models.continual.two_step_training import learn
from models.protocol import LearnerError

SIZE = 25
NET = ChunkedHypernetwork(chunk=10, task_dim=4, chunk_dim=3, widths=(32,))
PARAMS = NET.initial(SIZE, torch.Generator().manual_seed(0))
EMBEDDINGS = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
KEPT = OutputSnapshot(PARAMS, EMBEDDINGS[:2], SIZE)
GOAL = torch.linspace(-1, 1, SIZE)


def to_goal(step: int, flat: Tensor) -> Tensor:
    return (flat - GOAL).square().mean()


def test_the_new_network_is_learned_and_the_old_ones_stay() -> None:
    before = NET.generate(PARAMS, EMBEDDINGS[:2], SIZE)
    moved = {}
    for beta in (0.0, 1.0):
        params, own = learn(
            NET,
            PARAMS,
            EMBEDDINGS[2],
            SIZE,
            to_goal,
            steps=300,
            lr=1e-2,
            beta=beta,
            regulariser=GramRegulariser(NET, KEPT),
        )
        assert to_goal(0, NET.generate(params, own[None], SIZE)[0]) < 0.05
        moved[beta] = float((NET.generate(params, EMBEDDINGS[:2], SIZE) - before).norm() / before.norm())
    assert moved[1.0] < 0.1 < 0.3 < moved[0.0]


def test_gram_and_direct_train_to_the_same_parameters() -> None:
    one, other = (
        learn(
            NET,
            PARAMS,
            EMBEDDINGS[2],
            SIZE,
            to_goal,
            steps=20,
            lr=1e-2,
            beta=1.0,
            regulariser=kind(NET, KEPT),
        )[0]
        for kind in (GramRegulariser, DirectRegulariser)
    )
    for name, value in one.items():
        assert_close(value, other[name], atol=1e-3, rtol=1e-3)


def test_nothing_that_is_given_is_changed() -> None:
    before = {name: value.clone() for name, value in PARAMS.items()}
    embedding = EMBEDDINGS[2].clone()
    _, own = learn(NET, PARAMS, embedding, SIZE, to_goal, steps=3, lr=1e-2, learned_embedding=False, beta=0.0)
    assert own.equal(EMBEDDINGS[2])
    assert all(value.equal(PARAMS[name]) for name, value in before.items())


def test_a_loss_that_is_no_number_is_an_error() -> None:
    with pytest.raises(LearnerError, match="diverged at step 0"):
        learn(NET, PARAMS, EMBEDDINGS[2], SIZE, lambda _, flat: flat.sum() * torch.nan, steps=3, lr=1e-2)
