"""Entity tags are compared as RFC 9110 says."""

from __future__ import annotations

import pytest

from app.http.etags import Condition, etag, unchanged
from app.http.problems import ProblemError


@pytest.mark.parametrize(
    ("header", "same", "strongly"),
    [
        ('"7"', True, True),
        (' "7" ', True, True),
        ('"6", "7"', True, True),
        ('"6","7"', True, True),
        ('W/"7"', True, False),
        ('W/"6", W/"7"', True, False),
        ("*", True, True),
        ('"77"', False, False),
        ('"6"', False, False),
        ("7", False, False),
        ("", False, False),
        ('"', False, False),
        ('w/"7', False, False),
    ],
)
def test_comparison(header: str, same: bool, strongly: bool) -> None:
    assert etag(7) == '"7"'
    assert unchanged(header, 7) is same
    if strongly:
        Condition(header).check(7)
    else:
        with pytest.raises(ProblemError) as refused:
            Condition(header).check(7)
        assert refused.value.status == 412


def test_without_headers() -> None:
    Condition().check(7)
    assert not unchanged(None, 7)
