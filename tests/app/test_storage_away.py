"""A blob store over the network that does not answer."""

from __future__ import annotations

from tests.app.problems import OK
from tests.app.server import Server, free_port


def test_it_is_told_within_seconds_and_nothing_is_made(own_server: Server) -> None:
    own_server.environment = {
        "HYPERSERVE_BLOB_URL": "s3://nowhere/at-all",
        "AWS_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing-that-is-secret",
    }
    own_server.start()
    client = own_server.client
    answer = client.post("/v1/tasks", json={"support": {"a": OK, "b": OK}})
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert answer.headers["retry-after"] == "2"
    assert client.get("/v1/tasks").json()["items"] == []
    body = {"support": {"a": OK, "b": OK}, "queries": OK}
    assert client.post("/v1/predict", json=body).status_code == 200
