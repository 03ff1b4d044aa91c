"""The structure of the project: no package cycles, no oversized files or functions, one name for one class."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import grimp

REPOSITORY = Path(__file__).parents[1]
ROOTS = ("app", "workers", "models", "experiments", "hyperserve")
FILE_LINES, FUNCTION_LINES = 450, 75
LAZY_IMPORTS = {("hyperserve.cli", "app.cli.root"), ("hyperserve.testing", "models.testing")}
"""Imports at call time from the client to the server, which a client alone does not have."""
SAME_NAMES = {
    # The client's types, and its synchronous face of the same resources.
    "Estimate",
    "Prediction",
    "Predictions",
    "Stream",
    "Task",
    # A version of a stream in the protocol of models, and as the wire shows it.
    "StreamVersion",
}
"""Names that two modules share on purpose."""


def package_of(module: str) -> str:
    """Return the package of a module, two levels deep; a module of a root package counts by itself."""
    return ".".join(module.split(".")[:2])


def arrows() -> dict[str, set[str]]:
    """Return the packages that each package imports."""
    graph = grimp.build_graph(*ROOTS)
    found: dict[str, set[str]] = defaultdict(set)
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            ends = package_of(importer), package_of(imported)
            if ends[0] != ends[1] and not any(
                importer == source and imported.startswith(target) for source, target in LAZY_IMPORTS
            ):
                found[ends[0]].add(ends[1])
    return found


def cycle(arrows: dict[str, set[str]]) -> list[str] | None:
    """Return the packages of a cycle in order, or None if there is none."""
    path: list[str] = []
    done: set[str] = set()

    def visit(package: str) -> list[str] | None:
        if package in path:
            return [*path[path.index(package) :], package]
        if package in done:
            return None
        path.append(package)
        for imported in sorted(arrows.get(package, ())):
            if (found := visit(imported)) is not None:
                return found
        done.add(path.pop())
        return None

    return next((found for package in sorted(arrows) if (found := visit(package))), None)


def sources() -> Iterator[tuple[str, ast.Module, str]]:
    for root in ROOTS:
        for file in sorted((REPOSITORY / root).rglob("*.py")):
            text = file.read_text()
            yield str(file.relative_to(REPOSITORY)), ast.parse(text), text


def test_a_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_packages_do_not_import_each_other_in_a_circle() -> None:
    found = cycle(arrows())
    assert found is None, " -> ".join(found)


def test_files_and_functions_are_of_readable_length() -> None:
    long = []
    for path, tree, text in sources():
        if (lines := text.count("\n")) > FILE_LINES:
            long.append(f"{path}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                if (lines := node.end_lineno - start + 1) > FUNCTION_LINES:
                    long.append(f"{path}:{node.lineno} {node.name}: {lines} lines")
    assert not long, "\n".join(long)


def test_no_two_classes_have_the_same_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree, _ in sources():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path)
    twice = {name: found for name, found in places.items() if len(found) > 1 and name not in SAME_NAMES}
    assert not twice, "\n".join(f"{name}: {', '.join(found)}" for name, found in sorted(twice.items()))
    unique = [name for name in SAME_NAMES if len(places[name]) < 2]
    assert not unique, f"not shared any more: {unique}"
