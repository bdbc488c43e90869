"""Who may import whom: the walls of docs/architecture.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in ("hashbench", "baselines")}


def offenders(folder: str, forbidden: tuple[str, ...], but: tuple[str, ...] = ()) -> list[str]:
    def hits(name: str, prefixes: tuple[str, ...]) -> bool:
        return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)

    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, f"{folder} has no files to check"
    return [f"{f.name}: {n}" for f in files for n in sorted(imported(f)) if hits(n, forbidden) and not hits(n, but)]


@pytest.mark.parametrize(
    ("folder", "forbidden", "but"),
    [
        ("hashbench/metrics", ("hashbench", "baselines"), ("hashbench.metrics",)),
        ("hashbench/datasets", ("hashbench.methods", "baselines"), ()),
        ("hashbench/methods", ("hashbench.experiments.runner", "hashbench.results", "hashbench.cli", "baselines"), ()),
        ("hashbench/results", ("hashbench.methods", "hashbench.training.loop", "baselines"), ()),
        ("hashbench", ("baselines",), ()),
    ],
)
def test_direction(folder, forbidden, but):
    assert offenders(folder, forbidden, but) == []


@pytest.mark.parametrize(
    "code", ["import hashbench.cli", "import hashbench", "import hashbench.results.tables.comparison"]
)
def test_light_modules_do_not_import_torch(code):
    loud = f"{code}; import sys; sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loud], check=False).returncode == 0
