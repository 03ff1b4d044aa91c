"""Every registered method keeps the contract by its own trial, and so do variants and the toys of other families."""

from collections.abc import Iterator

import pytest

from models.registry import METHODS
from models.testing.case import Case
from models.testing.method_contract import MethodContract
from tests.models.cases import CASES, TOYS
from tests.shapes import unchecked


@pytest.fixture(autouse=True, scope="module")
def _toys_are_registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, path in TOYS.items():
            patch.setitem(METHODS.paths, name, path)
        yield


class TestEveryMethod(MethodContract):
    @pytest.fixture(params=CASES, ids=lambda case: case.name)
    def case(self, request: pytest.FixtureRequest) -> Case:
        found: Case = request.param
        return found

    def test_learns_above_chance(self, case: Case) -> None:
        with unchecked():
            super().test_learns_above_chance(case)
