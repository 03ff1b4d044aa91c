"""Datasets, as the wire shows them: uploaded, listed, read, deleted."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.datasets import service
from app.db.tables import DatasetRow
from tests.app.problems import error, problem
from tests.app.server import Server
from tests.models.data.archives import folders, zipped

ZIP = {"Content-Type": "application/zip"}
CSV = {"Content-Type": "text/csv"}
VECTORS = b"label,x1,x2\ncat,1,2\ndog,3,4\ncat,5,6\n"


@pytest.fixture(autouse=True)
def nothing_left(server: Server, client: httpx.Client) -> Iterator[None]:
    """Every test deletes what it made, and nothing stays on the disk."""
    yield
    for dataset in client.get("/v1/datasets").json()["items"]:
        assert client.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    assert files(server) == []


def files(server: Server) -> list[Path]:
    found = [server.data_dir / "blobs" / "datasets", server.data_dir / "scratch"]
    return [path for folder in found for path in folder.rglob("*") if path.is_file()]


def upload(
    client: httpx.Client, data: bytes, headers: dict[str, str] = ZIP, name: str = ""
) -> httpx.Response:
    return client.post("/v1/datasets", params={"name": name} if name else {}, content=data, headers=headers)


def test_upload_read_list_delete(server: Server, client: httpx.Client) -> None:
    data = zipped(folders(root="signs/")).getvalue()
    response = upload(client, data, name="signs")
    assert response.status_code == 201, response.text
    made = response.json()
    assert response.headers["location"] == f"/v1/datasets/{made['id']}"
    assert made == {
        "id": made["id"],
        "name": "signs",
        "format": "zip",
        "kind": "image",
        "shape": None,
        "classes": {"class-0": 2, "class-1": 2, "class-2": 2},
        "examples": 6,
        "bytes": len(data),
        "reading": None,
        "warnings": [],
        "created_at": made["created_at"],
    }
    assert client.get(f"/v1/datasets/{made['id']}").json() == made
    assert client.get("/v1/datasets").json() == {"items": [made], "next_cursor": None}
    (stored,) = files(server)
    assert stored.read_bytes() == data
    assert client.delete(f"/v1/datasets/{made['id']}").status_code == 204
    assert files(server) == []
    for method in ("GET", "DELETE"):
        problem(client.request(method, f"/v1/datasets/{made['id']}"), 404, "dataset_not_found")


def test_what_was_left_out_is_listed(client: httpx.Client) -> None:
    members = {**folders(), "README.md": b"x", "class-0/.gitkeep": b"", "class-1/bad.png": b"x"}
    data = zipped(members).getvalue()
    error(upload(client, data), 422, "not_an_image", "/class-1~1bad.png")
    response = client.post("/v1/datasets?skip_bad=true", content=data, headers=ZIP)
    assert response.status_code == 201, response.text
    made = response.json()
    assert made["classes"] == {"class-0": 2, "class-1": 2, "class-2": 2}
    listed = {warning["code"]: (warning["count"], warning["examples"]) for warning in made["warnings"]}
    assert listed == {
        "leftovers_left_out": (2, ["README.md", "class-0/.gitkeep"]),
        "bad_images_left_out": (1, ["class-1/bad.png"]),
    }
    assert client.get(f"/v1/datasets/{made['id']}").json() == made
    error(client.post("/v1/datasets?skip_bad=1", content=data, headers=ZIP), 422, "wrong_type", "/skip_bad")


@pytest.mark.parametrize("media_type", ["application/x-npz", "application/octet-stream"])
def test_an_npz(client: httpx.Client, media_type: str) -> None:
    file = io.BytesIO()
    np.savez(file, x=np.eye(4, dtype="f4"), label=[0, 0, 1, 1])
    made = upload(client, file.getvalue(), {"Content-Type": media_type}).json()
    assert (made["format"], made["kind"], made["shape"]) == ("npz", "vector", [4])


def test_a_csv(client: httpx.Client) -> None:
    made = upload(client, VECTORS, CSV).json()
    assert (made["format"], made["shape"], made["classes"]) == ("csv", [2], {"cat": 2, "dog": 1})


def test_the_answer_shows_how_a_file_was_read(client: httpx.Client) -> None:
    data = b",x1,x2,species\n0,1.5,2, cat\n1,3,4,cat\n2,5,6,dog\n3,7,8,dog\n"
    made = upload(client, data, CSV).json()
    assert made["reading"] == {
        "label": "species",
        "inputs": ["x1", "x2"],
        "left_out": ["(column 0, without a name)"],
        "rows": [
            {"label": "cat", "values": [1.5, 2.0]},
            {"label": "cat", "values": [3.0, 4.0]},
            {"label": "dog", "values": [5.0, 6.0]},
        ],
    }
    assert [warning["code"] for warning in made["warnings"]] == ["csv_index", "label_trimmed"]
    assert client.get(f"/v1/datasets/{made['id']}").json() == made


@pytest.mark.parametrize(("label", "inputs"), [("q", ["a", "b"]), ("2", ["a", "b"]), ("0", ["b", "q"])])
def test_the_label_column_is_chosen_or_asked_for(client: httpx.Client, label: str, inputs: list[str]) -> None:
    data = b"a,b,q\n1,2,0\n3,4,1\n"
    refused = upload(client, data, CSV)
    error(refused, 422, "ambiguous_label_column", "/label")
    assert "Candidates: a, b, q" in refused.json()["detail"]
    made = client.post("/v1/datasets", params={"label": label}, content=data, headers=CSV).json()
    assert made["reading"]["inputs"] == inputs
    unknown = client.post("/v1/datasets", params={"label": "nothing"}, content=data, headers=CSV)
    error(unknown, 422, "unknown_label_column", "/label")


def test_a_key_belongs_to_one_choice_of_the_label(client: httpx.Client) -> None:
    headers = {**CSV, "Idempotency-Key": "label-1"}
    for label, status in (("q", 201), ("q", 201), ("a", 422)):
        data = b"a,b,q\n1,2,0\n3,4,1\n"
        answer = client.post("/v1/datasets", params={"label": label}, content=data, headers=headers)
        assert answer.status_code == status


def test_a_zip_has_no_label_column(client: httpx.Client) -> None:
    data = zipped(folders()).getvalue()
    answer = client.post("/v1/datasets", params={"label": "x"}, content=data, headers=ZIP)
    error(answer, 422, "unknown_label_column", "/label")


@pytest.mark.parametrize("media_type", ["application/vnd.ms-excel", "text/tab-separated-values"])
@pytest.mark.parametrize("data", [b"label;x\na;1,5\nb;2,5\n", b"\xef\xbb\xbflabel\tx\na\t1,5\nb\t2,5\n"])
def test_a_csv_of_a_spreadsheet(client: httpx.Client, media_type: str, data: bytes) -> None:
    made = upload(client, data, {"Content-Type": media_type}).json()
    assert (made["format"], made["classes"]) == ("csv", {"a": 1, "b": 1})
    assert [row["values"] for row in made["reading"]["rows"]] == [[1.5], [2.5]]


def test_a_workbook_is_no_csv(client: httpx.Client) -> None:
    workbook = zipped({"xl/workbook.xml": b"<workbook/>"}).getvalue()
    for media_type in ("application/vnd.ms-excel", "application/octet-stream"):
        answer = upload(client, workbook, {"Content-Type": media_type})
        assert "Excel workbook" in problem(answer, 422, "csv_grammar")["detail"]


@pytest.mark.parametrize("media_type", [None, "application/octet-stream", "application/zip"])
def test_one_part_of_a_form(client: httpx.Client, media_type: str | None) -> None:
    part = ("signs.bin", zipped(folders()).getvalue(), *([media_type] if media_type else []))
    response = client.post("/v1/datasets", files={"file": part})
    assert response.status_code == 201, response.text
    assert response.json()["format"] == "zip"


def test_the_same_file_twice_is_kept_once(server: Server, client: httpx.Client) -> None:
    first, second = (upload(client, VECTORS, CSV).json()["id"] for _ in range(2))
    assert len(files(server)) == 1
    client.delete(f"/v1/datasets/{first}")
    assert len(files(server)) == 1
    client.delete(f"/v1/datasets/{second}")
    assert files(server) == []


def test_a_key_makes_an_upload_safe_to_send_again(client: httpx.Client) -> None:
    headers = {**CSV, "Idempotency-Key": "upload-1"}
    first, second = (upload(client, VECTORS, headers) for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert len(client.get("/v1/datasets").json()["items"]) == 1
    problem(upload(client, VECTORS + b"cat,7,8\n", headers), 422, "idempotency_mismatch")
    client.delete(f"/v1/datasets/{first.json()['id']}")
    problem(upload(client, VECTORS, headers), 410, "idempotency_deleted")


def test_pages(client: httpx.Client) -> None:
    made = [upload(client, VECTORS, CSV).json()["id"] for _ in range(7)][::-1]
    seen: list[str] = []
    query: dict[str, str] = {"limit": "3"}
    while True:
        page = client.get("/v1/datasets", params=query).json()
        seen += [dataset["id"] for dataset in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == made
    error(client.get("/v1/datasets?limit=0"), 422, "out_of_range", "/limit", 1)
    error(client.get("/v1/datasets?cursor=nonsense"), 422, "bad_cursor", "/cursor")
    for path in ("", f"/{made[0]}"):
        error(client.get(f"/v1/datasets{path}?what=1"), 422, "unknown_field", "/what")


def test_a_page_ends_where_its_classes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PAGE_CLASSES", 5)
    rows = [DatasetRow(classes=dict.fromkeys(map(str, range(count)), 1)) for count in (9, 2, 3, 1)]
    assert service._page_length(rows, 50) == 1
    assert service._page_length(rows[1:], 50) == 2
    assert service._page_length(rows[1:], 1) == 1


def test_what_is_refused_names_the_member_or_the_line(client: httpx.Client) -> None:
    hostile = zipped({**folders(), "../up/1.png": b""}).getvalue()
    error(upload(client, hostile), 422, "archive_path_escapes", "/..~1up~11.png")
    error(upload(client, VECTORS + b"cat,1,nan\n", CSV), 422, "not_finite", "/line 5")
    bad = zipped({**folders(), "class-0/x.png": b"no picture"}).getvalue()
    assert "class-0/x.png" in problem(upload(client, bad), 422, "not_an_image")["detail"]


def test_bodies_that_are_no_file(client: httpx.Client) -> None:
    problem(upload(client, b""), 400, "empty_body")
    problem(upload(client, b"{}", {"Content-Type": "application/json"}), 415, "unsupported_media_type")
    problem(client.post("/v1/datasets"), 415, "unsupported_media_type")
    problem(upload(client, b"PK", {**ZIP, "Content-Encoding": "gzip"}), 415, "unsupported_encoding")
    error(upload(client, VECTORS, CSV, name="a\nb"), 422, "bad_format", "/name")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\ncat,1\n", 400, "invalid_multipart"),
        (b"--x--\r\n", 400, "invalid_multipart"),
        (b"nonsense", 400, "invalid_multipart"),
        (
            b"--x\r\nContent-Disposition: form-data; name=other\r\n\r\na\r\n--x--\r\n",
            400,
            "invalid_multipart",
        ),
        (b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\n\r\n--x--\r\n", 400, "empty_body"),
        (
            2 * b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\na\r\n" + b"--x--\r\n",
            413,
            "too_many_parts",
        ),
        (
            b"--x\r\nContent-Disposition: form-data; name=file\r\nContent-Type: text/html\r\n\r\na\r\n--x--\r\n",
            415,
            "unsupported_media_type",
        ),
    ],
)
def test_broken_forms(client: httpx.Client, body: bytes, status: int, code: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    problem(upload(client, body, headers), status, code)
