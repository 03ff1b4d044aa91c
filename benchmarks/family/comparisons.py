"""Comparisons with other libraries: ratios above 1 mean that ours is faster."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.family.interleaved_timing import Contender, Rounds, take_turns
from benchmarks.family.peer_libraries import INNER_LR, Peers, ours
from benchmarks.family.random_tasks import WAY, episodes, labels, learner_of, pictures
from benchmarks.family.separate_process import ContenderProcess, separate_processes
from models.encoders.conv4 import Conv4
from models.protocol import MetaLearner, Support

TRAINED, SHOTS, QUERIES, STEPS = 4, 1, 15, 5
READY_SHOTS = 5


@dataclass(frozen=True)
class Ratio:
    """The time of another library as a multiple of ours."""

    ours: str
    other: str
    cpu: float
    wall: float
    ours_per_second: float
    """Episodes trained, or support sets adapted to, per second of CPU time."""
    target: float | None
    rounds: int


def training(folder: Path, rounds: int, most_seconds: float) -> list[Ratio]:
    """Compare training: 5 ways, 1 shot, 15 queries; the same tensors, each contender in a separate process."""
    inner: dict[str, object] = {"ways": WAY, "steps": STEPS, "inner_lr": INNER_LR}
    found = []
    for name, (peer, hparams) in {
        "protonet": ("easyfsl ProtoNet", {}),
        "maml": ("learn2learn MAML", inner | {"adapts": "all"}),
        "anil": ("learn2learn ANIL", inner),
    }.items():
        fp32 = partial(_own, "protonet" if name == "protonet" else "maml", hparams)
        entries = {
            peer: ContenderProcess(partial(_peer, folder, name)),
            f"{name} fp32": ContenderProcess(fp32, keeps_memory=True),
            f"{name} fp32, default allocator": ContenderProcess(fp32),
            f"{name} bf16": ContenderProcess(partial(fp32, bf16=True), keeps_memory=True),
        }
        if name == "protonet":
            one = partial(fp32, at_once=1)
            entries[f"{name} fp32, a step per episode"] = ContenderProcess(one, keeps_memory=True)
        with separate_processes(entries) as contenders:
            turns = take_turns(dict(contenders), rounds, most_seconds)
        found += [_ratio(turns, own, peer, TRAINED, 2.0) for own in entries if own != peer]
    return found


def _peer(folder: Path, name: str) -> Contender:
    peers, batch = Peers(folder), episodes(TRAINED, SHOTS, QUERIES)
    if name == "protonet":
        return peers.protonet(batch)
    return (peers.maml if name == "maml" else peers.anil)(batch, STEPS)


def _own(method: str, hparams: dict[str, object], at_once: int = TRAINED, bf16: bool = False) -> Contender:
    return ours(episodes(TRAINED, SHOTS, QUERIES), method, hparams, at_once=at_once, bf16=bf16)


def readiness(folder: Path, rounds: int, most_seconds: float) -> list[Ratio]:
    """Compare adaptation to a support set of 5 ways and 5 shots, in process, from images and from features."""
    peers, x, y = Peers(folder), pictures(WAY * READY_SHOTS), labels(1, READY_SHOTS)
    plain = learner_of("protonet").eval()
    with torch.no_grad():
        features = plain.embed(x)

    def regression() -> object:
        with torch.no_grad():
            return _fitted(plain.embed(x), y[0])

    maml, logistic, on_features = "learn2learn MAML, 5 steps", "scikit-learn", "scikit-learn on features"
    contenders: dict[str, Contender] = {
        maml: peers.adapted_maml(x, y[0], STEPS),
        logistic: regression,
        on_features: lambda: _fitted(features, y[0]),
    }
    for method in ("hyperset", "hypershot"):
        learner = learner_of(method).eval()
        contenders[method] = _ready(learner, x, y)
        contenders[f"{method} on features"] = _adapts(learner, features, y)
    turns = take_turns(contenders, rounds, most_seconds)
    found = []
    for method in ("hyperset", "hypershot"):
        found += [
            _ratio(turns, method, maml, 1, 20.0),
            _ratio(turns, method, logistic, 1, 3.0),
            _ratio(turns, f"{method} on features", on_features, 1, 3.0),
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
    """Return the contender with BatchNorm folded into the convolutions, as in serving."""
    assert isinstance(learner.encoder, Conv4)
    encoder = learner.encoder.fold()

    @torch.inference_mode()
    def adapt() -> object:
        return learner.adapt(Support.of(encoder(x)[None], y))

    return adapt
