"""The cost of the few-shot methods, as ratios within a run: python -m benchmarks.family [--peers FOLDER] [--write
FOLDER]

Protocol: one torch thread, training in a process per contender; untrained Conv-4 of 64 channels on 28×28 images of
random numbers, 5 ways. Contenders are interleaved; a ratio is the median over rounds, by CPU time and by the wall
clock.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.family import comparisons, method_costs

_INTRODUCTION = """# The cost of the few-shot methods

`make bench-family`; [benchmarks/family](../../benchmarks/family/README.md) explains how the libraries are installed.
{machine}. Load of the machine during the run: {load}. Contenders are interleaved; ratios are medians over rounds.
"""
_METHODS = """
## Task weights, adaptation, prediction

5 ways, 5 shots, Conv-4-64 at 28×28 (untrained), fp32, one thread. Times are CPU time as multiples of ProtoNet's,
including the encoder: from a support set to weights, and from a query to its prediction; alone, and per task in a batch
of {batch}.

| method | bytes of weights | adapt | in a batch | predict | in a batch | adapt, ms | predict, ms |
|---|---|---|---|---|---|---|---|
"""
_RATIOS = """
## {title}

{description} Ratios above 1 mean that ours is faster.

| ours | other | CPU time | wall clock | ours per CPU second | target | rounds |
|---|---|---|---|---|---|---|
"""
_TRAINING = (
    f"Episodes of 5 ways, {comparisons.SHOTS} shot, {comparisons.QUERIES} queries per class; the same tensors, network "
    f"and thread. {comparisons.TRAINED} episodes per round: MAML and ANIL in one meta-batch, {comparisons.STEPS} inner "
    "steps, second order; easyfsl takes an optimiser step per episode, ours one for all and, in one row, one per "
    "episode. Each runs in a separate process; ours keeps freed memory as `hyperserve train` does, except in one row."
)
_READY = "5 ways, 5 shots, fp32, in process; from images with the encoder, and from features computed before."


def main(
    peers: Annotated[Path | None, typer.Option(help="Folder with easyfsl and learn2learn.")] = None,
    rounds: Annotated[int, typer.Option(help="Most rounds.")] = 15,
    seconds: Annotated[float, typer.Option(help="Approximate CPU seconds per comparison.")] = 1.0,
    write: Annotated[Path | None, typer.Option(help="Folder for cost.json and cost.md.")] = None,
) -> None:
    torch.set_num_threads(1)
    before = os.getloadavg()[0]
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, CPU"
    }
    costs, found["left_out"] = method_costs.costs(rounds, seconds)
    found["methods"] = [asdict(cost) for cost in costs]
    if peers is not None:
        for name, compared in (("training", comparisons.training), ("readiness", comparisons.readiness)):
            found[name] = [asdict(ratio) for ratio in compared(peers, rounds, 8 * seconds)]
    found["load"] = f"{before:.1f} before, {os.getloadavg()[0]:.1f} after"
    typer.echo(_markdown(found))
    if write is not None:
        (write / "cost.json").write_text(json.dumps(found, indent=2) + "\n")
        (write / "cost.md").write_text(_markdown(found))


def _markdown(found: dict[str, Any]) -> str:
    parts = [_INTRODUCTION.format(**found), _METHODS.format(batch=method_costs.BATCH)]
    parts += [
        f"| {row['method']} | {row['bytes_of_weights']:,} | {row['adapt']} | {row['adapt_each_of_batch']} "
        f"| {row['predict']} | {row['predict_each_of_batch']} | {row['adapt_ms']} | {row['predict_ms']} |\n"
        for row in found["methods"]
    ]
    if found["left_out"]:
        missing = "; ".join(f"{name} ({why})" for name, why in found["left_out"].items())
        parts.append(f"\nMethods that do not run on Conv-4 with 5 classes: {missing}.\n")
    titles = {
        "training": ("Meta-training compared with easyfsl and learn2learn", _TRAINING),
        "readiness": ("From a support set to a ready model", _READY),
    }
    for name, (title, description) in titles.items():
        rows = found.get(name, [])
        parts += [_RATIOS.format(title=title, description=description)] if rows else []
        parts += [
            f"| {row['ours']} | {row['other']} | {row['cpu']} | {row['wall']} | {row['ours_per_second']} "
            f"| {row['target']} | {row['rounds']} |\n"
            for row in rows
        ]
    return "".join(parts)


if __name__ == "__main__":
    typer.run(main)
