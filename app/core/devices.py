"""The torch device that a command works on."""

from __future__ import annotations

import torch

from models.protocol import LearnerError

HELP = "torch device: cpu, cuda, cuda:1, or auto, a GPU if there is one."


def resolve_device(name: str) -> str:
    """Return the device of a name, `auto` resolved. Raises `LearnerError` if the device cannot be used."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # Read back: meta is a device, but holds no numbers.
        torch.empty(1, device=name).cpu()
    # Without CUDA torch asserts.
    except (RuntimeError, AssertionError) as error:
        raise LearnerError(f"the device {name!r} cannot be used: {f'{error}'.splitlines()[0]}") from error
    return name
