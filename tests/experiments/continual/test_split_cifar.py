"""split-CIFAR-80 under the harness of continual learning: stream tasks, budgets, what is refused, old records."""

import pytest
import torch

from experiments.continual import method_settings as methods
from experiments.continual import results_page as continual_page
from experiments.continual.harness import ComparisonPlan, measure
from experiments.continual.records import Run
from experiments.continual.task_streams import split_cifar
from experiments.errors import ExperimentError
from models.data.cifar100 import Pictures
from models.data.dataset import DatasetError
from tests.experiments.continual.test_harness import ROWS, record


def pictures(classes: int, each: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A class is a colour and a place."""
    y = torch.arange(classes * each) % classes
    x = torch.randint(0, 40, (len(y), 3, 32, 32), generator=torch.Generator().manual_seed(each))
    for index, label in enumerate(y.tolist()):
        x[index, label % 3, label : label + 6] += 200
    return x.to(torch.uint8), y


DATA = Pictures(*pictures(24, 6), *pictures(24, 2), tuple(map(str, range(24))))


def test_a_stream_task_has_ten_classes_scaled_by_the_first() -> None:
    stream = split_cifar(DATA)
    assert (stream.tasks, stream.way, stream.shape) == (2, 10, (3, 32, 32))
    first, y = stream.train(0)
    assert (len(first), y.unique().tolist()) == (60, list(range(10)))
    assert first.mean((0, 2, 3)).abs().max() < 1e-4
    assert (first.std((0, 2, 3)) - 1).abs().max() < 1e-4
    second = stream.test(1)[0]
    mine = DATA.test_x[(DATA.test_y >= 10) & (DATA.test_y < 20)].float()
    assert torch.allclose(
        second[:, 0].diff(dim=0), mine[:, 0].diff(dim=0) / DATA.train_x[DATA.train_y < 10][:, 0].float().std()
    )
    with pytest.raises(DatasetError, match="1 to 2 stream tasks, not 3"):
        split_cifar(DATA, 3)


def test_a_target_brings_its_budget() -> None:
    stream = split_cifar(DATA)
    small = ComparisonPlan("split-cifar-80", "cl1").setting(stream, 0)
    assert (small.target, small.hidden, small.iterations, small.batch) == ("lenet", (200, 200), 2000, 128)
    published = ComparisonPlan("split-cifar-80", "cl1", budget={"target": "resnet32"}).setting(stream, 0)
    assert (published.target, published.hidden, published.iterations, published.batch) == (
        "resnet32",
        (),
        31_250,
        32,
    )
    config = methods.hparams("hnet-ent", "split-cifar-80", published, {}).model_dump()
    assert (config["target"], config["chunk"], config["trunk"], config["beta"]) == (
        "resnet32",
        7000,
        (),
        0.05,
    )


@pytest.mark.parametrize("method", ["fine-tune", "analytic", "hnet-ent", "hnet-gate"])
def test_methods_take_pictures_in_colour(method: str) -> None:
    budget = {"iterations": 3, "hidden": (16,), "batch": 8}
    features = {"features": {"count": 64}}
    given = {"hnet-gate": {"gate": features}, "analytic": features}.get(method, {})
    found = measure(
        ComparisonPlan("split-cifar-80", "cl3", budget=budget), DATA, method, 0, given, "", lambda line: None
    )
    assert [len(row) for row in found.accuracy] == [1, 2]
    assert found.run.target == "lenet"
    assert found.test_examples == (20, 20)


@pytest.mark.parametrize("method", ["dgr", "hnet-r", "hnet-tir"])
def test_what_draws_grey_pictures_takes_none_in_colour(method: str) -> None:
    for target in ("lenet", "mlp"):
        setting = ComparisonPlan("split-cifar-80", "cl1", budget={"target": target}).setting(
            split_cifar(DATA), 0
        )
        with pytest.raises(ExperimentError, match=f"{method} generates grey images"):
            methods.hparams(method, "split-cifar-80", setting, {})


def test_a_record_from_before_there_were_targets_is_of_an_mlp() -> None:
    now = record(ROWS).run
    before = now.model_dump(mode="json")
    del before["target"]
    assert Run.model_validate(before) == now


def test_targets_share_no_table_and_say_what_they_are() -> None:
    changed = {"benchmark": "split-cifar-80", "hidden": (200, 200), "target": "lenet"}
    resnet = {**changed, "hidden": (), "target": "resnet32"}
    page = continual_page.page([record(ROWS, **changed), record(ROWS, **resnet)], {})
    assert "## split-cifar-80, lenet, 3 tasks, CL3" in page
    assert "Main network lenet 200-200; 20 test examples" in page
    assert "Main network resnet32; 20 test examples" in page
    assert page.count("78.58 / 34.59") == 1
    assert page.count("80 classes of CIFAR-100") == 2
