"""The version of the installed package."""

from importlib.metadata import PackageNotFoundError, version


def _installed_version() -> str:
    try:
        return version("hyperserve")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"


__version__ = _installed_version()
