"""Who may import whom: the rooms of docs/architecture.md in their order, and no circle between files.

Imports inside functions count; those for type checkers alone do not.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: From the ground up: a room may import itself and those before it.
ORDER = (
    "exports",
    "__init__",
    "errors",
    "registry",
    "metrics",
    "storage",
    "system",
    "recipes",
    "datasets",
    "methods",
    "interop",
    "networks",
    "results",
    "evaluation",
    "training",
    "experiments",
    "search",
    "executors",
    "checks",
    "cli",
    "__main__",
)
#: What the order alone would allow: metrics know nothing of the project, tables see no model.
NEVER = {
    "metrics": {"__init__", "exports", "errors", "registry"},
    "results": {"methods", "interop", "networks"},
}
LOOSE = {"errors", "exports", "registry"}  # files that lie in no room
FILES = sorted(path for folder in ("hashbench", "baselines") for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def room_of(module: str) -> str:
    parts = module.split(".")
    return "baselines" if parts[0] == "baselines" else parts[1] if len(parts) > 1 else "__init__"


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those below `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from runtime_nodes(node)


@cache
def imports(module: str) -> frozenset[str]:
    """Return the project's modules that a module imports."""
    found = set()
    for node in runtime_nodes(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                found.add(inside if inside in MODULES else node.module)
    return frozenset(name for name in found if name.split(".")[0] in ("hashbench", "baselines"))


def test_every_room_has_its_place_in_the_order():
    rooms = {room_of(module) for module in MODULES} - {"baselines"}
    assert rooms == {*ORDER}
    assert {path.stem for path in (ROOT / "hashbench").glob("*.py")} - {"__init__", "__main__"} == LOOSE


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_those_below_it(room):
    allowed = {*ORDER[: ORDER.index(room) + 1]} - NEVER.get(room, set())
    members = [module for module in MODULES if room_of(module) == room]
    assert members
    wrong = [f"{module}: {name}" for module in members for name in imports(module) if room_of(name) not in allowed]
    assert wrong == []


def test_hashbench_imports_no_baseline():
    assert [name for module in MODULES if room_of(module) != "baselines" for name in imports(module)
            if room_of(name) == "baselines"] == []  # fmt: skip


def test_no_file_imports_itself_in_a_circle():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for name in sorted(imports(module)):
                visit(name, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_the_tests_would_find_a_wrong_import():
    tree = ast.parse("if TYPE_CHECKING:\n    import a\ndef f():\n    from b import c\n")
    seen = [node for node in runtime_nodes(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [node.module for node in seen] == ["b"]
    assert "hashbench.errors" in imports("hashbench.storage.files")
    assert "hashbench.experiments.execution" in imports("hashbench.executors.worker")


TORCH, ARRAYS = ("torch", "numba"), ("torch", "numba", "numpy", "tabulate", "importlib.metadata", "http.client")
LIGHT = {
    "hashbench.cli": ARRAYS,  # all that `hashbench --help` imports
    "hashbench": TORCH,
    "hashbench.results.tables.comparison": TORCH,
}


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_that_takes_long(module):
    code = f"import sys; before = {{*sys.modules}}; import {module}; print(*{{*sys.modules}} - before)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {*LIGHT[module]} & {*done.stdout.split()}
