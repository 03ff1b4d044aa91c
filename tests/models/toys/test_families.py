"""Properties of single families, checked on their toys."""

import torch
from torch.testing import assert_close

from models.encoders.identity import Identity
from models.noise import Noise
from models.protocol import Support, TaskWeights
from tests.models.toys.cloud import PointCloud, energy_distance
from tests.models.toys.density import AffineFlow
from tests.models.toys.maml import Maml
from tests.models.toys.memory import StreamMemory

ENCODER = Identity(Identity.Config())


def density_weights(tasks: int) -> tuple[AffineFlow, TaskWeights]:
    flow = AffineFlow(ENCODER, AffineFlow.Config()).requires_grad_(False)
    support = Support.of(torch.randn(tasks, 1, 2), None, seed=torch.arange(tasks))
    return flow, flow.adapt(support)


def test_a_density_integrates_to_one() -> None:
    flow, weights = density_weights(3)
    axis = torch.linspace(-8, 8, 321)
    grid = torch.cartesian_prod(axis, axis).expand(3, -1, -1)
    mass = flow.predict(weights, grid).log_prob.exp().sum(1) * (axis[1] - axis[0]) ** 2
    assert_close(mass, torch.ones(3), atol=1e-3, rtol=0)


def test_draws_follow_the_density() -> None:
    flow, weights = density_weights(2)
    answer = flow.predict(weights, torch.zeros(2, 1, 2), Noise(20_000))
    assert answer.samples is not None
    assert_close(answer.samples.mean(1), weights.task["shift"], atol=0.05, rtol=0)
    assert_close(answer.samples.std(1).log(), weights.task["log_scale"], atol=0.05, rtol=0)


def test_a_density_without_noise_draws_nothing() -> None:
    flow, weights = density_weights(1)
    assert flow.predict(weights, torch.zeros(1, 4, 2)).samples is None


def test_a_memory_forgets_what_is_written_over() -> None:
    memory = StreamMemory(ENCODER, StreamMemory.Config()).requires_grad_(False)
    memory.rate.fill_(20.0)
    x = torch.randn(1, 1, 8).expand(1, 2, 8)
    weights = memory.adapt(Support.of(x, torch.tensor([[0, 1]])))
    recalled = memory._keys(x[:, :1]) @ weights.rows["memory"].transpose(1, 2)
    assert_close(recalled, torch.tensor([[[0.0, 1.0]]]), atol=1e-5, rtol=0)


def test_inner_steps_of_maml_are_gradient_descent() -> None:
    maml = Maml(ENCODER, Maml.Config(inner_steps=1, inner_lr=0.1))
    x, y = torch.randn(6, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    row = maml.row.expand(3, -1).detach().clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(maml.body(x) @ row.T, y)
    expected = row - 0.1 * torch.autograd.grad(loss, row)[0]
    weights = maml.adapt(Support.of(x[None], y[None]))
    assert_close(weights.rows["row"][0], expected)
    assert set(weights.task) == {"0.weight", "0.bias"}


def test_a_cloud_may_be_asked_for_any_number_of_points() -> None:
    cloud = PointCloud(ENCODER, PointCloud.Config()).requires_grad_(False)
    weights = cloud.adapt(Support.of(torch.randn(2, 5, 2), None))
    assert cloud.predict(weights, torch.randn(2, 1000, 2)).values.shape == (2, 1000, 2)


def test_energy_distance_of_a_cloud_to_itself_is_zero() -> None:
    x, real = torch.randn(1, 9, 2), torch.ones(1, 9, dtype=torch.bool)
    assert_close(energy_distance(x, x, real), torch.zeros(1))
    assert_close(
        energy_distance(torch.zeros(1, 1, 2), torch.ones(1, 1, 2), real[:, :1]), torch.tensor([8.0]).sqrt()
    )
