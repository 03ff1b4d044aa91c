"""Teaches a task by feedback, looks at its versions and rolls back. Needs a server: `make serve`, then

python examples/feedback.py
"""

from pathlib import Path

from hyperserve import Client, Task

glyphs = Path(__file__).parent / "glyphs"
umbrella, another = sorted((glyphs / "query").glob("umbrella-*.png"))


def show(what: str, task: Task) -> None:
    found = task.predict([another]).predictions[0]
    print(f"{what:22} version {task.version}: {found.label:8} {found.confidence:.2f}  of {task.classes}")  # noqa: T201


with Client() as client:
    support = {folder.name: sorted(folder.glob("*.png")) for folder in sorted((glyphs / "support").iterdir())}
    task = client.tasks.create(support, learner="glyphs", name="feedback")
    show("no umbrellas yet", task)

    asked = task.predict([umbrella], store=True).predictions[0]
    task = asked.feedback("umbrella")
    show("told what it was", task)

    task = task.promote(1)
    show("rolled back", task)
    task = task.promote(2, if_unchanged=True)
    show("and forth", task)

    for version in task.versions():
        mark = "*" if version.current else " "
        print(f"{mark} {version.number} from {version.parent}, {version.origin}: {version.shots}")  # noqa: T201
    task.delete()
