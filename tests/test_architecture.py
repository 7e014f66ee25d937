"""The picture in docs/architecture.md is the code's own imports, or this fails and prints the true one."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "unspoken"


def rooms() -> list[str]:
    """Files and folders of the package; `__init__.pyi` only re-exports and is the roof, not a room."""
    found = [p.name for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()]
    return sorted(name.removesuffix(".py") for name in found if name != "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, text: str | None = None) -> set[str]:
    """The rooms that a file imports from, wherever in the file and in whatever form."""
    inside, names = ["unspoken", *path.relative_to(PACKAGE).parts[:-1]], set[str]()
    for node in ast.walk(ast.parse(path.read_text() if text is None else text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return {roof().get(n, n).split(".")[1] for n in names if n.startswith("unspoken.")} & set(rooms())


@cache
def roof() -> dict[str, str]:
    """From a name of the package itself to where it is from."""
    nodes = [n for n in ast.parse((PACKAGE / "__init__.pyi").read_text()).body if isinstance(n, ast.ImportFrom)]
    return {f"unspoken.{a.name}": f"unspoken.{n.module}.{a.name}" for n in nodes if n.module for a in n.names}


def graph() -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {room: set() for room in rooms()}
    for path in PACKAGE.rglob("*.py"):
        if path != PACKAGE / "__init__.py":
            edges[room_of(path)] |= imports(path) - {room_of(path)}
    return edges


def reduced(edges: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Without the arrows that a longer way round implies."""
    below: dict[str, set[str]] = {}
    for room in TopologicalSorter(edges).static_order():  # raises CycleError on a circle
        below[room] = edges[room] | {r for e in edges[room] for r in below[e]}
    return {(a, b) for a in edges for b in edges[a] if not any(b in below[c] for c in edges[a] - {b})}


def drawn() -> set[tuple[str, str]]:
    text = (ROOT / "docs" / "architecture.md").read_text()
    block = re.search(r"```mermaid\n(.*?)```", text, re.DOTALL)
    assert block is not None, "docs/architecture.md has no mermaid picture"
    return {(a, b) for a, b in re.findall(r"(\w+) --> (\w+)", block.group(1))}


def test_the_picture_is_the_imports() -> None:
    true = reduced(graph())
    lines = "\n".join(f"  {a} --> {b}" for a, b in sorted(true))
    assert drawn() == true, f"the imports are now:\n{lines}"


def test_every_room_is_named_in_the_page() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert [room for room in rooms() if f"`{room}" not in text] == []


ABOVE = {"study", "show", "cli", "presets"}
ALL = {"codecs", "noise", "layout", "tasks", "model", "training", "decoders", "measure", "systems"} | ABOVE

# Whoever draws one of these arrows has put something in the wrong room.
NEVER = {
    "codecs": {"layout", "tasks", "model", "training", "decoders", "measure", "systems"} | ABOVE,
    "noise": {"layout", "model", "training", "decoders", "measure", "tasks", "systems"} | ABOVE,
    "layout": {"model", "training", "decoders", "measure", "tasks", "systems"} | ABOVE,
    "tasks": {"layout", "model", "training", "decoders", "measure", "systems"} | ABOVE,
    "model": {"training", "decoders", "measure", "tasks", "systems"} | ABOVE,
    "training": {"decoders", "measure", "systems"} | ABOVE,
    "decoders": {"measure", "tasks", "systems"} | ABOVE,
    "measure": {"systems"} | ABOVE,
    "systems": ABOVE,
    "study": {"show", "cli", "presets"},
    "show": {"cli", "presets"},
    "presets": {"show", "cli"},
    **dict.fromkeys(("record", "extras", "messages", "checks"), ALL),
}


def test_arrows_that_must_never_be() -> None:
    assert set(NEVER) | {"cli"} == set(rooms())
    edges = graph()
    assert {room: edges[room] & never for room, never in NEVER.items() if edges[room] & never} == {}


@pytest.mark.parametrize(
    "line",
    [
        "from unspoken.decoders.slots import Slots",
        "import unspoken.decoders.slots",
        "from unspoken.decoders import slots",
        "from unspoken import Slots",
        "from ..decoders import slots",
        "def f():\n    from ..decoders.slots import Slots",
    ],
)
def test_no_form_of_an_import_is_overlooked(line: str) -> None:
    assert imports(PACKAGE / "training" / "run.py", line) == {"decoders"}
