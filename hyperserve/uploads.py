"""Files of labelled examples on their way to the server."""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

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
