"""Training state on disk, so that a killed run resumes exactly: safetensors, never pickle.

The file holds weights, their moving average and the optimiser's moments; its metadata holds step and scores.
A partial file is renamed when complete, so that a kill leaves the old state or the new one.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


@dataclass
class Progress:
    """Position and scores of a training."""

    step: int = 0
    best_score: float = float("-inf")
    best_step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def save(
    path: Path, models: dict[str, nn.Module], optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    tensors: dict[str, Tensor] = {
        f"{role}/{name}": value
        for role, model in models.items()
        for name, value in model.state_dict().items()
    }
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": value for name, value in moments.items()}
    write(path, tensors, progress)


def write(path: Path, tensors: dict[str, Tensor], progress: Progress) -> None:
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"progress": json.dumps(asdict(progress))})
    part.rename(path)


def read(path: Path) -> tuple[dict[str, Tensor], Progress]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        return tensors, Progress(**json.loads(file.metadata()["progress"]))


def restore(path: Path, models: dict[str, nn.Module], optimiser: torch.optim.Optimizer) -> Progress:
    tensors, progress = read(path)
    for role, model in models.items():
        prefix = f"{role}/"
        model.load_state_dict({n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)})
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser/"):
            _, index, moment = name.split("/")
            state.setdefault(int(index), {})[moment] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return progress


def write_history(folder: Path, history: list[dict[str, float]]) -> None:
    """Write `history.json` for programs and `history.csv` for people."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.json").write_text(json.dumps(history, indent=1) + "\n")
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, history[0].keys())
        writer.writeheader()
        writer.writerows(history)
