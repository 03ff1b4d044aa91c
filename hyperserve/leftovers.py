"""Names of files that programs leave in folders, the same for zips, folders and the client.

They are neither classes nor examples. Names are compared in lower case.
"""

from __future__ import annotations

from collections.abc import Sequence

LABELS_MEMBER = "hyperserve.json"
"""Member of a zip that gives labels to its folders: {"labels": {folder: label}}."""
RESOURCE_FORKS = "__MACOSX"
"""Folder that Finder adds to a zip, for files `._*`; a folder of this name with images in it is a class."""
_FOLDERS = frozenset(
    {
        # File managers and synchronisation.
        "@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found",
        ".appledouble", ".appledb", ".appledesktop", ".spotlight-v100", ".fseventsd", ".temporaryitems",
        ".documentrevisions-v100", ".thumbnails", ".thumbcache", ".@__thumb", ".@upload_cache",
        ".picasaoriginals", ".xvpics", ".comments", ".dropbox.cache", ".stfolder", ".stversions", ".snapshot",
        # Notebooks, editors, tools.
        ".ipynb_checkpoints", ".idea", ".vscode", ".vs", ".fleet", ".settings", ".cache", ".config",
        ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".nox", ".venv", "__pycache__", "node_modules",
        "meta-inf",
        # Version control.
        ".hg", ".svn", ".bzr", ".dvc",
    }
)  # fmt: skip
_FOLDER_BEGINNINGS = (".git", ".trash")
_FILES = frozenset(
    {
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "zbthumbnail.info", "picasa.ini",
        "pspbrwse.jbf", "sync.ffs_db",
    }
)  # fmt: skip
_DOCUMENTS = frozenset(
    {"readme", "license", "licence", "copying", "notice", "changelog", "contributing", "citation", "authors"}
)
_DOCUMENT_SUFFIXES = frozenset({"", ".md", ".txt", ".rst", ".html", ".pdf", ".cff", ".bib"})
_NO_IMAGE_SUFFIXES = frozenset(
    {
        ".md", ".txt", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".yml", ".yaml", ".toml", ".xml", ".html", ".htm",
        ".css", ".js", ".ts", ".py", ".ipynb", ".r", ".m", ".sh", ".bat", ".ps1", ".cfg", ".ini", ".conf", ".log",
        ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".odt", ".ods", ".bib", ".cff", ".lock", ".db", ".sqlite", ".url",
        ".lnk", ".sha256", ".md5",
    }
)  # fmt: skip
IMAGE_SUFFIXES = frozenset(
    {
        ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".heic",
        ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm", ".pbm", ".psd", ".svg",
    }
)  # fmt: skip
"""Suffixes of images, those that are not read included: such a file is an example that must not get lost."""


def is_leftover(path: Sequence[str], *, folder: bool = False) -> bool:
    """Return True for a leftover, and for whatever lies in one; `path` holds the names from the top down."""
    folders, file = (path, None) if folder else (path[:-1], path[-1])
    return any(_is_folder(name) for name in folders) or (file is not None and _is_file(file))


def is_extra(path: Sequence[str]) -> bool:
    """Return True for a file that is no image by its name, so that it may lie beside the class folders."""
    return _suffix(path[-1]) not in IMAGE_SUFFIXES


def is_document(name: str) -> bool:
    """Return True for a README, a licence and the like."""
    suffix = _suffix(name)
    return name.lower().removesuffix(suffix) in _DOCUMENTS and suffix in _DOCUMENT_SUFFIXES


def cannot_be_image(name: str) -> bool:
    """Return True for a text, a script or a document by its suffix."""
    return _suffix(name) in _NO_IMAGE_SUFFIXES


def _is_folder(name: str) -> bool:
    lower = name.lower()
    return lower in _FOLDERS or lower.startswith(_FOLDER_BEGINNINGS)


def _is_file(name: str) -> bool:
    lower = name.lower()
    if lower.startswith(".") or lower.endswith("~") or lower in _FILES or lower.startswith("thumbs.db:"):
        return True
    return is_document(lower)


def _suffix(name: str) -> str:
    # Half a million names are as many objects: no paths are made of them.
    stem, dot, suffix = name.lower().rpartition(".")
    return dot + suffix if stem and dot else ""
