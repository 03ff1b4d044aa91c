"""A pretended device: numbers are in the processor's memory, but its tensors and the processor's do not mix.

Code that works on it needs no other change for a GPU than the name. Registering it cannot be undone, so it is used in
separate processes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretended"
POSSIBLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
_MAY_MIX = ("copy_", "index")
"""Operations that may mix devices, as on a GPU: copies, and look-ups by the processor's indices."""


class There(Tensor):
    held: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "There":
        found: There = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        found.held = inner
        return found

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(function, args, kwargs or {})


class Pretended(TorchDispatchMode):
    """While it is entered, tensors may be made on the device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


def register() -> None:
    """Once in a process. Autocast leaves the precision as it is."""
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    type(torch.get_device_module(NAME)).get_amp_supported_dtype = lambda _: [torch.bfloat16]
    library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")


library = torch.library.Library("_", "IMPL")


def _run(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    name, kwargs = function.overloadpacket.__name__, dict(kwargs)
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    there = any(isinstance(each, There) for each in tensors)
    # Single numbers of the processor may go along anywhere.
    if there and name not in _MAY_MIX and any(type(each) is not There and each.dim() for each in tensors):
        raise RuntimeError(f"{function}: tensors of two devices")
    if name == "copy_":
        there = isinstance(args[0], There)
    if kwargs.get("device") is not None:
        there, kwargs["device"] = torch.device(kwargs["device"]).type == NAME, torch.device("cpu")
    wrapped: dict[int, There] = {}

    def inner(value: Any) -> Any:
        if isinstance(value, There):
            wrapped[id(value.held)] = value
            return value.held
        return value

    def outer(value: Any) -> Any:
        if isinstance(value, Tensor) and there:
            # What was changed in place stays the same tensor.
            return wrapped[id(value)] if id(value) in wrapped else There(value)
        return value

    return tree_map(outer, function(*tree_map(inner, args), **tree_map(inner, kwargs)))
