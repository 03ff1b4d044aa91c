"""A learner on disk: `config.json`, `model.safetensors` and `README.md` (its card) in one folder.

The digest identifies the answers of the learner: it covers the description of its networks, its preprocessing and
every weight, but neither its name nor its measured table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from models.errors import ModelError
from models.protocol import MetaLearner
from models.registry import LearnerConfig, RegistryError, build, complete

__all__ = ["FORMAT", "Artifact", "ArtifactError", "LearnerConfig", "digest", "load", "save"]

FORMAT = 1
CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
SHORT_DIGEST = 16
_ANSWERS = {"format", "method", "hparams", "encoder", "encoder_hparams", "input"}
"""The fields of a description that change answers."""


class ArtifactError(ModelError):
    """A folder is not a learner that this code can serve; the message names the culprit."""


@dataclass(frozen=True)
class Artifact:
    """A loaded learner, in evaluation mode and without gradients."""

    name: str
    config: LearnerConfig
    digest: str
    learner: MetaLearner
    card: str
    path: Path

    @property
    def short_digest(self) -> str:
        return self.digest[:SHORT_DIGEST]


def digest(config: LearnerConfig, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 in hex of everything that changes answers."""
    described = config.model_dump(mode="json", include=_ANSWERS)
    sha = hashlib.sha256(json.dumps(described, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def save(folder: Path | str, learner: MetaLearner, config: LearnerConfig, card: str) -> str:
    """Write the three files and return the digest.

    Raises `ArtifactError` if the description does not build this learner or a weight is not finite.
    """
    folder = Path(folder)
    config = _completed(config)
    tensors = {
        name: value.detach().cpu().contiguous().clone() for name, value in learner.state_dict().items()
    }
    expected = _built(config)
    if type(expected) is not type(learner):
        raise ArtifactError(f"method {config.method!r} is not a {type(learner).__name__}")
    _verify(tensors, expected.state_dict())
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / WEIGHTS_FILE, safetensors.save(tensors))
    _write(folder / CARD_FILE, card.encode())
    _write(folder / CONFIG_FILE, (config.model_dump_json(indent=2) + "\n").encode())
    return digest(config, tensors)


def load(folder: Path | str, name: str | None = None, device: torch.device | str = "cpu") -> Artifact:
    """Read a learner back; it answers bitwise as the saved one did. Raises `ArtifactError`."""
    folder = Path(folder)
    config = _read_config(folder / CONFIG_FILE)
    learner = _built(config)
    try:
        tensors = safetensors.load(_read(folder / WEIGHTS_FILE))
    except SafetensorError as error:
        raise ArtifactError(f"{folder / WEIGHTS_FILE}: {error}") from error
    _verify(tensors, learner.state_dict())
    learner.load_state_dict(tensors)
    learner.eval().requires_grad_(False).to(device)
    card = _read(folder / CARD_FILE).decode(errors="replace")
    return Artifact(name or folder.resolve().name, config, digest(config, tensors), learner, card, folder)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    # A reader, or a crash, never sees half a file.
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)


def _read_config(path: Path) -> LearnerConfig:
    try:
        described = json.loads(_read(path))
    except ValueError as error:
        raise ArtifactError(f"{path}: not JSON: {error}") from error
    if not isinstance(described, dict):
        raise ArtifactError(f"{path}: not a JSON object")
    if described.get("format") != FORMAT:
        raise ArtifactError(
            f"{path}: format {described.get('format')!r} is unknown, this code reads {FORMAT}"
        )
    try:
        return LearnerConfig.model_validate(described)
    except ValidationError as error:
        first = error.errors()[0]
        raise ArtifactError(f"{path}: field {'.'.join(map(str, first['loc']))!r}: {first['msg']}") from error


def _completed(config: LearnerConfig) -> LearnerConfig:
    try:
        return complete(config)
    except RegistryError as error:
        raise ArtifactError(str(error)) from error


def _built(config: LearnerConfig) -> MetaLearner:
    # Weights are about to be replaced, so their initialisation must not move the caller's random state.
    with torch.random.fork_rng(devices=[]):
        try:
            return build(config)
        except RegistryError as error:
            raise ArtifactError(str(error)) from error


def _verify(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    if missing := sorted(expected.keys() - tensors.keys()):
        raise ArtifactError(f"missing tensor {missing[0]!r} ({len(missing)} in all)")
    if surplus := sorted(tensors.keys() - expected.keys()):
        raise ArtifactError(f"surplus tensor {surplus[0]!r} ({len(surplus)} in all)")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ArtifactError(
                f"tensor {name!r} has shape {list(tensor.shape)}, not {list(expected[name].shape)}"
            )
        if tensor.dtype != expected[name].dtype:
            raise ArtifactError(f"tensor {name!r} is {tensor.dtype}, not {expected[name].dtype}")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ArtifactError(f"tensor {name!r} holds values that are not finite")
