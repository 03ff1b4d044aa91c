"""Create a task from the shipped drawings and query it. Start a server with `make serve`, then run

python examples/quickstart.py
"""

from pathlib import Path

from hyperserve import Client

glyphs = Path(__file__).parent / "glyphs"
support = {folder.name: sorted(folder.glob("*.png")) for folder in sorted((glyphs / "support").iterdir())}
queries = sorted((glyphs / "query").glob("*.png"))

with Client() as client:
    task = client.tasks.create(support, learner="glyphs", name="quickstart")
    answer = task.predict(queries, coverage=0.9)
    for path, found in zip(queries, answer.predictions, strict=True):
        unknown = "" if found.unknown is None else f"  unknown {found.unknown:.2f}"
        print(f"{path.name:15} {found.label:8} {found.confidence:.2f}{unknown}  set {found.prediction_set}")  # noqa: T201
    task.delete()
