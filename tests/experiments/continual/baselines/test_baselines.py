"""Methods that protect one network: penalties on hand values, and what each of them keeps."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from experiments.continual.baselines.continual_method import ComparisonSetting, NoConfig, most_certain
from experiments.continual.baselines.dgr import Dgr, DgrConfig
from experiments.continual.baselines.ewc import Ewc, EwcConfig
from experiments.continual.baselines.experience_replay import ExperienceReplay, ReplayConfig
from experiments.continual.baselines.flat_networks import Network
from experiments.continual.baselines.separate_networks import SeparateNetworks
from experiments.continual.baselines.sequential_training import SequentialTraining
from experiments.continual.baselines.si import Si, SiConfig
from experiments.continual.baselines.vae import distillation
from models.protocol import LearnerError

TINY = ComparisonSetting(
    "cl3", tasks=3, way=2, shape=(6,), hidden=(8,), iterations=40, batch=16, lr=1e-2, precision="fp32"
)


def examples(task: int, n: int = 40) -> tuple[Tensor, Tensor]:
    """Two blobs a stream task."""
    generator = torch.Generator().manual_seed(task)
    y = torch.arange(n) % 2
    centres = 3 * torch.randn(2, 6, generator=torch.Generator().manual_seed(100 + task))
    return (centres[y] + 0.3 * torch.randn(n, 6, generator=generator)).sigmoid(), y


def after(
    method: SequentialTraining | SeparateNetworks, tasks: int = 3
) -> SequentialTraining | SeparateNetworks:
    for task in range(tasks):
        method.learn(task, *examples(task))
    return method


def set_flat(network: Network, values: list[float]) -> None:
    with torch.no_grad():
        network.flat.copy_(torch.tensor(values))


def test_parameters_and_gradients_are_views_of_one_vector() -> None:
    network = Network((2, 1), torch.Generator())
    set_flat(network, [2.0, -1.0, 0.5])
    assert network(torch.tensor([[3.0, 4.0]])).item() == 2.5
    network(torch.tensor([[3.0, 4.0]])).sum().backward()
    assert network.grad.tolist() == [3.0, 4.0, 1.0]


def test_fisher_is_the_mean_of_squared_gradients_of_single_examples() -> None:
    network = Network((6, 5, 4), torch.Generator().manual_seed(0))
    x, y = torch.randn(7, 6), torch.randint(0, 2, (7,))
    expected = torch.zeros_like(network.grad)
    for one, target in zip(x, y, strict=True):
        network.grad.zero_()
        F.cross_entropy(network(one[None])[:, 1:3], target[None]).backward()
        expected += network.grad.square() / len(y)
    assert_close(network.fisher(x, y, slice(1, 3)), expected, atol=1e-6, rtol=1e-4)


def test_ewc_adds_fishers_that_fade() -> None:
    ewc = Ewc(TINY, EwcConfig(strength=10, decay=0.5))
    ewc.fisher = torch.full_like(ewc.fisher, 4.0)
    x, y = examples(0)
    found = ewc.network.fisher(x, y, slice(0, 2))
    ewc.finish(0, x, y)
    assert_close(ewc.fisher, 2.0 + found)
    assert ewc.penalty() == 0


def test_ewc_penalty_and_its_gradient() -> None:
    """λ/2 Σ F (θ − θ*)² = 10/2 · (2·1² + 1·3²) = 55, gradient λ F (θ − θ*)."""
    setting = ComparisonSetting("cl2", tasks=2, way=2, shape=(1,), hidden=(), precision="fp32")
    ewc = Ewc(setting, EwcConfig(strength=10))
    ewc.fisher, ewc.anchor = torch.tensor([2.0, 1.0, 0.0, 7.0]), torch.tensor([1.0, 1.0, 1.0, 1.0])
    set_flat(ewc.network, [2.0, 4.0, 9.0, 1.0])
    assert ewc.penalty().item() == 55
    ewc.seen = 1
    ewc.network.grad.zero_()
    ewc.step([])
    assert ewc.network.grad.tolist() == [20.0, 30.0, 0.0, 0.0]


def test_si_follows_the_path_of_the_loss() -> None:
    """SGD of rate 0.1 on θ² / 2 from 1, two steps: −g·δθ = 0.1 + 0.081, and Ω = 0.181 / (0.19² + ξ)."""
    setting = ComparisonSetting("cl2", tasks=2, way=2, shape=(1,), hidden=(), precision="fp32")
    si = Si(setting, SiConfig(strength=3, damping=0.1))
    set_flat(si.network, [1.0, 0.0, 0.0, 0.0])
    si.anchor = si.network.flat.detach().clone()
    descent = torch.optim.SGD([si.network.flat], lr=0.1)
    for _ in range(2):
        si.network.grad.copy_(si.network.flat.detach())
        si.step([descent])
    assert_close(si.path[0].item(), 0.181)
    si.finish(0, *examples(0))
    assert_close(si.importance, torch.tensor([0.181 / (0.19**2 + 0.1), 0, 0, 0]))
    set_flat(si.network, [1.81, 5.0, 0.0, 0.0])
    si.seen = 1
    si.network.grad.zero_()
    si.step([])
    assert_close(si.network.grad[0].item(), 2 * 3 * si.importance[0].item() * (1.81 - 0.81))


def test_distillation_softens_and_knows_no_new_class() -> None:
    targets, logits = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0]])
    assert_close(distillation(logits, targets, 2.0).item(), 4 * torch.tensor(3.0).log().item())
    sure = distillation(torch.tensor([[4.0, 0.0, -100.0]]), torch.tensor([[100.0, 0.0]]), 2.0)
    assert sure.item() == pytest.approx(4 * F.softplus(torch.tensor(-2.0)).item(), rel=1e-5)


def test_of_networks_the_surest_answers() -> None:
    log_probs = torch.tensor([[[0.5, 0.5], [0.9, 0.1]], [[0.2, 0.8], [0.1, 0.9]]]).log()
    answer = most_certain(log_probs)
    assert answer.label.tolist() == [1, 0]
    assert answer.task is not None
    assert answer.task.tolist() == [1, 0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: SequentialTraining(TINY, NoConfig()),
        lambda: Ewc(TINY, EwcConfig(strength=1)),
        lambda: Si(TINY, SiConfig(strength=0.1)),
        lambda: ExperienceReplay(TINY, ReplayConfig(per_class=3)),
        lambda: Dgr(replace(TINY, iterations=80), DgrConfig(latent=2)),
        lambda: SeparateNetworks(TINY, NoConfig()),
    ],
)
def test_the_newest_stream_task_is_learned_and_a_seed_repeats(
    make: Callable[[], SequentialTraining | SeparateNetworks],
) -> None:
    one, other = after(make(), 2), after(make(), 2)
    answer = one.predict(examples(1)[0], None)
    assert answer.task is not None
    right = (answer.label == examples(1)[1]) & (answer.task == 1)
    assert right.float().mean() > (0.4 if isinstance(one, SeparateNetworks) else 0.9)
    assert all(value.equal(other.stored()[name]) for name, value in one.stored().items())
    assert one.stored_bytes > 0


def test_a_buffer_remembers_what_fine_tuning_forgets() -> None:
    x, y = examples(0)
    replay = after(ExperienceReplay(TINY, ReplayConfig(per_class=3)))
    assert len(replay.stored()["x"]) == 3 * 2 * 3
    right = {}
    for name, method in (("replay", replay), ("fine-tune", after(SequentialTraining(TINY, NoConfig())))):
        prediction = method.predict(x, None)
        right[name] = (prediction.label == y) & (prediction.task == 0)
    assert right["replay"].float().mean() > 0.8
    assert right["fine-tune"].float().mean() < 0.2


def test_stream_tasks_come_in_order() -> None:
    with pytest.raises(LearnerError, match="next stream task is 0"):
        SequentialTraining(TINY, NoConfig()).learn(1, *examples(1))
