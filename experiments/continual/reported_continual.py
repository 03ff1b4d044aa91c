"""Mean accuracy after the last stream task as reported by von Oswald et al. (1906.00695), in per cent, n = 20.

EWC is online, and DGR uses distillation. Networks, iterations and optimiser are the same as in our comparison.
"""

from __future__ import annotations

from models.continual.stream_config import Scenario

ScenarioAccuracies = tuple[float, float, float]
_ORDER: tuple[Scenario, ...] = ("cl1", "cl2", "cl3")
_REPORTED: dict[tuple[str, int], dict[str, ScenarioAccuracies]] = {
    ("split-mnist", 5): {
        "ewc": (99.12, 64.32, 19.96),
        "si": (99.09, 65.36, 19.99),
        "dgr": (99.61, 96.83, 91.79),
        "hnet-ent": (99.79, 87.01, 69.48),
        "hnet-tir": (99.79, 94.43, 89.59),
        "hnet-r": (99.83, 98.00, 95.30),
    },
    ("permuted-mnist", 10): {
        "ewc": (95.96, 94.42, 33.88),
        "si": (94.75, 95.33, 29.31),
        "dgr": (97.51, 97.35, 96.38),
        "hnet-ent": (97.57, 92.80, 91.75),
        "hnet-tir": (97.57, 97.58, 97.59),
        "hnet-r": (97.87, 97.60, 97.76),
    },
}
_ONE_SCENARIO: dict[tuple[str, int, str, str], float] = {
    ("permuted-mnist", 100, "cl1", "hnet-ent"): 96.78,
}


def reported(benchmark: str, tasks: int, scenario: Scenario, method: str) -> float | None:
    """Return the reported accuracy in per cent, or None if the paper has no such figure."""
    if (only := _ONE_SCENARIO.get((benchmark, tasks, scenario, method))) is not None:
        return only
    figures = _REPORTED.get((benchmark, tasks), {}).get(method)
    return None if figures is None else figures[_ORDER.index(scenario)]


NOTES: dict[tuple[str, str], tuple[str, ...]] = {
    ("split-cifar-80", "lenet"): (
        "80 classes of CIFAR-100 in stream tasks of ten, each class with its 500 training and 100 test images, without "
        "augmentation. The protocol is smaller than the published one (ResNet-32, 200 epochs in batches of 32), so "
        "there are no reported figures.",
    ),
    ("split-cifar-80", "resnet32"): (
        "80 classes of CIFAR-100 in stream tasks of ten, each class with its 500 training and 100 test images, without "
        "augmentation. Reported for another stream, all 100 classes in ten stream tasks, CL1 / CL3, single runs by the "
        "paper's authors (posterior_replay_cl): hypernetwork 78.58 / 34.59, with hidden layers 250-500-1000 85.43 / "
        "41.08; EWC 63.36 / 14.20; separate networks 85.24 / 42.28; fine-tuning in CL1 18.63.",
    ),
}
"""Notes above the table of a benchmark and target. Figures of other streams are comparable only with care."""
