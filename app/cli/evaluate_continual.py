"""`hyperserve evaluate continual`: methods that learn a stream of tasks, side by side."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import torch
import typer

from app.cli.command_options import key_value, takes_options
from app.cli.console import messages
from app.cli.errors import MisuseError
from app.cli.recorded_command import recorded_command
from app.core import devices
from app.core.allocator import keep_freed_memory
from experiments.continual import accuracy_plots, harness, results_page
from experiments.continual import method_settings as continual_methods
from experiments.continual.harness import BUDGETS, HELD_OUT, ComparisonPlan
from experiments.continual.method_settings import METHODS
from experiments.continual.records import Record
from experiments.continual.records_file import RecordFile
from experiments.continual.task_streams import LOADERS, Source
from experiments.figures import check_matplotlib
from models import artifact
from models.continual.stream_config import Scenario, TargetName
from models.continual.two_step_training import Schedule

_SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
Name = TypeVar("Name", bound=str)


@dataclass(frozen=True)
class ContinualOptions:
    """Options of `hyperserve evaluate continual`."""

    data: Annotated[
        Path,
        typer.Option(
            help="MNIST as an npz; for split-cifar-80 the folder of CIFAR-FS's npz files; for split-pairs an npz of "
            "image [n, side, side] and label."
        ),
    ]
    benchmark: Annotated[str, typer.Option(help=f"{', '.join(BUDGETS)}.")] = "split-mnist"
    scenario: Annotated[str, typer.Option(help=f"{', '.join(_SCENARIOS)}; several with commas.")] = ",".join(
        _SCENARIOS
    )
    method: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(METHODS)}; several with commas; all that take the benchmark."),
    ] = None
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each method.")] = 3
    first_seed: Annotated[int, typer.Option(help="Seed of the first training.")] = 0
    tasks: Annotated[
        int | None,
        typer.Option(
            help="Stream tasks; split-mnist has 5, permuted-mnist 10, split-cifar-80 8, split-pairs 5 unless there are "
            "fewer or more are asked for."
        ),
    ] = None
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Steps for each stream task; as published if left out.")
    ] = None
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None
    schedule: Annotated[str | None, typer.Option(help="Learning rate over time: constant or ramp.")] = None
    target: Annotated[
        str | None,
        typer.Option(help="Main network: mlp; for split-cifar-80 lenet (its default) or resnet32."),
    ] = None
    batch: Annotated[int | None, typer.Option(min=1, help="Examples in a step.")] = None
    hidden: Annotated[str | None, typer.Option(help="Layers of the main network, such as 400-400.")] = None
    encoder: Annotated[
        Path | None,
        typer.Option(help="Folder of a learner whose frozen encoder gives the features, instead of pixels."),
    ] = None
    precision: Annotated[
        str | None,
        typer.Option(help="Matrix products in training: bf16 or fp32; bf16, but for split-pairs."),
    ] = None
    device: Annotated[str, typer.Option(help=devices.HELP)] = "cpu"
    hparam: Annotated[list[str] | None, typer.Option(help="Hyperparameter: method.key=value.")] = None
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Measure on training examples held out, to make choices.")
    ] = False
    every: Annotated[
        int,
        typer.Option(min=1, help="Measure after every so many stream tasks, and after the last."),
    ] = 1
    out: Annotated[Path, typer.Option(help="Write <out>.json, <out>.md and PNGs.")] = Path("continual")
    threads: Annotated[int, typer.Option(help="torch threads.")] = 1


@takes_options(ContinualOptions)
def continual(options: ContinualOptions) -> None:
    """Train and compare continual methods.

    Each training is written down when it ends; run again, the command does what is left.
    """
    check_matplotlib()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    scenarios = _names(options.scenario, _SCENARIOS)
    _checked(options.benchmark, BUDGETS)
    encoder = None if options.encoder is None else artifact.load(options.encoder)
    methods = (
        _methods(options.benchmark, encoder is not None)
        if options.method is None
        else _names(options.method, METHODS)
    )
    budget = _budget(options)
    hparams = _hparams(options.hparam or [])
    source = LOADERS[options.benchmark](options.data)
    source = source.held_out(HELD_OUT[options.benchmark]) if options.held_out else source
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for seed, scenario, name in product(seeds, scenarios, methods):
        plan = ComparisonPlan(
            options.benchmark, scenario, options.tasks, options.held_out, budget, encoder, options.every
        )
        _measure(plan, source, name, seed, hparams.get(name, {}), options.out)
    # Written after every run, and once more in case all had been measured before.
    write(RecordFile(options.out.with_suffix(".json")).read(), options.out)
    typer.echo(options.out.with_suffix(".md").read_text(encoding="utf-8"))


def _budget(options: ContinualOptions) -> dict[str, Any]:
    """Return the settings of training that were given; the rest is as published. Raises `MisuseError`."""
    if options.precision is not None:
        _checked(options.precision, ("bf16", "fp32"))
    for name, known in ((options.schedule, get_args(Schedule)), (options.target, get_args(TargetName))):
        if name is not None:
            _checked(name, known)
    names = ("iterations", "lr", "schedule", "target", "batch", "precision")
    budget = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    budget["device"] = devices.resolve_device(options.device)
    if options.hidden is not None:
        budget["hidden"] = _layers(options.hidden)
    return budget


def _methods(benchmark: str, encoded: bool) -> list[str]:
    """Return the methods that can take a benchmark: those that draw pictures draw grey ones, from pixels."""
    grey = "target" not in BUDGETS[benchmark]
    return [
        name
        for name, method in METHODS.items()
        if (grey or not method.generates_inputs) and (method.takes_encoder or not encoded)
    ]


def _measure(
    plan: ComparisonPlan, source: Source, method: str, seed: int, given: Mapping[str, Any], out: Path
) -> None:
    """Measure one training and write its record, unless the record exists."""
    file = RecordFile(out.with_suffix(".json"))
    stream = plan.stream(source, seed)
    config = continual_methods.hparams(method, plan.benchmark, plan.setting(stream, seed), given)
    run = plan.run(stream, method, seed, config.model_dump(mode="json"))
    if file.has(run):
        messages.print(f"{run.benchmark} {run.scenario} {method} seed {seed}: measured already")
        return
    record = harness.measure(
        plan, source, method, seed, given, recorded_command("--data", "--out"), messages.print
    )
    file.add(record, lambda records: write(records, out))


def _names(given: str, known: Collection[Name]) -> list[Name]:
    return [_checked(name, known) for name in given.split(",")]


def _checked(given: str, known: Collection[Name]) -> Name:
    """Return the one of the known names that was given. Raises `MisuseError`."""
    for name in known:
        if name == given:
            return name
    raise MisuseError(f"{given!r} is not one of {', '.join(known)}")


def _layers(given: str) -> tuple[int, ...]:
    widths = given.split("-")
    if not all(width.isdecimal() and int(width) for width in widths):
        raise MisuseError(f"--hidden {given!r}: layers are widths joined by dashes, such as 400-400")
    return tuple(map(int, widths))


def _hparams(pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the hyperparameters of each method, given as method.key=value. Raises `MisuseError`."""
    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        name, value = key_value(pair)
        method, _, key = name.partition(".")
        if method not in METHODS or not key:
            raise MisuseError(f"{pair!r} is not method.key=value of {', '.join(METHODS)}")
        found.setdefault(method, {})[key] = value
    return found


def write(records: Sequence[Record], out: Path) -> None:
    """Write the page of all records, and its pictures."""
    pictures: dict[str, list[str]] = {}
    protocols = {results_page.title(*record.run.protocol): record.run.protocol for record in records}
    for title, protocol in protocols.items():
        here = [record for record in records if record.run.protocol == protocol]
        by_setting = {_label(found, here): found for found in results_page.settings(here)}
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
        for kind, draw in (("matrix", accuracy_plots.matrices), ("curve", accuracy_plots.curves)):
            file = out.with_name(f"{stem}-{kind}.png")
            file.write_bytes(draw(by_setting, title))
            pictures.setdefault(title, []).append(file.name)
    out.with_suffix(".md").write_text(results_page.page(records, pictures), encoding="utf-8")


def _label(found: Sequence[Record], here: Sequence[Record]) -> str:
    """Return the method's name, with the settings that distinguish it from others of the same method."""
    method = found[0].run.method
    rivals = [_setting(other) for other in results_page.settings(here) if other[0].run.method == method]
    mine = _setting(found)
    names = dict.fromkeys(name for rival in rivals for name in rival)
    differing = [name for name in names if any(rival.get(name) != mine.get(name) for rival in rivals)]
    return " ".join([method, *(f"{mine.get(name)}" for name in differing)])


def _setting(found: Sequence[Record]) -> dict[str, Any]:
    """Return budget and hyperparameters; these may repeat settings of the budget."""
    run = found[0].run.model_dump(mode="json", exclude={"seed"})
    hparams: dict[str, Any] = run.pop("hparams")
    return {**run, **hparams}
