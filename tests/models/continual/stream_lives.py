"""Whole lives of streams on a device, as tensors on the CPU: what was learned and predicted."""

from typing import Any

import torch
from torch import Tensor

from experiments.continual import method_settings as methods
from experiments.continual.baselines.continual_method import ComparisonSetting
from models.continual.held_out import measure
from models.continual.stream_config import StreamConfig, build
from models.inputs import VectorInput
from models.predictive import Categorical
from models.stream_protocol import StreamLearner
from tests.models.continual.blobs import DIM, examples, labels

_GATE = {"features": {"count": 64}}
_SMALL = {
    "hidden": (8,),
    "chunk": 30,
    "task_embedding": 8,
    "chunk_embedding": 8,
    "trunk": (16,),
    "lr": 1e-2,
    "batch": 16,
    "iterations": 3,
    "forget_iterations": 80,
    "gate": _GATE,
}
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "gate": ("hypernetwork", _SMALL),
    "entropy": ("hypernetwork", {**_SMALL, "inference": "entropy", "initialisation": "xavier"}),
    "own heads": (
        "hypernetwork",
        {**_SMALL, "heads": "separate", "masked": True, "regulariser": "direct", "subset": 1},
    ),
    "stored": ("hypernetwork", {**_SMALL, "regulariser": "stored"}),
    "sampled": ("hypernetwork", {**_SMALL, "regulariser": "sampled", "trunk": ()}),
    "analytic": ("analytic", _GATE),
}

_FEW: dict[str, dict[str, Any]] = {"hnet-gate": {"gate": _GATE}, "analytic": _GATE}


def of_stream(name: str, device: str, *, forgetting: bool = False) -> dict[str, Tensor]:
    """Return the tensors and predictions of three stream tasks and, if `forgetting`, after forgetting one."""
    method, hparams = STREAMS[name]
    config = StreamConfig(
        method=method, scenario="cl1", hparams=hparams, input=VectorInput(dim=DIM), shape=(DIM,)
    )
    learner: StreamLearner = build(config).to(device)
    version = None
    for task in range(3):
        version = learner.register(version, str(task), labels(task), *examples(task, shots=20))
    assert version is not None
    found: dict[str, Tensor] = {}
    stages = {"registered": version}
    if forgetting:
        stages["forgotten"] = learner.forget(version, "0")
    for stage, now in stages.items():
        found |= {f"{stage}: {key}": value for key, value in now.shared.items()}
        found |= {
            f"{stage}: {task}.{key}": value
            for task in now.per_task
            for key, value in now.per_task[task].items()
        }
        features = learner.embed(examples(1, seed=1)[0])
        posterior = learner.infer(now, features)
        answer = learner.predict(learner.weights(now, "1"), features[None])
        assert isinstance(answer, Categorical)
        assert features.device.type == torch.device(device).type
        found |= {
            f"{stage}: task": posterior.probabilities.cpu(),
            f"{stage}: label": answer.probabilities.cpu(),
        }
        figures = measure(learner, now, {"1": examples(1, seed=1)})["1"]
        found[f"{stage}: figures"] = torch.tensor([figures.accuracy, figures.inferred, figures.drift])
    return found


def of_method(method: str, device: str) -> dict[str, Tensor]:
    """Return the stored tensors and the predictions of a method of the comparison, after three stream tasks in CL3."""
    setting = ComparisonSetting(
        "cl3",
        tasks=3,
        way=2,
        shape=(4, 4),
        hidden=(6,),
        iterations=2,
        batch=8,
        precision="fp32",
        device=device,
    )
    config = methods.hparams(method, "split-mnist", setting, _FEW.get(method, {}))
    learner = methods.build(method, setting, config)
    y = torch.arange(2).repeat(12)
    for task in range(3):
        x = torch.rand(len(y), 4, 4, generator=torch.Generator().manual_seed(task))
        learner.learn(task, x.to(device), y.to(device))
    answer = learner.predict(x.to(device), None)
    assert answer.task is not None
    found = {name: value.detach().cpu() for name, value in learner.stored().items()}
    return {**found, "label": answer.label.cpu(), "task": answer.task.cpu()}
