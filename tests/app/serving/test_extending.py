"""An incremental learner adds examples to weights that are there: the same weights as from all examples at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from torch.testing import assert_close

from app.serving.engine import Engine
from app.serving.engine_types import Adapted, SupportSet
from models.artifact import Artifact, load
from models.weights import Header, pack, tensors, unpack
from tests.app.tasks.regression import save

METHODS = ("cnp-regression", "bayes-linear")


@pytest.fixture(params=METHODS)
def artifact(request: pytest.FixtureRequest, tmp_path: Path) -> Artifact:
    save(tmp_path / "it", method=request.param)
    return load(tmp_path / "it")


def task(size: int, seed: int) -> SupportSet:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, size, 1)).astype(np.float32)
    return SupportSet(x, y, (), seed)


def part(whole: SupportSet, rows: slice) -> SupportSet:
    assert whole.y is not None
    return SupportSet(whole.x[rows], whole.y[rows], (), whole.seed)


def run(artifact: Artifact, work: Callable[[Engine], Awaitable[None]]) -> None:
    async def main() -> None:
        await work(engine)

    engine = Engine({"it": artifact}, arena_bytes=1 << 22)
    engine.warm()
    engine.start()
    try:
        asyncio.run(main())
    finally:
        engine.close()


async def extended(engine: Engine, key: str, whole: SupportSet, split: int) -> Adapted:
    first = await engine.adapt("it", part(whole, slice(split)))
    engine.admit(key, "it", first.weights)
    found = await engine.extend(key, "it", part(whole, slice(split, None)))
    assert found is not None
    return found


def test_added_is_as_all_at_once_alone_and_in_company(artifact: Artifact) -> None:
    async def work(engine: Engine) -> None:
        tasks = [task(size, seed) for seed, size in enumerate((2, 5, 40, 7))]
        found = await asyncio.gather(
            *(extended(engine, str(index), whole, 1 + index) for index, whole in enumerate(tasks))
        )
        for index, (whole, one) in enumerate(zip(tasks, found, strict=True)):
            expected = await engine.adapt("it", whole)
            assert one.features.shape[0] == whole.x.shape[0] - 1 - index
            assert_close(dict(tensors(one.weights)), dict(tensors(expected.weights)), atol=1e-5, rtol=1e-5)
            assert int(one.weights.seed[0]) == whole.seed

    run(artifact, work)


def test_the_base_stays_as_it_was(artifact: Artifact) -> None:
    async def work(engine: Engine) -> None:
        whole, x = task(6, 0), np.zeros((1, 1), np.float32)
        first = await engine.adapt("it", part(whole, slice(3)))
        before = await engine.predict_once("it", first.weights, x, samples=2)
        engine.admit("base", "it", first.weights)
        await engine.extend("base", "it", part(whole, slice(3, None)))

        async def never() -> object:
            raise AssertionError("the weights should have been held")

        after = await engine.predict("base", "it", x, samples=2, regenerate=never)  # type: ignore[arg-type]
        assert_close(vars(after.predictive), vars(before.predictive))
        engine.evict("base")
        assert engine.load_now().arena_bytes == 0

    run(artifact, work)


def test_without_the_base_all_examples_are_needed(artifact: Artifact) -> None:
    async def work(engine: Engine) -> None:
        assert await engine.extend("elsewhere", "it", task(2, 0)) is None

    run(artifact, work)


def test_a_learner_that_is_not_incremental_takes_all(tmp_path: Path) -> None:
    save(tmp_path / "it", method="maml-regression")

    async def work(engine: Engine) -> None:
        first = await engine.adapt("it", task(2, 0))
        engine.admit("base", "it", first.weights)
        assert await engine.extend("base", "it", task(2, 1)) is None

    run(load(tmp_path / "it"), work)


def test_weights_without_class_rows_travel_bit_for_bit(artifact: Artifact) -> None:
    """Weights travel so through Redis."""

    async def work(engine: Engine) -> None:
        weights = (await engine.adapt("it", task(3, 5))).weights
        header = Header("d", (), 5)
        back, found = unpack(pack(weights, header))
        assert found == header
        assert_close(dict(tensors(back)), dict(tensors(weights)), atol=0, rtol=0)

    run(artifact, work)
