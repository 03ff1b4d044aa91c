"""Teach a task by feedback, list its versions and roll back. Start a server with `make serve`, then run

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

    prediction = task.predict([umbrella], store=True).predictions[0]
    task = prediction.feedback("umbrella")
    show("after feedback", task)

    task = task.promote(1)
    show("rolled back", task)
    task = task.promote(2, if_unchanged=True)
    show("promoted again", task)

    for version in task.versions():
        mark = "*" if version.current else " "
        print(f"{mark} {version.number} from {version.parent}, {version.origin}: {version.shots}")  # noqa: T201
    task.delete()
