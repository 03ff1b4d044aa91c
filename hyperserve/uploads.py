"""Files of labelled examples on their way to the server."""

from __future__ import annotations

import base64
import csv
import io
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperserve import inputs

MEDIA_TYPES = {".zip": "application/zip", ".npz": "application/x-npz", ".csv": "text/csv"}
# The earliest that a zip can say: a folder gives the same bytes whenever it is zipped.
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Upload:
    """A file to stream; its size is known before."""

    path: Path
    media_type: str
    size: int
    temporary: bool = False

    def discard(self) -> None:
        """Remove the file if it was made for the upload."""
        if self.temporary:
            self.path.unlink(missing_ok=True)


def prepare(path: str | Path, content_type: str | None = None) -> Upload:
    """A zip, npz or csv file as it is; a folder of class folders as a zip that `discard` removes.

    Files beside the class folders, and hidden ones, stay out. Raises ValueError for a file of another kind or
    one that cannot be read, and for a folder that is laid out otherwise.
    """
    source = Path(path)
    if source.is_dir():
        return _zipped(source)
    media_type = content_type or MEDIA_TYPES.get(source.suffix.lower())
    if media_type is None:
        raise ValueError(
            f"{source.name}: the suffix is none of {', '.join(MEDIA_TYPES)}; name a content_type, or give "
            "a folder of class folders"
        )
    try:
        with source.open("rb"):
            return Upload(source, media_type, source.stat().st_size)
    except OSError as error:
        raise ValueError(f"cannot read {str(source)!r}: {error.strerror}") from error


def of_examples(examples: Mapping[str, Iterable[inputs.Input]]) -> Upload:
    """Examples by class as a file that `discard` removes: a zip of pictures, or a csv of vectors.

    Raises TypeError or ValueError naming the class and the example.
    """
    sent = [(label, one) for label, some in examples.items() for one in inputs.queries(some)]
    kinds = {kind for _, one in sent for kind in one}
    if kinds not in ({"image"}, {"vector"}):
        raise ValueError("a labelled set holds pictures, or vectors, and not both")
    suffix = ".zip" if kinds == {"image"} else ".csv"
    with tempfile.NamedTemporaryFile(prefix="hyperserve-", suffix=suffix, delete=False) as target:
        made = Path(target.name)
        try:
            target.write(_pictures(sent) if kinds == {"image"} else _rows(sent))
        except BaseException:
            made.unlink()
            raise
    return Upload(made, MEDIA_TYPES[suffix], made.stat().st_size, temporary=True)


def _pictures(sent: Sequence[tuple[str, inputs.Wire]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for number, (label, one) in enumerate(sent):
            if "/" in label or label in ("", ".", ".."):
                raise ValueError(f"class {label!r} cannot be the name of a folder; upload an npz instead")
            archive.writestr(zipfile.ZipInfo(f"{label}/{number}", _EPOCH), base64.b64decode(one["image"]))
    return file.getvalue()


def _rows(sent: Sequence[tuple[str, inputs.Wire]]) -> bytes:
    file = io.StringIO(newline="")
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["label", *(f"x{index}" for index in range(len(sent[0][1]["vector"])))])
    rows.writerows([label, *map(repr, one["vector"])] for label, one in sent)
    return file.getvalue().encode()


def _zipped(folder: Path) -> Upload:
    classes = sorted(child for child in folder.iterdir() if child.is_dir() and not _hidden(child))
    if not classes:
        raise ValueError(f"{str(folder)!r} holds no folders; one folder per class is needed")
    with tempfile.NamedTemporaryFile(prefix="hyperserve-", suffix=".zip", delete=False) as target:
        made = Path(target.name)
        try:
            # Images are compressed already.
            with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
                for label in classes:
                    _add(archive, label)
            target.flush()
        except BaseException:
            made.unlink()
            raise
    return Upload(made, MEDIA_TYPES[".zip"], made.stat().st_size, temporary=True)


def _add(archive: zipfile.ZipFile, folder: Path) -> None:
    files = sorted(child for child in folder.iterdir() if not _hidden(child))
    if not files:
        raise ValueError(f"class {folder.name!r} has no examples")
    for file in files:
        if not file.is_file():
            raise ValueError(f"class {folder.name!r} holds more than files: {file.name!r}")
        entry = zipfile.ZipInfo(f"{folder.name}/{file.name}", _EPOCH)
        entry.external_attr = 0o644 << 16
        entry.file_size = file.stat().st_size  # so that the archive knows when it needs the large format
        with file.open("rb") as source, archive.open(entry, "w") as target:
            while chunk := source.read(1 << 20):
                target.write(chunk)


def _hidden(path: Path) -> bool:
    """Left by file managers: .DS_Store, __MACOSX, Thumbs.db."""
    return path.name.startswith((".", "__")) or path.name in ("Thumbs.db", "desktop.ini")
