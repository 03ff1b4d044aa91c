"""A learner put together of an encoder that is trained and the head of a `hyperkernel` that is trained over spaces.

The head has seen no feature of this encoder: only how support sets relate to their experts. What is fitted here are the
principal components of the encoder's depths, on training pictures, and what home looks like, on those and on validation
classes. The calibration stays that of the head, over many spaces: fitted at home, where nearly every answer is right,
it would make answers elsewhere too sure.
"""

from __future__ import annotations

from pathlib import Path

import torch

from models import artifact
from models.data.dataset import ClassDataset, model_input
from models.encoders.conv4 import Conv4
from models.encoders.conv4_rgb import Conv4Rgb
from models.encoders.depths import Depths
from models.errors import ModelError
from models.fewshot.hyperkernel import HyperKernel
from models.registry import LearnerConfig, build
from models.training.card import write_card
from models.training.recipe import embed, score

_PICTURES = 6_000


class AssemblyError(ModelError, ValueError):
    """These two learners do not make one."""


def assemble(
    base: artifact.Artifact,
    head: artifact.Artifact,
    fitting: ClassDataset,
    validation: ClassDataset,
    folder: Path,
    version: str,
    command: str,
) -> str:
    """Save the learner in `folder/learner`, return its digest. Raises `AssemblyError`."""
    kind = {Conv4: "conv4", Conv4Rgb: "conv4-rgb"}.get(type(base.learner.encoder))
    if kind is None or not isinstance(head.learner, HyperKernel):
        raise AssemblyError(
            "an assembly takes a learner on conv4 or conv4-rgb, and a learner of method hyperkernel"
        )
    config = LearnerConfig(
        code_version=version,
        method="hyperkernel",
        hparams=head.config.hparams,
        encoder="depths",
        encoder_hparams={"base": kind, "hparams": base.config.encoder_hparams},
        input=base.config.input,
        training_classes=base.config.training_classes,
    )
    learner = build(config)
    assert isinstance(learner, HyperKernel)
    encoder = learner.encoder
    assert isinstance(encoder, Depths)
    encoder.base.load_state_dict(base.learner.encoder.state_dict())
    learner.mixer.load_state_dict(head.learner.mixer.state_dict())
    learner.strangeness.load_state_dict(head.learner.strangeness.state_dict())
    learner.calibration.load_state_dict(head.learner.calibration.state_dict())
    learner = learner.eval().requires_grad_(False)
    step = max(1, len(fitting) // _PICTURES)
    part = ClassDataset("", fitting.inputs[::step], *_one_class(len(fitting.inputs[::step])))
    encoder.fit_components(model_input(part, config.input))
    fitted = torch.cat([encoder(chunk) for chunk in model_input(part, config.input).split(512)])
    home = embed(learner, validation, config.input)
    encoder.fit_domain(fitted, home.values, validation.labels)
    made = {
        "command": command,
        "encoder": f"{base.name} {base.short_digest}: {base.config.training.get('command', '')}",
        "head": f"{head.name} {head.short_digest}",
    }
    config = config.model_copy(update={"training": made, "metrics": {"validation": score(learner, [home])}})
    return artifact.save(folder / "learner", learner, config, write_card(folder.name, config))


def _one_class(count: int) -> tuple[torch.Tensor, tuple[str, ...], torch.Tensor]:
    return torch.zeros(count, dtype=torch.long), ("any",), torch.zeros(1, dtype=torch.long)
