"""Continual learning with a task-conditioned hypernetwork (von Oswald et al. 2019, 1906.00695) as a stream.

A stream task is an embedding e_j of which the shared chunked hypernetwork makes a whole network; registering
another trains the hypernetwork under the two-step output regulariser, so that h(e_j; Θ) stays for all before it.

Version: `shared` holds Θ_h ("hnet.…") and the scale of features; `own[task]` the embedding, which rows of the head are
its own, a temperature, and a sketch of its network at registration. Task weights: the flat body, and per class a
row [weights, bias] of the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from models.continual import entropy
from models.continual.chunked import Activation, ChunkedHypernetwork, Initialisation
from models.continual.config import Scenario
from models.continual.regulariser import Direct, Gram, Kept, Regulariser, Sampled, Weighing
from models.continual.scenario import check_known, check_task
from models.continual.sketch import relative_change, sketch
from models.continual.targets import MLPTarget, Target, head
from models.continual.two_step import learn
from models.noise import Noise, label_key
from models.predictive import Categorical
from models.protocol import LearnerError, Report, StreamLearner, StreamVersion, TaskWeights, Traits

_PREFIX = "hnet."
_EMBEDDED_AT_ONCE = 512


class HyperStreamConfig(BaseModel):
    """Defaults register a task of small pictures or vectors in seconds. The paper's settings for split-MNIST are
    `paper_split_mnist`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: tuple[int, ...] = Field(default=(200, 200), min_length=1)
    """Widths of the target network's hidden layers."""
    heads: Literal["shared", "separate"] = "shared"
    """Shared: class i of any task is row i of its generated head. Separate: each task's classes have rows of their
    own, as in the reference's multi-head networks, and the head grows."""
    outputs: int = Field(default=2, ge=2, le=10_000)
    """Rows of the head from the start; it grows when tasks need more."""
    chunk: int = Field(default=20_000, ge=1)
    """Numbers that the hypernetwork writes at once."""
    task_embedding: int = Field(default=32, ge=1)
    chunk_embedding: int = Field(default=32, ge=1)
    trunk: tuple[int, ...] = (32, 32)
    """Widths of the hypernetwork's hidden layers; none is a linear hypernetwork."""
    activation: Activation = "relu"
    initialisation: Initialisation = "hyperfan"
    regulariser: Literal["gram", "direct", "sampled"] = "gram"
    weighing: Weighing = "mean"
    """Of the regulariser over earlier tasks: the paper's mean, or the sum."""
    subset: int | None = Field(default=None, ge=1)
    """`direct` regularises so many tasks a step, all where it is None; `sampled` so many (task, chunk) pairs, 64."""
    beta: float = Field(default=0.01, ge=0)
    lr: float = Field(default=1e-3, gt=0)
    iterations: int = Field(default=600, ge=1)
    batch: int = Field(default=128, ge=1)
    scaled: bool = True
    """Whether features are centred and scaled, all by the two numbers of the first task."""
    calibration: float = Field(default=0.1, ge=0, le=0.5)
    """Share of a task's examples kept from training to set its head's temperature; 0 is none."""
    inference: Literal["entropy"] = "entropy"
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the target network's products in training."""


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
        encoder: nn.Module | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.shape, self.scenario, self.config, self.seed = shape, scenario, config, seed
        self.encoder = encoder
        self.target: Target = MLPTarget(shape, config.hidden)
        self.net = ChunkedHypernetwork(
            min(config.chunk, self.target.size(config.outputs)),
            config.task_embedding,
            config.chunk_embedding,
            config.trunk,
            config.activation,
        )

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *feature"]:
        if self.encoder is None:
            return x
        with torch.no_grad():
            return torch.cat([self.encoder(part) for part in x.split(_EMBEDDED_AT_ONCE)])

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
        features = self.embed(x)
        if features.shape[1:] != self.shape:
            raise LearnerError(
                f"features are {list(features.shape[1:])}, those of the stream {list(self.shape)}"
            )
        config, generator = self.config, self._generator(version, task)
        scale = self._scale(features) if version is None else version.shared["scale"]
        features = (features - scale[0]) * scale[1]
        first = self._first_row(version)
        rows = max(config.outputs, first + len(labels), 0 if version is None else self._rows(version))
        size = self.target.size(rows)
        params = self._start(version, size, generator)
        order = torch.randperm(len(y), generator=generator)
        kept = int(config.calibration * len(y))
        held, train = order[:kept], order[kept:]
        train_x, train_y = features[train], y[train]

        def loss(step: int, flat: Tensor) -> Tensor:
            batch = torch.randint(len(train_y), (config.batch,), generator=generator)
            with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
                logits = self._logits(flat[None], train_x[batch][None], first, len(labels))
            return F.cross_entropy(logits[0].float(), train_y[batch])

        embedding = torch.randn(config.task_embedding, generator=generator)
        params, embedding = learn(
            self.net,
            params,
            embedding,
            size,
            loss,
            steps=config.iterations,
            lr=config.lr,
            beta=config.beta,
            regulariser=self._regulariser(version, generator),
            report=report,
        )
        with torch.no_grad():
            flat = self.net.generate(params, embedding[None], self.target.size(first + len(labels)))
            logits = self._logits(flat, features[held][None], first, len(labels))[0]
        own = {
            "embedding": embedding,
            "rows": torch.tensor([first, len(labels)]),
            "temperature": _temperature(logits, y[held]),
            "sketch": sketch(flat[0]),
        }
        shared = {**{_PREFIX + name: value for name, value in params.items()}, "scale": scale}
        shared["rows"] = torch.tensor(rows)
        if version is None:
            return StreamVersion(1, {task: labels}, shared, {task: own})
        return StreamVersion(
            version.number + 1, {**version.labels, task: labels}, shared, {**version.own, task: own}
        )

    def forget(self, version: StreamVersion, task: str, report: Report | None = None) -> StreamVersion:
        raise NotImplementedError

    def weights(self, version: StreamVersion, task: str) -> TaskWeights:
        check_known(version, task)
        body, row, way = self._networks(version, (task,))
        keys = torch.tensor([[label_key(label) for label in version.labels[task]]])
        inputs = {"flat": body, "scale": version.shared["scale"][None]}
        return TaskWeights(inputs, {"row": row}, way, keys, torch.zeros(1, dtype=torch.long))

    def gate(self, version: StreamVersion) -> TaskWeights:
        body, row, way = self._networks(version, version.tasks)
        temperature = torch.stack([version.own[task]["temperature"] for task in version.tasks])
        held = {"flat": body, "row": row, "way": way, "temperature": temperature}
        task = {name: value[None] for name, value in held.items()}
        task["scale"] = version.shared["scale"][None]
        keys = torch.tensor([[label_key(name) for name in version.tasks]])
        return TaskWeights(task, {}, torch.tensor([len(way)]), keys, torch.zeros(1, dtype=torch.long))

    def posterior(self, gate: TaskWeights, features: Float[Tensor, "batch query *feature"]) -> Categorical:
        answers = []
        for index, some in enumerate(features):
            held = {name: value[index] for name, value in gate.task.items()}
            tasks, way = len(held["way"]), held["way"]
            scaled = (some - held["scale"][0]) * held["scale"][1]
            inputs = scaled[None].expand(tasks, *scaled.shape)
            logits = head(held["row"], self.target.features(held["flat"], inputs))
            logits = logits / held["temperature"][:, None, None]
            mask = torch.arange(logits.shape[2]) < way[:, None, None]
            entropies = entropy.log_entropy(logits, mask)
            answers.append(entropy.posterior(entropies.T, way.float()))
        return Categorical(torch.stack(answers))

    def drift(self, version: StreamVersion) -> Mapping[str, float]:
        found = {}
        for task in version.tasks:
            own = version.own[task]
            size = self.target.size(int(own["rows"].sum()))
            flat = self.net.generate(self._params(version), own["embedding"][None], size)
            found[task] = relative_change(flat[0], own["sketch"])
        return found

    def predict(
        self,
        weights: TaskWeights,
        features: Float[Tensor, "tasks query *feature"],
        noise: Noise | None = None,
    ) -> Categorical:
        scale = weights.task["scale"].view(-1, 2, *[1] * (features.dim() - 1))
        hidden = self.target.features(weights.task["flat"], (features - scale[:, 0]) * scale[:, 1])
        logits = head(weights.rows["row"], hidden)
        return Categorical(logits.masked_fill(~weights.class_mask[:, None], -torch.inf).log_softmax(-1))

    def _logits(self, flat: Tensor, x: Tensor, first: int, way: int) -> Tensor:
        """Of the classes of one task, whose rows begin at `first`."""
        body, rows = self._split(flat)
        return head(rows[:, first : first + way], self.target.features(body, x))

    def _split(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        body, rows = flat[:, : self.target.body], flat[:, self.target.body :]
        return body, rows.unflatten(1, (-1, self.target.hidden + 1))

    @torch.no_grad()
    def _networks(self, version: StreamVersion, tasks: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Body [t, body], rows [t, way, row] padded with 0, and ways [t] of the named tasks."""
        own = [version.own[task] for task in tasks]
        size = self.target.size(self._rows(version))
        flat = self.net.generate(self._params(version), torch.stack([one["embedding"] for one in own]), size)
        body, rows = self._split(flat)
        firsts, ways = torch.stack([one["rows"] for one in own]).unbind(1)
        padded = rows.new_zeros(len(own), int(ways.max()), rows.shape[2])
        for index, (first, way) in enumerate(zip(firsts.tolist(), ways.tolist(), strict=True)):
            padded[index, :way] = rows[index, first : first + way]
        return body.contiguous(), padded, ways

    def _params(self, version: StreamVersion) -> dict[str, Tensor]:
        return {
            name.removeprefix(_PREFIX): value
            for name, value in version.shared.items()
            if name.startswith(_PREFIX)
        }

    def _rows(self, version: StreamVersion) -> int:
        return int(version.shared["rows"])

    def _first_row(self, version: StreamVersion | None) -> int:
        if version is None or self.config.heads == "shared":
            return 0
        return max(int(own["rows"].sum()) for own in version.own.values())

    def _start(
        self, version: StreamVersion | None, size: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        if version is not None:
            return self.net.grown(self._params(version), size, generator)
        rows = (size - self.target.body) // (self.target.hidden + 1)
        wanted = self.target.variance(rows) if self.config.initialisation == "hyperfan" else None
        return self.net.initial(size, generator, wanted)

    def _regulariser(self, version: StreamVersion | None, generator: torch.Generator) -> Regulariser | None:
        if version is None:
            return None
        config = self.config
        embeddings = torch.stack([own["embedding"] for own in version.own.values()])
        kept = Kept(self._params(version), embeddings, self.target.size(self._rows(version)))
        if config.regulariser == "gram":
            return Gram(self.net, kept, config.weighing)
        if config.regulariser == "sampled":
            return Sampled(self.net, kept, config.weighing, pairs=config.subset or 64, generator=generator)
        return Direct(self.net, kept, config.weighing, subset=config.subset, generator=generator)

    def _scale(self, features: Tensor) -> Float[Tensor, "2"]:
        """What is taken away, and by what is multiplied."""
        if not self.config.scaled:
            return torch.tensor([0.0, 1.0])
        return torch.stack([features.mean(), 1 / features.std().clamp_min(1e-6)])

    def _generator(self, version: StreamVersion | None, task: str) -> torch.Generator:
        """The same data registered on the same version under the same name gives the same bits."""
        number = 0 if version is None else version.number
        return torch.Generator().manual_seed((label_key(f"{self.seed} {number} {task}")) % 2**63)


def _temperature(logits: Float[Tensor, "n way"], y: Int[Tensor, "n"]) -> Float[Tensor, ""]:
    """That of the least cross-entropy, from 0.25 to 8; 1 where there is too little to tell."""
    if len(y) < 20:
        return torch.ones(())
    grid = torch.logspace(-2, 3, 41, base=2)
    losses = torch.stack([F.cross_entropy(logits / each, y) for each in grid])
    return grid[losses.argmin()]
