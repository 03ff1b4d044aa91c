"""The environment of a client: proxies, exclusions and certificates."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hyperserve import (
    AsyncClient,
    Client,
    ConnectionFailedError,
    HyperserveError,
    InvalidArgumentError,
    proxies,
)
from tests.hyperserve.scripted import Reply, Script, scripted

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
CLOSED = "127.0.0.1:9"
PROXIES = [
    f"http://{CLOSED}",
    f"https://{CLOSED}",
    f"socks5://{CLOSED}",
    f"socks5h://u:p@{CLOSED}",
    "ftp://x",
    "::",
]
LOOPBACK = [
    "localhost", "LOCALHOST", "localhost.", "api.localhost", "127.0.0.1", "127.0.0.2", "127.255.255.254", "127.1",
    "2130706433", "0x7f.1", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]",
]  # fmt: skip
REMOTE = [
    "example.com", "localhost.example.com", "notlocalhost", "128.0.0.1", "10.0.0.127", "[::2]", "[2001:db8::1]",
    "127.example.com", "fade", "[::ffff:10.0.0.1]",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "SSL_CERT_FILE", "SSL_CERT_DIR", "HYPERSERVE_URL"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server() -> Iterator[Script]:
    with scripted(Reply()) as script:
        yield script


@pytest.mark.parametrize("variable", VARIABLES[:3])
@pytest.mark.parametrize("proxy", PROXIES)
def test_this_machine_is_reached_directly(
    server: Script, monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    monkeypatch.setenv(variable.lower(), proxy)
    port = server.url.rpartition(":")[2]
    for url in (server.url, f"http://localhost:{port}", f"http://127.1:{port}"):
        with Client(url, timeout=5) as client:
            assert client.ready(), url


@pytest.mark.parametrize("host", LOOPBACK)
def test_names_of_this_machine(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example:1080")
    for scheme in ("http", "https"):
        assert proxies.proxy_for(httpx.URL(f"{scheme}://{host}:8000")) is None


@pytest.mark.parametrize("host", REMOTE)
def test_other_hosts_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:3128")
    found = proxies.proxy_for(httpx.URL(f"http://{host}:8000"))
    assert found is not None
    assert found.url.host == "proxy.example"


def test_the_scheme_chooses_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "plain.example:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@tls.example:2")
    monkeypatch.setenv("ALL_PROXY", "http://all.example:3")
    plain, tls = (proxies.proxy_for(httpx.URL(f"{scheme}://example.com")) for scheme in ("http", "https"))
    assert plain is not None
    assert tls is not None
    assert (plain.url, tls.url) == ("http://plain.example:1", "http://tls.example:2")
    assert tls.raw_auth == (b"me", b"secret")


@pytest.mark.parametrize(
    ("entry", "excluded"),
    [
        ("*", True),
        ("x, *", True),
        ("example.com", True),
        (".example.com", True),
        ("*.example.com", True),
        ("api.example.com", True),
        ("API.EXAMPLE.COM.", True),
        ("other.example, api.example.com:8000", True),
        ("api.example.com:443", False),
        ("http://api.example.com", True),
        ("https://api.example.com", False),
        ("ample.com", False),
        ("api.example", False),
        (" , ", False),
        ("10.0.0.0/8", False),
    ],
)
def test_excluded_names(monkeypatch: pytest.MonkeyPatch, entry: str, excluded: bool) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks4://proxy.example")
    monkeypatch.setenv("NO_PROXY", entry)
    url = httpx.URL("http://api.example.com:8000")
    if excluded:
        assert proxies.proxy_for(url) is None
    else:
        with pytest.raises(InvalidArgumentError):
            proxies.proxy_for(url)


@pytest.mark.parametrize(
    ("host", "entry", "excluded"),
    [
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3:8000", True),
        ("10.1.2.3", "10.1.2.3:80", False),
        ("10.1.2.3", "11.0.0.0/8", False),
        ("[fd00::1]", "fd00::1", True),
        ("[fd00::1]", "[fd00::1]:8000", True),
        ("[fd00::1]", "fd00::/8", True),
        ("[fd00::1]", "fd00::2", False),
    ],
)
def test_excluded_addresses(monkeypatch: pytest.MonkeyPatch, host: str, entry: str, excluded: bool) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", entry)
    assert (proxies.proxy_for(httpx.URL(f"http://{host}:8000")) is None) is excluded


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("socks5://me:secret@proxy.example:1080", "pip install 'httpx[socks]'"),
        ("socks5h://proxy.example", "NO_PROXY"),
        ("socks4://proxy.example:1080", "must be a URL of http, https, socks5, socks5h"),
        ("ftp://proxy.example", "must be a URL of"),
        ("http://", "must be a URL of"),
        ("http://proxy.example:port", "is not a URL"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, kind: type[Client | AsyncClient], proxy: str, words: str
) -> None:
    monkeypatch.setattr(proxies, "find_spec", lambda _name: None)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(HyperserveError) as caught:
        kind("http://example.com")
    message = str(caught.value)
    assert words in message
    assert "example.com" in message
    assert "secret" not in message
    assert "\n" not in message


def test_a_proxy_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{CLOSED}")
    with Client("http://example.com", max_retries=0) as client, pytest.raises(ConnectionFailedError):
        client.limits()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "none"))
    Client("http://example.com").close()
    if variable == "SSL_CERT_FILE":
        with pytest.raises(InvalidArgumentError, match=r"SSL_CERT_FILE=.*none"):
            Client("https://example.com")


def test_a_new_process_behind_a_socks_proxy(server: Script) -> None:
    """No import of httpx may look at the proxies either."""
    environment = {**os.environ, "ALL_PROXY": f"socks5://{CLOSED}", "HYPERSERVE_URL": server.url}
    code = "from hyperserve import Client; assert Client().ready()"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
