"""The chunked hypernetwork: sizes, batches of tasks, growth, and the scale of what it writes."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from models.continual.chunked_hypernetwork import ChunkedHypernetwork
from models.continual.target_networks import MLPTarget

GENERATOR = torch.Generator


def net(chunk: int = 10, widths: tuple[int, ...] = (6, 5)) -> ChunkedHypernetwork:
    return ChunkedHypernetwork(chunk, task_dim=4, chunk_dim=3, widths=widths)


@pytest.mark.parametrize("size", [7, 10, 45])
@pytest.mark.parametrize("widths", [(), (6, 5)])
def test_a_batch_of_embeddings_becomes_a_batch_of_networks(size: int, widths: tuple[int, ...]) -> None:
    params = net(widths=widths).initial(size, GENERATOR().manual_seed(0))
    embeddings = torch.randn(3, 4)
    flat = net(widths=widths).generate(params, embeddings, size)
    assert flat.shape == (3, size)
    assert_close(flat[1:2], net(widths=widths).generate(params, embeddings[1:2], size))


def test_a_chunk_is_the_output_layer_on_its_embedding() -> None:
    params = net().initial(25, GENERATOR().manual_seed(0))
    embedding = torch.randn(4)
    both = torch.cat([embedding, params["chunks"][1]])
    hidden = F.relu(F.linear(both, params["trunk.0.weight"], params["trunk.0.bias"]))
    hidden = F.relu(F.linear(hidden, params["trunk.1.weight"], params["trunk.1.bias"]))
    expected = F.linear(hidden, params["out.weight"], params["out.bias"])
    assert_close(net().generate(params, embedding[None], 25)[0, 10:20], expected)


def test_growing_leaves_what_there_was() -> None:
    params = net().initial(25, GENERATOR().manual_seed(0))
    grown = net().grown(params, 41, GENERATOR().manual_seed(1))
    assert len(grown["chunks"]) == 5
    embeddings = torch.randn(2, 4)
    after = net().generate(grown, embeddings, 41)
    assert_close(after[:, :25], net().generate(params, embeddings, 25))
    assert net().grown(grown, 41, GENERATOR())["chunks"].equal(grown["chunks"])


def test_the_same_generator_gives_the_same_parameters() -> None:
    one, other = (net().initial(25, GENERATOR().manual_seed(3)) for _ in range(2))
    assert all(value.equal(other[name]) for name, value in one.items())


def test_hyperfan_gives_each_layer_the_variance_it_asks_for() -> None:
    target = MLPTarget((300,), (100, 40))
    wide = ChunkedHypernetwork(chunk=3_000, task_dim=16, chunk_dim=16, widths=(32, 32))
    size = target.size(2)
    params = wide.initial(size, GENERATOR().manual_seed(0), target.variance(2))
    flat = wide.generate(params, torch.randn(64, 16, generator=GENERATOR().manual_seed(1)), size)
    first = target.named(flat[:, : target.body])["0.weight"]
    assert 0.7 < first.square().mean() * 300 / 2 < 1.4
