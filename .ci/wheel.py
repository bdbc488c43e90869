"""Check that a wheel holds every file of the two packages, and nothing else: `python .ci/wheel.py dist/*.whl`."""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("hashbench", "baselines")


def of_the_tree() -> set[str]:
    """Return the files of the packages, relative to the repository's root."""
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


def of_the_wheel(wheel: str) -> set[str]:
    """Return the files that `wheel` installs, without what describes the distribution."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


if __name__ == "__main__":
    inside, wanted = of_the_wheel(sys.argv[1]), of_the_tree()
    for name in sorted(wanted - inside):
        print(f"{name} is missing in the wheel: see [tool.setuptools.package-data] in pyproject.toml.")
    for name in sorted(inside - wanted):
        print(f"{name} is in the wheel, but in neither package.")
    sys.exit(inside != wanted)
