"""`hyperserve evaluate`: what a learner makes of classes it has not seen, by a protocol with a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from app.cli.evaluate_family import family_page
from app.cli.evaluation_options import Asked, Mode
from app.cli.protocols import BENCHMARKS
from app.cli.train import REFUSALS, console, learner_at
from app.core.allocator import keep_freed_memory
from models import artifact
from models.artifact import Artifact
from models.training.card import table, write_card


def _known(benchmark: str) -> str:
    if benchmark not in BENCHMARKS:
        raise typer.BadParameter(f"{benchmark!r} is not one of {', '.join(BENCHMARKS)}")
    return benchmark


def evaluate(
    benchmark: Annotated[
        str, typer.Argument(help=f"Which protocol: {', '.join(BENCHMARKS)}.", callback=_known)
    ],
    learner: Annotated[
        list[str] | None,
        typer.Option(help="Name in the zoo or path of a learner; compare takes pairs, ours first."),
    ] = None,
    whole_zoo: Annotated[
        bool, typer.Option("--all", help="omniglot-emnist: every learner of the zoo that may be measured.")
    ] = False,
    protocol: Annotated[
        Mode,
        typer.Option(help="omniglot-emnist: BatchNorm as it serves, or as the MAML family was published."),
    ] = Mode.inductive,
    finetune: Annotated[
        int | None,
        typer.Option(
            min=1, help="omniglot-emnist: tune all parameters on each support set, steps; not served."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The data on disk; Omniglot is downloaded otherwise.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of an npz of vectors.")] = None,
    tasks: Annotated[int | None, typer.Option(help="600 a seed for omniglot-emnist, else 1,000.")] = None,
    seed: int = 1000,
    out: Annotated[Path | None, typer.Option(help="Write <out>.json and <out>.md.")] = None,
    update_card: Annotated[bool, typer.Option(help="Keep the tables in the learner's card.")] = False,
    plots: Annotated[bool, typer.Option(help="Write reliability diagrams beside <out>, PNG.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    threads: int = 0,
) -> None:
    """Measure a learner on classes it has not seen: protocol, n, 95 % intervals and digests are printed."""
    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    try:
        artifacts = [learner_at(entry) for entry in learner or []]
        result = BENCHMARKS[benchmark](
            Asked(artifacts, data, split, tasks, seed, whole_zoo, protocol, finetune)
        )
    except REFUSALS as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        raise typer.Exit(2) from error
    result = {"learners": [f"{a.name} {a.short_digest}" for a in artifacts], "device": "cpu", **result}
    text = json.dumps(result, indent=1) + "\n"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    page = family_page(result, out if plots else None) if "family" in result else _page(benchmark, result)
    typer.echo(text if as_json else page)
    if out is not None:
        out.with_suffix(".json").write_text(text, encoding="utf-8")
        out.with_suffix(".md").write_text(page, encoding="utf-8")
    if update_card and artifacts:
        _update_card(artifacts[0], benchmark, result)


def _update_card(found: Artifact, benchmark: str, result: dict[str, Any]) -> None:
    title = f"{benchmark} {result['data']}" if "data" in result else benchmark
    config = found.config.model_copy(update={"metrics": {**found.config.metrics, title: result}})
    artifact.save(found.path, found.learner, config, write_card(found.name, config))


def _page(benchmark: str, result: dict[str, Any]) -> str:
    lines = [f"# {benchmark}", ""]
    for key, value in result.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += ["", f"## {key.replace('_', ' ')}", "", *table(value), ""]
        else:
            lines.append(f"- {key.replace('_', ' ')}: {value}")
    return "\n".join(lines) + "\n"
