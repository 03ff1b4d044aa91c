"""Learners, as the wire shows them."""

from __future__ import annotations

import httpx


def test_list(client: httpx.Client) -> None:
    page = client.get("/v1/learners").json()
    assert page["next_cursor"] is None
    learners = {learner["name"]: learner for learner in page["items"]}
    assert list(learners) == ["glyphs", "triples", "vectors"]
    assert {name: learner["default"] for name, learner in learners.items()} == {
        "glyphs": True,
        "triples": False,
        "vectors": True,
    }
    glyphs = learners["glyphs"]
    assert (glyphs["method"], glyphs["status"], len(glyphs["digest"])) == ("protonet", "ready", 16)
    assert glyphs["input"] == {"kind": "image", "size": 28, "channels": 1}
    assert (glyphs["ways"], glyphs["shots"]) == ({"min": 2, "max": None}, {"min": 1, "max": None})
    assert glyphs["traits"]["stochastic"] is False
    assert learners["triples"]["input"] == {"kind": "vector", "dim": 3}


def test_one_with_its_card(client: httpx.Client) -> None:
    learner = client.get("/v1/learners/vectors").json()
    assert learner["card"] == "# vectors, untrained"
    listed = client.get("/v1/learners").json()["items"]
    assert {key: value for key, value in learner.items() if key != "card"} in listed


def test_unknown(client: httpx.Client) -> None:
    for name in ("nope", "GLYPHS", "x" * 5000, "%00"):
        response = client.get(f"/v1/learners/{name}")
        assert (response.status_code, response.json()["code"]) == (404, "learner_not_found")
