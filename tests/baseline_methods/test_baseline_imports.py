"""The methods that come with hashbench use what a stranger's method may use, and nothing else."""

import ast
from pathlib import Path

import pytest

import hashbench
import hashbench.datasets
import hashbench.methods

FILES = sorted((Path(__file__).parents[2] / "baselines").rglob("*.py"))
PUBLIC = {package.__name__: set(package.__all__) for package in (hashbench, hashbench.datasets, hashbench.methods)}
OUTSIDE = {
    "__future__", "collections", "copy", "dataclasses", "importlib", "itertools", "math", "typing", "numpy", "scipy",
    "sklearn", "torch",
}  # fmt: skip


def test_there_are_baselines():
    assert {path.stem for path in FILES} >= {"csq", "dpn", "shc", "itq", "lsh", "classifier"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_only_the_public_api_is_imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative"
            modules = [node.module]
            if node.module in PUBLIC:
                assert {alias.name for alias in node.names} <= PUBLIC[node.module]
        for module in modules:
            assert module in PUBLIC or module.split(".")[0] in OUTSIDE, module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_only_public_names_are_used(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "hashbench":
            assert node.attr in hashbench.__all__
