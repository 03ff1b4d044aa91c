"""A request without meaning is a 422 that names each field at fault, and its limit."""

from __future__ import annotations

import httpx
import pytest

from tests.app.problems import OK, create, error, post, problem

pytestmark = pytest.mark.usefixtures("nothing_stored")


class TestFields:
    """422: the fields of a document."""

    @pytest.mark.parametrize("document", ["1", "[]", "null", '"text"', "true"])
    def test_not_an_object(self, client: httpx.Client, document: str) -> None:
        error(post(client, document), 422, "wrong_type", "")

    def test_unknown_field(self, client: httpx.Client) -> None:
        error(create(client, support={"a": OK, "b": OK}, lerner="x"), 422, "unknown_field", "/lerner")
        error(client.post("/v1/tasks?lerner=x", json={"support": {}}), 422, "unknown_field", "/lerner")

    def test_long_field_is_not_echoed(self, client: httpx.Client) -> None:
        error(create(client, support={"a": OK, "b": OK}, **{"x" * 100_000: 1}), 422, "unknown_field", "")

    def test_option_in_query_and_body(self, client: httpx.Client) -> None:
        response = client.post(
            "/v1/tasks?learner=vectors", json={"learner": "vectors", "support": {"a": OK, "b": OK}}
        )
        error(response, 422, "given_twice", "/learner")

    def test_missing_support(self, client: httpx.Client) -> None:
        error(create(client, learner="glyphs"), 422, "missing", "/support")

    @pytest.mark.parametrize(
        ("field", "value", "code", "limit"),
        [
            ("samples", 1, "out_of_range", 2),
            ("samples", 257, "out_of_range", 256),
            ("samples", 10**17, "out_of_range", 256),
            ("samples", "32", "wrong_type", None),
            ("samples", True, "wrong_type", None),
            ("coverage", 0, "out_of_range", 0),
            ("coverage", 1, "out_of_range", 1),
            ("coverage", "0.9", "wrong_type", None),
            ("top", 0, "out_of_range", 1),
            ("top", 1001, "out_of_range", 1000),
            ("learner", "", "bad_format", None),
            ("learner", "Glyphs!", "bad_format", None),
            ("learner", ["glyphs"], "wrong_type", None),
            ("queries", "x", "wrong_type", None),
            ("queries", [], "no_queries", 1),
            ("queries", [[1.0]] * 1025, "too_many_queries", 1024),
        ],
    )
    def test_options(
        self, client: httpx.Client, field: str, value: object, code: str, limit: float | None
    ) -> None:
        body = {"support": {"a": OK, "b": OK}, "queries": OK, field: value}
        error(client.post("/v1/predict", json=body), 422, code, f"/{field}", limit)

    def test_name(self, client: httpx.Client) -> None:
        support = {"a": OK, "b": OK}
        error(create(client, support=support, name=""), 422, "too_short", "/name", 1)
        error(create(client, support=support, name="n" * 201), 422, "too_long", "/name", 200)

    def test_unknown_learner(self, client: httpx.Client) -> None:
        error(create(client, learner="nope", support={"a": OK, "b": OK}), 422, "unknown_learner", "/learner")

    def test_at_most_twenty_errors(self, client: httpx.Client) -> None:
        vectors = [[1.0, 2.0]] + [[1.0]] * 1_500
        response = create(client, support={"a": vectors, "b": [[1.0, 2.0]]})
        assert len(problem(response, 422, "vector_length")["errors"]) == 20


class TestSupport:
    """422: the classes and examples of a support set."""

    @pytest.mark.parametrize("support", [{}, []])
    def test_empty(self, client: httpx.Client, support: object) -> None:
        error(create(client, support=support), 422, "empty_support", "/support", 1)

    @pytest.mark.parametrize("support", [None, 1, "cat", True])
    def test_neither_map_nor_list(self, client: httpx.Client, support: object) -> None:
        error(create(client, support=support), 422, "wrong_type", "/support")

    def test_one_class(self, client: httpx.Client) -> None:
        error(create(client, support={"a": OK}), 422, "too_few_classes", "/support", 2)
        listed = [{"input": x, "label": "a"} for x in OK]
        error(create(client, support=listed), 422, "too_few_classes", "/support", 2)

    def test_class_without_examples(self, client: httpx.Client) -> None:
        error(create(client, support={"a": OK, "b": []}), 422, "empty_class", "/support/b", 1)

    def test_label_twice_after_nfc(self, client: httpx.Client) -> None:
        support = {"caf\u00e9": OK, "cafe\u0301": OK}
        error(create(client, support=support), 422, "duplicate_label", "/support/cafe\u0301")

    def test_long_label(self, client: httpx.Client) -> None:
        error(create(client, support={"a": OK, "b" * 100_000: OK}), 422, "invalid_label", "/support", 200)
        error(create(client, support={"a": OK, "b" * 201: OK}), 422, "invalid_label", "/support", 200)

    def test_empty_and_odd_labels(self, client: httpx.Client) -> None:
        error(create(client, support={"a": OK, "": OK}), 422, "invalid_label", "/support/", 1)
        error(create(client, support={"a": OK, "b\n": OK}), 422, "invalid_label", "/support", None)

    def test_ten_thousand_classes(self, client: httpx.Client) -> None:
        support = {str(index): [[1.0]] for index in range(10_000)}
        error(create(client, support=support), 422, "too_many_classes", "/support", 1000)

    def test_too_many_examples(self, client: httpx.Client) -> None:
        support = {"a": [[1.0]] * 15_000, "b": [[1.0]] * 5_001}
        error(create(client, support=support), 422, "too_many_examples", "/support", 20_000)
        listed = [{"input": [1.0], "label": str(index % 2)} for index in range(20_001)]
        error(create(client, support=listed), 422, "too_many_examples", "/support", 20_000)

    def test_broken_list(self, client: httpx.Client) -> None:
        good = {"input": [1.0], "label": "a"}
        error(create(client, support=[good, 1]), 422, "wrong_type", "/support/1")
        error(create(client, support=[good, {"input": [1.0]}]), 422, "missing", "/support/1/label")
        error(create(client, support=[good, {"label": "b"}]), 422, "missing", "/support/1/input")
        error(create(client, support=[good, {**good, "x": 1}]), 422, "unknown_field", "/support/1/x")
        for label in (7.5, True, None, ["b"], 1e17, 10**17):
            odd = {**good, "label": label}
            error(create(client, support=[good, odd]), 422, "wrong_type", "/support/1/label")
