import json
from pathlib import Path

import pytest
import torch

from models.data.episodes import EpisodeConfig, EpisodeSampler
from models.data.glyph_augmentation import GlyphAugmentation
from models.encoders.conv4 import Conv4, Conv4Config
from models.fewshot.hyperset import HyperSet, HyperSetConfig
from models.fewshot.protonet import ProtoNet, ProtoNetConfig
from models.protocol import MetaLearner
from models.training.gradient import GradientTrainer
from models.training.trainer import TrainConfig, TrainingDivergedError
from tests.models.glyph_data import glyphs

DATA = glyphs()
EPISODES = EpisodeConfig(min_way=3, max_way=5, max_shot=3, queries=3, examples_per_step=40)
CONFIG = TrainConfig(steps=12, validate_every=4, checkpoint_every=3, warm_up=2, seed=5)


class Killed(Exception):
    """Stands for a kill at a random step."""


def trainer(folder: Path, method: str = "hyperset", config: TrainConfig = CONFIG) -> GradientTrainer:
    torch.manual_seed(config.seed)
    encoder = Conv4(Conv4Config(width=8))
    learner: MetaLearner = (
        HyperSet(encoder, HyperSetConfig(width=16))
        if method == "hyperset"
        else ProtoNet(encoder, ProtoNetConfig())
    )
    return GradientTrainer(
        learner, EpisodeSampler(DATA, EPISODES, config.seed), GlyphAugmentation(), config, folder
    )


def rising(learner: MetaLearner) -> dict[str, float]:
    rising.calls += 1  # type: ignore[attr-defined]
    return {"score": float(rising.calls)}  # type: ignore[attr-defined]


rising.calls = 0  # type: ignore[attr-defined]


def ignore(row: dict[str, float]) -> None:
    pass


@pytest.mark.parametrize("method", ["protonet", "hyperset"])
@pytest.mark.parametrize("killed_at", [4, 7])
def test_a_killed_run_resumes_exactly(tmp_path: Path, method: str, killed_at: int) -> None:
    whole = trainer(tmp_path / "whole", method).run(rising, ignore)

    def kill(row: dict[str, float]) -> None:
        if row["step"] == killed_at:
            raise Killed

    with pytest.raises(Killed):
        trainer(tmp_path / "cut", method).run(rising, kill)
    resumed = trainer(tmp_path / "cut", method)
    again = resumed.run(rising, ignore)
    assert resumed.progress.step == CONFIG.steps
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_the_best_validated_average_is_returned(tmp_path: Path) -> None:
    scores = iter([{"score": 0.2}, {"score": 0.9}, {"score": 0.1}])
    kept: list[dict[str, torch.Tensor]] = []

    def validate(learner: MetaLearner) -> dict[str, float]:
        kept.append({name: value.clone() for name, value in learner.state_dict().items()})
        return next(scores)

    run = trainer(tmp_path, "protonet")
    best = run.run(validate, ignore)
    assert run.progress.best_step == 8
    for name, value in best.state_dict().items():
        assert torch.equal(value, kept[1][name]), name


def test_history_is_written_for_people_and_programs(tmp_path: Path) -> None:
    trainer(tmp_path, "protonet").run(rising, ignore)
    history = json.loads((tmp_path / "history.json").read_text())
    assert [row["step"] for row in history] == [4, 8, 12]
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0].startswith("step,seconds,loss")
    assert len(lines) == 4


def test_bfloat16_trains_and_answers_in_full_precision(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"precision": "bf16", "steps": 2})
    learner = trainer(tmp_path, "hyperset", config).run(rising, ignore)
    assert learner.embed(torch.rand(2, 1, 28, 28)).dtype == torch.float32


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    run = trainer(tmp_path, "protonet")
    with torch.no_grad():
        next(run.learner.parameters()).fill_(torch.nan)
    with pytest.raises(TrainingDivergedError, match="step 0"):
        run.run(rising, ignore)


def test_the_moving_average_of_a_short_training_has_left_its_start(tmp_path: Path) -> None:
    run = trainer(tmp_path, config=CONFIG.model_copy(update={"ema": 0.998}))
    weight = next(iter(run.learner.parameters()))
    with torch.no_grad():
        for value in [0.0] + 100 * [1.0]:
            weight.fill_(value)
            run.average.update_parameters(run.learner)
    assert float(next(iter(run.average.module.parameters())).detach().min()) > 0.99
