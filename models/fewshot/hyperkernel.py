"""hyperkernel: one hypernetwork for any feature space, dimension, way and shot.

The weights that it writes are those of a classifier in the span of the support set: a sum of kernel experts (prototype,
ridge, multinomial logistic regression; `models.fewshot.kernels`), each fitted in closed or nearly closed form with its
leave-one-out scores. A set network (`ExpertMixer`) reads what the support set says about its experts, relations within
the set and never the features themselves, and writes the weight and the sharpness of each. It sees how well each expert
predicts examples that it was not given, and learned over many spaces how much that evidence is worth: nothing at one
shot, nearly all at ten. Features may come from several sources (`Encoder.sources`): depths of a network, raw pixels.

The strongest experts are kept. Uncertainty about the weights makes a logit Gaussian; its variance is the sum of the
squared contributions of the points, the jackknife's estimate up to a factor that is calibrated. `unknown` reads the
largest logit and the nearest point of a query, each against its leave-one-out values in the task's own support set: of
own classes, and of the others, which are foreign to it. Prediction sets hold the coverage asked for by the answer's own
probabilities: they are calibrated by the task's own leave-one-out scores, so no table of other tasks is needed.

Support sets beyond a few hundred examples show the mixer whole classes up to that number; the experts that it keeps
are fitted to all, of more than 1,500 to as many points that stand for them (`thinned`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from models.bayes.calibration import task_terms
from models.bayes.sampling import MOST_SAMPLED, expectations
from models.encoder_protocol import Encoder
from models.fewshot.common.classification import (
    Classifier,
    class_members,
    cross_entropy,
    embed_episodes,
    per_log_way,
)
from models.fewshot.kernels.evidence import PER_EXPERT, PER_TASK, Evidence, evidence, expert_scales
from models.fewshot.kernels.experts import (
    EXPERTS,
    KERNEL_OF,
    KERNELS,
    Expert,
    Fit,
    KernelForm,
    Labels,
    fit,
    kernel_values,
)
from models.fewshot.kernels.geometry import VIEWS, Scales, coordinates, geometry, scales_of
from models.fewshot.kernels.support_sets import (
    MOST_POINTS,
    MOST_READ,
    in_order,
    joined,
    single_tasks,
    sliced,
    thinned,
    whole_classes,
)
from models.fewshot.kernels.support_statistics import calibration_terms, logit_statistics, nearest_points
from models.hypernets.expert_mixer import ExpertMixer
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import Episodes, Losses, Support, TaskWeights, Traits, Trial, refuse_prior

_PER_QUERY = 7
CALIBRATED_WAYS = 20
"""Ways up to which calibrations are fitted (`SpacesRecipe.calibration`): beyond, they are those of so many."""
_FARTHEST = 8.0
_MOST_STEPS = 400_000_000
"""Points² × ways up to which the steps of logistic regression are affordable."""
_MOST_AT_ONCE = 1 << 24
"""Numbers of the kernels of one call, by which memory is bounded; more tasks or queries are taken in parts."""


class HyperKernelConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(default=64, ge=8, le=1024)
    """Width of the mixer."""
    kept: int = Field(default=6, ge=1, le=64)
    """Experts kept for answers."""
    places: int = Field(default=3, ge=1, le=8)
    """Most sources of features."""
    unknown_weight: float = Field(default=0.2, ge=0)


@dataclass(frozen=True)
class ExpertReading:
    """All that mixer and answers need of a batch of tasks, once their experts are fitted."""

    experts: Float[Tensor, "tasks experts numbers"]
    task: Float[Tensor, "tasks others"]
    outside: Float[Tensor, "tasks experts point way"]
    near: Float[Tensor, "tasks experts 4"]
    """Nearest points: mean and spread over the support set, of the own class without the example, of the others."""
    scores: Float[Tensor, "tasks experts query way"]
    nearest: Float[Tensor, "tasks experts query"]
    labels: Labels


@dataclass(frozen=True)
class _Placed:
    """Support sets in their own scales, in an order that depends on content alone, and their kernels."""

    scales: Scales
    points: Float[Tensor, "tasks bases point columns"]
    labels: Labels
    kernels: Float[Tensor, "tasks kernels point point"]


class HyperKernel(Classifier):
    Config = HyperKernelConfig
    trial = Trial(tasks="vectors", encoder="identity", encoder_hparams={"dim": 8})
    config: HyperKernelConfig

    def __init__(self, encoder: Encoder, config: HyperKernelConfig) -> None:
        super().__init__(encoder, config)
        self.traits = Traits(stochastic=True, representation="feed-forward")
        # Kept, since serving folds the encoder to a plain module.
        self.sources = encoder.sources
        self.mixer = ExpertMixer(len(EXPERTS), PER_EXPERT, PER_TASK, config.places, config.width)
        self.strangeness = nn.Sequential(nn.Linear(_PER_QUERY + PER_TASK, 32), nn.GELU(), nn.Linear(32, 1))

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        refuse_prior(prior)
        with torch.no_grad():
            examples = support.features.shape[1]
            if examples > MOST_READ:
                return joined([self._adapt(one) for one in single_tasks(support)])
            kernels = len(KERNELS) * len(self._sources(support.features))
            tasks, step = len(support.n_way), max(1, _MOST_AT_ONCE // (kernels * max(1, examples) ** 2))
            if tasks <= step:
                return self._adapt(support)
            return joined(
                [self._adapt(sliced(support, start, start + step)) for start in range(0, tasks, step)]
            )

    def _adapt(self, support: Support) -> TaskWeights:
        sources = self._sources(support.features)
        places = _flat_experts(sources)
        support = in_order(support)
        if support.features.shape[1] > MOST_READ:
            return self._adapt_large(support, sources)
        placed = self._placed(support, sources)
        fitted = fit(placed.kernels, placed.labels, places)
        found = evidence(placed.kernels, fitted, placed.labels, list(sources))
        factors, kept = self._kept(found)
        kernel = torch.tensor([kernel for kernel, _ in places], device=kept.device)[kept]
        near = nearest_points(_experts(placed.kernels, kernel), placed.labels)
        fitted = Fit(*(_experts(value, kept) for value in vars(fitted).values()))
        scale, outside = found.scale.gather(1, kept), _experts(found.outside, kept)
        return self._weights(support, placed, fitted, factors / scale, factors, kernel, outside, near, found)

    def _adapt_large(self, support: Support, sources: tuple[int, ...]) -> TaskWeights:
        """Adapt one task of many examples: only the kept experts see more than a part of them."""
        places = _flat_experts(sources)
        part = self._placed(whole_classes(support), sources)
        found = evidence(part.kernels, fit(part.kernels, part.labels, places), part.labels, list(sources))
        support = thinned(support, MOST_POINTS)
        steps = support.features.shape[1] ** 2 * int(support.n_way[0])
        fast = [expert.kind != "logistic" or steps <= _MOST_STEPS for _, expert in places]
        factors, kept = self._kept(found, torch.tensor(fast, device=support.features.device))
        chosen = [places[index] for index in kept[0].tolist()]
        used = sorted({kernel for kernel, _ in chosen})
        placed = self._placed(support, sources, used)
        fitted = fit(
            placed.kernels, placed.labels, [(used.index(kernel), expert) for kernel, expert in chosen]
        )
        near = nearest_points(placed.kernels, placed.labels)
        near = near[:, [used.index(kernel) for kernel, _ in chosen]]
        accompanied = ((placed.labels.company > 0) & placed.labels.mask)[:, None]
        scale = expert_scales(fitted, placed.labels, accompanied)
        outside = fitted.outside / scale[..., None, None]
        index = torch.tensor([[kernel for kernel, _ in chosen]], device=kept.device)
        return self._weights(support, placed, fitted, factors / scale, factors, index, outside, near, found)

    def _weights(
        self,
        support: Support,
        placed: _Placed,
        fitted: Fit,
        scaled_factors: Float[Tensor, "tasks kept"],
        factors: Float[Tensor, "tasks kept"],
        kernel_index: Int[Tensor, "tasks kept"],
        outside: Float[Tensor, "tasks kept point way"],
        near: Float[Tensor, "tasks kept 4"],
        found: Evidence,
    ) -> TaskWeights:
        labels, scales = placed.labels, placed.scales
        logits = (factors[..., None, None] * outside).sum(1)
        statistics = logit_statistics(logits, labels)
        coefficients = scaled_factors[..., None, None] * fitted.coefficients
        calibrated = support.n_way.clamp(max=CALIBRATED_WAYS)
        terms = task_terms(calibrated, labels.shots, calibration_terms(logits, labels))
        made = TaskWeights(
            task={
                "size": scales.size,
                "typical": scales.typical,
                "mean": scales.mean,
                "deviation": scales.deviation,
                "kernels": kernel_index.to(factors),
                "shares": factors / factors.sum(1, keepdim=True),
                "near": near,
                "logits": statistics,
                "numbers": found.task,
                "terms": terms,
            },
            rows={"bias": (scaled_factors[..., None] * fitted.bias).sum(1)},
            n_way=support.n_way,
            class_key=support.class_key,
            seed=support.seed,
            points={"coordinates": placed.points.transpose(1, 2).contiguous()},
            coefficients={"alpha": coefficients.permute(0, 3, 2, 1).contiguous()},
            n_points=support.mask.sum(1),
        )
        return made.map(lambda value: value.float() if value.is_floating_point() else value)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        views = len(VIEWS) * len(self._sources(features))
        cells = views * len(features) * weights.points["coordinates"].shape[1]
        step = max(1, _MOST_AT_ONCE // max(1, cells))
        parts = [self._answer(weights, part, noise) for part in features.split(step, dim=1)]
        return parts[0] if len(parts) == 1 else _together(parts)

    def _answer(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None
    ) -> Categorical:
        assert weights.n_points is not None
        present = (
            torch.arange(weights.points["coordinates"].shape[1], device=features.device)
            < weights.n_points[:, None]
        )
        kernels = self._kernels_of(weights, features, present)
        padding = ~weights.class_mask[:, None]
        alpha = weights.coefficients["alpha"].permute(0, 3, 2, 1)
        tasks, kept, queries, points = kernels.shape
        side = kernels.transpose(1, 2).reshape(tasks, queries, kept * points)
        logits = side @ alpha.reshape(tasks, kept * points, -1) + weights.rows["bias"][:, None]
        nearest = kernels.masked_fill(~present[:, None, None], -torch.inf).amax(-1)
        terms = weights.task["terms"]
        novelty = self._novelty(
            logits.masked_fill(padding, -torch.inf),
            nearest,
            weights.task["logits"],
            weights.task["near"],
            weights.task["shares"],
            weights.task["numbers"],
        )
        sharp = logits * self.calibration.inverse_temperature(terms)[:, None, None]
        unknown = self.calibration.unknown(novelty, terms)
        sharp = sharp.masked_fill(padding, -torch.inf)
        if noise is None:
            return Categorical(sharp.log_softmax(-1), None, unknown, novelty=novelty)
        deviation = (kernels.square() @ alpha.square()).sqrt().sum(1)
        factor = self.calibration.inverse_temperature(terms) * self.calibration.spread(terms)
        wide = deviation * factor[:, None, None]
        draws = noise.normal(weights.seed, weights.class_key)
        part = max(1, MOST_SAMPLED // draws.numel())
        parts = [
            expectations(
                sharp[:, start : start + part], wide[:, start : start + part], draws, weights.class_mask
            )
            for start in range(0, max(1, queries), part)
        ]
        log_probs, expected = (torch.cat(both, dim=1) for both in zip(*parts, strict=True))
        return Categorical(log_probs, expected, unknown, samples=noise.samples, novelty=novelty)

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        embedded = embed_episodes(self.embed, episodes)
        reading = self.read(embedded.support, embedded.query)
        return self.losses_of(reading, embedded.target, embedded.known, embedded.foreign)

    @torch.no_grad()
    def read(
        self,
        support: Support,
        query: Float[Tensor, "tasks query d"],
        sources: tuple[int, ...] | None = None,
    ) -> ExpertReading:
        """Fit all experts to support sets of at most a few hundred examples and score queries with each."""
        sources = sources or self._sources(support.features)
        places = _flat_experts(sources)
        placed = self._placed(support, sources)
        fitted = fit(placed.kernels, placed.labels, places)
        found = evidence(placed.kernels, fitted, placed.labels, list(sources))
        index = [kernel for kernel, _ in places]
        side = geometry(
            placed.scales,
            coordinates(placed.scales, query.double(), sources),
            placed.points,
            support.mask,
            sources,
        )
        kernels = kernel_values(side)[:, index]
        scores = (kernels @ fitted.coefficients + fitted.bias[:, :, None]) / found.scale[..., None, None]
        nearest = kernels.masked_fill(~support.mask[:, None, None], -torch.inf).amax(-1)
        near = nearest_points(placed.kernels[:, index], placed.labels)
        return ExpertReading(
            found.experts.float(),
            found.task.float(),
            found.outside.float(),
            near.float(),
            scores.float(),
            nearest.float(),
            placed.labels,
        )

    def losses_of(
        self,
        reading: ExpertReading,
        target: Int[Tensor, "tasks query"],
        known: Bool[Tensor, "tasks query"],
        foreign: Bool[Tensor, "tasks query"],
    ) -> Losses:
        """Return the NLL of known queries in units of log way, with the logistic loss of foreign against known."""
        factors = self.mixer(reading.experts, reading.task)
        padding = ~reading.labels.classes[:, None]
        logits = (factors[..., None, None] * reading.scores).sum(1).masked_fill(padding, -torch.inf)
        nll = cross_entropy(logits.log_softmax(-1), target, known)
        logits, factors = logits.detach(), factors.detach()
        inside = (factors[..., None, None] * reading.outside).sum(1)
        shares = factors / factors.sum(1, keepdim=True)
        statistics = logit_statistics(inside, reading.labels)
        logit = self._novelty(logits, reading.nearest, statistics, reading.near, shares, reading.task)
        halves = [
            torch.where(mask, F.softplus(sign * logit), 0.0).sum(1) / mask.sum(1).clamp_min(1)
            for sign, mask in ((-1, foreign), (1, known))
        ]
        unknown = 0.5 * (halves[0] + halves[1])
        total = per_log_way(nll, reading.labels.classes.sum(1)) + self.config.unknown_weight * unknown
        return Losses(total, {"nll": nll.detach(), "unknown": unknown.detach()})

    def _novelty(
        self,
        logits: Float[Tensor, "tasks query way"],
        nearest: Float[Tensor, "tasks kept query"],
        statistics: Float[Tensor, "tasks 5"],
        near: Float[Tensor, "tasks kept 4"],
        shares: Float[Tensor, "tasks kept"],
        numbers: Float[Tensor, "tasks numbers"],
    ) -> Float[Tensor, "tasks query"]:
        top = logits.topk(min(2, logits.shape[-1]), dim=-1).values
        known_mean, known_spread, other_mean, other_spread, any_known = statistics[..., None].unbind(1)

        def average(mean: int, spread: int) -> Tensor:
            moved = (nearest - near[..., mean, None]) / near[..., spread, None]
            return (shares[..., None] * moved.clamp(-_FARTHEST, _FARTHEST)).sum(1)

        of_query = (
            any_known * (top[..., 0] - known_mean) / known_spread,
            (top[..., 0] - other_mean) / other_spread,
            (top[..., 0] - top[..., -1]),
            logits.logsumexp(-1) - top[..., 0],
            any_known * average(0, 1),
            average(2, 3),
            any_known.expand_as(top[..., 0]),
        )
        of_task = numbers[:, None].expand(-1, logits.shape[1], -1)
        inputs = torch.cat((torch.stack(of_query, -1).clamp(-_FARTHEST, _FARTHEST), of_task), dim=-1)
        found: Tensor = self.strangeness(inputs)[..., 0]
        return found

    def _sources(self, features: Tensor) -> tuple[int, ...]:
        return self.sources or (features.shape[-1],)

    def _placed(self, support: Support, sources: tuple[int, ...], used: list[int] | None = None) -> _Placed:
        """Compare the examples in double precision: ill-conditioned fits would magnify the rounding of a batch."""
        support = replace(support, features=support.features.double())
        scales = scales_of(support.features, support.mask, sources)
        points = coordinates(scales, support.features, sources)
        points = points.masked_fill(~support.mask[:, None, :, None], 0)
        hot = class_members(support)
        labels = Labels(hot, hot.sum(1), support.mask, support.class_mask)
        side = geometry(scales, points, points, support.mask, sources)
        kernels = kernel_values(side, None if used is None else [_kernel_at(place) for place in used])
        pairs = support.mask[:, None, :, None] & support.mask[:, None, None]
        return _Placed(scales, points, labels, kernels.masked_fill(~pairs, 0))

    def _kept(
        self, found: Evidence, allowed: Bool[Tensor, "experts"] | None = None
    ) -> tuple[Float[Tensor, "tasks kept"], Int[Tensor, "tasks kept"]]:
        """Return the factors of the strongest experts, raised to the sum of all, and their indices in rising order."""
        factors = self.mixer(found.experts.float(), found.task.float()).double()
        candidates = factors if allowed is None else factors.masked_fill(~allowed, 0)
        kept = candidates.topk(min(self.config.kept, factors.shape[1]), dim=1).indices.sort(dim=1).values
        strongest = factors.gather(1, kept)
        return strongest * (factors.sum(1) / strongest.sum(1))[:, None], kept

    def _kernels_of(
        self, weights: TaskWeights, features: Tensor, present: Tensor
    ) -> Float[Tensor, "tasks kept query point"]:
        sources, task = self._sources(features), weights.task
        scales = Scales(task["size"], task["typical"], task["mean"], task["deviation"])
        points = weights.points["coordinates"].transpose(1, 2)
        side = geometry(scales, coordinates(scales, features, sources).to(features), points, present, sources)
        index = task["kernels"].long()
        used = index.unique()
        values = kernel_values(side, [_kernel_at(int(place)) for place in used])
        place = torch.searchsorted(used, index)[..., None, None].expand(-1, -1, *values.shape[2:])
        return values.gather(1, place)


def _together(parts: list[Categorical]) -> Categorical:
    """Join the answers to parts of the queries of each task."""

    def join(name: str) -> Tensor | None:
        values = [value for part in parts if (value := getattr(part, name)) is not None]
        return torch.cat(values, dim=1) if values else None

    return Categorical(
        torch.cat([part.log_probs for part in parts], dim=1),
        join("expected_entropy"),
        join("unknown"),
        samples=parts[0].samples,
        novelty=join("novelty"),
    )


def _kernel_at(index: int) -> tuple[int, KernelForm]:
    """Return source and kernel of a place among the kernels of all sources."""
    source, kernel = divmod(index, len(KERNELS))
    return source, KERNELS[kernel]


def _flat_experts(sources: tuple[int, ...]) -> list[tuple[int, Expert]]:
    """Return the experts of all sources, each with the place of its kernel."""
    return [
        (source * len(KERNELS) + kernel, expert)
        for source in range(len(sources))
        for kernel, expert in zip(KERNEL_OF, EXPERTS, strict=True)
    ]


def _experts(values: Tensor, kept: Int[Tensor, "tasks kept"]) -> Tensor:
    """Pick experts, the second axis."""
    index = kept.view(*kept.shape, *[1] * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])
    return values.gather(1, index)
