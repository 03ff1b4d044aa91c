"""Removal at the size that is served: five stream tasks, the settings of the service."""

import pytest
import torch
from torch import Tensor

from models.continual.chunked_hypernetwork import ChunkedHypernetwork
from models.continual.forgetting import erase
from models.continual.generated_networks import Generated, HyperStreamConfig
from models.continual.hypernetwork import HyperStream
from models.predictive import Categorical
from models.protocol import LearnerError
from models.stream_protocol import StreamVersion

DIM, TASKS, CLASSES = 64, 5, 3


def data(task: int, seed: int, shots: int) -> tuple[Tensor, Tensor]:
    """Classes that a member and a stranger can be told apart in: few examples in many dimensions."""
    centres = 0.35 * torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(task))
    y = torch.arange(CLASSES).repeat(shots)
    return centres[y] + torch.randn(len(y), DIM, generator=torch.Generator().manual_seed(seed)), y


def answers(learner: HyperStream, version: StreamVersion, task: int, x: Tensor) -> Tensor:
    found = learner.predict(learner.weights(version, str(task)), x[None])
    assert isinstance(found, Categorical)
    return found.log_probs[0]


def auroc(members: Tensor, others: Tensor) -> float:
    above = (members[:, None] > others).float() + 0.5 * (members[:, None] == others)
    return float(above.mean())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_saved_embedding_is_of_no_use_and_the_other_tasks_do_not_notice() -> None:
    learner = HyperStream((DIM,), "cl1", HyperStreamConfig(inference="entropy", iterations=300), None, seed=0)
    version = None
    for task in range(TASKS):
        labels = tuple(f"{task}/{index}" for index in range(CLASSES))
        version = learner.register(version, str(task), labels, *data(task, seed=100 + task, shots=40))
    assert version is not None
    after = learner.forget(version, "2")
    thief = StreamVersion(
        after.number,
        {**after.labels, "2": version.labels["2"]},
        after.shared,
        {**after.per_task, "2": version.per_task["2"]},
    )

    def measured(of: StreamVersion, task: int) -> tuple[float, float]:
        """Accuracy on new examples, and how well members are told from them."""
        (x, y), (new_x, new_y) = data(task, seed=100 + task, shots=40), data(task, seed=999, shots=700)
        known, new = answers(learner, of, task, x), answers(learner, of, task, new_x)
        sure, newly = known.gather(1, y[:, None])[:, 0], new.gather(1, new_y[:, None])[:, 0]
        return float((new.argmax(1) == new_y).float().mean()), auroc(sure, newly)

    accuracy, membership = measured(version, 2)
    assert accuracy > 0.85
    assert membership > 0.6
    accuracy, membership = measured(thief, 2)
    assert abs(accuracy - 1 / CLASSES) < 0.02
    assert membership <= 0.55
    for task in (0, 1, 3, 4):
        assert measured(after, task)[0] >= measured(version, task)[0] - 0.002


def test_what_cannot_be_removed_is_an_error() -> None:
    """A hypernetwork of biases alone writes the same for every embedding: to forget one is to lose all."""
    generated = Generated((4,), HyperStreamConfig(hidden=(3,), trunk=(2,), chunk=10, forget_iterations=5))
    assert isinstance(generated.net, ChunkedHypernetwork)
    params = {
        name: torch.zeros_like(value) if name == "trunk.0.weight" else value
        for name, value in generated.initial(2, torch.Generator().manual_seed(0)).items()
    }
    embedding = torch.ones(32)
    gone = {"embedding": embedding, "rows": torch.tensor([0, 2])}
    with pytest.raises(LearnerError, match="could not be removed"):
        erase(generated, params, gone, embedding[None], 2, torch.Generator().manual_seed(0))
