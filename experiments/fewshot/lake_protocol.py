"""Lake's one-shot classification (Lake, Salakhutdinov, Tenenbaum 2015): 20 runs of 20 characters of one alphabet.

The support set of a run has one drawing of each of 20 characters by one drawer; its queries are 20 drawings by another,
one of each, classified independently. Only learners trained on the 964 characters of the background alphabets are
measured. Lake et al. (2015; 1902.03477) report errors of 4.5 % for people, 3.3 % for BPL, 8.0 % for a siamese network.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from experiments.errors import ExperimentError
from models.data.dataset import ClassDataset, model_input
from models.data.omniglot import LakeRuns
from models.evaluation.episodic import SAMPLES
from models.evaluation.scores import MeanEstimate
from models.inputs import InputSpec
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import MetaLearner, Support

TRAINING_CLASSES = {
    "90912b225af0db7fd482aace64619493b5dff1e59ac7dfa843e13d9da321416c": "characters",
    "208fa51e9452cb644f6c779752dc7441eb840d17b76db957cac8a10b8e958216": "characters and their rotations",
    "d5a55326186d952914f8339d0fa8b718a9ecaad8755e11935361515a22666794": "characters, mirrored and rotated",
    "5728ab9d826b75a59d5f53d9f32900a58c6c3090161e0dfb230ea14c48050acc": "characters, mirrored",
}
"""Descriptions of the training classes made of the 964 background characters, by digest."""
REPORTED_ERRORS = {"people": 0.045, "BPL": 0.033, "siamese network": 0.080}


@torch.no_grad()
def evaluate(
    learner: MetaLearner, spec: InputSpec, training_classes: str | None, runs: LakeRuns
) -> dict[str, Any]:
    """Return the error rate over all runs and in each. The tasks are given, so the result is deterministic.

    Raise `ExperimentError` if the learner was trained on other classes or does not support this number of classes.
    """
    if training_classes not in TRAINING_CLASSES:
        raise ExperimentError(
            "Lake's runs need a learner trained on exactly the 964 background characters of Omniglot"
        )
    count, way = runs.answers.shape
    if way not in learner.traits.ways:
        raise ExperimentError(f"the runs have {way} classes; the learner supports {learner.traits.ways}")
    learner = learner.eval()
    support, query = (
        learner.embed(model_input(ClassDataset(runs.source, pictures, *_unlabelled(len(pictures))), spec))
        for pictures in (runs.support.flatten(0, 1), runs.query.flatten(0, 1))
    )
    weights = learner.adapt(
        Support.of(
            support.unflatten(0, (count, way)), torch.arange(way).expand(count, -1), seed=torch.arange(count)
        )
    )
    noise = Noise(SAMPLES) if learner.traits.stochastic else None
    answer = learner.predict(weights, query.unflatten(0, (count, way)), noise)
    if not isinstance(answer, Categorical):
        raise ExperimentError("Lake's runs need a classifier")
    wrong = (answer.log_probs.argmax(-1) != runs.answers).float().mean(1)
    return {
        "protocol": f"Lake's {count} runs: {way}-way 1-shot within an alphabet, one query of each; inductive",
        "trained_on": f"background: {TRAINING_CLASSES[training_classes]}",
        "images": runs.source,
        "error": asdict(MeanEstimate.over(wrong)),
        "interval": f"95 % over the {count} runs",
        "reported_errors": REPORTED_ERRORS,
        "runs": [{"run": index + 1, "error": float(value)} for index, value in enumerate(wrong)],
    }


def _unlabelled(count: int) -> tuple[torch.Tensor, tuple[str, ...], torch.Tensor]:
    """Return labels, class names and domains for images of a single class."""
    return torch.zeros(count, dtype=torch.long), ("character",), torch.zeros(1, dtype=torch.long)
