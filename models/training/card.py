"""The model card as Markdown: the learner, its training, and every measured table."""

from __future__ import annotations

from typing import Any

from models.registry import LearnerConfig


def write_card(name: str, config: LearnerConfig) -> str:
    """Return the card of a learner."""
    made = config.training
    lines = [
        f"# {name}",
        "",
        f"Method `{config.method}` on encoder `{config.encoder}`; input: "
        f"`{config.input.model_dump_json()}`; code {config.code_version}.",
        "",
        "## Training",
        "",
        f"    {made.get('command', '')}",
        "",
        *(f"- {key.replace('_', ' ')}: {value}" for key, value in made.items() if key != "command"),
    ]
    if config.training_classes is not None:
        digest = config.training_classes
        lines.append(f"- digest of the training classes (SHA-256 of their sorted names): `{digest}`")
    lines.append("")
    for title, table in config.metrics.items():
        lines += [f"## Measured: {title.replace('_', ' ')}", "", *_section(table), ""]
    return "\n".join(lines)


def _section(value: Any) -> list[str]:
    """Write nested results as bullet points and tables: rows of equal keys become a table."""
    if not isinstance(value, dict):
        return [_cell(value)]
    lines: list[str] = []
    for key, entry in value.items():
        label = key.replace("_", " ")
        if isinstance(entry, list) and entry and isinstance(entry[0], dict):
            lines += ["", f"### {label}", "", *table(entry), ""]
        else:
            lines.append(f"- {label}: {_cell(entry)}")
    return lines


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Write a Markdown table of dictionaries with the same keys."""
    columns = list(rows[0])
    title = "| " + " | ".join(name.replace("_", " ") for name in columns) + " |"
    body = ["| " + " | ".join(_cell(row[name]) for name in columns) + " |" for row in rows]
    return [title, "|" + "---|" * len(columns), *body]


def _cell(value: Any) -> str:
    if isinstance(value, dict) and "ci95" in value:
        return f"{value['mean']:.4f} ± {value['ci95']:.4f}"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_cell(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return "; ".join(_cell(entry) for entry in value)
    return str(value)
