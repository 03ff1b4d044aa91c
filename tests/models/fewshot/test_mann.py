"""MANN: labels one step late, queries that never write, and streams of any length."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from models.encoder_protocol import EncoderConfig
from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.mann import Mann, MannConfig, State, shuffled
from models.protocol import (
    FOREIGN,
    LearnerError,
    Span,
    Support,
    TaskWeights,
    UnsupportedSupportError,
)
from models.testing.tasks import episodes_of, fixed, vectors
from models.weights import nbytes

SMALL = {"ways": 3, "hidden": 16, "slots": 8, "width": 6, "heads": 2}
TARGETS = torch.tensor([[0, 1, 2, 0, 2, 1, 1, 0]])


def learner_of(**changes: object) -> Mann:
    torch.manual_seed(0)
    config = MannConfig.model_validate({**SMALL, **changes})
    return Mann(Identity(IdentityConfig(dim=8)), config).eval()


def frozen(**changes: object) -> Mann:
    return learner_of(**changes).requires_grad_(False)


def drawn(count: int, seed: int = 1, tasks: int = 1) -> Tensor:
    return torch.randn(tasks, count, 8, generator=torch.Generator().manual_seed(seed))


def bytes_of(weights: TaskWeights) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in weights.task.items()}


@pytest.fixture(scope="module")
def trained() -> Mann:
    """Two of eight axes, streams of six: what is to be learned is to bind and to recall."""
    learner = learner_of(ways=2, hidden=32, slots=16, width=12, heads=1, in_blocks=0.0).train()
    optimiser = torch.optim.Adam(learner.parameters(), lr=2e-2)
    rng = torch.Generator().manual_seed(3)
    for _ in range(300):
        _, logits = learner.follow(stream := easy(rng, 16))
        assert stream.targets is not None
        loss = F.cross_entropy(logits.flatten(0, 1), stream.targets.flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 5.0)
        optimiser.step()
    return learner.eval().requires_grad_(False)


def easy(rng: torch.Generator, tasks: int) -> Support:
    axes = torch.stack([torch.randperm(8, generator=rng)[:2] for _ in range(tasks)])
    y = torch.stack([torch.tensor([0, 0, 0, 1, 1, 1])[torch.randperm(6, generator=rng)] for _ in axes])
    return Support.of(2.0 * torch.eye(8)[axes.gather(1, y)], y, torch.full((tasks,), 2))


def test_a_query_is_one_more_step_with_the_last_label() -> None:
    learner, x, query = frozen(), drawn(8), drawn(1, seed=2)
    asked = learner.predict(learner.adapt(Support.of(x, TARGETS)), query)
    longer = torch.cat((TARGETS, torch.tensor([[2]])), 1)
    _, logits = learner.follow(Support.of(torch.cat((x, query), 1), longer))
    assert_close(asked.log_probs[0, 0], logits[0, -1].log_softmax(-1))
    assert asked.epistemic is None
    assert asked.unknown is None


def test_an_answer_owes_nothing_to_the_label_of_its_own_step() -> None:
    learner, x = frozen(), drawn(8)
    other = TARGETS.clone()
    other[0, 4] = 0
    _, one = learner.follow(Support.of(x, TARGETS))
    _, two = learner.follow(Support.of(x, other))
    assert two[:, :5].equal(one[:, :5])
    assert not two[:, 5].allclose(one[:, 5], atol=1e-6)


def test_pitfall_20_queries_never_write_to_memory() -> None:
    learner, query = frozen(), drawn(5, seed=2)
    weights = learner.adapt(Support.of(drawn(8), TARGETS))
    before = bytes_of(weights)
    first = learner.predict(weights, query)
    again = learner.predict(weights, query)
    assert again.log_probs.equal(first.log_probs)
    assert bytes_of(weights) == before


def test_pitfall_20_a_query_does_not_see_the_queries_before_it() -> None:
    learner, query = frozen(), drawn(5, seed=2)
    weights = learner.adapt(Support.of(drawn(8), TARGETS))
    together = learner.predict(weights, query)
    alone = [learner.predict(weights, query[:, index : index + 1]).log_probs for index in range(5)]
    assert_close(together.log_probs, torch.cat(alone, 1))


def test_pitfall_20_labels_shifted_by_one_break_the_answers(trained: Mann) -> None:
    """A learner told the label of the step itself, or that of the next one, knows nothing of what it saw."""
    stream = easy(torch.Generator().manual_seed(9), 200)
    targets = stream.targets
    assert targets is not None
    kept = replace(stream, features=stream.features[:, :5], targets=targets[:, :5], mask=stream.mask[:, :5])
    asked, wanted = stream.features[:, 5:], targets[:, 5:]

    def right(support: Support) -> float:
        answer = trained.predict(trained.adapt(support), asked)
        return float((answer.log_probs.argmax(-1) == wanted).float().mean())

    assert right(kept) > 0.85
    assert right(replace(kept, targets=targets[:, 1:])) < 0.7


def test_a_class_is_known_once_it_was_seen_and_not_before(trained: Mann) -> None:
    stream = easy(torch.Generator().manual_seed(9), 200)
    assert stream.targets is not None
    _, logits = trained.follow(stream)
    hit = (logits.argmax(-1) == stream.targets).float()
    seen = F.one_hot(stream.targets, 2).cumsum(1).gather(2, stream.targets[..., None])[..., 0]
    # Whoever remembers which class came first guesses the other: ¾ and no more.
    assert float(hit[seen == 1].mean()) < 0.85
    assert float(hit[seen == 3].mean()) > 0.85


def test_padding_neither_writes_nor_moves_the_controller() -> None:
    learner, x = frozen(), drawn(8)
    alone = learner.adapt(Support.of(x[:, :5], TARGETS[:, :5], torch.tensor([3])))
    mask = torch.tensor([[True] * 5 + [False] * 3])
    padded = learner.adapt(Support.of(x, TARGETS, torch.tensor([3]), mask))
    assert bytes_of(padded) == bytes_of(alone)
    inside = torch.tensor([[True, False, True, True, False, True, True, False]])
    holes = learner.adapt(Support.of(x, TARGETS, torch.tensor([3]), inside))
    picked = learner.adapt(Support.of(x[:, inside[0]], TARGETS[:, inside[0]], torch.tensor([3])))
    assert bytes_of(holes) == bytes_of(picked)


def test_pitfall_4_permuted_classes_turn_the_answers_and_renamed_ones_may_change_them() -> None:
    learner, x, query = frozen(), drawn(8), drawn(5, seed=2)
    keys, turned = torch.tensor([[5, -7, 30]]), torch.tensor([2, 0, 1])
    one = learner.predict(learner.adapt(Support.of(x, TARGETS, class_key=keys)), query)
    moved = Support.of(x, turned[TARGETS], class_key=keys[:, turned.argsort()])
    assert_close(learner.predict(learner.adapt(moved), query).log_probs[..., turned], one.log_probs)
    renamed = Support.of(x, TARGETS, class_key=keys.flip(1))
    assert not learner.predict(learner.adapt(renamed), query).log_probs.allclose(one.log_probs, atol=1e-4)


@pytest.mark.parametrize("way", [2, 4])
def test_pitfall_5_another_way_is_refused_with_the_ways_it_takes(way: int) -> None:
    learner = frozen()
    assert learner.traits.ways == Span(3, 3)
    with pytest.raises(UnsupportedSupportError, match="takes 3 classes"):
        learner.adapt(Support.of(drawn(8), torch.arange(8)[None] % way))


def test_a_prior_is_refused() -> None:
    learner = frozen()
    support = Support.of(drawn(8), TARGETS)
    with pytest.raises(UnsupportedSupportError, match="at once"):
        learner.adapt(support, prior=learner.adapt(support))


def test_the_state_at_the_published_sizes_is_25_kilobytes_however_long_the_stream() -> None:
    learner = Mann(Identity(IdentityConfig(dim=8)), MannConfig(ways=3)).eval().requires_grad_(False)
    short, long = (
        learner.adapt(Support.of(drawn(8), TARGETS)),
        learner.adapt(Support.of(drawn(24), TARGETS.repeat(1, 3))),
    )
    assert nbytes(short) == nbytes(long)
    assert short.task["slots"].numel() == 128 * 40
    assert 20_000 < nbytes(short) < 26_000


def test_a_state_is_its_tensors() -> None:
    learner = frozen()
    state, _ = learner.follow(Support.of(drawn(8), TARGETS))
    again = State.of(dict(reversed(state.tensors().items())))
    assert all(value is state.tensors()[name] for name, value in again.tensors().items())


def test_the_loss_is_the_mean_over_steps_and_known_queries() -> None:
    learner = frozen()
    task = fixed(3, vectors)(torch.Generator().manual_seed(4))
    batch = episodes_of([task])
    assert batch.support_y is not None
    stream = shuffled(Support.of(batch.support_x, batch.support_y, seed=batch.seed), 0.25)
    assert stream.targets is not None
    _, logits = learner.follow(stream)
    surprises = [F.cross_entropy(row, y) for row, y in zip(logits[0], stream.targets[0], strict=True)]
    asked = learner.predict(learner.adapt(stream), batch.query_x).log_probs[0]
    surprises += [-row[y] for row, y in zip(asked, task.query_y, strict=True) if y != FOREIGN]
    expected = torch.stack(surprises).mean() / torch.tensor(3.0).log()
    assert_close(learner.loss(batch, 0.0).total[0], expected)


def test_training_streams_are_shuffled_by_their_seed_and_padding_stays_behind() -> None:
    x, y = drawn(8, tasks=2), TARGETS.repeat(2, 1)
    mask = torch.tensor([[True] * 6 + [False] * 2, [True] * 8])
    three = torch.tensor([3, 3])
    support = Support.of(x, y, three, mask, seed=torch.tensor([5, 6]))
    mixed = shuffled(support, 0.0)
    assert mixed.mask.equal(mask)
    assert sorted(mixed.features[0, :6, 0].tolist()) == sorted(x[0, :6, 0].tolist())
    assert not mixed.features[1].equal(x[1])
    alone = shuffled(Support.of(x[:1, :6], y[:1, :6], three[:1], seed=torch.tensor([5])), 0.0)
    assert alone.features[0].equal(mixed.features[0, :6])


def test_streams_in_blocks_keep_each_class_together_and_in_any_order() -> None:
    tasks = 40
    support = Support.of(drawn(8, tasks=tasks), TARGETS.repeat(tasks, 1), seed=torch.arange(tasks))
    blocked = shuffled(support, 1.0).targets
    assert blocked is not None
    assert ((blocked[:, 1:] != blocked[:, :-1]).sum(1) == 2).all()
    assert len({tuple(row.tolist()) for row in blocked}) == 6


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(LearnerError, match="fixed feature length"):
        Mann(Identity(EncoderConfig()), MannConfig())
    with pytest.raises(LearnerError, match="as many slots"):
        learner_of(slots=1)


@pytest.mark.parametrize("writes", ["value", "key"])
def test_what_is_written_may_be_the_key_as_published(writes: str) -> None:
    learner = frozen(writes=writes)
    vectors = {"value": 2, "key": 1}[writes]
    assert learner.asking.out_features == 2 * (vectors * 6 + 2)
    assert learner.adapt(Support.of(drawn(8), TARGETS)).task["slots"].isfinite().all()
