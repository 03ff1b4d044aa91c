"""Options are documented where they are defined and in the page of the documentation."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from app.core.settings import REPOSITORY, Settings


def test_every_option_is_documented() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `HYPERSERVE_(\w+)`", page, re.MULTILINE)
    assert sorted(documented) == sorted(name.upper() for name in Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("value", "hosts"),
    [
        ("", ()),
        ("hs.example.com", ("hs.example.com",)),
        (" HS.example.com , *.Corp.example,,", ("hs.example.com", "*.corp.example")),
        ("*", ("*",)),
        ("[2001:db8::1]", ("[2001:db8::1]",)),
        ("api_1.,10.0.0.1", ("api_1", "10.0.0.1")),
    ],
)
def test_allowed_hosts(monkeypatch: pytest.MonkeyPatch, value: str, hosts: tuple[str, ...]) -> None:
    monkeypatch.setenv("HYPERSERVE_ALLOWED_HOSTS", value)
    assert Settings(_env_file=None).allowed_hosts == hosts


@pytest.mark.parametrize("value", ["http://a", "a:80", "a b", "a/", "a.*", "**", "é"])
def test_what_is_not_an_allowed_host(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HYPERSERVE_ALLOWED_HOSTS", value)
    with pytest.raises(ValidationError, match="without scheme and port"):
        Settings(_env_file=None)


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("", ()),
        ("http://localhost:3000", ("http://localhost:3000",)),
        ("http://localhost:3000/, https://App.example:443", ("http://localhost:3000", "https://app.example")),
        ("http://a:80,http://[::1]:3000", ("http://a", "http://[::1]:3000")),
        ("chrome-extension://abc", ("chrome-extension://abc",)),
    ],
)
def test_cors_origins(monkeypatch: pytest.MonkeyPatch, value: str, origins: tuple[str, ...]) -> None:
    monkeypatch.setenv("HYPERSERVE_CORS_ORIGINS", value)
    assert Settings(_env_file=None).cors_origins == origins


@pytest.mark.parametrize(
    "value", ["*", "localhost:3000", "null", "http://", "http://a/b", "http://*.a", "http://a b"]
)
def test_what_is_not_an_origin(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HYPERSERVE_CORS_ORIGINS", value)
    with pytest.raises(ValidationError, match="name each origin"):
        Settings(_env_file=None)
