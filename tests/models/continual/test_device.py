"""Streams, and what they are compared with, work on another device: the same draws, versions with the processor."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from experiments.continual.method_settings import METHODS
from models.continual.generated_networks import Generated, HyperStreamConfig
from models.continual.two_step_training import look_ahead
from tests.models import pretended
from tests.models.continual.stream_lives import STREAMS, of_method, of_stream

PICTURE = (1, 8, 8)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[ProcessPoolExecutor]:
    """A process that has a pretended device: what mixes devices raises there."""
    if not pretended.POSSIBLE:
        pytest.skip("this torch takes no devices that are written in Python")
    with ProcessPoolExecutor(1, get_context("spawn"), pretended.register) as found:
        yield found


@pytest.mark.parametrize(
    "hparams",
    [
        {},
        {"regulariser": "direct", "subset": 1},
        {"regulariser": "stored", "masked": True},
        {"target": "lenet"},
        {"trunk": ()},
    ],
)
def test_no_part_of_the_two_steps_leaves_the_device(hparams: dict[str, object]) -> None:
    """The meta device has no numbers, and refuses those of others. What a version owns stays with the processor."""
    small = {"hidden": (8,), "chunk": 300, "trunk": (8,), "task_embedding": 4, "chunk_embedding": 4}
    generated = Generated(PICTURE, HyperStreamConfig.model_validate({**small, **hparams}))
    generator = torch.Generator().manual_seed(0)
    params = {
        name: value.to("meta").requires_grad_() for name, value in generated.initial(2, generator).items()
    }
    owned = [{"embedding": torch.zeros(4), "rows": torch.tensor([0, 2])} for _ in range(2)]
    x, y = torch.empty(6, *PICTURE, device="meta"), torch.empty(6, dtype=torch.long, device="meta")
    logits = generated.logits(generated.network(params, owned[0]), x, 0, 2)
    F.cross_entropy(logits, y).backward()
    ahead = look_ahead(torch.optim.Adam(params.values()))
    snapshot = {name: value.detach() for name, value in params.items()}
    regulariser = generated.regulariser(snapshot, owned, 2, generator)
    assert regulariser is not None
    value, grads = regulariser.gradient({name: ahead[leaf] for name, leaf in params.items()})
    body, rows, _ = generated.networks(params, owned)
    made = (logits, *ahead.values(), value, *grads.values(), body, rows)
    assert {each.device.type for each in made} == {"meta"}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_the_same_to_the_bit_on_a_device_that_computes_alike(
    elsewhere: ProcessPoolExecutor, name: str
) -> None:
    assert elsewhere.submit(differing, name).result() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["gate", "analytic"])
def test_so_is_forgetting(elsewhere: ProcessPoolExecutor, name: str) -> None:
    assert elsewhere.submit(differing, name, forgetting=True).result() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", METHODS)
def test_so_is_what_streams_are_compared_with(elsewhere: ProcessPoolExecutor, method: str) -> None:
    assert elsewhere.submit(method_differing, method).result() == []


@needs_gpu
@pytest.mark.parametrize("name", STREAMS)
def test_a_gpu_registers_forgets_and_predicts_like_the_processor(name: str) -> None:
    forgetting = name in ("gate", "analytic")
    here, there = (of_stream(name, device, forgetting=forgetting) for device in ("cpu", "cuda"))
    assert {value.device.type for value in there.values()} == {"cpu"}
    for answer in (key for key in here if key.endswith((": label", ": task"))):
        assert_close(there[answer], here[answer], atol=0.02, rtol=0)


@needs_gpu
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_learns_with_every_method(method: str) -> None:
    here, there = (of_method(method, device) for device in ("cpu", "cuda"))
    assert {name: value.shape for name, value in there.items()} == {
        name: value.shape for name, value in here.items()
    }


def differing(name: str, *, forgetting: bool = False) -> list[str]:
    here = of_stream(name, "cpu", forgetting=forgetting)
    with pretended.Pretended():
        there = of_stream(name, pretended.NAME, forgetting=forgetting)
    return [key for key in here if type(there[key]) is not torch.Tensor or not here[key].equal(there[key])]


def method_differing(method: str) -> list[str]:
    here = of_method(method, "cpu")
    with pretended.Pretended():
        there = of_method(method, pretended.NAME)
    return [key for key in here if not here[key].equal(there[key])]
