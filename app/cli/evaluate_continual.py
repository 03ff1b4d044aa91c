"""`hyperserve evaluate continual`: methods that learn a stream of tasks, side by side.

Each training of a method is written down when it ends. Run again, the command does what is left.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import typer

from app.cli.train import REFUSALS, command_of, console, key_value
from app.core import devices
from app.core.allocator import keep_freed_memory
from experiments.continual import harness, page, plots
from experiments.continual import methods as continual_methods
from experiments.continual.harness import BUDGETS, HELD_OUT, Plan
from experiments.continual.methods import METHODS
from experiments.continual.records import Record
from experiments.continual.records_file import RecordFile
from experiments.continual.tasks import LOADERS, Source
from models.continual.config import Scenario, TargetName
from models.continual.schedule import Schedule
from models.data.dataset import DatasetError
from models.protocol import LearnerError

_SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)


def evaluate(
    protocol: Annotated[str, typer.Argument(help="continual.")],
    data: Annotated[
        Path, typer.Option(help="MNIST as an npz; of split-cifar-80 the folder of CIFAR-FS's npz files.")
    ],
    benchmark: Annotated[str, typer.Option(help=f"{', '.join(BUDGETS)}.")] = "split-mnist",
    scenario: Annotated[str, typer.Option(help=f"{', '.join(_SCENARIOS)}; several with commas.")] = ",".join(
        _SCENARIOS
    ),
    method: Annotated[
        str | None,
        typer.Option(help=f"Several with commas: {', '.join(METHODS)}; all that take the benchmark."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each method.")] = 3,
    first_seed: int = 0,
    tasks: Annotated[
        int | None,
        typer.Option(help="Stream tasks; 5 of split-mnist, 10 of permuted-mnist, 8 of split-cifar-80."),
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Steps a stream task, as published.")] = None,
    lr: float | None = None,
    schedule: Annotated[str | None, typer.Option(help="Of the learning rate: constant or ramp.")] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Main network: mlp, or of split-cifar-80 lenet (its default) or resnet32."),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Examples a step.")] = None,
    hidden: Annotated[str | None, typer.Option(help="Layers of the main network, such as 400-400.")] = None,
    precision: Annotated[str, typer.Option(help="bf16 or fp32, of matrix products in training.")] = "bf16",
    device: Annotated[str, typer.Option(help=devices.HELP)] = "cpu",
    hparam: Annotated[list[str] | None, typer.Option(help="method.key=value.")] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Measure on training examples held out: for choices.")
    ] = False,
    every: Annotated[
        int,
        typer.Option(min=1, help="Ask all stream tasks so far after so many each time, and after the last."),
    ] = 1,
    out: Annotated[Path, typer.Option(help="Writes <out>.json, .md and PNGs.")] = Path("continual"),
    threads: int = 1,
) -> None:
    """Train methods on a stream of tasks and measure what they forget. Run again, it goes on where it was."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    budget: dict[str, Any] = {"iterations": iterations, "lr": lr, "schedule": schedule, "target": target}
    budget |= {"batch": batch, "precision": precision}
    given = {name: value for name, value in budget.items() if value is not None}
    try:
        scenarios = _names(scenario, _SCENARIOS)
        _one_of(benchmark, BUDGETS)
        methods = _methods(benchmark) if method is None else _names(method, METHODS)
        _one_of(precision, ("bf16", "fp32"))
        given["device"] = devices.chosen(device)
        for name, known in ((schedule, get_args(Schedule)), (target, get_args(TargetName))):
            if name is not None:
                _one_of(name, known)
        if hidden is not None:
            given["hidden"] = _layers(hidden)
        own = _hparams(hparam or [])
        source = LOADERS[benchmark](data)
        source = source.held_out(HELD_OUT[benchmark]) if held_out else source
        for seed, found, name in product(range(first_seed, first_seed + seeds), scenarios, methods):
            plan = Plan(benchmark, found, tasks, held_out, given, every)  # type: ignore[arg-type]
            _one(plan, source, name, seed, own.get(name, {}), out)
    except REFUSALS as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        raise typer.Exit(2) from error
    # Written after every run, and once more where all were measured already.
    write(RecordFile(out.with_suffix(".json")).read(), out)
    typer.echo(out.with_suffix(".md").read_text(encoding="utf-8"))


def _methods(benchmark: str) -> list[str]:
    """All that take it: what draws pictures draws grey ones."""
    grey = "target" not in BUDGETS[benchmark]
    return [name for name, found in METHODS.items() if grey or not found.draws]


def _one(plan: Plan, source: Source, method: str, seed: int, given: Mapping[str, Any], out: Path) -> None:
    """Skipped where its record is there already."""
    file = RecordFile(out.with_suffix(".json"))
    stream = plan.stream(source, seed)
    config = continual_methods.hparams(method, plan.benchmark, plan.setting(stream, seed), given)
    run = plan.run(stream, method, seed, config.model_dump(mode="json"))
    if file.has(run):
        _say(f"{run.benchmark} {run.scenario} {method} seed {seed}: measured already")
        return
    record = harness.measure(plan, source, method, seed, given, _command(sys.argv[1:]), _say)
    file.add(record, lambda records: write(records, out))


def _command(words: Sequence[str]) -> str:
    """Where this machine keeps results is its own affair, as where it keeps data."""
    kept = [
        word
        for before, word in pairwise(["", *words])
        if "--out" not in (before, word) and not word.startswith("--out=")
    ]
    return command_of(kept, None)


def _say(line: str) -> None:
    console.print(line, highlight=False)


def _names(given: str, known: Collection[str]) -> list[str]:
    found = given.split(",")
    for name in found:
        _one_of(name, known)
    return found


def _one_of(given: str, known: Collection[str]) -> None:
    if given not in known:
        raise DatasetError(f"{given!r} is not one of {', '.join(known)}")


def _layers(given: str) -> tuple[int, ...]:
    widths = given.split("-")
    if not all(width.isdecimal() and int(width) for width in widths):
        raise DatasetError(f"{given!r} are no layers: widths with dashes between, such as 400-400")
    return tuple(map(int, widths))


def _hparams(pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of each method, from method.key=value."""
    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, value = key_value(pair)
        method, _, key = name.partition(".")
        if method not in METHODS or not key:
            raise LearnerError(f"{pair!r} is not method.key=value of {', '.join(METHODS)}")
        found.setdefault(method, {})[key] = value
    return found


def write(records: Sequence[Record], out: Path) -> None:
    """The page of all records, and its pictures."""
    pictures: dict[str, list[str]] = {}
    protocols = {page.title(*record.run.protocol): record.run.protocol for record in records}
    for title, protocol in protocols.items():
        here = [record for record in records if record.run.protocol == protocol]
        by_setting = {_label(found, here): found for found in page.settings(here)}
        stem = "-".join(
            (
                out.name,
                protocol[0],
                *([] if protocol[4] == "mlp" else [protocol[4]]),
                str(protocol[2]),
                protocol[1],
                *(["held-out"] if protocol[3] else []),
            )
        )
        for kind, draw in (("matrix", plots.matrices), ("curve", plots.curves)):
            file = out.with_name(f"{stem}-{kind}.png")
            file.write_bytes(draw(by_setting, title))
            pictures.setdefault(title, []).append(file.name)
    out.with_suffix(".md").write_text(page.page(records, pictures), encoding="utf-8")


def _label(found: Sequence[Record], here: Sequence[Record]) -> str:
    """The method's name, and what tells its settings apart where it stands there with several."""
    method = found[0].run.method
    rivals = [_setting(other) for other in page.settings(here) if other[0].run.method == method]
    mine = _setting(found)
    names = dict.fromkeys(name for rival in rivals for name in rival)
    telling = [name for name in names if any(rival.get(name) != mine.get(name) for rival in rivals)]
    return " ".join([method, *(f"{mine.get(name)}" for name in telling)])


def _setting(found: Sequence[Record]) -> dict[str, Any]:
    """Budget and hyperparameters, which may say the budget again."""
    run = found[0].run.model_dump(mode="json", exclude={"seed"})
    hparams: dict[str, Any] = run.pop("hparams")
    return {**run, **hparams}
