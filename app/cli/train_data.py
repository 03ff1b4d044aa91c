"""Data sets that `hyperserve train` knows by name, and how a recipe describes the one it was made for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.cli.errors import MisuseError
from models.data import cifarfs, emnist, omniglot, vectors
from models.data.dataset import model_input
from models.data.functions import Completion, Family, GaussianProcess, Sinusoids
from models.data.random_functions import RandomFunctions
from models.training.recipe import TrainingData

OMNIGLOT, OMNIGLOT_EMNIST, BACKGROUND = "omniglot", "omniglot-emnist", "omniglot-background"
SYNTHETIC, CIFAR_FS = "synthetic-vectors", "cifar-fs"
PUBLISHED = (OMNIGLOT, OMNIGLOT_EMNIST, BACKGROUND, SYNTHETIC, CIFAR_FS)
SINUSOIDS, GP, COMPLETION, RANDOM = "sinusoids", "gp", "completion", "random-functions"
FUNCTIONS = (SINUSOIDS, GP, COMPLETION, RANDOM)
_ROTATABLE = (OMNIGLOT, OMNIGLOT_EMNIST, BACKGROUND)
_MIRRORED, _NOT_ROTATED = ", mirrored", ", not rotated"
_SPACES = 12


@dataclass(frozen=True)
class DatasetChoice:
    """A data set, by name or path, and what is added to its classes."""

    name: str
    mirrored: bool = False
    rotated: bool = True

    @staticmethod
    def parse(description: str) -> DatasetChoice:
        """Read the `dataset` of a recipe: "omniglot", or "omniglot, mirrored, not rotated"."""
        unturned = description.removesuffix(_NOT_ROTATED)
        name = unturned.removesuffix(_MIRRORED)
        return DatasetChoice(name, mirrored=name != unturned, rotated=unturned == description)

    @property
    def description(self) -> str:
        turned = "" if self.rotated or self.name not in _ROTATABLE else _NOT_ROTATED
        return f"{self.name}{_MIRRORED if self.mirrored else ''}{turned}"


def published_data(
    chosen: DatasetChoice, data: Path | None, emnist_data: Path | None, *, crop: bool
) -> TrainingData:
    """Load the training and validation classes of a published data set."""
    if chosen.name == SYNTHETIC:
        return TrainingData(None, [vectors.space(index) for index in range(_SPACES)])
    if chosen.name == CIFAR_FS:
        if data is None:
            raise MisuseError("cifar-fs needs --data: the folder of its npz files")
        fitting = cifarfs.load(data, "train")
        fitting = fitting.mirrored() if chosen.mirrored else fitting
        return TrainingData(fitting, [cifarfs.load(data, "validation")])
    if chosen.name == OMNIGLOT_EMNIST:
        if emnist_data is None:
            raise MisuseError("omniglot-emnist needs --emnist: EMNIST as an npz, for validation")
        fitting, validation = omniglot.load(data, "no-latin"), emnist.load(emnist_data, "validation")
    elif chosen.name == BACKGROUND:
        fitting, validation = omniglot.load(data, "background"), omniglot.load(data, "lake-validation")
    else:
        fitting, validation = omniglot.load(data, "train"), omniglot.load(data, "validation")
    fitting = fitting.glyphs(crop=crop)
    fitting = fitting.mirrored() if chosen.mirrored else fitting
    return TrainingData(fitting.rotations() if chosen.rotated else fitting, [validation])


def function_family(name: str, data: Path | None) -> Family:
    """Return the functions that a data set of functions draws."""
    if name == SINUSOIDS:
        return Sinusoids()
    if name == GP:
        return GaussianProcess()
    if name == RANDOM:
        return RandomFunctions()
    return Completion(model_input(omniglot.load(data, "train")))
