"""`hyperserve evaluate sinusoid` and `completion`: protocols of regression."""

from __future__ import annotations

from typing import Any

from app.cli.evaluation_command import LearnerOptions, evaluation
from models.data import omniglot
from models.data.dataset import model_input
from models.data.functions import Completion
from models.evaluation import functions as functions_protocol


@evaluation("sinusoid", LearnerOptions)
def sinusoid(options: LearnerOptions) -> dict[str, Any]:
    """Measure regression on MAML's sinusoids.

    Learners given together are measured side by side.
    """
    plan, first = options.plan(), options.learner
    learners = {found.name: found.learner for found in (first, *options.learners[1:])}
    return functions_protocol.merge_learners(
        {
            name: functions_protocol.sinusoid(learner, plan.tasks, plan.seed)
            for name, learner in learners.items()
        }
    )


@evaluation("completion", LearnerOptions)
def completion(options: LearnerOptions) -> dict[str, Any]:
    """Measure the completion of pictures.

    All pixels of Omniglot's test characters are predicted from some of them.
    """
    learner, plan = options.learner.learner, options.plan()
    pictures = Completion(model_input(omniglot.load(options.data, "test")))
    return functions_protocol.completion(learner, pictures, plan.tasks, plan.seed)
