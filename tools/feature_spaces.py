"""Make the folder of feature spaces that `hyperserve train-head` learns on, from the data sets of this machine.

    python -m tools.feature_spaces OUT --data DIR [--sentences MODEL]

Spaces are split by name into training and validation, and nothing that our figures are measured on is among them: no
CLINC150, no BANKING77, no novel class of EMNIST, no Fashion-MNIST, no test class of CIFAR-FS, none of scikit-learn's
own tables, none of the tables that `held_out_tables` names. DIR holds rdatasets_classification.npz, uci_regression.npz
(targets cut into classes by their quantiles), omniglot28.npz, emnist62.npz, mnist_full.npz, cifarfs_*.npz,
tiny_imagenet_20.npz; with --sentences, the folder of an all-MiniLM-L6-v2 model, also fewrel_val.json.gz and
sentence_sets.json.gz. Pictures pass the encoders of the bundled learners `characters` and `photos`, each also pictures
of domains that it was never trained on.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from app.cli.zoo import learner_at
from models.data import cifarfs, vectors
from models.encoders.conv4 import Conv4
from models.encoders.conv4_rgb import Conv4Rgb
from models.encoders.depths import Depths, DepthsConfig
from models.inputs.ink import ink

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
_TRAIN, _VALIDATION = 0.65, 0.82
"""Tables are training, validation or held out by the hash of their name."""
_MEASURED = ("iris", "wine", "biopsy", "breast", "digit", "zip")
_SYNTHETIC, _SYNTHETIC_TRAIN, _FIRST_SEED = 60, 48, 1000
_LEAST = 12
"""Examples of the smallest class of a table that is kept."""
_MOST_CATEGORIES, _MOST_COLUMNS = 12, 300
_PER_RELATION, _PER_SET = 60, 700


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sentences", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for make in (synthetic, tables, regressions, glyphs, photos):
        for split, name, sources, label in make(options.data):
            _save(options.out, split, name, sources, label)
    if options.sentences is not None:
        for split, name, sources, label in sentences(options.data, options.sentences):
            _save(options.out, split, name, sources, label)


Made = Iterator[tuple[str, str, list[Array], Labels]]


def synthetic(data: Path) -> Made:
    for index in range(_SYNTHETIC):
        space = vectors.space(_FIRST_SEED + index)
        split = "train" if index < _SYNTHETIC_TRAIN else "validation"
        yield split, f"synthetic_{index}", [space.inputs.numpy()], space.labels.numpy()


def held_out_tables(data: Path) -> list[str]:
    """Return the names of the tables that neither training nor validation sees."""
    return [name for name in _table_names(data) if _share(name) >= _VALIDATION]


def tables(data: Path) -> Made:
    archive, seen = np.load(data / "rdatasets_classification.npz"), set()
    for name in _table_names(data):
        share = _share(name)
        if share >= _VALIDATION or any(word in name.lower() for word in _MEASURED):
            continue
        x, y = _numeric(archive[f"{name}_x"], archive[f"{name}_cat"]), archive[f"{name}_y"]
        counts = np.bincount(y[y >= 0])
        kept = np.isin(y, np.flatnonzero(counts >= _LEAST))
        if x.shape[1] < 2 or x.shape[1] > _MOST_COLUMNS or len(np.unique(y[kept])) < 2:
            continue
        # Some tables are there twice, under names of two packages.
        form = (x[kept].shape, tuple(counts[:5]))
        if form not in seen:
            seen.add(form)
            yield "train" if share < _TRAIN else "validation", f"table_{name}", [x[kept]], y[kept]


def regressions(data: Path) -> Made:
    archive = np.load(data / "uci_regression.npz")
    for key in sorted(archive.files):
        name = key.removesuffix("_x")
        if not key.endswith("_x") or len(archive[key]) < 150:
            continue
        share, y = _share(name), archive[f"{name}_y"].ravel()
        classes = 3 if share < 0.5 else 5
        label = np.searchsorted(np.quantile(y, np.arange(1, classes) / classes), y)
        kept = np.random.default_rng(0).permutation(len(y))[:4000]
        x = archive[key][kept]
        yield "train" if share < 0.75 else "validation", f"cut_{name}", [x[:, x.std(0) > 0]], label[kept]


def glyphs(data: Path) -> Made:
    omniglot = np.load(data / "omniglot28.npz")
    image, label, new = omniglot["image"], omniglot["label"], omniglot["class_is_evaluation"]
    fitting = image[~new[label]][::20]
    encoder = with_depths("characters", torch.cat([ink(torch.from_numpy(fitting)[..., None], crop=True)]))
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(new))[:300]
    kept = np.isin(label, chosen)
    emnist, mnist = np.load(data / "emnist62.npz"), np.load(data / "mnist_full.npz")
    validation = ~emnist["class_is_novel"].astype(bool)[emnist["label"]]
    grey = cifarfs.load(data, "validation")
    digits, digit = mnist["test_image"][:5000], mnist["test_label"][:5000]
    sets = (
        ("train", "omniglot", image[kept], label[kept]),
        ("validation", "letters", emnist["image"][validation], emnist["label"][validation]),
        ("train", "digits", digits, digit),
        ("train", "turned_digits", np.rot90(digits[2500:], 1, (1, 2)).copy(), digit[2500:]),
        (
            "train",
            "grey_photos",
            grey.inputs.float().mean(-1).byte().numpy()[:, 2:30, 2:30],
            grey.labels.numpy(),
        ),
    )
    for split, name, pictures, labels in sets:
        inked = [ink(torch.from_numpy(part)[..., None], crop=True) for part in _chunks(pictures)]
        yield split, f"glyphs_{name}", _embedded(encoder, torch.cat(inked)), labels


def photos(data: Path) -> Made:
    fitting = cifarfs.load(data, "train").inputs[::4]
    encoder = with_depths("photos", fitting.permute(0, 3, 1, 2).float() / 255)
    other = cifarfs.load(data, "validation")
    tiny, tiny_label = _tiny_imagenet(data)
    mnist, emnist = np.load(data / "mnist_full.npz"), np.load(data / "emnist62.npz")
    validation = ~emnist["class_is_novel"].astype(bool)[emnist["label"]]
    sets = (
        ("train", "cifar", other.inputs.numpy(), other.labels.numpy()),
        ("train", "objects", tiny[tiny_label < 140], tiny_label[tiny_label < 140]),
        ("validation", "other_objects", tiny[tiny_label >= 140], tiny_label[tiny_label >= 140]),
        ("train", "digits", _coloured(mnist["test_image"][:4000]), mnist["test_label"][:4000]),
        (
            "validation",
            "letters",
            _coloured(emnist["image"][validation][::2]),
            emnist["label"][validation][::2],
        ),
    )
    for split, name, pictures, labels in sets:
        x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
        yield split, f"photos_{name}", _embedded(encoder, x), labels


def sentences(data: Path, model: Path) -> Made:
    from tools.minilm import MiniLm

    embed, rng = MiniLm(model), np.random.default_rng(0)
    together: list[tuple[Array, npt.NDArray[np.str_]]] = []
    for domain, given in _texts(data / "fewrel_val.json.gz")["sets"].items():
        label = np.asarray(given["label"])
        kept = np.concatenate(
            [rng.permutation(np.flatnonzero(label == one))[:_PER_RELATION] for one in np.unique(label)]
        )
        x = embed([" ".join(given["tokens"][index]) for index in kept])
        if domain != "pubmed":
            together.append((x, np.char.add(f"{domain}/", label[kept].astype(str))))
        yield "validation" if domain == "pubmed" else "train", f"relations_{domain}", [x], label[kept]
    yield (
        "train",
        "relations",
        [np.concatenate([x for x, _ in together])],
        np.concatenate([y for _, y in together]),
    )
    splits = _texts(data / "sentence_sets.json.gz")["splits"]
    for name in ("subj", "mr", "cr", "mpqa", "sst5_dev"):
        kept = rng.permutation(len(splits[name]["label"]))[:_PER_SET]
        x = embed([splits[name]["text"][index] for index in kept])
        label = np.asarray(splits[name]["label"])[kept]
        yield "validation" if name == "cr" else "train", f"sentences_{name}", [x], label


def with_depths(name: str, fitting: torch.Tensor) -> Depths:
    """Return the encoder of a bundled learner with its depths, their components fitted to pictures."""
    base = learner_at(name).learner.encoder
    assert isinstance(base, Conv4 | Conv4Rgb)
    kind = "conv4" if isinstance(base, Conv4) else "conv4-rgb"
    encoder = Depths(DepthsConfig(base=kind, hparams=base.config.model_dump()))
    encoder.base.load_state_dict(base.state_dict())
    encoder.fit_components(fitting)
    return encoder.eval()


@torch.no_grad()
def _embedded(encoder: Depths, x: torch.Tensor) -> list[Array]:
    whole = torch.cat([encoder(part) for part in x.split(512)])
    return [part.numpy() for part in whole.split(list(encoder.sources), dim=1)]


def _save(out: Path, split: str, name: str, sources: list[Array], label: npt.NDArray[np.generic]) -> None:
    values = {f"source_{index}": source.astype(np.float32) for index, source in enumerate(sources)}
    np.savez(out / f"{split}__{name}.npz", label=np.unique(label, return_inverse=True)[1], **values)
    sys.stdout.write(f"{split} {name} {[source.shape for source in sources]} {len(np.unique(label))}\n")


def _table_names(data: Path) -> list[str]:
    with np.load(data / "rdatasets_classification.npz") as archive:
        return sorted(key[:-2] for key in archive.files if key.endswith("_x"))


def _share(name: str) -> float:
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32


def _numeric(x: Array, categorical: npt.NDArray[np.bool_]) -> Array:
    """Return columns as numbers: medians for missing values, one column for each of few categories."""
    middle = np.nan_to_num(np.nanmedian(x.astype(np.float64), axis=0))
    x = np.where(np.isfinite(x), x, middle)
    columns = []
    for index in range(x.shape[1]):
        values = np.unique(x[:, index])
        if categorical[index] and len(values) > 2:
            few = len(values) <= _MOST_CATEGORIES
            columns += [x[:, index] == value for value in values] if few else []
        elif len(values) > 1:
            columns.append(x[:, index])
    return np.stack(columns, 1).astype(np.float32) if columns else np.zeros((len(x), 0), np.float32)


def _tiny_imagenet(data: Path) -> tuple[npt.NDArray[np.uint8], Labels]:
    archive = np.load(data / "tiny_imagenet_20.npz")
    blob, offset = archive["blob"], archive["offset"]
    pictures = [
        Image.open(io.BytesIO(blob[start:stop].tobytes()))
        .convert("RGB")
        .resize((32, 32), Image.Resampling.BOX)
        for start, stop in pairwise(offset)
    ]
    return np.stack([np.asarray(picture) for picture in pictures]), archive["label"]


def _coloured(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    padded = np.pad(grey, ((0, 0), (2, 2), (2, 2)))
    return np.repeat(padded[..., None], 3, axis=3)


def _chunks(pictures: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    return np.array_split(pictures, max(1, len(pictures) // 2000))


def _texts(path: Path) -> dict[str, dict[str, dict[str, list[str]]]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        found: dict[str, dict[str, dict[str, list[str]]]] = json.load(file)
    return found


if __name__ == "__main__":
    main()
