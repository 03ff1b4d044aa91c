"""`hyperserve evaluate continual`: written at once, resumed, merged into one page."""

from pathlib import Path

import numpy as np
import pytest

from app.cli import evaluate_continual
from experiments.continual import accuracy_plots, results_page
from experiments.continual.records_file import RecordFile
from tests.app.cli.commands import run
from tests.experiments.continual.test_harness import ROWS, record
from tests.models.data.test_cifarfs import write

_FAST = ("--iterations", "3", "--hidden", "8")


@pytest.fixture
def data(tmp_path: Path) -> str:
    labels = np.arange(80, dtype=np.uint8) % 10
    images = np.random.default_rng(0).integers(0, 60, (80, 28, 28)).astype(np.uint8)
    images[np.arange(80), 2 + 2 * labels] = 255
    path = tmp_path / "digits.npz"
    np.savez(path, train_image=images, train_label=labels, test_image=images[:40], test_label=labels[:40])
    return str(path)


def test_runs_are_resumed_and_merged_into_one_page(data: str, tmp_path: Path) -> None:
    out = tmp_path / "results" / "continual"

    def evaluate(*words: str) -> str:
        code, said = run("evaluate", "continual", "--data", data, "--out", str(out), *_FAST, *words)
        assert code == 0, said
        return said

    first = evaluate("--scenario", "cl1", "--method", "fine-tune", "--seeds", "1", "--device", "auto")
    assert "stream task 5 of 5" in first
    both = evaluate(
        "--scenario", "cl1,cl3", "--method", "fine-tune,ewc", "--seeds", "1", "--hparam", "ewc.strength=3"
    )
    assert "cl1 fine-tune seed 0: measured already" in both
    records = RecordFile(out.with_suffix(".json")).read()
    assert len(records) == 4
    assert {record.run.hparams["strength"] for record in records if record.run.method == "ewc"} == {3}
    assert records[0].command.startswith("hyperserve")
    assert str(tmp_path) not in records[0].command
    page = out.with_suffix(".md").read_text()
    assert "split-mnist, 5 tasks, CL1" in page
    assert "split-mnist, 5 tasks, CL3" in page
    pictures = sorted(path.name for path in out.parent.glob("*.png"))
    assert pictures == [
        f"continual-split-mnist-5-{scenario}-{kind}.png"
        for scenario in ("cl1", "cl3")
        for kind in ("curve", "matrix")
    ]
    assert all(name in page for name in pictures)


def test_pictures_in_colour_have_a_convolutional_network(tmp_path: Path) -> None:
    names, counts = tuple("abcdefghij"), (600,) * 10
    flags = np.tile((np.arange(600) < 100).astype(np.uint8), 10)
    for split in ("train", "test"):
        write(tmp_path / f"cifarfs_{split}.npz", counts[:5], names[:5], from_cifar_test=flags[:3000])
        names = names[5:]
    out = tmp_path / "continual"
    words = ("evaluate", "continual", "--data", str(tmp_path), "--out", str(out), "--benchmark", "split-cifar-80",
             "--scenario", "cl1", "--seeds", "1", "--batch", "4", *_FAST)  # fmt: skip
    code, said = run(*words, "--method", "fine-tune")
    assert code == 0, said
    assert "split-cifar-80, lenet, 1 tasks, CL1" in out.with_suffix(".md").read_text()
    assert out.with_name("continual-split-cifar-80-lenet-1-cl1-matrix.png").is_file()


def test_settings_that_differ_in_their_schedule_alone_are_drawn_apart(tmp_path: Path) -> None:
    records = [record(ROWS), record(ROWS, schedule="ramp")]
    evaluate_continual.write(records, tmp_path / "c")
    apart = {f"ewc {found.run.schedule}": [found] for found in records}
    title = results_page.title(*records[0].run.protocol)
    drawn = (tmp_path / "c-split-mnist-3-cl3-curve.png").read_bytes()
    assert drawn == accuracy_plots.curves(apart, title)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--benchmark", "split-cifar"),
            "'split-cifar' is not one of split-mnist, permuted-mnist, split-cifar-80",
        ),
        (("--scenario", "cl4"), "'cl4' is not one of cl1, cl2, cl3"),
        (("--method", "none"), "'none' is not one of fine-tune"),
        (("--method", "ewc", "--hparam", "strength=1"), "is not method.key=value"),
        (("--method", "ewc", "--hparam", "ewc.gamma=1"), "hyperparameter 'gamma'"),
        (("--method", "ewc", "--hidden", "wide"), "layers"),
        (("--precision", "fp8"), "fp8"),
        (("--target", "vgg"), "'vgg' is not one of mlp, lenet, resnet32"),
        (("--target", "lenet", "--method", "fine-tune"), "'lenet' needs features"),
        (("--target", "resnet32"), "'resnet32' has no fully connected layers"),
        (("--device", "cuda:99"), "the device 'cuda:99' cannot be used"),
        (("--device", "meta"), "the device 'meta' cannot be used"),
        (("--tasks", "6"), "1 to 5 stream tasks"),
        (("--lr", "-1"), "the learning rate must be above 0"),
        (("--schedule", "constant,ramp"), "'constant,ramp' is not one of constant, ramp"),
        (("--benchmark", "split-mnist,permuted-mnist"), "'split-mnist,permuted-mnist' is not one of"),
        (("--lr", "nan"), "the learning rate must be above 0"),
        (("--held-out",), "cannot be held out"),
    ],
)
def test_what_is_unknown_is_refused(data: str, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    code, said = run("evaluate", "continual", "--data", data, "--out", str(tmp_path / "c"), *_FAST, *words)
    assert code == 2
    assert message in " ".join(said.split())
