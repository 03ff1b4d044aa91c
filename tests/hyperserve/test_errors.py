"""One root: whatever the client raises is a HyperserveError, and bad arguments remain ValueError and TypeError."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

import pytest

import hyperserve as hs

PACKAGE = Path(hs.__file__).parent
# testing.py is a part of the server that only has its address here.
CLIENT = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "testing.py")
EXPORTED = [getattr(hs, name) for name in hs.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("error", EXPORTED, ids=lambda error: error.__name__)
def test_every_exported_error_derives_from_the_root(error: type[Exception]) -> None:
    assert issubclass(error, hs.HyperserveError)


@pytest.mark.parametrize("path", CLIENT, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_raises_a_builtin_error(path: Path) -> None:
    raised = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise)]
    calls = [node.exc.func for node in raised if isinstance(node.exc, ast.Call)]
    found = [
        f"{path}:{call.lineno}" for call in calls if isinstance(call, ast.Name) and hasattr(builtins, call.id)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("support", "error"), [({"cat": ["missing.png"]}, ValueError), ({"cat": [[True]]}, TypeError)]
)
def test_a_bad_argument_is_both_ours_and_a_builtin_error(
    support: hs.inputs.Support, error: type[Exception]
) -> None:
    with hs.Client() as client, pytest.raises(hs.HyperserveError) as raised:
        client.tasks.create(support)
    assert isinstance(raised.value, hs.InvalidArgumentError)
    assert isinstance(raised.value, error)


def test_what_json_cannot_hold_is_an_invalid_argument() -> None:
    with hs.Client() as client:
        with pytest.raises(hs.InvalidArgumentError, match="cannot encode the request as JSON"):
            client.learners.create("mine", dataset="ds_1", hparams={"lr": float("nan")})
        with pytest.raises(hs.ArgumentTypeError, match="cannot encode the request as JSON"):
            client.learners.create("mine", dataset="ds_1", hparams={"lr": object()})
