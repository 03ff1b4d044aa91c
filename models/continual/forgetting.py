"""Removal of one task from a hypernetwork: the network generated for the task's embedding becomes noise.

Dropping the embedding alone removes nothing, because Θ still generates the network for anyone who saved the
embedding. So h(e; Θ) is trained towards a random body under a head that gives every input the same answer, while the
output regulariser holds all other networks. The result answers at chance, always the same class, and is no more
confident on its training data than on anything else.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from models.continual.chunked_hypernetwork import Parameters
from models.continual.generated_networks import Generated, TaskPart
from models.continual.output_regulariser import GramRegulariser, OutputSnapshot
from models.continual.two_step_training import learn
from models.protocol import LearnerError
from models.stream_protocol import ProgressCallback

_LR, _BETA = 1e-3, 100.0
_SETTLING = 10
"""Factor by which steps shrink in the second half of a round, since jitter is what moves other networks most."""
_ROUNDS = 8
_MOVED = 0.5
"""Relative change at which a network counts as removed."""
_ANSWER_BIAS = 2.0
"""Bias of the class that is always answered."""
_LEFT_ALONE = 0.2
"""Largest relative change allowed to another task's network."""
_HEAD_WEIGHT = 300.0
"""Weight of the head in the loss: it has few numbers beside the body."""
_PROBES, _STILL = 256, 0.05
"""Number of random inputs, and how much logits may still depend on them."""


def erase(
    generated: Generated,
    params: Parameters,
    removed: TaskPart,
    others: Float[Tensor, "t e"],
    rows: int,
    generator: torch.Generator,
    report: ProgressCallback | None = None,
) -> dict[str, Tensor]:
    """Return new parameters. Raise `LearnerError` if the network would not change, or only together with others."""
    net, size = generated.net, generated.target.size(rows)
    regulariser = GramRegulariser(net, OutputSnapshot(params, others, size), "sum")
    embedding = generated.embeddings(params, [removed])[0]
    before = generated.network(params, removed)
    noise = _noise(generated, removed, rows, generator).to(before.device)
    weight = torch.ones_like(noise)
    generated.split(weight[None])[1].fill_(_HEAD_WEIGHT)
    new = dict(params)
    for _ in range(_ROUNDS):
        for lr in (_LR, _LR / _SETTLING):
            new, _ = learn(
                net,
                new,
                embedding,
                size,
                lambda _, flat: (weight * (flat - noise).square()).sum(),
                steps=generated.config.forget_iterations,
                lr=lr,
                beta=_BETA,
                regulariser=regulariser,
                learned_embedding=False,
                report=report,
            )
        after = generated.network(new, removed)
        moved = float((after - before).norm()) > _MOVED * float(before.norm())
        # Further rounds pull back other networks that were moved on the way.
        alone = _largest_change(generated, params, new, others, size) < _LEFT_ALONE
        if moved and alone and _ignores_input(generated, before, after, removed, generator):
            return new
    raise LearnerError("the task could not be removed without changing the others; raise `forget_iterations`")


def _noise(
    generated: Generated, removed: TaskPart, rows: int, generator: torch.Generator
) -> Float[Tensor, "size"]:
    deviation = generated.target.variance(rows).sqrt()
    noise = torch.randn(len(deviation), generator=generator) * deviation
    first, way = removed["rows"].tolist()
    head_rows = generated.split(noise[None])[1][0]
    head_rows.zero_()
    head_rows[first + int(torch.randint(way, (), generator=generator)), -1] = _ANSWER_BIAS
    return noise


def _largest_change(
    generated: Generated, before: Parameters, after: Parameters, others: Float[Tensor, "t e"], size: int
) -> float:
    def change(embedding: Tensor) -> float:
        old, new = (generated.net.generate(each, embedding[None], size) for each in (before, after))
        return float((new - old).norm() / old.norm().clamp_min(1e-12))

    return max(change(embedding) for embedding in others)


def _ignores_input(
    generated: Generated,
    before: Float[Tensor, "size"],
    after: Float[Tensor, "size"],
    removed: TaskPart,
    generator: torch.Generator,
) -> bool:
    """Return True if logits hardly depend on the input, compared with how much they did and with `_ANSWER_BIAS`.

    Comparing labels would not do: a network may give one class to all these inputs and another to others.
    """
    first, way = removed["rows"].tolist()
    for x in (
        torch.randn(_PROBES, *generated.shape, generator=generator),
        torch.rand(_PROBES, *generated.shape, generator=generator),
    ):
        probes = x.to(before.device)
        old, new = (generated.logits(flat, probes, first, way).std(0).max() for flat in (before, after))
        if float(new) > _STILL * min(float(old), _ANSWER_BIAS):
            return False
    return True
