"""A head searched on a frozen encoder, as a training: it learns, resumes bit for bit, and moves nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import artifact
from models.data.dataset import ClassDataset
from models.data.episodes import EpisodeConfig, EpisodeSampler
from models.encoders.conv4 import Conv4, Conv4Config
from models.encoders.identity import Identity, IdentityConfig
from models.evaluation.calibrate import CalibrationPlan
from models.fewshot.maml import Maml, MamlConfig
from models.fewshot.ppa import Ppa, PpaConfig
from models.protocol import MetaLearner
from models.registry import METHODS
from models.testing.case import Case, advantage
from models.testing.tasks import episodes_of
from models.training.fitness import Fitness
from models.training.population import PopulationTrainer
from models.training.recipe import Recipe, TrainingData, train
from models.training.search import Search, SearchConfig, SearchError, Subset, axis_of, trainable_by
from models.training.trainer import TrainConfig
from tests.models.cases import REGISTERED
from tests.models.glyph_data import glyphs

OPTIMISERS: tuple[Search, ...] = ("evolution", "cma-es", "reinforce")
SIGMA: dict[str, float] = {"evolution": 0.1, "cma-es": 0.3, "reinforce": 0.1}
EPISODES = EpisodeConfig(
    min_way=2, max_way=2, min_shot=3, max_shot=3, queries=5, foreign=0, examples_per_step=120
)
STEPS = 40


def blobs(classes: int, seed: int) -> ClassDataset:
    """Classes in 2 dimensions whose radius says nothing and whose angle says all."""
    rng = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(classes, 1, generator=rng) + 0.2 * torch.randn(
        classes, 20, generator=rng
    )
    radius = 0.3 + 2 * torch.rand(classes, 20, generator=rng)
    x = torch.stack((radius * angle.cos(), radius * angle.sin()), -1)
    names = tuple(f"{seed}/{index}" for index in range(classes))
    labels = torch.arange(classes).repeat_interleave(20)
    return ClassDataset("blobs", x.view(-1, 2), labels, names, torch.zeros(classes, dtype=torch.long))


def head(seed: int = 0) -> Ppa:
    torch.manual_seed(seed)
    return Ppa(Identity(IdentityConfig(dim=2)), PpaConfig(hidden=4))


def trainer(folder: Path, optimiser: Search, steps: int = STEPS) -> PopulationTrainer:
    config = TrainConfig(steps=steps, validate_every=20, checkpoint_every=7, lr=0.1)
    search = SearchConfig(optimiser=optimiser, sigma=SIGMA[optimiser], population=16)
    return PopulationTrainer(head(), EpisodeSampler(blobs(40, 0), EPISODES, 0), None, config, search, folder)


def scored(learner: MetaLearner) -> dict[str, float]:
    fitness = Fitness(learner, subset := Subset(learner), SearchConfig(optimiser="evolution"))
    tasks = EpisodeSampler(blobs(40, 1), EPISODES.model_copy(update={"examples_per_step": 1600}), 1)
    return {"score": float(fitness(subset.read()[None], tasks.episodes(0, None))[0])}


def ignore(row: dict[str, float]) -> None:
    pass


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_each_learns_from_accuracy_alone(tmp_path: Path, optimiser: Search) -> None:
    before = scored(head())["score"]
    learner = trainer(tmp_path, optimiser).run(scored, ignore)
    after = scored(learner)["score"]
    assert before < 0.7
    assert after > 0.85


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_pitfall_21_a_killed_search_resumes_bitwise(tmp_path: Path, optimiser: Search) -> None:
    class Killed(Exception):
        pass

    def kill(row: dict[str, float]) -> None:
        if row["step"] == 12:
            raise Killed

    whole = trainer(tmp_path / "whole", optimiser, 25).run(scored, ignore)
    with pytest.raises(Killed):
        trainer(tmp_path / "cut", optimiser, 25).run(scored, kill)
    resumed = trainer(tmp_path / "cut", optimiser, 25).run(scored, ignore)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    rows = json.loads((tmp_path / "cut" / "history.json").read_text())
    assert [row["evaluations"] for row in rows] == [20 * 16, 25 * 16]


def episodes() -> tuple[MetaLearner, Tensor, Subset]:
    learner = head()
    subset = Subset(learner)
    return learner, subset.read() + torch.randn(6, subset.size), subset


@pytest.mark.parametrize("objective", ["accuracy", "loss"])
def test_a_population_at_once_is_each_of_it_by_itself(objective: str) -> None:
    learner, population, subset = episodes()
    tasks = EpisodeSampler(blobs(40, 1), EPISODES, 1).episodes(0, None)
    found = []
    for over in ("vmap", "loop"):
        config = SearchConfig.model_validate(
            {"optimiser": "evolution", "objective": objective, "over_population": over}
        )
        found.append(Fitness(learner, subset, config)(population, tasks))
    torch.testing.assert_close(*found)


def test_the_fitness_of_a_loss_is_that_of_the_method_per_log_way() -> None:
    learner = head()
    tasks = EpisodeSampler(blobs(40, 1), EPISODES, 1).episodes(0, None)
    config = SearchConfig(optimiser="evolution", objective="loss")
    fitness = Fitness(learner, subset := Subset(learner), config)(subset.read()[None], tasks)
    assert float(fitness) == pytest.approx(-float(learner.loss(tasks, 0.0).total.detach().mean()), rel=1e-5)


def test_a_subset_is_a_vector_and_back() -> None:
    learner = head()
    subset = Subset(learner, ("hypernet.2",))
    assert subset.names == ("hypernet.2.bias", "hypernet.2.weight")
    assert subset.size == 3 + 12
    subset.write(torch.arange(15.0))
    assert torch.equal(subset.read(), torch.arange(15.0))
    assert learner.hypernet[2].weight.shape == (3, 4)
    split = subset.split(torch.stack((torch.zeros(15), torch.arange(15.0))))
    assert torch.equal(split["hypernet.2.weight"][1], learner.hypernet[2].weight)


@pytest.mark.parametrize("asked", ["hyper", "encoder", "nothing"])
def test_what_names_nothing_is_refused(asked: str) -> None:
    with pytest.raises(SearchError, match="there are: hypernet"):
        Subset(head(), (asked,))


def test_pairs_need_an_even_population() -> None:
    with pytest.raises(ValueError, match="population 7"):
        SearchConfig(optimiser="evolution", population=7)


CLASSIFIERS = [case for case in REGISTERED if case.score is advantage]


@pytest.mark.parametrize("case", CLASSIFIERS, ids=lambda case: case.name)
def test_what_is_said_to_be_trainable_by_search_is(case: Case) -> None:
    learner = case.learner()
    if trainable_by(learner) == ("gradient",):
        with pytest.raises(SearchError, match="nothing to move"):
            Subset(learner)
        return
    subset = Subset(learner)
    tasks = episodes_of(case.tasks(2))
    population = subset.read() + 0.1 * torch.randn(2, subset.size)
    for objective in ("accuracy", "loss"):
        search = SearchConfig.model_validate({"optimiser": "evolution", "objective": objective})
        assert torch.isfinite(Fitness(learner, subset, search)(population, tasks)).all()


RECIPE = Recipe(
    method="ppa",
    hparams={"hidden": 8},
    encoder_hparams={"width": 4},
    dataset="drawn",
    episodes=EpisodeConfig(min_way=3, max_way=3, max_shot=2, queries=2, examples_per_step=30),
    train=TrainConfig(steps=2, validate_every=2),
    calibration=CalibrationPlan(tasks=4, gold_tasks=2, set_tasks=20),
    search=SearchConfig(optimiser="evolution", population=4),
)


def test_a_training_by_search_makes_a_learner_that_says_so(tmp_path: Path) -> None:
    """From a learner of another method its encoder is taken, and left as it is."""
    start = METHODS["protonet"](Conv4(Conv4Config(width=4)), METHODS["protonet"].Config())
    data = TrainingData(glyphs(12), [glyphs(8, seed=1)])
    train(RECIPE, data, tmp_path, "test", "hyperserve train", ignore, start, name="mine")
    made = artifact.load(tmp_path / "learner")
    for name, value in start.encoder.state_dict().items():
        assert torch.equal(value, made.learner.encoder.state_dict()[name]), name
    assert axis_of(made.config.training) == {"optimiser": "evolution"}
    assert made.config.training["evaluations"] == 8
    assert "- optimiser: evolution\n- objective: query accuracy\n" in made.card


def test_a_recipe_without_search_is_written_as_before_there_was_any() -> None:
    written = json.loads(RECIPE.model_copy(update={"search": None}).model_dump_json())
    assert "search" not in written
    assert json.loads(RECIPE.model_dump_json())["search"]["optimiser"] == "evolution"


@pytest.mark.parametrize(
    ("named", "axis"),
    [("evolution", "evolution"), ("cma-es", "evolution"), ("reinforce", "reinforcement"), (None, None)],
)
def test_the_axis_is_that_of_the_training(named: str | None, axis: str | None) -> None:
    assert axis_of({} if named is None else {"optimiser": named}) == (
        {} if axis is None else {"optimiser": axis}
    )


def test_reinforce_learns_the_inner_rates_of_maml(tmp_path: Path) -> None:
    """Rates that are too small leave the head near zero, where every answer is a guess."""
    learner = Maml(Identity(IdentityConfig(dim=2)), MamlConfig(learned_rates=True, inner_lr=0.01, steps=2))
    search = SearchConfig(
        optimiser="reinforce", objective="loss", parameters=("rates",), population=8, sigma=0.2
    )
    config = TrainConfig(steps=12, validate_every=12, lr=0.3)
    sampler = EpisodeSampler(blobs(40, 0), EPISODES, 0)
    score = Fitness(learner, subset := Subset(learner, ("rates",)), search)
    tasks = EpisodeSampler(blobs(40, 1), EPISODES, 1).episodes(0, None)
    before = float(score(subset.read()[None], tasks))
    run = PopulationTrainer(learner, sampler, None, config, search, tmp_path)
    run.run(lambda candidate: {"score": float(score(subset.read()[None], tasks))}, ignore)
    assert before < -0.95
    assert float(score(subset.read()[None], tasks)) > before + 0.2
