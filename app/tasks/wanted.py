"""What a client says that an input is: a label, or the target of a regression task."""

from __future__ import annotations

from app.http.problems import fail
from app.http.validation import validated
from app.tasks import schemas
from app.tasks.heads import Head
from app.tasks.support import Aim, normal_label
from app.tasks.targets import target_from_json


def relabel_from_json(tree: object) -> schemas.Wanted:
    """Raises `ProblemError` 422."""
    if _has_target(tree):
        return validated(schemas.Retarget, tree)
    return validated(schemas.Relabel, tree)


def feedback_from_json(tree: object) -> schemas.Wanted:
    """Raises `ProblemError` 422."""
    if _has_target(tree):
        return validated(schemas.TargetFeedback, tree)
    return validated(schemas.Feedback, tree)


def aim_of(wanted: schemas.Wanted, head: Head) -> Aim:
    """Raises `ProblemError` 422, where it is not what examples of the task have."""
    if isinstance(wanted, (schemas.Retarget, schemas.TargetFeedback)):
        if head.target is None:
            raise fail("wrong_task_kind", "An example of a classification task has a label.", "/target")
        return "", target_from_json(wanted.target, ("target",), head.target)
    if head.target is not None:
        raise fail("wrong_task_kind", "An example of a regression task has a target.", "/label")
    return normal_label(wanted.label, "/label"), None


def _has_target(tree: object) -> bool:
    return isinstance(tree, dict) and "target" in tree and "label" not in tree
