"""Learners, as the wire shows them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import httpx
import pytest

from app.core.settings import Settings
from app.learners.served_learners import ServedLearners
from app.main import create_app
from models.artifact import ArtifactError
from tests.app.learner import save_learner
from tests.app.problems import error, problem


def test_list(client: httpx.Client) -> None:
    page = client.get("/v1/learners").json()
    assert page["next_cursor"] is None
    learners = {learner["name"]: learner for learner in page["items"]}
    assert {name: learner["default"] for name, learner in learners.items()} == {
        "glyphs": True,
        "pairs": False,
        "regression": True,
        "triples": False,
        "vectors": True,
    }
    assert list(learners) == sorted(learners)
    glyphs = learners["glyphs"]
    assert (glyphs["method"], glyphs["status"], len(glyphs["digest"])) == ("protonet", "ready", 16)
    assert glyphs["input"]["kind"] == "image"
    assert (glyphs["ways"], glyphs["shots"]) == ({"min": 2, "max": None}, {"min": 1, "max": None})
    assert glyphs["traits"]["stochastic"] is False
    assert learners["triples"]["input"] == {"kind": "vector", "dim": 3}


def test_pages(client: httpx.Client) -> None:
    first = client.get("/v1/learners?limit=2").json()
    assert [learner["name"] for learner in first["items"]] == ["glyphs", "pairs"]
    second = client.get("/v1/learners", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [learner["name"] for learner in second["items"]] == ["regression", "triples", "vectors"]
    assert second["next_cursor"] is None
    error(client.get("/v1/learners?cursor=Z"), 422, "bad_cursor", "/cursor")
    error(client.get("/v1/learners?limit=0"), 422, "out_of_range", "/limit", 1)
    for path in ("", "/glyphs"):
        error(client.get(f"/v1/learners{path}?what=1"), 422, "unknown_field", "/what")


def test_one_with_its_card(client: httpx.Client) -> None:
    learner = client.get("/v1/learners/vectors").json()
    assert learner["card"] == "# vectors, untrained"
    listed = client.get("/v1/learners").json()["items"]
    assert {key: value for key, value in learner.items() if key != "card"} in listed


def test_unknown(client: httpx.Client) -> None:
    for name in ("nope", "GLYPHS", "x" * 5000, "%00"):
        for method in ("GET", "DELETE"):
            response = client.request(method, f"/v1/learners/{name}")
            assert (response.status_code, response.json()["code"]) == (404, "learner_not_found")


def test_those_of_a_folder_are_not_the_apis_to_delete(client: httpx.Client) -> None:
    problem(client.delete("/v1/learners/glyphs?force=true"), 409, "learner_bundled")


def test_learners_in_the_data_folder_stand_beside_the_others(zoo: Path, tmp_path: Path) -> None:
    save_learner(tmp_path / "mine", "identity", {}, {"kind": "vector"})
    learners = ServedLearners.load((zoo, tmp_path), {}, "cpu")
    assert list(learners.artifacts) == ["glyphs", "mine", "pairs", "regression", "triples", "vectors"]


async def start(settings: Settings) -> None:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        return


@pytest.mark.parametrize(
    ("folder", "chosen", "message"),
    [
        ("mine", {"default_image_learner": "glyfs"}, "the default learner of images, 'glyfs', is not there"),
        ("mine", {"default_vector_learner": "glyphs"}, "'glyphs', takes images"),
        ("My_Learner", {"default_image_learner": "My_Learner"}, "'My_Learner', cannot be served: My_Learner"),
    ],
)
def test_mistakes_stop_the_start(
    zoo: Path, tmp_path: Path, folder: str, chosen: dict[str, str], message: str
) -> None:
    shutil.copytree(zoo / "glyphs", tmp_path / "zoo" / "glyphs")
    shutil.copytree(zoo / "glyphs", tmp_path / "zoo" / folder)
    settings = Settings.model_validate(
        {"data_dir": tmp_path / "data", "learners_dir": tmp_path / "zoo", **chosen}
    )
    with pytest.raises(ArtifactError, match=message):
        asyncio.run(start(settings))


def test_a_default_that_nobody_chose_may_be_missing(zoo: Path, tmp_path: Path) -> None:
    learners = ServedLearners.load((zoo,), {"image": "absent", "vector": "vectors"}, "cpu")
    learners.check_defaults({})
    assert learners.default("vector", "").name == "vectors"
