"""The way to a server: directly if it is on this machine, else through the proxy that the environment names."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from contextlib import suppress
from importlib.util import find_spec
from urllib.request import getproxies, proxy_bypass

import httpx

from hyperserve.errors import InvalidArgumentError

_SOCKS = ("socks5", "socks5h")
_SCHEMES = ("http", "https", *_SOCKS)


def proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """Return the proxy for requests to a server, or None if it is reached directly.

    Loopback addresses are always reached directly; for others HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY count.
    Raises InvalidArgumentError if the proxy that would be used cannot be.
    """
    if is_loopback(url.host):
        return None
    found = getproxies()
    address = found.get(url.scheme) or found.get("all")
    if not address or _is_excluded(url, found.get("no", "")):
        return None
    return _proxy(address, url.host)


def is_loopback(host: str) -> bool:
    """Return True for the names and addresses of this machine: localhost, 127.0.0.0/8, ::1, 0.0.0.0 and ::."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address is not None and (address.is_loopback or address.is_unspecified)


def tls_context(url: httpx.URL) -> ssl.SSLContext:
    """Return the certificates that a server is checked against: those of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's.

    For http, which uses none, the context is empty. Raises InvalidArgumentError if they cannot be read.
    """
    if url.scheme != "https":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # ssl.SSLError is one
        given = [
            f"{name}={os.environ[name]}" for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ
        ]
        source = " and ".join(given) or "the installed certificates"
        raise InvalidArgumentError(f"{source}: no certificates can be read there: {error}") from error


def _proxy(address: str, host: str) -> httpx.Proxy:
    advice = f"correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or add {host} to NO_PROXY"
    try:
        url = httpx.URL(address if "://" in address else f"http://{address}")
    except httpx.InvalidURL as error:
        raise InvalidArgumentError(f"the proxy for {host} is not a URL ({error}): {advice}") from error
    # Without the user and the password, which the URL may hold.
    shown = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"
    if url.scheme not in _SCHEMES or not url.host:
        raise InvalidArgumentError(
            f"the proxy {shown} for {host} must be a URL of {', '.join(_SCHEMES)}: {advice}"
        )
    if url.scheme in _SOCKS and find_spec("socksio") is None:
        raise InvalidArgumentError(
            f"the proxy {shown} for {host} needs a package that is not installed: "
            f"run `pip install 'httpx[socks]'`, or add {host} to NO_PROXY"
        )
    return httpx.Proxy(url)


def _is_excluded(url: httpx.URL, no_proxy: str) -> bool:
    """Return True if NO_PROXY, or what the system holds for it, excludes the server."""
    entries = [entry.strip().lower() for entry in no_proxy.split(",")]
    return any(_matches(entry, url) for entry in entries if entry) or bool(proxy_bypass(url.host))


def _matches(entry: str, url: httpx.URL) -> bool:
    """Return True if an entry of NO_PROXY is `*`, the host, a domain or network of it, or one of these with a port."""
    host = url.host.lower().rstrip(".")
    scheme, has_scheme, rest = entry.rpartition("://")
    if has_scheme and scheme not in (url.scheme, "all"):
        return False
    port = url.port or (443 if url.scheme == "https" else 80)
    name = rest.removesuffix(f":{port}") if "]" in rest or rest.count(":") == 1 else rest
    name = name.strip("[]")
    if name == "*":
        return True
    with suppress(ValueError):
        network = ipaddress.ip_network(name, strict=False)
        address = _address(host)
        return address is not None and address in network
    domain = name.removeprefix("*").removeprefix(".").rstrip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is written as, also in short forms such as 127.1, or None for a name."""
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]"))
    # `inet_aton` ignores what follows a space, and a name has letters.
    if set(host) <= set("0123456789abcdefx."):
        with suppress(OSError):
            return ipaddress.IPv4Address(socket.inet_aton(host))
    return None
