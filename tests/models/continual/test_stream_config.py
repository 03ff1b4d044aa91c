"""Labels that a stream task may have."""

import pytest
import torch

from models.continual.stream_config import Scenario, check_task
from models.protocol import LearnerError
from models.stream_protocol import StreamVersion

VERSION = StreamVersion(1, {"first": ("a", "b")}, {}, {"first": {}})


@pytest.mark.parametrize(
    ("labels", "y", "said"),
    [
        (("c",), [0, 0], "at least two classes"),
        (("c", "c"), [0, 1], "names a label twice"),
        (("c", "d"), [0, 2], "index into its 2 labels"),
        (("c", "d"), [-1, 0], "index into its 2 labels"),
        (("c", "d"), [], "index into its 2 labels"),
        (("c", "d"), [0, 0], "class 'd' has no examples"),
    ],
)
def test_a_task_has_two_classes_or_more_and_examples_of_each(
    labels: tuple[str, ...], y: list[int], said: str
) -> None:
    with pytest.raises(LearnerError, match=said):
        check_task("cl1", None, "second", labels, torch.tensor(y, dtype=torch.long))


@pytest.mark.parametrize(
    ("scenario", "labels", "clash"),
    [
        ("cl1", ("a", "b"), None),
        ("cl1", ("b", "c"), None),
        ("cl2", ("a", "b"), None),
        ("cl2", ("b", "a"), "'second' and 'first' differ"),
        ("cl3", ("c", "d"), None),
        ("cl3", ("c", "b"), "'b' belongs to both 'second' and 'first'"),
    ],
)
def test_labels_go_with_the_scenario(scenario: Scenario, labels: tuple[str, ...], clash: str | None) -> None:
    y = torch.tensor([0, 1])
    if clash is None:
        check_task(scenario, VERSION, "second", labels, y)
    else:
        with pytest.raises(LearnerError, match=clash):
            check_task(scenario, VERSION, "second", labels, y)


def test_a_name_is_taken_once() -> None:
    with pytest.raises(LearnerError, match="'first' is registered already"):
        check_task("cl3", VERSION, "first", ("c", "d"), torch.tensor([0, 1]))
