"""Seconds from `hyperserve serve` to ready with the bundled learners: python -m benchmarks.start

Protocol: each start is a new process on an empty data folder; printed are the median and each time.
"""

from __future__ import annotations

import json
import statistics
from time import perf_counter
from typing import Annotated

import typer

from app.cli.private_server import private_server


def main(starts: Annotated[int, typer.Option(help="Starts to time.")] = 5) -> None:
    seconds = []
    for _ in range(starts):
        began = perf_counter()
        with private_server():
            seconds.append(round(perf_counter() - began, 2))
    typer.echo(
        json.dumps({"start_to_ready_seconds": statistics.median(seconds), "each": seconds, "n": starts})
    )


if __name__ == "__main__":
    typer.run(main)
