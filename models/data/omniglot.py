"""Omniglot (Lake, Salakhutdinov, Tenenbaum 2015): 1,623 characters of 50 alphabets, 20 drawers each.

`load` downloads the authors' archives, or reads a path: a folder that holds the archives or their
unpacked folders `images_background` and `images_evaluation`, or an npz with `label`, `class_name`
("Alphabet/character01") and `image` (uint8) or `bits` (105×105 ink masks, packed).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from models.data.dataset import ClassDataset, DatasetError
from models.errors import DownloadError

SPLITS = ("train", "validation", "test", "background", "evaluation", "lake-validation", "no-latin", "all")
"""train, validation, test: Vinyals' 1,028 / 172 / 423 characters; background, evaluation: Lake's 964 / 659;
lake-validation: the ten evaluation alphabets that are not in Lake's runs."""
ARCHIVES = ("images_background", "images_evaluation")
URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/{archive}.zip"
_SIDE = 105
_LAKE_ALPHABETS = {
    *("Atlantean", "Ge_ez", "Glagolitic", "Gurmukhi", "Kannada", "Malayalam", "Manipuri"),
    *("Old_Church_Slavonic_(Cyrillic)", "Tengwar", "Tibetan"),
}
_LAKE = ("lake_support_index", "lake_query_index", "lake_query_answer")
_SPLIT_FILE = Path(__file__).with_name("omniglot_split.json")


@dataclass(frozen=True)
class LakeRuns:
    """Lake's one-shot runs: pictures uint8, and the support picture that shows the same character as each query."""

    source: str
    support: UInt8[Tensor, "runs way side side"]
    query: UInt8[Tensor, "runs way side side"]
    answers: Int[Tensor, "runs way"]


def lake_runs(path: Path | None) -> LakeRuns:
    """Load the runs from an npz alone: the authors publish them in a separate archive. Raises `DatasetError`."""
    if path is None or path.suffix != ".npz":
        raise DatasetError(
            f"Lake's runs are read from an npz with {', '.join(_LAKE)} (--data); the downloaded archives have none"
        )
    with np.load(path, allow_pickle=False) as archive:
        missing = set(_LAKE) - set(archive.files)
        if missing:
            raise DatasetError(f"{path}: needs {', '.join(sorted(missing))} for Lake's runs")
        support, query, answers = (torch.from_numpy(archive[name].astype(np.int64)) for name in _LAKE)
    pictures = _from_npz(path).inputs
    return LakeRuns("omniglot", pictures[support], pictures[query], answers)


def load(path: Path | None = None, split: str = "all") -> ClassDataset:
    """Load pictures uint8 [n, 105, 105], dark ink on white as published. Raises `DatasetError`."""
    if split not in SPLITS:
        raise DatasetError(f"omniglot has no split {split!r}; it has {', '.join(SPLITS)}")
    path = _download() if path is None else path
    whole = _from_npz(path) if path.suffix == ".npz" else _from_folder(path)
    chosen = [index for index, name in enumerate(whole.class_names) if _belongs(name, split)]
    return whole.select(chosen)


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(_SPLIT_FILE.read_text(encoding="utf-8"))
    return table


def _belongs(class_name: str, split: str) -> bool:
    alphabet, character = class_name.split("/")
    number = int(character.removeprefix("character"))
    in_validation = number in _table()["validation"].get(alphabet, ())
    in_test = number in _table()["test"].get(alphabet, ())
    evaluation = alphabet in _table()["evaluation_alphabets"]
    return {
        "train": not (in_validation or in_test),
        "validation": in_validation,
        "test": in_test,
        "background": not evaluation,
        "evaluation": evaluation,
        "lake-validation": evaluation and alphabet not in _LAKE_ALPHABETS,
        "no-latin": alphabet != "Latin",
        "all": True,
    }[split]


def _from_npz(path: Path) -> ClassDataset:
    with np.load(path, allow_pickle=False) as archive:
        missing = {"label", "class_name"} - set(archive.files)
        if missing or not {"image", "bits"} & set(archive.files):
            raise DatasetError(f"{path}: needs label, class_name and image or bits, has {archive.files}")
        labels, names = archive["label"].astype(np.int64), [str(name) for name in archive["class_name"]]
        if "bits" in archive.files:
            masks = np.unpackbits(archive["bits"], axis=1)[:, : _SIDE * _SIDE].reshape(-1, _SIDE, _SIDE)
            pictures = (1 - masks) * np.uint8(255)
        else:
            pictures = 255 - archive["image"]
    return _dataset(torch.from_numpy(pictures), torch.from_numpy(labels), names)


def _from_folder(path: Path) -> ClassDataset:
    by_class: dict[str, list[np.ndarray]] = {}
    for name, data in _drawings(path):
        by_class.setdefault(name, []).append(np.asarray(Image.open(io.BytesIO(data)).convert("L")))
    if not by_class:
        raise DatasetError(f"{path}: found none of {', '.join(ARCHIVES)} (folders or zip archives)")
    names = sorted(by_class)
    labels = torch.cat([torch.full((len(by_class[name]),), i) for i, name in enumerate(names)])
    return _dataset(torch.from_numpy(np.stack([p for n in names for p in by_class[n]])), labels, names)


def _drawings(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield ("Alphabet/character01", PNG bytes) in the order of file names."""
    for archive in ARCHIVES:
        folder, packed = path / archive, path / f"{archive}.zip"
        if folder.is_dir():
            for file in sorted(folder.glob("*/*/*.png")):
                yield "/".join(file.parts[-3:-1]), file.read_bytes()
        elif packed.is_file():
            with zipfile.ZipFile(packed) as pack:
                for member in sorted(n for n in pack.namelist() if n.endswith(".png")):
                    yield "/".join(member.split("/")[-3:-1]), pack.read(member)


def _dataset(pictures: torch.Tensor, labels: torch.Tensor, names: list[str]) -> ClassDataset:
    alphabets = sorted({name.split("/")[0] for name in names})
    domains = torch.tensor([alphabets.index(name.split("/")[0]) for name in names])
    return ClassDataset("omniglot", pictures, labels, tuple(names), domains)


def _download() -> Path:
    folder = Path.home() / ".cache" / "hyperserve" / "omniglot"
    folder.mkdir(parents=True, exist_ok=True)
    for archive in ARCHIVES:
        target = folder / f"{archive}.zip"
        if target.exists():
            continue
        part = target.with_suffix(".part")
        _fetch(URL.format(archive=archive), part)
        part.rename(target)
    return folder


def _fetch(url: str, target: Path) -> None:
    """Write what lies at a URL to a file. Raises `DownloadError`."""
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=60) as answer:
            answer.raise_for_status()
            with target.open("wb") as file:
                for chunk in answer.iter_bytes():
                    file.write(chunk)
    # The environment may name a proxy that is no URL, or whose scheme needs a package.
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError) as error:
        reason = f"{error}".partition("\n")[0]
        raise DownloadError(
            f"Omniglot cannot be downloaded from {url}: {reason}; give it by --data"
        ) from error
