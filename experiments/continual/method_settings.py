"""Methods that the harness of continual learning compares, and what each is set to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from experiments.continual.baselines.continual_method import ContinualMethod, Setting
from experiments.continual.baselines.dgr import Dgr
from experiments.continual.baselines.ewc import Ewc
from experiments.continual.baselines.experience_replay import Replay
from experiments.continual.baselines.hnet_replay import Replayed
from experiments.continual.baselines.hnet_tir import Tir
from experiments.continual.baselines.joint_training import Joint
from experiments.continual.baselines.separate_networks import Separate
from experiments.continual.baselines.sequential_training import FineTune
from experiments.continual.baselines.si import Si
from experiments.continual.baselines.stream_learners import Analytic, Hypernetwork, SurestHypernetwork
from models.protocol import LearnerError

METHODS: dict[str, type[ContinualMethod]] = {
    "fine-tune": FineTune,
    "separate": Separate,
    "joint": Joint,
    "ewc": Ewc,
    "si": Si,
    "dgr": Dgr,
    "replay": Replay,
    "hnet-ent": SurestHypernetwork,
    "hnet-tir": Tir,
    "hnet-r": Replayed,
    "hnet-gate": Hypernetwork,
    "analytic": Analytic,
}
_HNET: dict[str, dict[str, Any]] = {
    "split-mnist": {
        "chunk": 42_000,
        "task_embedding": 96,
        "chunk_embedding": 96,
        "trunk": (10, 10),
        "beta": 0.01,
    },
    "permuted-mnist": {
        "chunk": 78_000,
        "task_embedding": 24,
        "chunk_embedding": 8,
        "trunk": (25, 25),
        "activation": "elu",
        "beta": 0.1,
    },
    "resnet32": {
        "chunk": 7000,
        "task_embedding": 32,
        "chunk_embedding": 32,
        "trunk": (),
        "beta": 0.05,
    },
    "lenet": {
        "chunk": 7000,
        "task_embedding": 32,
        "chunk_embedding": 32,
        "trunk": (32, 32),
        "beta": 0.05,
    },
}
"""Of benchmarks, and of convolutional targets on any; as published (1906.00695, and its code) but for lenet, chosen on
held-out pictures."""
_PLAIN: dict[str, Any] = {"initialisation": "xavier", "scaled": False, "calibration": 0.0, "weighing": "mean"}
"""As published too, where our defaults differ."""
_DECODER: dict[str, Any] = {
    "encoder": (1000, 1000),
    "decoder": (400, 400),
    "chunk": 85_000,
    "task_embedding": 24,
    "chunk_embedding": 8,
    "trunk": (25, 25),
    "beta": 0.1,
}
"""Of permuted-MNIST; that of split-MNIST is the default."""
SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    **{("hnet-ent", name): {**found, **_PLAIN, "inference": "entropy"} for name, found in _HNET.items()},
    ("hnet-tir", "split-mnist"): {**_HNET["split-mnist"], **_PLAIN, "inference": "entropy"},
    ("hnet-tir", "permuted-mnist"): {
        **_HNET["permuted-mnist"],
        **_PLAIN,
        "inference": "entropy",
        "decoder": {**_DECODER, "decoder": (1000, 1000)},
    },
    # Chosen in CL1 on held-out digits: at the end of a pair of digits the gradients, and so the Fisher, are tiny.
    ("ewc", "split-mnist"): {"strength": 1e6},
    ("ewc", "permuted-mnist"): {"strength": 300.0},
    ("hnet-r", "permuted-mnist"): {"decoder": _DECODER},
    **{("hnet-gate", name): {**found, **_PLAIN, "inference": "gate"} for name, found in _HNET.items()},
}
"""Hyperparameters of a method on a benchmark, or with a convolutional target, where they are not its defaults."""


def hparams(method: str, benchmark: str, setting: Setting, given: Mapping[str, Any]) -> BaseModel:
    """Validated, with defaults and budget written out. Raises `LearnerError`."""
    if method not in METHODS:
        raise LearnerError(f"unknown method {method!r}; known are {', '.join(METHODS)}")
    found = METHODS[method]
    if found.draws and (setting.target != "mlp" or len(setting.shape) > 2):
        raise LearnerError(f"{method} learns to draw grey pictures with an MLP: it takes no {benchmark} here")
    kind = benchmark if setting.target == "mlp" else setting.target
    try:
        config = found.Config.model_validate({**SETTINGS.get((method, kind), {}), **given})
        return found.within(setting, config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise LearnerError(f"{method}, hyperparameter {where!r}: {first['msg']}") from error


def build(method: str, setting: Setting, config: BaseModel) -> ContinualMethod:
    return METHODS[method](setting, config)
