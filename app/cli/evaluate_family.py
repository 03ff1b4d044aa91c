"""Omniglot→EMNIST from the command line: one learner, several, or the whole zoo in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from app.cli.evaluation_options import Asked, Mode
from app.cli.train import console
from app.core.settings import REPOSITORY
from experiments.fewshot import emnist as protocol
from experiments.fewshot import family, reliability, transductive
from experiments.fewshot.family_page import page
from experiments.fewshot.finetuned import PUBLISHED_LR, FineTuned
from experiments.fewshot.tables import Plan
from experiments.fewshot.transductive import Transductive
from models import artifact
from models.artifact import CONFIG_FILE, Artifact
from models.data import emnist
from models.data.dataset import ClassDataset
from models.protocol import MetaLearner

_ZOO = REPOSITORY / "models" / "zoo"


def omniglot_emnist(asked: Asked) -> dict[str, Any]:
    """One learner by all tables, or a table of several. Learners given beside `--all` join those of the zoo."""
    test = emnist.load(asked.file("EMNIST as an npz"), "test")
    plan = asked.plan(protocol.TASKS)
    if asked.mode is Mode.transductive:
        return _in_mode(asked, test, plan, "transductive", transductive.NAME, Transductive)
    if (steps := asked.finetune) is not None:
        said = f"all parameters fine-tuned on each support set: {steps} steps of Adam at {PUBLISHED_LR:g} (not served)"
        return _in_mode(asked, test, plan, "fine_tuned", said, lambda learner: FineTuned(learner, steps))
    if asked.whole_zoo or len(asked.learners) > 1:
        found = [*(zoo() if asked.whole_zoo else ()), *asked.learners]
        return family.evaluate(found, test, plan, lambda name: console.print(f"measuring {name}"))
    config = asked.learner.config
    return protocol.evaluate(asked.learner.learner, config.input, config.training_classes, test, plan)


def _in_mode(
    asked: Asked,
    test: ClassDataset,
    plan: Plan,
    mode: str,
    said: str,
    wrap: Callable[[MetaLearner], MetaLearner],
) -> dict[str, Any]:
    chosen = asked.learners or [asked.learner]
    rows = [row for found in chosen for row in family.rows_in_mode(found, test, plan, mode, wrap)]
    return {"protocol": said, "tasks": plan.tasks, "seed": plan.seed, "images": test.source, "accuracy": rows}


def zoo() -> Iterator[Artifact]:
    """The learners that the package ships."""
    return (artifact.load(file.parent) for file in sorted(_ZOO.glob(f"*/{CONFIG_FILE}")))


def family_page(result: dict[str, Any], plots: Path | None) -> str:
    """The page of a family, with a reliability diagram of each stochastic learner beside the path `plots`."""
    if plots is None:
        return page(result, [])
    pictures = []
    for row in result["family"]:
        if row["cells"][0]["epistemic"] is None:
            continue
        picture = plots.with_name(f"{plots.name}-{row['learner']}.png")
        picture.write_bytes(reliability.diagrams(row["cells"], f"{row['learner']} {row['digest']}"))
        pictures.append(picture.name)
    return page(result, pictures)
