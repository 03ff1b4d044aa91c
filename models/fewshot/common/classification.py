"""Base and helpers of the few-shot classifiers: calibration, sums per class, episodes after the encoder, losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel
from torch import Tensor

from models.bayes.calibration import Calibration
from models.encoder_protocol import Encoder
from models.predictive import Categorical
from models.protocol import FOREIGN, Episodes, LearnerError, Losses, MetaLearner, Support


class Classifier(MetaLearner):
    """Base of classifiers: their answers are `Categorical`, calibrated on validation tasks after the training."""

    calibration: Calibration

    def __init__(self, encoder: Encoder, config: BaseModel) -> None:
        super().__init__(encoder, config)
        self.calibration = Calibration()


def fixed_length(encoder: Encoder) -> int:
    """Return the length of the encoder's features. Raises `LearnerError` if it is that of the input."""
    if encoder.dim is None:
        raise LearnerError(
            "the method needs an encoder of fixed feature length (hyperparameter dim of identity)"
        )
    return encoder.dim


def class_sums(
    support: Support, values: Float[Tensor, "tasks support d"]
) -> tuple[Float[Tensor, "tasks way d"], Float[Tensor, "tasks way"]]:
    """Return the sum of `values` over the examples of each class, and their number (0 on padding)."""
    assert support.targets is not None
    member = class_members(support)
    return member.transpose(1, 2) @ values, member.sum(1)


def class_members(support: Support) -> Float[Tensor, "tasks support way"]:
    """Return 1 for each pair of an example and its class, else 0."""
    assert support.targets is not None
    way = support.class_key.shape[1]
    index = torch.arange(way, device=support.mask.device)
    return ((support.targets[..., None] == index) & support.mask[..., None]).to(support.features.dtype)


@dataclass(frozen=True)
class EmbeddedEpisodes:
    """Episodes after the encoder: a support set, and query features with targets."""

    support: Support
    query: Float[Tensor, "tasks query *feature"]
    target: Int[Tensor, "tasks query"]
    known: Bool[Tensor, "tasks query"]
    foreign: Bool[Tensor, "tasks query"]


def embed_episodes(embed: Callable[[Tensor], Tensor], episodes: Episodes) -> EmbeddedEpisodes:
    """Embed all real inputs of all tasks in one pass; padding is never embedded.

    Tasks marked `unseen` give no gradient to the encoder.
    """
    flat = torch.cat((episodes.support_x[episodes.support_mask], episodes.query_x[episodes.query_mask]))
    features = embed(flat)
    n_support = int(episodes.support_mask.sum())
    support = _unflatten(features[:n_support], episodes.support_mask)
    query = _unflatten(features[n_support:], episodes.query_mask)
    frozen = episodes.unseen.view(-1, *[1] * features.ndim)
    support = torch.where(frozen, support.detach(), support)
    query = torch.where(frozen, query.detach(), query)
    real = episodes.query_mask
    return EmbeddedEpisodes(
        Support.of(support, episodes.support_y, episodes.n_way, episodes.support_mask, seed=episodes.seed),
        query,
        episodes.query_y,
        real & (episodes.query_y != FOREIGN),
        real & (episodes.query_y == FOREIGN),
    )


def answer_losses(learner: MetaLearner, episodes: Episodes) -> Losses:
    """Return the cross-entropy of the learner's own answers to known queries, over log way.

    Foreign queries take no part. Nothing has calibrated the answers yet.
    """
    embedded = embed_episodes(learner.embed, episodes)
    answer = learner.predict(learner.adapt(embedded.support), embedded.query)
    assert isinstance(answer, Categorical)
    nll = cross_entropy(answer.log_probs, embedded.target, embedded.known)
    return Losses(per_log_way(nll, episodes.n_way), {"nll": nll.detach()})


def _unflatten(
    flat: Float[Tensor, "n *feature"], mask: Bool[Tensor, "tasks m"]
) -> Float[Tensor, "tasks m *feature"]:
    out = flat.new_zeros((*mask.shape, *flat.shape[1:]))
    out[mask] = flat
    return out


def cross_entropy(
    log_probs: Float[Tensor, "tasks query way"],
    target: Int[Tensor, "tasks query"],
    known: Bool[Tensor, "tasks query"],
) -> Float[Tensor, "tasks"]:
    """Return the mean over the known queries of each task, in nats."""
    picked = log_probs.gather(-1, target.clamp_min(0)[..., None])[..., 0]
    return -(torch.where(known, picked, 0.0).sum(1) / known.sum(1).clamp_min(1))


def per_log_way(loss: Float[Tensor, "tasks"], n_way: Int[Tensor, "tasks"]) -> Float[Tensor, "tasks"]:
    """Return a loss in units of chance level, so that tasks of many classes do not drown those of few."""
    return loss / n_way.to(loss).log().clamp_min(math.log(2))


def squared_distances(
    query: Float[Tensor, "tasks query d"], rows: Float[Tensor, "tasks way d"]
) -> Float[Tensor, "tasks query way"]:
    """Return ‖q − r‖² by one batched product."""
    closeness, norm = split_distances(query, rows)
    return (norm[..., None] - closeness).clamp_min(0)


def split_distances(
    query: Float[Tensor, "tasks query d"], rows: Float[Tensor, "tasks way d"]
) -> tuple[Float[Tensor, "tasks query way"], Float[Tensor, "tasks query"]]:
    """Return 2 q·r − ‖r‖² and ‖q‖² about the first row, which is never padding: ‖q − r‖² is ‖q‖² minus the other.

    A softmax over rows needs the first alone; with ‖q‖² in it, far queries would lose the difference between rows.
    Far from 0 cancellation would cost digits, and a centre that padding moves would let neighbours in a batch matter.
    """
    centre = rows[:, :1]
    query, rows = query - centre, rows - centre
    return 2 * query @ rows.transpose(1, 2) - rows.square().sum(-1)[:, None], query.square().sum(-1)
