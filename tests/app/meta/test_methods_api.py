"""GET /v1/methods over HTTP."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest

from hyperserve.types import Method
from models.registry import METHODS


def test_every_method_is_listed_by_name(client: httpx.Client) -> None:
    page = client.get("/v1/methods").json()
    assert page["next_cursor"] is None
    assert [item["name"] for item in page["items"]] == sorted(METHODS)


def test_one_method_is_as_listed(client: httpx.Client) -> None:
    listed = {item["name"]: item for item in client.get("/v1/methods").json()["items"]}
    shown = client.get("/v1/methods/hypershot").json()
    assert shown == listed["hypershot"]
    assert Method.model_validate(shown).paper == "2203.11378"
    assert (shown["ways"], shown["fixed_way"]) == ({"min": 5, "max": 5}, True)


@pytest.mark.parametrize(("path", "status"), [("astrology", 404), ("hypershot?x=1", 422), ("%00", 404)])
def test_what_is_not_there_is_a_problem(client: httpx.Client, path: str, status: int) -> None:
    answer = client.get(f"/v1/methods/{path}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_server_that_is_asked_nothing_imports_no_method() -> None:
    """The default ones come with the learners that are served."""
    line = (
        "import sys, app.main; "
        "assert not {'models.fewshot.maml', 'models.fewshot.hypershot', 'cma'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", line], check=True)
