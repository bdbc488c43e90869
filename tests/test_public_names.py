"""Public names: what docs tell people to import is exported from three packages, and from there alone."""

import ast
import re
from pathlib import Path

import pytest

import hashbench
import hashbench.datasets
import hashbench.methods

ROOT = Path(__file__).parents[1]
PUBLIC = {package.__name__: package for package in (hashbench, hashbench.datasets, hashbench.methods)}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))


@pytest.mark.parametrize("package", PUBLIC.values(), ids=PUBLIC)
def test_every_exported_name_is_there(package):
    assert {*dir(package)} == {*package.__all__}
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        package.nothing_of_that_name  # noqa: B018


@pytest.mark.parametrize("package", PUBLIC.values(), ids=PUBLIC)
def test_type_checkers_see_the_same_names(package):
    tree = ast.parse(Path(package.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname or alias.name for node in block.body for alias in node.names}
    assert seen == {*package.__all__} - {"__version__"}


@pytest.mark.parametrize("path", [*PAGES, *EXAMPLES], ids=lambda path: path.name)
def test_docs_and_examples_import_public_names_only(path):
    for module, names in re.findall(r"^ *from (hashbench[\w.]*) import ([\w, ]+)", path.read_text(), re.MULTILINE):
        if module.startswith("hashbench_"):
            continue
        assert module in PUBLIC, f"{module} is not public"
        assert {name.strip() for name in names.split(",")} <= {*PUBLIC[module].__all__}
