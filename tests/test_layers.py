"""Imports go one way; this table is the architecture, and the tests hold the code to it."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYERS: list[tuple[str, ...]] = [
    ("claims", "clock", "controls", "errors", "plan", "receipt", "view"),
    ("items", "outcome"),
    ("observation", "timeline"),
    ("protocols",),
    ("audit", "budget", "events", "reach", "registry", "trace"),
    ("checkpoint", "config", "recording", "window"),
    ("job",),
    ("nn",),
    ("text",),
    ("learning",),
    ("index", "previews", "recognizers", "sources"),
    ("clips", "delivery"),
    ("engine",),
    ("run",),
    ("ops", "replay"),
    ("pipelines", "report", "testing"),
    ("cli",),
]
"""Lowest first. A module imports from the rows below its own and from its own row, without cycles;
a name stands for a module of streamdyn/ or for all modules of a folder."""
FOR_AGENTS = {
    "agents", "clock", "errors", "items", "nn", "observation", "outcome", "plan", "previews",
    "protocols", "registry", "text",
}  # fmt: skip
"""What a policy is made of: no source, recognizer, engine, file or environment."""
VAGUE_NAMES = {"base", "common", "core", "helper", "helpers", "manager", "misc", "util", "utils"}


def module_name(path: Path) -> str:
    """The one import name: `streamdyn.agents.stride` for agents/stride.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "streamdyn" else ("streamdyn", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path
    for folder in ("streamdyn", "agents", "pipelines")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}


def imports(name: str) -> set[str]:
    """Modules of the project that a module imports anywhere, also inside functions.

    `from streamdyn import __version__` is none: streamdyn/__init__.py stands beside the table.
    """
    is_package = FILES[name].name == "__init__.py"
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: -node.level if not is_package else 1 - node.level or None]
            stem = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            inside = {f"{stem}.{alias.name}" for alias in node.names}
            modules = inside & FILES.keys()
            found |= modules
            if len(modules) < len(inside):
                found.add(stem)
    return {other for other in found if other.startswith("streamdyn.")} - {name}


def part(name: str) -> str:
    """The name that the table knows a module by: `sources` for streamdyn.sources.demux."""
    return name.split(".")[1] if "." in name else name


ROW = {entry: number for number, row in enumerate(LAYERS) for entry in row}
ARROWS = sorted((name, other) for name in FILES for other in imports(name) if name != "streamdyn")
"""Who imports whom."""


def shown(arrows: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} -> {other}" for name, other in arrows)


def test_the_table_names_every_module_and_nothing_else() -> None:
    assert set(ROW) == {part(name) for name in FILES} - {"streamdyn", "agents"}


def test_no_import_points_upward() -> None:
    in_table = [(a, b) for a, b in ARROWS if "agents" not in (part(a), part(b))]
    upward = [(a, b) for a, b in in_table if ROW[part(a)] < ROW[part(b)]]
    assert not upward, f"a type or a function is misplaced: {shown(upward)}"


def test_there_are_no_cycles() -> None:
    graph: dict[str, set[str]] = {name: set() for name in FILES}
    for name, other in ARROWS:
        graph[name].add(other)
    cycle: list[str] = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        cycle = exc.args[1]
    assert not cycle, " -> ".join(cycle)


def test_nobody_imports_an_agent_but_its_siblings() -> None:
    arrows = [(a, b) for a, b in ARROWS if part(a) != "agents" and part(b) == "agents"]
    assert not arrows, f"name it instead, build('policy', ...): {shown(arrows)}"


def test_an_agent_imports_the_contracts_and_previews_only() -> None:
    arrows = [(a, b) for a, b in ARROWS if part(a) == "agents" and part(b) not in FOR_AGENTS]
    assert not arrows, f"not for an agent: {shown(arrows)}"


def test_no_import_is_for_type_checkers_only() -> None:
    names = [name for name, path in FILES.items() if "TYPE_CHECKING" in path.read_text("utf-8")]
    assert not names, f"a cycle means that a type is misplaced: {names}"


def test_a_module_has_400_lines_at_most() -> None:
    counts = {name: len(path.read_text("utf-8").splitlines()) for name, path in FILES.items()}
    long = {name: count for name, count in counts.items() if count > 400}
    assert not long, f"split them: {long}"


def test_a_module_is_named_for_what_it_holds() -> None:
    vague = [name for name in FILES if VAGUE_NAMES & set(name.split("."))]
    assert not vague
