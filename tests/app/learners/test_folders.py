"""Learners in folders: one that does not load is shown as failed, and the rest is served."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import torch

from app.learners.folders import load_folders
from app.learners.served_learners import ServedLearners
from app.serving.engine import Engine
from app.serving.served_models import ServedLearner
from hyperserve import Client
from models.artifact import ArtifactError
from tests.app.problems import error, problem
from tests.app.server import Server


def edited(**fields: object) -> Callable[[Path], None]:
    """Return an edit of the config of a learner."""

    def edit(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))

    return edit


def replaced(name: str, content: bytes | None) -> Callable[[Path], None]:
    """Return an edit that replaces a file of a learner, or removes it."""

    def edit(folder: Path) -> None:
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)

    return edit


def turned_into_folder(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


BROKEN: dict[str, Callable[[Path], None]] = {
    "empty-config": replaced("config.json", b""),
    "binary-config": replaced("config.json", b"\xff\xfe\0"),
    "list-config": replaced("config.json", b"[]"),
    "deep-config": replaced("config.json", b"[" * 100_000),
    "bare-config": replaced("config.json", b"{}"),
    "no-config": replaced("config.json", None),
    "folder-config": turned_into_folder,
    "other-format": edited(format=99),
    "odd-format": edited(format=["x"]),
    "other-method": edited(method="no-such-method"),
    "odd-method": edited(method=7),
    "other-encoder": edited(encoder="no-such-encoder"),
    "wrong-hparams": edited(encoder_hparams={"width": -1}),
    "odd-hparams": edited(encoder_hparams={"width": "wide"}),
    "other-shape": edited(encoder_hparams={"width": 16}),
    "other-input": edited(input={"kind": "sound"}),
    "no-weights": replaced("model.safetensors", None),
    "empty-weights": replaced("model.safetensors", b""),
    "damaged-weights": replaced("model.safetensors", b"\x08" * 1_000),
    "no-card": replaced("README.md", None),
}
ODD_NAMES = ["My_Learner", "two words", "ÄÖ", "a?b", "x" * 64, "é" * 120]


def with_broken(zoo: Path, folder: Path) -> Path:
    """Copy the learners, each way of being broken beside them."""
    shutil.copytree(zoo, folder)
    for name, damage in BROKEN.items():
        shutil.copytree(zoo / "glyphs", folder / name)
        damage(folder / name)
    for name in ODD_NAMES:
        shutil.copytree(zoo / "glyphs", folder / name)
    (folder / "notes").mkdir()
    (folder / "README.md").touch()
    return folder


@pytest.fixture(scope="module")
def folder(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_broken(zoo, tmp_path_factory.mktemp("broken") / "zoo")


@pytest.fixture(scope="module")
def client(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that has a broken learner among those of its own and of its data folder."""
    root = tmp_path_factory.mktemp("served")
    folder = with_broken(zoo, root / "zoo")
    own = root / "data" / "learners" / "mine"
    shutil.copytree(zoo / "vectors", own)
    (own / "model.safetensors").write_bytes(b"damaged")
    replaced("config.json", b"{}")(folder / "regression")
    running = Server(root / "data", folder)
    running.start()
    yield running.client
    running.stop()


class TestLoading:
    def test_the_rest_loads_and_every_failure_has_a_reason(self, zoo: Path, folder: Path) -> None:
        loaded = load_folders([folder, folder / "none"], "cpu")
        assert sorted(loaded.artifacts) == ["glyphs", "pairs", "regression", "triples", "vectors"]
        assert sorted(loaded.failures) == sorted([*BROKEN, *ODD_NAMES])
        for failure in loaded.failures.values():
            assert failure.reason
            assert "\n" not in failure.reason
            assert str(folder) not in failure.reason
        assert loaded.failures["other-method"].method == "no-such-method"
        assert loaded.failures["no-weights"].method == "protonet"
        assert loaded.failures["bare-config"].method == "unknown"

    def test_if_nothing_loads_the_reasons_are_told(self, zoo: Path, tmp_path: Path) -> None:
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / "config.json").write_text("{}")
        with pytest.raises(
            ArtifactError, match=r"no learner in .* can be loaded: one: one/config.json: format None"
        ):
            load_folders([tmp_path], "cpu")
        assert load_folders([tmp_path / "none"], "cpu").artifacts == {}

    def test_a_device_that_cannot_be_used_is_no_fault_of_a_learner(self, zoo: Path) -> None:
        for device in ("cuda:99", "nonsense"):
            with pytest.raises(ArtifactError, match=f"the device {device} cannot be used"):
                load_folders([zoo], device)

    def test_two_folders_with_a_learner_of_one_name(self, zoo: Path, tmp_path: Path) -> None:
        shutil.copytree(zoo / "glyphs", tmp_path / "glyphs")
        loaded = load_folders([zoo, tmp_path], "cpu")
        assert "learners of the same name" in loaded.failures["glyphs"].reason
        assert "vectors" in loaded.artifacts

    @pytest.mark.parametrize("name", ["other-method", "My_Learner"])
    def test_a_chosen_default_must_load(self, folder: Path, name: str) -> None:
        learners = ServedLearners.load((folder,), {"image": name}, "cpu")
        learners.check_defaults({})
        with pytest.raises(
            ArtifactError, match=f"the default learner of images, '{name}', cannot be served: "
        ):
            learners.check_defaults({"image": name})


class TestService:
    def test_it_is_ready_and_answers(self, client: httpx.Client) -> None:
        assert client.get("/readyz").status_code == 200
        body = {"support": {"a": [[0.0, 1.0]], "b": [[1.0, 0.0]]}, "queries": [[0.0, 1.0]]}
        assert client.post("/v1/predict", json=body).json()["predictions"][0]["label"] == "a"

    @pytest.mark.parametrize("limit", [1, 3, 200])
    def test_pages_list_what_failed_among_the_others(self, client: httpx.Client, limit: int) -> None:
        found = {}
        cursor = None
        while cursor is not None or not found:
            params = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
            page = client.get("/v1/learners", params=params).json()
            found |= {learner["name"]: learner for learner in page["items"]}
            cursor = page["next_cursor"]
        assert list(found) == sorted(found)
        failed = {name for name, learner in found.items() if learner["status"] == "failed"}
        assert failed == {*BROKEN, *ODD_NAMES, "mine", "regression"}
        assert {name for name in found if name not in failed} == {"glyphs", "pairs", "triples", "vectors"}
        assert found["mine"]["error"] == {
            "code": "learner_unavailable",
            "detail": found["mine"]["error"]["detail"],
        }
        assert "mine/model.safetensors" in found["mine"]["error"]["detail"]

    def test_one_by_name(self, client: httpx.Client) -> None:
        learner = client.get("/v1/learners/other-method").json()
        assert (learner["status"], learner["method"], learner["card"]) == ("failed", "no-such-method", "")
        assert "no-such-method" in learner["error"]["detail"]
        assert client.get("/v1/learners/My_Learner").json()["status"] == "failed"

    def test_what_it_would_answer_is_refused_with_where_to_look(self, client: httpx.Client) -> None:
        support = {"a": [[0.0, 1.0]], "b": [[1.0, 0.0]]}
        refused = problem(
            client.post("/v1/tasks", json={"learner": "mine", "support": support}), 503, "learner_unavailable"
        )
        assert "GET /v1/learners/mine" in refused["detail"]
        values = {"kind": "regression", "support": [{"input": 0, "target": 1}]}
        refused = problem(client.post("/v1/tasks", json=values), 503, "learner_unavailable")
        assert "GET /v1/learners/regression" in refused["detail"]
        error(
            client.post("/v1/tasks", json={"learner": "nobody", "support": support}),
            422,
            "unknown_learner",
            "/learner",
        )

    def test_its_name_is_taken(self, client: httpx.Client) -> None:
        problem(client.delete("/v1/learners/mine"), 409, "learner_bundled")

    def test_the_client_reads_it(self, client: httpx.Client) -> None:
        with Client(str(client.base_url)) as reader:
            names = [learner.name for learner in reader.learners.list() if learner.error is not None]
        assert "mine" in names


def test_one_that_loads_but_cannot_answer_fails_too(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warm(learner: ServedLearner, device: torch.device) -> None:
        if learner.input.shape == (3,):
            raise RuntimeError("shapes differ")

    monkeypatch.setattr(ServedLearner, "warm", warm)
    learners = ServedLearners.load((zoo,), {}, "cpu")
    failed = Engine(learners.artifacts).warm()
    assert list(failed) == ["triples"]
    learners.fail("triples", failed["triples"])
    assert "triples" not in learners.artifacts
    described = learners.described_bundled()["triples"]
    assert (described.status, described.error) == (
        "failed",
        {"code": "learner_unavailable", "detail": "shapes differ"},
    )
