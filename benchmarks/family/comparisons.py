"""Ours beside a library, each line a ratio above 1 where ours is faster."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.family.peers import INNER_LR, Peers, ours
from benchmarks.family.tasks import WAY, episodes, labels, learner_of, pictures
from benchmarks.family.turns import Contender, Rounds, take_turns
from models.encoders.conv4 import Conv4
from models.protocol import MetaLearner, Support

TRAINED, SHOTS, QUERIES, STEPS = 4, 1, 15, 5
READY_SHOTS = 5


@dataclass(frozen=True)
class Ratio:
    """What the other takes over what ours takes."""

    ours: str
    other: str
    cpu: float
    wall: float
    ours_per_second: float
    """Episodes trained, or support sets made ready, per second of processor time."""
    target: float | None
    rounds: int


def training(peers: Peers, rounds: int, most_seconds: float) -> list[Ratio]:
    """Episodes in training: 5 ways, 1 shot, 15 queries; the same tensors to both."""
    batch = episodes(TRAINED, SHOTS, QUERIES)
    inner: dict[str, object] = {"ways": WAY, "steps": STEPS, "inner_lr": INNER_LR}
    lines: dict[str, tuple[str, Contender, dict[str, object]]] = {
        "protonet": ("easyfsl ProtoNet", peers.protonet(batch), {}),
        "maml": ("learn2learn MAML", peers.maml(batch, STEPS), {**inner, "adapts": "all"}),
        "anil": ("learn2learn ANIL", peers.anil(batch, STEPS), inner),
    }
    found = []
    for name, (other, peer, hparams) in lines.items():
        method = "protonet" if name == "protonet" else "maml"
        contenders: dict[str, Contender] = {
            other: peer,
            f"{name} fp32": ours(batch, method, hparams, at_once=TRAINED),
            f"{name} bf16": ours(batch, method, hparams, at_once=TRAINED, bf16=True),
        }
        if name == "protonet":
            contenders[f"{name} fp32, a step per episode"] = ours(batch, method, hparams, at_once=1)
        turns = take_turns(contenders, rounds, most_seconds)
        found += [_ratio(turns, own, other, TRAINED, 2.0) for own in list(contenders)[1:]]
    return found


def readiness(peers: Peers, rounds: int, most_seconds: float) -> list[Ratio]:
    """A support set of 5 ways and 5 shots to a model that answers, in process, both from pictures and from features."""
    x, y = pictures(WAY * READY_SHOTS), labels(1, READY_SHOTS)
    plain = learner_of("protonet").eval()
    with torch.no_grad():
        features = plain.embed(x)

    def regression() -> object:
        with torch.no_grad():
            return _fitted(plain.embed(x), y[0])

    maml, logistic, in_hand = "learn2learn MAML, 5 steps", "scikit-learn", "scikit-learn on features in hand"
    contenders: dict[str, Contender] = {
        maml: peers.adapted_maml(x, y[0], STEPS),
        logistic: regression,
        in_hand: lambda: _fitted(features, y[0]),
    }
    for method in ("hyperset", "hypershot"):
        learner = learner_of(method).eval()
        contenders[method] = _ready(learner, x, y)
        contenders[f"{method} on features in hand"] = _adapts(learner, features, y)
    turns = take_turns(contenders, rounds, most_seconds)
    found = []
    for method in ("hyperset", "hypershot"):
        found += [
            _ratio(turns, method, maml, 1, 20.0),
            _ratio(turns, method, logistic, 1, 3.0),
            _ratio(turns, f"{method} on features in hand", in_hand, 1, 3.0),
        ]
    return found


def _ratio(turns: Rounds, own: str, other: str, count: int, target: float) -> Ratio:
    cpu, wall = turns.times(other, own)
    return Ratio(own, other, round(cpu, 2), round(wall, 2), round(count / turns.cpu(own), 1), target, turns.n)


def _fitted(features: torch.Tensor, y: torch.Tensor) -> object:
    return LogisticRegression(max_iter=1000).fit(features.numpy(), y.numpy())


def _adapts(learner: MetaLearner, features: torch.Tensor, y: torch.Tensor) -> Contender:
    @torch.inference_mode()
    def adapt() -> object:
        return learner.adapt(Support.of(features[None], y))

    return adapt


def _ready(learner: MetaLearner, x: torch.Tensor, y: torch.Tensor) -> Contender:
    """With BatchNorm folded into the convolutions, as serving has it."""
    assert isinstance(learner.encoder, Conv4)
    encoder = learner.encoder.fold()

    @torch.inference_mode()
    def adapt() -> object:
        return learner.adapt(Support.of(encoder(x)[None], y))

    return adapt
