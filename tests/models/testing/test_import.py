"""`hyperserve.testing` is the door to the contracts, and says what is missing if it cannot open."""

from __future__ import annotations

import importlib
import sys

import pytest


def test_it_offers_the_contracts() -> None:
    found = importlib.import_module("hyperserve.testing")
    assert {"MethodContract", "EncoderContract", "Trial", "ContractError"} <= set(found.__all__)
    assert all(hasattr(found, name) for name in found.__all__)


@pytest.mark.parametrize("missing", ["models.protocol", "models.testing.method_contract"])
def test_without_the_server_or_pytest_it_says_how_to_get_them(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "hyperserve.testing", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        ModuleNotFoundError, match=r"needs the server and pytest.*pip install -e '\.\[server\]' pytest"
    ):
        importlib.import_module("hyperserve.testing")
