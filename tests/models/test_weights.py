"""Weights survive the trip through bytes bit for bit, and foreign bytes are refused."""

import struct

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
