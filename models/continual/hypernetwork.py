"""Continual learning with a task-conditioned hypernetwork (von Oswald et al. 2019, 1906.00695) as a stream.

A stream task is an embedding e_j of which the shared chunked hypernetwork makes a whole network; registering
another trains the hypernetwork under the two-step output regulariser, so that h(e_j; Θ) stays for all before it.

Version: `shared` holds Θ ("hnet.…"), the scale of features, the rows of the head, and the gate's part; `own[task]` the
embedding, which rows are its own, a temperature and a margin, a sketch of its network at registration, and the gate's
part. Task weights: the flat body, scale and temperature, and per class a row [weights, bias] of the head. Where
inference is by entropy, the gate is all tasks' networks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from models.continual.config import Scenario, check_known, check_task
from models.continual.forgetting import erase
from models.continual.gate import Gate
from models.continual.generated import Generated
from models.continual.hyperstream_config import HyperStreamConfig
from models.continual.target_networks import head
from models.continual.two_step import learn
from models.noise import Noise, label_key
from models.predictive import Categorical
from models.protocol import LearnerError, TaskWeights, Traits
from models.stream_protocol import Report, StreamLearner, StreamVersion

LENGTH = 256
_SEED = 20190603


def sketch(flat: Float[Tensor, "size"]) -> Float[Tensor, "256"]:
    """By the processor, where the signs are drawn."""
    generator = torch.Generator().manual_seed(_SEED + len(flat))
    signs = 2 * torch.randint(0, 2, flat.shape, generator=generator, dtype=torch.int8) - 1
    signed = flat.cpu() * signs
    return F.pad(signed, (0, -len(flat) % LENGTH)).view(-1, LENGTH).sum(0)


def relative_change(now: Float[Tensor, "size"], then: Float[Tensor, "256"]) -> float:
    """‖now − then‖ / ‖then‖, the second known by its sketch."""
    return float((sketch(now) - then).norm() / then.norm().clamp_min(1e-12))


_SMALL = 1e-3


def log_entropy(
    logits: Float[Tensor, "*batch way"], mask: Bool[Tensor, "*#batch way"]
) -> Float[Tensor, "*batch"]:
    """log H in nats of softmax over the classes of the mask; finite for any finite logits of two classes or more."""
    log_probs = logits.masked_fill(~mask, -torch.inf).log_softmax(-1)
    top = log_probs.argmax(-1, keepdim=True)
    others = log_probs.scatter(-1, top, -torch.inf)
    # Of the surest class −log p = −log(1 − Σ others), which is 0 in floating point long before the others are.
    log_rest = others.logsumexp(-1, keepdim=True)
    rest = log_rest.exp()
    log_surprise = torch.where(
        rest < _SMALL, log_rest + rest / 2, (-torch.log1p(-rest.clamp_max(1 - 1e-6))).clamp_min(1e-30).log()
    )
    log_terms = (others + (-others.clamp_min(-3e38)).log()).masked_fill(others == -torch.inf, -torch.inf)
    of_top = torch.log1p(-rest.clamp_max(1 - 1e-6)) + log_surprise
    return torch.cat([log_terms, of_top], -1).logsumexp(-1)


def posterior(
    log_entropies: Float[Tensor, "*batch tasks"], ways: Float[Tensor, "*#batch tasks"]
) -> Float[Tensor, "*batch tasks"]:
    """log P(task) with P(task) ∝ 1 / H, each H as a share of the most it can be, log way."""
    return (ways.log().log() - log_entropies).log_softmax(-1)


_PREFIX = "hnet."
_AT_ONCE = 512
"""Inputs that the encoder takes together."""
_LEAST_HELD, _MOST_HELD = 20, 500
"""Fewer examples tell no temperature, and more are not needed."""
_SURE = 5.0
"""Lead of the likeliest class, in nats, that an example of a task shall typically have in its own network."""
_TEMPERATURES = torch.logspace(-2, 3, 41, base=2)


class HyperStream(StreamLearner):
    Config = HyperStreamConfig
    traits = Traits(
        incremental=True,
        order_dependent=True,
        label_equivariant=False,
        representation="feed-forward",
        objective="continual",
    )

    def __init__(
        self,
        shape: tuple[int, ...],
        scenario: Scenario,
        config: HyperStreamConfig,
        encoder: nn.Module | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.shape, self.scenario, self.config, self.seed = shape, scenario, config, seed
        self.encoder = encoder
        self.generated = Generated(shape, config)
        self.fixed = Gate(shape, seed, config.gate) if config.inference == "gate" else None

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *feature"]:
        x = x.to(self.device)
        if self.encoder is None:
            return x
        with torch.no_grad():
            return torch.cat([self.encoder(part) for part in x.split(_AT_ONCE)])

    def register(
        self,
        version: StreamVersion | None,
        task: str,
        labels: tuple[str, ...],
        x: Float[Tensor, "n *input"],
        y: Int[Tensor, "n"],
        report: Report | None = None,
    ) -> StreamVersion:
        check_task(self.scenario, version, task, labels, y)
        features, y = self.embed(x), y.to(self.device)
        if features.shape[1:] != self.shape:
            raise LearnerError(
                f"features are {list(features.shape[1:])}, those of the stream {list(self.shape)}"
            )
        generator = self._generator("register", version, task)
        scale = self._scale(features) if version is None else version.shared["scale"]
        params, own = self._learned(version, len(labels), _scaled(features, scale), y, generator, report)
        if self.fixed is not None:
            own |= self.fixed.own(features, y, len(labels))
        rows = max(self._rows(version), int(own["rows"].sum()))
        before = ({}, {}) if version is None else (version.labels, version.own)
        number = 0 if version is None else version.number
        return self._whole(number, {**before[0], task: labels}, {**before[1], task: own}, params, scale, rows)

    def forget(self, version: StreamVersion, task: str, report: Report | None = None) -> StreamVersion:
        check_known(version, task)
        if len(version.tasks) == 1:
            raise LearnerError(f"stream task {task!r} is the only one")
        labels = {name: found for name, found in version.labels.items() if name != task}
        own = {name: version.own[name] for name in labels}
        rows = self._rows(version)
        before, generator = self._params(version), self._generator("forget", version, task)
        others = self.generated.embeddings(before, own.values())
        params = erase(self.generated, before, version.own[task], others, rows, generator, report)
        return self._whole(version.number, labels, own, params, version.shared["scale"], rows)

    @torch.no_grad()
    def weights(self, version: StreamVersion, task: str) -> TaskWeights:
        check_known(version, task)
        own = version.own[task]
        body, row, way = self.generated.networks(self._params(version), [own])
        held = {"flat": body, "scale": version.shared["scale"][None], "temperature": own["temperature"][None]}
        keys = torch.tensor([[label_key(label) for label in version.labels[task]]])
        return TaskWeights(held, {"row": row}, way, keys, torch.zeros(1, dtype=torch.long)).to(self.device)

    def predict(
        self,
        weights: TaskWeights,
        features: Float[Tensor, "tasks query *feature"],
        noise: Noise | None = None,
    ) -> Categorical:
        scale = weights.task["scale"].view(-1, 2, *[1] * (features.dim() - 1))
        x = (features - scale[:, 0]) * scale[:, 1]
        logits = head(weights.rows["row"], self.generated.target.features(weights.task["flat"], x))
        logits = logits / weights.task["temperature"][:, None, None]
        return Categorical(logits.masked_fill(~weights.class_mask[:, None], -torch.inf).log_softmax(-1))

    @torch.no_grad()
    def gate(self, version: StreamVersion) -> TaskWeights:
        if self.fixed is not None:
            return self.fixed.weights(version).to(self.device)
        body, row, way = self.generated.networks(self._params(version), version.own.values())
        margin = torch.stack([own["margin"] for own in version.own.values()])
        held = {
            "flat": body[None],
            "rows": row[None],
            "way": way[None],
            "margin": margin[None],
            "scale": version.shared["scale"][None],
        }
        keys = torch.tensor([[label_key(name) for name in version.tasks]])
        n_way, seed = torch.tensor([len(way)]), torch.zeros(1, dtype=torch.long)
        return TaskWeights(held, {}, n_way, keys, seed).to(self.device)

    def posterior(self, gate: TaskWeights, features: Float[Tensor, "batch query *feature"]) -> Categorical:
        if self.fixed is not None:
            return self.fixed.posterior(gate, features)
        answers = []
        for index, queries in enumerate(features):
            held = {name: value[index] for name, value in gate.task.items()}
            x = _scaled(queries, held["scale"]).expand(len(held["way"]), *queries.shape)
            logits = head(held["rows"], self.generated.target.features(held["flat"], x))
            mask = torch.arange(logits.shape[2], device=logits.device) < held["way"][:, None, None]
            found = log_entropy(logits / held["margin"][:, None, None], mask)
            answers.append(posterior(found.T, held["way"].float()))
        return Categorical(torch.stack(answers))

    @torch.no_grad()
    def drift(self, version: StreamVersion) -> Mapping[str, float]:
        params = self._params(version)
        return {
            task: relative_change(self.generated.network(params, own), own["sketch"])
            for task, own in version.own.items()
        }

    def _learned(
        self,
        version: StreamVersion | None,
        way: int,
        x: Float[Tensor, "n *feature"],
        y: Int[Tensor, "n"],
        generator: torch.Generator,
        report: Report | None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The hypernetwork's new parameters, and what the task owns of it."""
        config, generated = self.config, self.generated
        first = self._first_row(version)
        rows = max(self._rows(version), first + way)
        generated.check(rows, 1 if version is None else len(version.own))
        size = generated.target.size(rows)
        if version is None:
            params, regulariser = _on(self.device, generated.initial(rows, generator)), None
        else:
            old = self._params(version)
            params = generated.net.grown(old, size, generator)
            regulariser = generated.regulariser(old, version.own.values(), self._rows(version), generator)
        order = torch.randperm(len(y), generator=generator)
        kept = min(_MOST_HELD, int(config.calibration * len(y)))
        held, train = order[:kept], order[kept:]

        def loss(step: int, flat: Tensor) -> Tensor:
            batch = train[torch.randint(len(train), (config.batch,), generator=generator)]
            with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
                logits = generated.logits(flat, x[batch], first, way)
            return F.cross_entropy(logits.float(), y[batch])

        params, embedding = learn(
            generated.net,
            params,
            torch.randn(config.task_embedding, generator=generator).to(self.device),
            size,
            loss,
            steps=config.iterations,
            lr=config.lr,
            schedule=config.schedule,
            beta=config.beta,
            regulariser=regulariser,
            report=report,
        )
        own = {"embedding": embedding.cpu(), "rows": torch.tensor([first, way])}
        with torch.no_grad():
            flat = generated.network(params, own)
            logits = generated.logits(flat, x[held], first, way).cpu()
        own |= {"temperature": _temperature(logits, y[held].cpu()), "margin": _margin(logits)}
        return params, {**own, "sketch": sketch(flat)}

    def _whole(
        self,
        number: int,
        labels: Mapping[str, tuple[str, ...]],
        own: Mapping[str, Mapping[str, Tensor]],
        params: Mapping[str, Tensor],
        scale: Tensor,
        rows: int,
    ) -> StreamVersion:
        """The version after the one of this number."""
        shared = {_PREFIX + name: value.cpu() for name, value in params.items()}
        shared |= {"scale": scale, "rows": torch.tensor(rows)}
        if self.fixed is not None:
            shared |= self.fixed.fit(labels, own)
        return StreamVersion(number + 1, labels, shared, own)

    def _params(self, version: StreamVersion) -> dict[str, Tensor]:
        """Of the hypernetwork, on the device."""
        shared = version.shared.items()
        found = {name.removeprefix(_PREFIX): value for name, value in shared if name.startswith(_PREFIX)}
        return _on(self.device, found)

    def _rows(self, version: StreamVersion | None) -> int:
        return self.config.outputs if version is None else int(version.shared["rows"])

    def _first_row(self, version: StreamVersion | None) -> int:
        if version is None or self.config.heads == "shared":
            return 0
        return max(int(own["rows"].sum()) for own in version.own.values())

    def _scale(self, features: Tensor) -> Float[Tensor, "2"]:
        """What is taken away, and by what is multiplied."""
        spread = features.std()
        if not self.config.scaled or not spread > 1e-6:
            return torch.tensor([0.0, 1.0])
        return torch.stack([features.mean(), 1 / spread]).cpu()

    def _generator(self, deed: str, version: StreamVersion | None, task: str) -> torch.Generator:
        """The same deed on the same version gives the same bits."""
        number = 0 if version is None else version.number
        return torch.Generator().manual_seed(label_key(f"{deed} {self.seed} {number} {task}") % 2**63)


def _on(device: torch.device, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in tensors.items()}


def _scaled(x: Tensor, scale: Float[Tensor, "2"]) -> Tensor:
    return (x - scale[0]) * scale[1]


def _temperature(logits: Float[Tensor, "n way"], y: Int[Tensor, "n"]) -> Float[Tensor, ""]:
    """That of the least cross-entropy on examples kept from training, one pseudo-example spread over all classes, so
    that a few examples that are all right do not promise certainty; 1 where there are too few."""
    if len(y) < _LEAST_HELD:
        return torch.ones(())
    losses = [F.cross_entropy(logits / each, y, label_smoothing=1 / (len(y) + 1)) for each in _TEMPERATURES]
    return _TEMPERATURES[torch.stack(losses).argmin()].clone()


def _margin(logits: Float[Tensor, "n way"]) -> Float[Tensor, ""]:
    """Brings the median lead of the likeliest class to `_SURE`: networks learned first lead by more, and would be
    the surest of queries that are not theirs."""
    if len(logits) < _LEAST_HELD:
        return torch.ones(())
    best, second = logits.topk(2).values.unbind(1)
    return ((best - second).median() / _SURE).clamp_min(1e-3)
