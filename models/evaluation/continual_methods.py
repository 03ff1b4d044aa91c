"""Methods that the harness of continual learning compares, and what each is set to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from models.continual.baselines.base import ContinualMethod, Setting
from models.continual.baselines.ewc import Ewc
from models.continual.baselines.finetune import FineTune
from models.continual.baselines.joint import Joint
from models.continual.baselines.replay import Replay
from models.continual.baselines.separate import Separate
from models.continual.baselines.si import Si
from models.protocol import LearnerError

METHODS: dict[str, type[ContinualMethod]] = {
    "fine-tune": FineTune,
    "separate": Separate,
    "joint": Joint,
    "ewc": Ewc,
    "si": Si,
    "replay": Replay,
}
SETTINGS: dict[tuple[str, str], dict[str, Any]] = {}
"""Hyperparameters of a method on a benchmark, where they are not its defaults."""


def hparams(method: str, benchmark: str, given: Mapping[str, Any]) -> BaseModel:
    """Validated, defaults written out. Raises `LearnerError`."""
    if method not in METHODS:
        raise LearnerError(f"unknown method {method!r}; known are {', '.join(METHODS)}")
    try:
        return METHODS[method].Config.model_validate({**SETTINGS.get((method, benchmark), {}), **given})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise LearnerError(f"{method}, hyperparameter {where!r}: {first['msg']}") from error


def build(method: str, setting: Setting, config: BaseModel) -> ContinualMethod:
    return METHODS[method](setting, config)
