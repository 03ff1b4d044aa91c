"""Two processes are one service: what one changes the other sees, and what one deletes no tier keeps."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.app.pairs import SEEN_SECONDS, Pair, answer, ask, new_task, on_servers, on_sqlite, seconds_until
from tests.app.problems import OK, problem
from tests.app.server import Server
from tests.servers.postgres import own_postgres
from tests.servers.redis import own_redis


@pytest.fixture(scope="module", params=["sqlite", "postgresql and redis"])
def pair(
    request: pytest.FixtureRequest, zoo: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    if request.param == "sqlite":
        made = on_sqlite(folder, zoo)
    else:
        postgres, cache = own_postgres(), own_redis(folder)
        postgres.start()
        cache.start()
        made = on_servers(folder, zoo, postgres, cache)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def blobs(pair: Pair) -> Path:
    return pair.one.data_dir.parent / "blobs" if pair.redis else pair.one.data_dir / "blobs"


def files(pair: Pair) -> set[Path]:
    return {path for path in blobs(pair).rglob("*") if path.is_file()}


def test_what_one_stores_the_other_answers(pair: Pair) -> None:
    task = new_task(pair.one)
    assert answer(pair.other, task)["predictions"] == answer(pair.one, task)["predictions"]


def test_a_change_is_seen_here_at_once_and_there_soon(pair: Pair) -> None:
    task = new_task(pair.one)
    for number, (here, there) in enumerate((pair.servers, pair.servers[::-1], pair.servers), start=2):
        assert answer(there, task)["version"] == number - 1
        made = here.client.post(f"/v1/tasks/{task}/support", json={"support": {f"c{number}": OK}})
        assert made.status_code == 201, made.text
        assert answer(here, task)["version"] == number
        assert seconds_until(lambda there=there, number=number: answer(there, task)["version"] == number) < (  # type: ignore[misc]
            SEEN_SECONDS
        )


def test_deleted_is_gone_from_every_tier_of_both(pair: Pair) -> None:
    task = new_task(pair.one)
    before = files(pair)
    for server in pair.servers:
        answer(server, task)
    if pair.redis is not None:
        seconds_until(lambda: len(pair.keys()) > 0)
    assert pair.one.client.delete(f"/v1/tasks/{task}").status_code == 204
    problem(ask(pair.one, task), 404, "task_not_found")
    assert seconds_until(lambda: ask(pair.other, task).status_code == 404) < SEEN_SECONDS
    assert files(pair) < before


def test_nothing_of_any_task_is_left(pair: Pair) -> None:
    for item in pair.one.client.get("/v1/tasks").json()["items"]:
        pair.other.client.delete(f"/v1/tasks/{item['id']}")
    assert files(pair) == set()
    if pair.redis is not None:
        # A fill that was under way is taken back.
        seconds_until(lambda: pair.keys() == [])


def test_weights_come_from_the_other_process(pair: Pair) -> None:
    """With nothing left to make them again from."""
    if pair.redis is None:
        pytest.skip("only Redis shares weights")
    task = new_task(pair.one)
    seconds_until(lambda: len(pair.keys()) == 1)
    shutil.rmtree(blobs(pair))
    assert answer(pair.other, task)["predictions"] == answer(pair.one, task)["predictions"]
    pair.one.client.delete(f"/v1/tasks/{task}")


def test_redis_away_is_slower_and_never_wrong(pair: Pair) -> None:
    if pair.redis is None:
        pytest.skip("no Redis to go away")
    first = new_task(pair.one)
    pair.redis.stop()
    second = new_task(pair.one)
    for task in (first, second):
        assert answer(pair.other, task)["predictions"] == answer(pair.one, task)["predictions"]
    assert pair.one.client.get("/readyz").status_code == 200
    assert pair.one.client.delete(f"/v1/tasks/{first}").status_code == 204
    assert seconds_until(lambda: ask(pair.other, first).status_code == 404) < SEEN_SECONDS
    pair.redis.start()

    def shared() -> bool:
        new_task(pair.one)
        return pair.keys() != []

    seconds_until(shared)


@pytest.mark.slow
def test_servers_killed_in_the_middle_of_everything(pair: Pair) -> None:
    """Whatever a request was doing: it is answered or told to come back, and what was answered is so."""
    if pair.postgres is None or pair.redis is None:
        pytest.skip("servers that can be killed")
    ended, kept, statuses = threading.Event(), set[str](), Counter[int]()

    def work(server: Server) -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            while not ended.is_set():
                made = client.post("/v1/tasks", json={"support": {"a": OK, "b": OK}})
                statuses[made.status_code] += 1
                if made.status_code != 201:
                    continue
                address = f"/v1/tasks/{made.json()['id']}"
                asked = client.post(f"{address}/predict", json={"queries": OK})
                grown = client.post(f"{address}/support", json={"support": {"c": OK}})
                listed, gone = client.get("/v1/tasks"), client.delete(address)
                statuses.update(response.status_code for response in (asked, grown, listed, gone))
                if gone.status_code != 204:
                    kept.add(address)

    with ThreadPoolExecutor(8) as pool:
        working = [pool.submit(work, server) for server in pair.servers * 4]
        for _ in range(4):
            time.sleep(random.uniform(0.5, 1.5))
            pair.postgres.stop()
            pair.redis.stop()
            time.sleep(random.uniform(0.5, 1.5))
            pair.redis.start()
            pair.postgres.start()
        time.sleep(1)
        ended.set()
        for done in working:
            done.result()
    assert set(statuses) <= {200, 201, 204, 404, 503}, statuses
    assert statuses[201] > 10, statuses
    assert statuses[503] > 4, statuses
    for address in kept:
        # Deleted by a request that was told to come back: it may have been done all the same.
        assert pair.one.client.post(f"{address}/predict", json={"queries": OK}).status_code in (200, 404)


def test_database_away_and_back(pair: Pair) -> None:
    """What is in memory goes on answering; all else is told to come back, soon; and nothing needs a restart."""
    if pair.postgres is None:
        pytest.skip("a database that can go away")
    warm, cold = new_task(pair.one), new_task(pair.other)
    before = answer(pair.one, warm)
    pair.postgres.stop()
    client = pair.one.client
    for _ in range(2):
        assert answer(pair.one, warm)["predictions"] == before["predictions"]
        refused = [
            ask(pair.one, cold),
            client.get(f"/v1/tasks/{warm}"),
            client.get("/v1/tasks"),
            client.delete(f"/v1/tasks/{warm}"),
            client.post("/v1/tasks", json={"support": {"a": OK, "b": OK}}),
        ]
        for response in refused:
            problem(response, 503, "database_unavailable")
            assert int(response.headers["retry-after"]) >= 1
            assert response.elapsed.total_seconds() < 5
        seconds_until(lambda: client.get("/readyz").status_code == 503)
        problem(client.get("/readyz"), 503, "database_unavailable")
        assert client.get("/livez").status_code == 200
        assert (
            client.post("/v1/predict", json={"support": {"a": OK, "b": OK}, "queries": OK}).status_code == 200
        )
    pair.postgres.start()
    for server in pair.servers:
        assert seconds_until(lambda server=server: server.client.get("/readyz").status_code == 200) < 5  # type: ignore[misc]
    assert answer(pair.one, cold)["version"] == 1
    new = new_task(pair.one)
    assert answer(pair.other, new)["version"] == 1
    assert client.delete(f"/v1/tasks/{warm}").status_code == 204
    assert seconds_until(lambda: ask(pair.other, warm).status_code == 404) < SEEN_SECONDS
