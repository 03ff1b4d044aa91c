"""HNET+R: a decoder for each stream task, and what is distilled from the classifier before."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from experiments.continual.baselines.continual_method import ComparisonSetting
from experiments.continual.baselines.hnet_replay import DecoderConfig, HnetReplay, HnetReplayConfig
from experiments.continual.baselines.vae import distillation
from models.continual.stream_config import Scenario
from tests.experiments.continual.baselines.test_baselines import TINY, examples

DECODER = DecoderConfig(
    latent=2, encoder=(8,), decoder=(8,), chunk=60, task_embedding=4, chunk_embedding=4, trunk=(6,), beta=1
)


def learned(setting: ComparisonSetting = TINY, tasks: int = 2, **hparams: str) -> HnetReplay:
    method = HnetReplay(setting, HnetReplayConfig.model_validate({"decoder": DECODER, **hparams}))
    for task in range(tasks):
        method.learn(task, *examples(task))
    return method


def test_what_was_learned_first_is_replayed() -> None:
    method = learned(replace(TINY, iterations=60))
    x, y = examples(0)
    answer = method.predict(x, None)
    assert answer.task is not None
    assert ((answer.label == y) & (answer.task == 0)).float().mean() > 0.8


def test_every_stream_task_has_a_decoder_and_is_drawn() -> None:
    method = learned(replace(TINY, iterations=4))
    assert len(method.stored()["decoders.embeddings"]) == 2
    _, of = next(method.vae.replay(torch.Generator().manual_seed(0)))
    assert of.unique().tolist() == [0, 1]


def test_in_cl1_the_head_of_a_drawn_picture_is_told() -> None:
    method = learned(replace(TINY, scenario="cl1", iterations=4))
    assert method.predict(examples(0)[0], 0).label.shape == (40,)


def test_targets_may_give_new_classes_a_logit() -> None:
    """Softened by 2, logits (2, 0) and an unknown 0 are softmax(1, 0, 0)."""
    targets, logits = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0, 4.0]])
    soft = torch.tensor([1.0, 0.0, 0.0]).softmax(0)
    expected = -4 * (soft * torch.tensor([0.0, 0.0, 2.0]).log_softmax(0)).sum()
    assert_close(distillation(logits, targets, 2.0, 0.0), expected)
    never = -4 * (F.softmax(targets / 2, 1) * torch.tensor([0.0, 0.0, 2.0]).log_softmax(0)[:2]).sum()
    assert_close(distillation(logits, targets, 2.0), never)


@pytest.mark.parametrize(("scenario", "same"), [("cl2", True), ("cl3", False)])
def test_only_where_classes_are_added_is_one_unknown(scenario: Scenario, same: bool) -> None:
    setting = replace(TINY, scenario=scenario, iterations=4)
    zero, never = (learned(setting, unknown=unknown).stored()["network"] for unknown in ("zero", "never"))
    assert zero.equal(never) == same
