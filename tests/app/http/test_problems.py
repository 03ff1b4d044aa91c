"""Pointers, statuses and codes of problem documents."""

from __future__ import annotations

import pytest

from app.http.problem_codes import PROBLEM_CODES
from app.http.problems import Fault, ProblemError, fail, pointer


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("support", "cat", 3), "/support/cat/3"),
        (("a/b", "~"), "/a~1b/~0"),
        (("support", ""), "/support/"),
        (("support", "日本"), "/support/日本"),
        (("support", "x" * 201, 3), "/support"),
        (("support", "a\nb"), "/support"),
        (("support", "\ud800"), "/support"),
        (("support", "\u202eabc"), "/support"),
    ],
)
def test_pointers_end_above_what_cannot_be_repeated(path: tuple[str | int, ...], text: str) -> None:
    assert pointer(path) == text


def test_faults_of_one_code_are_that_problem() -> None:
    problem = ProblemError([Fault("not_base64", "a", "/queries/0"), Fault("not_base64", "b", "/queries/1")])
    assert (problem.code, problem.status) == ("not_base64", 422)
    assert problem.document("r").detail == "2 errors."


def test_faults_of_two_codes_are_an_invalid_request() -> None:
    problem = ProblemError(
        [Fault("not_base64", "a", "/queries/0"), Fault("image_too_large", "b", "/queries/1")]
    )
    assert (problem.code, problem.status) == ("invalid_request", 422)


def test_at_most_twenty_errors() -> None:
    document = ProblemError([Fault("not_base64", "a", f"/queries/{index}") for index in range(30)]).document(
        "r"
    )
    assert len(document.errors) == 20
    assert document.detail == "30 errors, the first 20 of them in errors."


def test_a_fault_without_a_place_is_the_detail() -> None:
    document = fail("busy", "Too much.").document("r")
    assert (document.detail, document.errors, document.request_id) == ("Too much.", [], "r")


def test_every_kind_says_what_to_do() -> None:
    for code, entry in PROBLEM_CODES.items():
        assert code.replace("_", "").isalnum()
        assert 400 <= entry.status < 600
        assert entry.title
        assert entry.text.endswith(".")
