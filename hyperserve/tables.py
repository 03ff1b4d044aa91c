"""Tables and arrays of other packages: pandas, polars, pyarrow, xarray, TensorFlow, and whatever else has `__array__`.

They are recognised by their methods and never iterated: a loop over a data frame yields the names of its columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hyperserve.errors import ArgumentTypeError

_PLAIN = (str, bytes, bytearray, memoryview, list, tuple, Mapping, type)


def is_foreign(value: object) -> bool:
    """Return True for a table or array of a package other than numpy, torch and Pillow."""
    if isinstance(value, _PLAIN):
        return False
    known = (
        hasattr(value, "getexif")
        or (hasattr(value, "detach") and hasattr(value, "numpy"))
        or (hasattr(value, "dtype") and hasattr(value, "tobytes") and hasattr(value, "ndim"))
    )
    return not known and (hasattr(value, "__array__") or hasattr(value, "to_numpy"))


def is_table(value: object) -> bool:
    """Return True for a data frame: a table whose columns have names."""
    return is_foreign(value) and (hasattr(value, "columns") or hasattr(value, "column_names"))


def to_array(value: Any, where: str) -> Any:
    """Return the values of a foreign table or array as a numpy array, [rows, columns] of a table.

    Raises ArgumentTypeError whose message starts with `where`.
    """
    try:
        return value.__array__() if hasattr(value, "__array__") else value.to_numpy()
    except (TypeError, ValueError, RuntimeError, ImportError) as error:
        raise ArgumentTypeError(f"{where}: {type(value).__name__} cannot become an array: {error}") from error
