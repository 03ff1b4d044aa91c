"""Multipart bodies in memory: what goes in comes out, whatever the bytes."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.body import Body
from app.http.multipart import Part, parse
from app.http.problems import ProblemError

BOUNDARY = b"B0undary"
NAME = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="%"), min_size=1, max_size=20
)


def body(*parts: tuple[bytes, bytes]) -> Body:
    """Return a body of parts, given as pairs (headers, content)."""
    joined = b"".join(
        b"--%b\r\n%b\r\n\r\n%b\r\n" % (BOUNDARY, headers, content) for headers, content in parts
    )
    return Body("multipart", joined + b"--%b--\r\n" % BOUNDARY, BOUNDARY)


@given(st.lists(st.tuples(NAME, st.binary(max_size=300)), min_size=1, max_size=5))
def test_what_httpx_writes_is_read(parts: list[tuple[str, bytes]]) -> None:
    """Backslashes and quotes in names included."""
    request = httpx.Request("POST", "http://x", files=[(name, ("f", data)) for name, data in parts])
    boundary = request.headers["content-type"].split("boundary=")[1].encode()
    found = parse(Body("multipart", request.read(), boundary))
    assert [(part.name, part.data) for part in found] == parts


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(ProblemError) as refused:
        parse(Body("multipart", data, BOUNDARY))
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("disposition", "sender", "name"),
    [
        (r'name="fish\ tail"', "", "fish tail"),
        (r'name="fish\ tail"', "node", r"fish\ tail"),
        (r'name="a fish\ tail"', "", r"a fish\ tail"),
        (r'name="a\b"', "", r"a\b"),
        (r'name="a\\b"', "", r"a\b"),
        (r'name="a\\b"', "Mozilla/5.0", r"a\\b"),
        (r'name="a\\b\c"', "", r"a\\b\c"),
        (r'name="a\\b"', "curl/7.88.1", r"a\\b"),
        (r'name="a\\b"', "curl/7.80.0", r"a\b"),
        (r'name="back\"; filename="1.png"', "", "back\\"),
        (r'name="back\"', "", "back\\"),
        (r'name="back\\"; filename="1.png"', "", "back\\"),
        (r'name="say \"hi\""; filename="1.png"', "", 'say "hi"'),
        (r'name="say \"hi\""; filename="1.png"', "node", 'say "hi"'),
        ('name="say %22hi%22"', "", 'say "hi"'),
        ('name="say %22hi%22"', "Go-http-client/2.0", "say %22hi%22"),
        ('name="a%0D%0Ab"', "", "a\r\nb"),
        ('name="a%09b"', "", "a%09b"),
        ('name="a%09b"', "python-httpx/0.28.1", "a\tb"),
        ("name*=utf-8''%C3%84pfel%20x", "", "\u00c4pfel x"),
        ("name*=UTF-8'de'%C3%84; name=A", "", "\u00c4"),
        ("name*=iso-8859-1''%C4pfel", "", "\u00c4pfel"),
        ('name="=?utf-8?B?w4RwZmVs?="', "", "\u00c4pfel"),
        ('name="=?utf-8?q?=C3=84_x?="', "", "\u00c4 x"),
        ('name="a";', "", "a"),
        ('name="a"; filename="1.png";', "", "a"),
        ('name="a" ; filename = "1 2.png"', "", "a"),
        ("name=a; filename=1 2.png", "", "a"),
        ("name=fish tail", "", "fish tail"),
        ('filename="1.png"; name="a"', "", "a"),
        ('name="a"; filename="un"quoted.png"', "", "a"),
        (r'name="a"; filename="C:\Users\"', "", "a"),
        ('NAME="a"', "", "a"),
    ],
)
def test_names_as_clients_write_them(disposition: str, sender: str, name: str) -> None:
    headers = f"Content-Disposition: form-data; {disposition}".encode()
    (part,) = parse(replace(body((headers, b"x")), sender=sender))
    assert part.name == name


@pytest.mark.parametrize("encoding", ["binary", "8bit", "7bit", "BINARY", "7BIT "])
def test_transfer_encodings_that_change_nothing(encoding: str) -> None:
    headers = f'Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: {encoding}'
    assert parse(body((headers.encode(), b"x"))) == [Part("a", "application/octet-stream", b"x")]


def test_media_type_of_a_part() -> None:
    headers = b'Content-Disposition: form-data; name="query"\r\nContent-Type: Application/JSON; charset=utf-8'
    assert parse(body((headers, b"[1]"))) == [Part("query", "application/json", b"[1]")]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (b"X: y", "invalid_multipart"),
        (b'Content-Disposition: attachment; name="a"', "invalid_multipart"),
        (b"Content-Disposition: form-data", "invalid_multipart"),
        (
            b'Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="b"',
            "invalid_multipart",
        ),
        (
            b'Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64',
            "invalid_multipart",
        ),
        (
            b'Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: quoted-printable',
            "invalid_multipart",
        ),
        (b'Content-Disposition: form-data; name="\xff"', "invalid_utf8"),
        (b"Content-Disposition: form-data; name*=utf-8''%FF", "invalid_utf8"),
        (b"Content-Disposition: form-data; name*=utf-16''%FF", "invalid_multipart"),
        (b"Content-Disposition: form-data; name*0=a; name*1=b", "invalid_multipart"),
        (b'Content-Disposition: form-data; name="=?cp1252?Q?=C4?="', "invalid_multipart"),
        (b'Content-Disposition: form-data; name="a"; name="b"', "invalid_multipart"),
        (b'Content-Disposition: form-data; name="a"\r\n' + b"X" * 100_000 + b": y", "invalid_multipart"),
        (b'Content-Disposition: form-data; name="a"' + b"\r\nX-%d: y" * 1 % 1, None),
    ],
)
def test_headers_of_a_part(headers: bytes, code: str | None) -> None:
    if code is None:
        assert len(parse(body((headers, b"x")))) == 1
        return
    with pytest.raises(ProblemError) as refused:
        parse(body((headers, b"x")))
    assert refused.value.code == code


def test_unfinished_body() -> None:
    whole = body((b'Content-Disposition: form-data; name="a"', b"x"))
    with pytest.raises(ProblemError):
        parse(Body("multipart", whole.data[:-6], BOUNDARY))
