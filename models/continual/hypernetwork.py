"""Continual learning with a task-conditioned hypernetwork (von Oswald et al. 2019, 1906.00695) as a stream.

A stream task is an embedding e_j from which the shared chunked hypernetwork generates a whole network. Registering
another task trains the hypernetwork under the two-step output regulariser, which keeps h(e_j; Θ) for all earlier tasks.

Version: `shared` holds Θ ("hnet.…"), the scale of features, the number of head rows, and the gate's tensors;
`per_task[task]` holds the embedding, the rows of the head that the task uses, a temperature and a margin, a sketch of
its network at registration, and the gate's tensors. Task weights: the flat body, scale and temperature, and a row
[weights, bias] of the head for each class. If the task is inferred by entropy, the gate consists of all tasks'
networks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from models.continual.forgetting import erase
from models.continual.generated_networks import Generated, HyperStreamConfig
from models.continual.stream_config import Scenario, check_known, check_task
from models.continual.target_networks import head
from models.continual.task_gate import Gate
from models.continual.two_step_training import learn
from models.noise import Noise, label_key
from models.predictive import Categorical
from models.protocol import LearnerError, TaskWeights, Traits
from models.stream_protocol import ProgressCallback, StreamLearner, StreamVersion

SKETCH_LENGTH = 256
_SKETCH_SEED = 20190603


def sketch(flat: Float[Tensor, "size"]) -> Float[Tensor, "256"]:
    """Return signed sums of the numbers, on the CPU. The norm of a sketch estimates the norm of the vector."""
    generator = torch.Generator().manual_seed(_SKETCH_SEED + len(flat))
    signs = 2 * torch.randint(0, 2, flat.shape, generator=generator, dtype=torch.int8) - 1
    signed = flat.cpu() * signs
    return F.pad(signed, (0, -len(flat) % SKETCH_LENGTH)).view(-1, SKETCH_LENGTH).sum(0)


def relative_change(now: Float[Tensor, "size"], then: Float[Tensor, "256"]) -> float:
    """Return ‖now − then‖ / ‖then‖, given only the sketch of `then`."""
    return float((sketch(now) - then).norm() / then.norm().clamp_min(1e-12))


_SMALL = 1e-3


def log_entropy(
    logits: Float[Tensor, "*batch way"], mask: Bool[Tensor, "*#batch way"]
) -> Float[Tensor, "*batch"]:
    """Return log H, in nats, of the softmax over the classes of the mask.

    The result is finite for any finite logits of two classes or more.
    """
    log_probs = logits.masked_fill(~mask, -torch.inf).log_softmax(-1)
    top = log_probs.argmax(-1, keepdim=True)
    others = log_probs.scatter(-1, top, -torch.inf)
    # For the likeliest class −log p = −log(1 − Σ others), which underflows to 0 long before the others do.
    log_rest = others.logsumexp(-1, keepdim=True)
    rest = log_rest.exp()
    log_surprise = torch.where(
        rest < _SMALL, log_rest + rest / 2, (-torch.log1p(-rest.clamp_max(1 - 1e-6))).clamp_min(1e-30).log()
    )
    log_terms = (others + (-others.clamp_min(-3e38)).log()).masked_fill(others == -torch.inf, -torch.inf)
    top_term = torch.log1p(-rest.clamp_max(1 - 1e-6)) + log_surprise
    return torch.cat([log_terms, top_term], -1).logsumexp(-1)


def entropy_posterior(
    log_entropies: Float[Tensor, "*batch tasks"], ways: Float[Tensor, "*#batch tasks"]
) -> Float[Tensor, "*batch tasks"]:
    """Return log P(task) with P(task) ∝ 1 / H, each H relative to its maximum, log way."""
    return (ways.log().log() - log_entropies).log_softmax(-1)


_PREFIX = "hnet."
_ENCODER_BATCH = 512
_LEAST_HELD_OUT, _MOST_HELD_OUT = 20, 500
"""Fewer examples do not determine a temperature, and more are not needed."""
_TYPICAL_LEAD = 5.0
"""Lead of the likeliest class, in nats, that a task's examples should typically have in its own network."""
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
        self.task_gate = Gate(shape, seed, config.gate) if config.inference == "gate" else None

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *feature"]:
        """Return the output of the frozen encoder, or the input itself if there is none."""
        x = x.to(self.device)
        if self.encoder is None:
            return x
        with torch.no_grad():
            return torch.cat([self.encoder(part) for part in x.split(_ENCODER_BATCH)])

    def register(
        self,
        version: StreamVersion | None,
        task: str,
        labels: tuple[str, ...],
        x: Float[Tensor, "n *input"],
        y: Int[Tensor, "n"],
        report: ProgressCallback | None = None,
    ) -> StreamVersion:
        check_task(self.scenario, version, task, labels, y)
        features, y = self.embed(x), y.to(self.device)
        if features.shape[1:] != self.shape:
            raise LearnerError(
                f"features have shape {list(features.shape[1:])}, but the stream expects {list(self.shape)}"
            )
        generator = self._generator("register", version, task)
        scale = self._scale(features) if version is None else version.shared["scale"]
        params, part = self._train(version, len(labels), _scaled(features, scale), y, generator, report)
        if self.task_gate is not None:
            part |= self.task_gate.task_part(features, y, len(labels))
        rows = max(self._rows(version), int(part["rows"].sum()))
        if version is None:
            return self._new_version(1, {task: labels}, {task: part}, params, scale, rows)
        labels_now = {**version.labels, task: labels}
        per_task = {**version.per_task, task: part}
        return self._new_version(version.number + 1, labels_now, per_task, params, scale, rows)

    def forget(
        self, version: StreamVersion, task: str, report: ProgressCallback | None = None
    ) -> StreamVersion:
        check_known(version, task)
        if len(version.tasks) == 1:
            raise LearnerError(f"stream task {task!r} is the only one")
        labels = {name: classes for name, classes in version.labels.items() if name != task}
        per_task = {name: version.per_task[name] for name in labels}
        rows = self._rows(version)
        before, generator = self._params(version), self._generator("forget", version, task)
        others = self.generated.embeddings(before, per_task.values())
        params = erase(self.generated, before, version.per_task[task], others, rows, generator, report)
        return self._new_version(version.number + 1, labels, per_task, params, version.shared["scale"], rows)

    @torch.no_grad()
    def weights(self, version: StreamVersion, task: str) -> TaskWeights:
        check_known(version, task)
        part = version.per_task[task]
        body, row, way = self.generated.networks(self._params(version), [part])
        tensors = {
            "flat": body,
            "scale": version.shared["scale"][None],
            "temperature": part["temperature"][None],
        }
        keys = torch.tensor([[label_key(label) for label in version.labels[task]]])
        return TaskWeights(tensors, {"row": row}, way, keys, torch.zeros(1, dtype=torch.long)).to(self.device)

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
        if self.task_gate is not None:
            return self.task_gate.weights(version).to(self.device)
        body, row, way = self.generated.networks(self._params(version), version.per_task.values())
        margin = torch.stack([part["margin"] for part in version.per_task.values()])
        tensors = {
            "flat": body[None],
            "rows": row[None],
            "way": way[None],
            "margin": margin[None],
            "scale": version.shared["scale"][None],
        }
        keys = torch.tensor([[label_key(name) for name in version.tasks]])
        n_way, seed = torch.tensor([len(way)]), torch.zeros(1, dtype=torch.long)
        return TaskWeights(tensors, {}, n_way, keys, seed).to(self.device)

    def posterior(self, gate: TaskWeights, features: Float[Tensor, "batch query *feature"]) -> Categorical:
        if self.task_gate is not None:
            return self.task_gate.posterior(gate, features)
        answers = []
        for index, queries in enumerate(features):
            tensors = {name: value[index] for name, value in gate.task.items()}
            x = _scaled(queries, tensors["scale"]).expand(len(tensors["way"]), *queries.shape)
            logits = head(tensors["rows"], self.generated.target.features(tensors["flat"], x))
            mask = torch.arange(logits.shape[2], device=logits.device) < tensors["way"][:, None, None]
            entropy = log_entropy(logits / tensors["margin"][:, None, None], mask)
            answers.append(entropy_posterior(entropy.T, tensors["way"].float()))
        return Categorical(torch.stack(answers))

    @torch.no_grad()
    def drift(self, version: StreamVersion) -> Mapping[str, float]:
        params = self._params(version)
        return {
            task: relative_change(self.generated.network(params, part), part["sketch"])
            for task, part in version.per_task.items()
        }

    def _train(
        self,
        version: StreamVersion | None,
        way: int,
        x: Float[Tensor, "n *feature"],
        y: Int[Tensor, "n"],
        generator: torch.Generator,
        report: ProgressCallback | None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the new parameters of the hypernetwork, and the tensors of the task."""
        config, generated = self.config, self.generated
        first = self._first_row(version)
        rows = max(self._rows(version), first + way)
        generated.check(rows, 1 if version is None else len(version.per_task))
        size = generated.target.size(rows)
        if version is None:
            params, regulariser = _on(self.device, generated.initial(rows, generator)), None
        else:
            old = self._params(version)
            params = generated.net.grown(old, size, generator)
            regulariser = generated.regulariser(
                old, version.per_task.values(), self._rows(version), generator
            )
        order = torch.randperm(len(y), generator=generator)
        count = min(_MOST_HELD_OUT, int(config.calibration * len(y)))
        held_out, train = order[:count], order[count:]

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
        part = {"embedding": embedding.cpu(), "rows": torch.tensor([first, way])}
        with torch.no_grad():
            flat = generated.network(params, part)
            logits = generated.logits(flat, x[held_out], first, way).cpu()
        part |= {"temperature": _temperature(logits, y[held_out].cpu()), "margin": _margin(logits)}
        return params, {**part, "sketch": sketch(flat)}

    def _new_version(
        self,
        number: int,
        labels: Mapping[str, tuple[str, ...]],
        per_task: Mapping[str, Mapping[str, Tensor]],
        params: Mapping[str, Tensor],
        scale: Tensor,
        rows: int,
    ) -> StreamVersion:
        shared = {_PREFIX + name: value.cpu() for name, value in params.items()}
        shared |= {"scale": scale, "rows": torch.tensor(rows)}
        if self.task_gate is not None:
            shared |= self.task_gate.fit(labels, per_task)
        return StreamVersion(number, labels, shared, per_task)

    def _params(self, version: StreamVersion) -> dict[str, Tensor]:
        """Return the parameters of the hypernetwork, on the device."""
        shared = version.shared.items()
        params = {name.removeprefix(_PREFIX): value for name, value in shared if name.startswith(_PREFIX)}
        return _on(self.device, params)

    def _rows(self, version: StreamVersion | None) -> int:
        return self.config.outputs if version is None else int(version.shared["rows"])

    def _first_row(self, version: StreamVersion | None) -> int:
        if version is None or self.config.heads == "shared":
            return 0
        return max(int(part["rows"].sum()) for part in version.per_task.values())

    def _scale(self, features: Tensor) -> Float[Tensor, "2"]:
        """Return the offset to subtract and the factor to multiply by."""
        spread = features.std()
        if not self.config.scaled or not spread > 1e-6:
            return torch.tensor([0.0, 1.0])
        return torch.stack([features.mean(), 1 / spread]).cpu()

    def _generator(self, action: str, version: StreamVersion | None, task: str) -> torch.Generator:
        """Return a generator seeded such that the same action on the same version gives the same bits."""
        number = 0 if version is None else version.number
        return torch.Generator().manual_seed(label_key(f"{action} {self.seed} {number} {task}") % 2**63)


def _on(device: torch.device, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in tensors.items()}


def _scaled(x: Tensor, scale: Float[Tensor, "2"]) -> Tensor:
    return (x - scale[0]) * scale[1]


def _temperature(logits: Float[Tensor, "n way"], y: Int[Tensor, "n"]) -> Float[Tensor, ""]:
    """Return the temperature of the lowest cross-entropy on held-out examples, or 1 if there are too few of them.

    One pseudo-example is spread over all classes, so that a few examples, all of them right, do not promise certainty.
    """
    if len(y) < _LEAST_HELD_OUT:
        return torch.ones(())
    losses = [F.cross_entropy(logits / each, y, label_smoothing=1 / (len(y) + 1)) for each in _TEMPERATURES]
    return _TEMPERATURES[torch.stack(losses).argmin()].clone()


def _margin(logits: Float[Tensor, "n way"]) -> Float[Tensor, ""]:
    """Return the divisor that brings the median lead of the likeliest class to `_TYPICAL_LEAD`.

    Without it, networks trained first lead by more and are the most confident on queries of other tasks.
    """
    if len(logits) < _LEAST_HELD_OUT:
        return torch.ones(())
    best, second = logits.topk(2).values.unbind(1)
    return ((best - second).median() / _TYPICAL_LEAD).clamp_min(1e-3)
