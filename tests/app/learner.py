"""Small learners on disk, for servers to load."""

from __future__ import annotations

from pathlib import Path

import torch

from models.artifact import LearnerConfig, save
from models.registry import build


def save_learner(
    folder: Path, encoder: str, hparams: dict[str, object], spec: dict[str, object], *, seed: int = 0
) -> None:
    """An untrained ProtoNet."""
    torch.manual_seed(seed)
    config = LearnerConfig.model_validate(
        {
            "code_version": "test",
            "method": "protonet",
            "encoder": encoder,
            "encoder_hparams": hparams,
            "input": spec,
        }
    )
    save(folder, build(config).eval(), config, f"# {folder.name}, untrained")
