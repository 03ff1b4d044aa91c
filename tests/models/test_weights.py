"""Weights survive the trip through bytes bit for bit, and foreign bytes are refused."""

import struct
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from models.noise import label_key
from models.protocol import TaskWeights
from models.weights import Header, WeightsError, nbytes, pack, tensors, unpack

CLASSES = ("cat", "Hündchen", "日本", "a\u2028b")
HEADER = Header("d" * 64, CLASSES, seed=-(2**63), shots=(1, 2, 3, 4))


def weights_of(header: Header = HEADER, **rows: torch.Tensor) -> TaskWeights:
    way = len(header.classes)
    return TaskWeights(
        task={"scale": torch.randn(1), "memory": torch.randn(1, 3, 2).half()},
        rows=rows or {"prototype": torch.randn(1, way, 8), "count": torch.ones(1, way, dtype=torch.int64)},
        n_way=torch.tensor([way]),
        class_key=torch.tensor([[label_key(label) for label in header.classes]], dtype=torch.int64),
        seed=torch.tensor([header.seed]),
    )


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def test_comes_back_bit_for_bit() -> None:
    odd = torch.tensor([[float("nan"), -0.0, 1e-45, float("inf")]])
    weights = weights_of(odd=odd)
    again, header = unpack(pack(weights, HEADER))
    assert header == HEADER
    assert {name: (v.dtype, v.shape, raw(v)) for name, v in tensors(again)} == {
        name: (v.dtype, v.shape, raw(v)) for name, v in tensors(weights)
    }
    assert again.n_way.equal(weights.n_way)
    assert again.seed.equal(weights.seed)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_points_come_back_bit_for_bit(count: int) -> None:
    way = len(CLASSES)
    weights = replace(
        weights_of(),
        points={"place": torch.randn(1, count, 3, 2), "owner": torch.arange(count)[None]},
        coefficients={"alpha": torch.randn(1, way, count, 2).double()},
        n_points=torch.tensor([count]),
    )
    again, _ = unpack(pack(weights, HEADER))
    assert again.n_points is not None
    assert again.n_points.tolist() == [count]
    assert {name: (v.dtype, v.shape, raw(v)) for name, v in tensors(again)} == {
        name: (v.dtype, v.shape, raw(v)) for name, v in tensors(weights)
    }


def test_one_task_of_a_batch_has_its_own_points() -> None:
    batch = TaskWeights(
        task={},
        rows={},
        n_way=torch.tensor([2, 1]),
        class_key=torch.tensor([[1, 2], [3, 0]]),
        seed=torch.tensor([0, 1]),
        points={"place": torch.arange(24.0).view(2, 4, 3)},
        coefficients={"alpha": torch.arange(16.0).view(2, 2, 4)},
        n_points=torch.tensor([4, 2]),
    )
    first, second = batch.select(0), batch.select(1)
    assert first.points["place"].equal(batch.points["place"][:1])
    assert first.coefficients["alpha"].equal(batch.coefficients["alpha"][:1])
    assert second.points["place"].tolist() == [[[12, 13, 14], [15, 16, 17]]]
    assert second.coefficients["alpha"].tolist() == [[[8, 9]]]
    assert second.n_points is not None
    assert second.n_points.tolist() == [2]


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True),
    st.integers(-(2**63), 2**63 - 1),
)
def test_any_labels_and_seed(classes: list[str], seed: int) -> None:
    header = Header("digest", tuple(classes), seed, tuple(range(len(classes))))
    assert unpack(pack(weights_of(header), header))[1] == header


def test_views_of_a_batch_are_packed_alone() -> None:
    shared = torch.randn(1, 4, 16)
    weights = weights_of(a=shared[..., :8], b=shared[..., 8:], c=shared[..., ::2])
    again, _ = unpack(pack(weights, HEADER))
    assert again.rows["c"].equal(shared[..., ::2])


def test_nbytes_counts_every_tensor() -> None:
    assert nbytes(weights_of(prototype=torch.zeros(1, 4, 8))) == 4 * 8 * 4 + 4 + 6 * 2 + 4 * 8 + 8 + 8


@pytest.mark.parametrize(
    "header", [Header("d", CLASSES, 1), Header("d", CLASSES[::-1], HEADER.seed), Header("d", (), 0)]
)
def test_a_header_that_contradicts_is_refused(header: Header) -> None:
    with pytest.raises(WeightsError):
        pack(weights_of(), header)


def test_several_tasks_are_refused() -> None:
    both = TaskWeights(
        {}, {}, torch.tensor([0, 0]), torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2).long()
    )
    with pytest.raises(WeightsError, match="2 tasks"):
        pack(both, Header("d", (), 0))


GOOD = pack(weights_of(), HEADER)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        GOOD[:-1],
        GOOD[: len(GOOD) // 4],
        struct.pack("<Q", 2**62) + b"{}",
        GOOD.replace(b'"format":"1"', b'"format":"9"'),
        GOOD.replace(b"learner_digest", b"learner_disgust"[:14]),
        GOOD.replace(b"task.scale", b"junk.scale"),
        save({"class_key": torch.zeros(1, 0)}),
        save({"x": torch.zeros(1)}, {"format": "1", "header": "[]"}),
    ],
)
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(WeightsError):
        unpack(data)
