"""Small learners of MAML and the tasks they are tested on."""

import torch
from torch import Tensor
from torch.nn import functional as F

from models.encoders.conv4 import Conv4, Conv4Config
from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.maml import Maml, MamlConfig
from models.protocol import Episodes, Support

TARGETS = torch.tensor([[0, 1, 2, 0, 2, 0]])
KEYS = torch.tensor([[30, -10, 20]])
PLACES = torch.tensor([2, 0, 1])
"""Places of the classes, in rising order of their keys."""


def head_learner(**changes: object) -> Maml:
    torch.manual_seed(0)
    config = MamlConfig.model_validate({"inner_lr": 0.3, **changes})
    return Maml(Identity(IdentityConfig(dim=4)), config).eval()


def network_learner(**changes: object) -> Maml:
    torch.manual_seed(0)
    config = MamlConfig.model_validate({"adapts": "all", "steps": 2, "inner_lr": 0.1, **changes})
    return Maml(Conv4(Conv4Config(width=3)), config).eval()


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(count: int, seed: int = 1) -> Tensor:
    return torch.rand(1, count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def support_of(x: Tensor) -> Support:
    return Support.of(x, TARGETS, class_key=KEYS)


def episodes_of(x: Tensor, query: Tensor, target: Tensor) -> Episodes:
    real = torch.ones(1, x.shape[1], dtype=torch.bool)
    asked = torch.ones(1, query.shape[1], dtype=torch.bool)
    known = torch.zeros(1, dtype=torch.bool)
    return Episodes(x, TARGETS, real, query, target, asked, torch.tensor([3]), known)


def plain_head(
    x: Tensor, weight: Tensor, bias: Tensor, steps: int, lr: float, clip: float, *, second: bool
) -> list[tuple[Tensor, Tensor]]:
    found = []
    for _ in range(steps):
        loss = F.cross_entropy(x @ weight.T + bias, TARGETS[0])
        gradients = torch.autograd.grad(loss, (weight, bias), create_graph=second)
        weight, bias = (
            value - lr * gradient.clamp(-clip, clip)
            for value, gradient in zip((weight, bias), gradients, strict=True)
        )
        found.append((weight, bias))
    return found
