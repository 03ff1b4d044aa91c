"""The harness of continual learning: stream tasks of MNIST, what is recorded, and what is made of it."""

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from experiments.continual import accuracy_plots as plots
from experiments.continual import method_settings as methods
from experiments.continual import results_page as continual_page
from experiments.continual.harness import HELD_OUT, ComparisonPlan, measure
from experiments.continual.records import Record, Run
from experiments.continual.records_file import RecordFile
from experiments.continual.reported_continual import reported
from experiments.continual.task_streams import permuted_mnist, split_mnist
from experiments.errors import ExperimentError
from models.continual.stream_config import Scenario
from models.data.dataset import DatasetError
from models.data.mnist import Digits

BUDGET = {"iterations": 20, "hidden": (16,), "batch": 16, "lr": 1e-2, "precision": "fp32"}
SMALL_HNET = {"chunk": 3000, "task_embedding": 4, "chunk_embedding": 4, "trunk": (4,)}


def digits(n: int) -> tuple[Tensor, Tensor]:
    """Digit d is a bar in row 2 + 2d."""
    y = torch.arange(n) % 10
    x = 0.1 * torch.rand(n, 28, 28, generator=torch.Generator().manual_seed(n))
    x[torch.arange(n), 2 + 2 * y] = 1
    return x, y


DIGITS = Digits(*digits(200), *digits(100))


def measured(
    method: str, scenario: Scenario = "cl3", benchmark: str = "split-mnist", **given: object
) -> Record:
    plan = ComparisonPlan(benchmark, scenario, tasks=3, budget=BUDGET)
    return measure(plan, DIGITS, method, 0, given, "a command", lambda line: None)


def record(accuracy: list[list[float]], seed: int = 0, method: str = "ewc", **changed: object) -> Record:
    run = Run(
        benchmark="split-mnist", scenario="cl3", method=method, seed=seed, tasks=len(accuracy), iterations=9, batch=8,
        lr=0.1, hidden=(4, 4), precision="fp32", hparams={"strength": 3.0},
    )  # fmt: skip
    count = len(accuracy)
    return Record(
        run=run.model_copy(update=changed), accuracy=tuple(map(tuple, accuracy)), task_inference=None,
        test_examples=(20,) * count, seconds=(1.0,) * count, cpu_seconds=(0.5,) * count, kept_bytes=(7,) * count,
        threads=1, command="hyperserve evaluate continual", versions={},
    )  # fmt: skip


ROWS = [[1.0], [0.5, 0.9], [0.6, 0.3, 0.8]]


def test_split_mnist_has_two_digits_a_task() -> None:
    stream = split_mnist(DIGITS)
    x, y = stream.train(1)
    assert x.equal(DIGITS.train_x[(DIGITS.train_y == 2) | (DIGITS.train_y == 3)])
    assert y.tolist() == [0, 1] * 20
    assert (stream.labels(1, "cl3"), stream.labels(1, "cl2")) == (("2", "3"), ("0", "1"))
    with pytest.raises(DatasetError, match="not 6"):
        split_mnist(DIGITS, 6)


def test_permuted_mnist_moves_pixels_alike_in_training_and_test() -> None:
    stream = permuted_mnist(DIGITS, 3, seed=1)
    first, second = stream.test(0)[0], stream.test(2)[0]
    assert stream.shape == (32, 32) == tuple(first.shape[1:])
    assert first[:, 2:30, 2:30].equal(DIGITS.test_x)
    assert not second.equal(first)
    assert second.flatten(1).sort().values.equal(first.flatten(1).sort().values)
    where = {value: index for index, value in enumerate(stream.train(2)[0][0].flatten().tolist()) if value}
    assert len(where) > 700
    assert stream.test(2)[0].equal(permuted_mnist(DIGITS, 3, seed=1).test(2)[0])
    assert not stream.test(2)[0].equal(permuted_mnist(DIGITS, 3, seed=2).test(2)[0])


def test_pitfall_14_a_record_without_its_scenario_is_refused() -> None:
    """A figure without its scenario is refused: given and inferred stream tasks differ by 30 to 80 points."""
    known = record(ROWS).model_dump(mode="json")
    del known["run"]["scenario"]
    with pytest.raises(ValidationError, match="scenario"):
        Record.model_validate(known)
    page = continual_page.page([record(ROWS)], {})
    assert "CL3: all labels differ" in page
    row = continual_page.summaries([record(ROWS), record(ROWS, scenario="cl1")])
    assert [one["scenario"] for one in row] == ["cl1", "cl3"]


def test_a_record_says_the_device_and_old_ones_are_of_the_processor() -> None:
    assert measured("fine-tune", "cl1").device == "cpu"
    known = record(ROWS).model_dump(mode="json")
    del known["device"]
    assert Record.model_validate(known).device == "cpu"


def test_pitfall_13_task_inference_is_recorded_where_the_task_is_not_told() -> None:
    told, not_told = measured("fine-tune", "cl1"), measured("fine-tune", "cl3")
    assert told.task_inference is None
    assert not_told.task_inference is not None
    assert not_told.inferred == pytest.approx(1 / 3)


def test_final_accuracy_and_forgetting_of_a_matrix() -> None:
    """The first stream task had 1.0 at best and has 0.6 now; the second had 0.9 and has 0.3."""
    found = record(ROWS)
    assert found.final == pytest.approx((0.6 + 0.3 + 0.8) / 3)
    assert found.just_learned == pytest.approx(0.9)
    assert found.forgetting() == pytest.approx((0.4 + 0.6) / 2)
    assert found.forgetting(2) == pytest.approx(0.5)
    assert record([[1.0]]).forgetting() == 0


def test_a_long_stream_is_asked_now_and_then() -> None:
    """After two of five stream tasks, after four, and after the last."""
    plan = ComparisonPlan("permuted-mnist", "cl1", tasks=5, budget=BUDGET, every=2)
    found = measure(plan, DIGITS, "fine-tune", 0, {}, "a command", lambda line: None)
    assert [len(row) for row in found.accuracy] == [2, 4, 5]
    assert len(found.seconds) == len(found.test_examples) == 5
    rows = record([[1.0, 0.9], [0.6, 0.3, 0.8, 0.7], [0.5, 0.4, 0.8, 0.4, 1.0]], tasks=5)
    assert rows.forgetting() == pytest.approx((0.5 + 0.5 + 0 + 0.3) / 4)
    assert rows.just_learned == pytest.approx((0.9 + 0.7 + 1.0) / 3)
    for draw in (plots.curves, plots.matrices):
        assert Image.open(io.BytesIO(draw({"ewc": [rows]}, "a title"))).size[0] > 200


def test_seeds_asked_at_other_times_are_drawn_where_all_were() -> None:
    seldom = record([[0.75, 0.5], [0.5, 0.25, 0.25]], seed=1, tasks=3)
    often = record([[1.0], [0.25, 1.0], [0.5, 0.75, 0.25]])
    mean = record([[0.5, 0.75], [0.5, 0.5, 0.25]], tasks=3)
    for found in ([often, seldom], [seldom, often]):
        drawn = plots.matrices({"ewc": found}, "a title")
        assert drawn == plots.matrices({"ewc": [mean]}, "a title")
        assert plots.curves({"ewc": found}, "a title")


def test_an_interval_over_three_seeds_is_students() -> None:
    found = continual_page.interval([1.0, 2.0, 3.0])
    assert found == {"mean": 2.0, "ci95": pytest.approx(4.302652729696142 / 3**0.5), "std": 1.0, "n": 3}
    assert continual_page.interval([1.0])["ci95"] is None


def test_a_row_says_seeds_and_the_difference_from_the_report() -> None:
    five = [[1.0] * (index + 1) for index in range(4)] + [[0.2, 0.2, 0.2, 0.2, 0.2]]
    (row,) = continual_page.summaries([record(five, seed) for seed in range(2)])
    assert row["seeds"] == [0, 1]
    assert row["reported"] == 19.96
    assert row["difference"] == pytest.approx(0.04)
    assert reported("permuted-mnist", 100, "cl1", "hnet-ent") == 96.78
    assert reported("permuted-mnist", 100, "cl3", "hnet-ent") is None
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_what_is_held_out_and_what_is_not_share_no_table() -> None:
    page = continual_page.page([record(ROWS), record(ROWS, held_out=HELD_OUT["split-mnist"])], {})
    assert "on 10,000 training examples held out" in page
    assert page.count("| ewc |") == 2


def test_records_are_kept_at_once_and_replaced_by_their_own_kind(tmp_path: Path) -> None:
    file, seen = RecordFile(tmp_path / "deep" / "found.json"), []
    assert file.read() == []
    for one in (record(ROWS, 1), record(ROWS, 0), record(ROWS, 1)):
        file.add(one, lambda records: seen.append(len(records)))
    assert seen == [1, 2, 2]
    assert [one.run.seed for one in file.read()] == [0, 1]
    assert file.has(record(ROWS, 1).run)
    assert not file.has(record(ROWS, 2).run)
    assert not file.has(record(ROWS, 1, iterations=10).run)
    assert len(json.loads(file.path.read_text())["summary"]) == 1
    assert [path.name for path in file.path.parent.iterdir()] == ["found.json"]
    file.path.write_text("[]")
    with pytest.raises(ExperimentError, match="not a file of records"):
        file.read()


def test_pictures_show_the_matrix_and_the_way_there() -> None:
    found = {"ewc": [record(ROWS), record(ROWS, 1)], "si": [record(ROWS)]}
    for draw in (plots.matrices, plots.curves):
        picture = Image.open(io.BytesIO(draw(found, "split-mnist")))
        assert picture.format == "PNG"
        assert picture.width > 400
    assert plots.curves({"ewc": [record([[1.0]])]}, "one task")


SMALL_VAE = {"decoder": {"latent": 2, "encoder": (8,), "decoder": (8,), "chunk": 3000}}


@pytest.mark.parametrize(
    ("method", "scenario", "given"),
    [
        ("joint", "cl3", {}),
        ("analytic", "cl2", {"features": {"count": 64}}),
        ("hnet-ent", "cl3", SMALL_HNET),
        ("hnet-gate", "cl2", {**SMALL_HNET, "gate": {"features": {"count": 64}}}),
        ("hnet-r", "cl1", SMALL_VAE),
        ("hnet-r", "cl3", SMALL_VAE),
        ("hnet-tir", "cl3", {**SMALL_HNET, **SMALL_VAE}),
    ],
)
def test_methods_are_measured_alike(method: str, scenario: Scenario, given: dict[str, object]) -> None:
    found = measured(method, scenario, **given)
    assert [len(row) for row in found.accuracy] == [1, 2, 3]
    assert found.accuracy[0][0] > 0.9
    assert (found.inferred is None) == (scenario == "cl1")
    assert found.run.hidden == (16,)
    assert found.run.hparams.get("iterations", 20) == 20
    assert all(size > 0 for size in found.kept_bytes)


def test_methods_and_hyperparameters_have_names() -> None:
    setting = ComparisonPlan("split-mnist", "cl3").setting(split_mnist(DIGITS), 0)
    with pytest.raises(ExperimentError, match="known are fine-tune"):
        methods.hparams("none", "split-mnist", setting, {})
    with pytest.raises(ExperimentError, match="'strength'"):
        methods.hparams("ewc", "split-mnist", setting, {"strength": -1})
