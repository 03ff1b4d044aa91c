"""Small learners on disk, for servers to load."""

from __future__ import annotations

from pathlib import Path

import torch

from models.artifact import LearnerConfig, save
from models.registry import build


def save_learner(
    folder: Path,
    encoder: str,
    hparams: dict[str, object],
    spec: dict[str, object],
    *,
    seed: int = 0,
    method: str = "protonet",
    method_hparams: dict[str, object] | None = None,
) -> None:
    """Untrained; `hparams` are those of the encoder."""
    torch.manual_seed(seed)
    config = LearnerConfig.model_validate(
        {
            "code_version": "test",
            "method": method,
            "hparams": method_hparams or {},
            "encoder": encoder,
            "encoder_hparams": hparams,
            "input": spec,
        }
    )
    save(folder, build(config).eval(), config, f"# {folder.name}, untrained")
