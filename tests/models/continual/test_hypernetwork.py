"""The hypernetwork stream: what is registered stays, what is forgotten is gone, tasks are found."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.continual.fixed_features import FeatureConfig
from models.continual.generated_networks import HyperStreamConfig
from models.continual.hypernetwork import HyperStream
from models.continual.stream_config import Scenario
from models.continual.task_gate import GateConfig
from models.predictive import Categorical
from models.protocol import LearnerError
from models.stream_protocol import StreamVersion

CENTRES = {"across": [[-4.0, 0.0], [4.0, 0.0]], "along": [[0.0, -4.0], [0.0, 4.0]]}
"""Two tasks of two blobs each; the blobs of one lie on the boundary of the other."""


def stream(scenario: Scenario = "cl3", **options: Any) -> HyperStream:
    small = {
        "hidden": (16,),
        "chunk": 30,
        "task_embedding": 8,
        "chunk_embedding": 8,
        "trunk": (16,),
        "lr": 1e-2,
        "iterations": 80,
        "batch": 32,
        "gate": GateConfig(features=FeatureConfig(count=32), sample=16),
    }
    return HyperStream((2,), scenario, HyperStreamConfig.model_validate({**small, **options}), None, seed=0)


def blobs(task: str, seed: int = 0, shots: int = 60) -> tuple[Tensor, Tensor]:
    y = torch.arange(2).repeat(shots)
    noise = torch.randn(len(y), 2, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(CENTRES[task])[y] + 0.5 * noise, y


def registered(learner: HyperStream) -> StreamVersion:
    first = learner.register(None, "across", ("west", "east"), *blobs("across"))
    return learner.register(first, "along", ("south", "north"), *blobs("along"))


def answer(learner: HyperStream, version: StreamVersion, task: str, x: Tensor) -> Tensor:
    predictive = learner.predict(learner.weights(version, task), x[None])
    assert isinstance(predictive, Categorical)
    return predictive.log_probs[0]


def accuracy(learner: HyperStream, version: StreamVersion, task: str) -> float:
    x, y = blobs(task, seed=9)
    return float((answer(learner, version, task, x).argmax(1) == y).float().mean())


@pytest.mark.parametrize("inference", ["gate", "entropy"])
def test_pitfall_13_the_task_of_a_blob_is_inferred(inference: str) -> None:
    learner = stream(inference=inference)
    version = registered(learner)
    right = [
        (learner.infer(version, blobs(task, seed=9)[0]).probabilities.argmax(1) == index).float().mean()
        for index, task in enumerate(CENTRES)
    ]
    assert min(right) > 0.95


def test_pitfall_12_the_first_task_drifts_less_than_under_fine_tuning() -> None:
    kept, tuned = stream(beta=0.01), stream(beta=0)
    of_kept, of_tuned = kept.drift(registered(kept)), tuned.drift(registered(tuned))
    assert of_kept["across"] < 0.3 * of_tuned["across"]
    assert of_kept["along"] == of_tuned["along"] == 0
    assert accuracy(kept, registered(kept), "across") > 0.95


OPTIONS: tuple[dict[str, Any], ...] = (
    {"regulariser": "direct", "subset": 1},
    {"regulariser": "stored"},
    {"regulariser": "sampled", "subset": 16, "weighing": "sum"},
    {"heads": "separate", "masked": True, "inference": "entropy"},
    {"heads": "separate", "outputs": 10, "initialisation": "xavier", "activation": "elu"},
    {"trunk": (), "precision": "bfloat16", "scaled": False, "calibration": 0},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_setting_learns_and_keeps(options: dict[str, Any]) -> None:
    learner = stream(**options)
    version = registered(learner)
    assert min(accuracy(learner, version, task) for task in CENTRES) > 0.9


def test_separate_heads_grow_and_give_each_task_rows_of_its_own() -> None:
    version = registered(stream(heads="separate"))
    assert [own["rows"].tolist() for own in version.per_task.values()] == [[0, 2], [2, 2]]
    assert int(version.shared["rows"]) == 4
    assert len(version.shared["hnet.chunks"]) > len(registered(stream()).shared["hnet.chunks"])


def test_a_task_with_more_classes_than_any_before_makes_the_head_grow() -> None:
    learner = stream()
    x, y = torch.cat([blobs(task)[0] for task in CENTRES]), torch.arange(4).repeat_interleave(60)
    y[:60], y[60:120] = blobs("across")[1][:60], blobs("across")[1][60:]
    y[120:] = blobs("along")[1] + 2
    first = learner.register(None, "across", ("west", "east"), *blobs("across"))
    version = learner.register(first, "all", ("w", "e", "s", "n"), x, y)
    assert (answer(learner, version, "all", x).argmax(1) == y).float().mean() > 0.9
    assert accuracy(learner, version, "across") > 0.9


def test_a_task_of_pictures_is_learned_by_convolutions() -> None:
    config = HyperStreamConfig(
        target="lenet",
        hidden=(8,),
        chunk=4_000,
        trunk=(8,),
        iterations=30,
        lr=3e-3,
        batch=16,
        inference="entropy",
    )
    learner = HyperStream((1, 8, 8), "cl1", config, None, seed=0)
    y = torch.arange(2).repeat(40)
    x = torch.rand(80, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x[y == 0, :, :4] += 1
    version = learner.register(None, "halves", ("top", "bottom"), x, y)
    assert (answer(learner, version, "halves", x).argmax(1) == y).float().mean() > 0.9


@pytest.mark.parametrize("inference", ["gate", "entropy"])
def test_a_forgotten_task_is_at_chance_for_whoever_saved_its_embedding(inference: str) -> None:
    learner = stream(inference=inference)
    before = registered(learner)
    after = learner.forget(before, "across")
    assert after.tasks == ("along",)
    assert accuracy(learner, after, "along") >= accuracy(learner, before, "along") - 0.002
    # Its own tensors put back, as someone who kept a copy would.
    labels = {**after.labels, "across": before.labels["across"]}
    thief = StreamVersion(
        after.number, labels, after.shared, {**after.per_task, "across": before.per_task["across"]}
    )
    assert accuracy(learner, before, "across") > 0.95
    assert abs(accuracy(learner, thief, "across") - 0.5) <= 0.05
    members, others = (answer(learner, thief, "across", blobs("across", seed)[0]) for seed in (0, 9))
    y = blobs("across")[1]
    surer = members[range(120), y][:, None] > others[range(120), y]
    ties = members[range(120), y][:, None] == others[range(120), y]
    assert float((surer + 0.5 * ties).mean()) <= 0.55


def test_registering_goes_on_after_forgetting_and_may_reuse_the_name() -> None:
    learner = stream()
    version = learner.forget(registered(learner), "along")
    again = learner.register(version, "along", ("south", "north"), *blobs("along"))
    assert min(accuracy(learner, again, task) for task in CENTRES) > 0.95


def test_the_only_task_cannot_be_forgotten() -> None:
    learner = stream(iterations=1)
    version = learner.register(None, "across", ("west", "east"), *blobs("across"))
    with pytest.raises(LearnerError, match="'across' is the only one"):
        learner.forget(version, "across")


def test_progress_is_told() -> None:
    told: list[dict[str, float]] = []
    stream().register(None, "across", ("w", "e"), *blobs("across"), report=lambda m: told.append(dict(m)))
    assert [each["step"] for each in told] == [1, 51, 80]
    assert told[-1]["steps"] == 80
    assert told[-1]["loss"] < told[0]["loss"]


def test_features_of_another_shape_are_refused() -> None:
    with pytest.raises(LearnerError, match=r"\[3\]"):
        stream().register(None, "across", ("w", "e"), torch.rand(10, 3), torch.arange(2).repeat(5))


def test_a_diverging_training_is_refused() -> None:
    x, y = blobs("across")
    with pytest.raises(LearnerError, match="diverged"):
        stream(scaled=False).register(None, "across", ("w", "e"), x * 1e38, y)
