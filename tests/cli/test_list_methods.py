"""`hashbench list methods`: by family, filtered, as wide as the terminal; and what one method is."""

import pytest

import hashbench
from hashbench.methods.contract import FAMILIES, options
from hashbench.registry import METHODS

OWN = [name for name, entry in METHODS.entries().items() if entry.builtin or entry.origin.distribution == "hashbench"]


def families(output):
    """Return the names listed below each family."""
    found, current = {}, None
    for line in output.splitlines()[2:]:
        first = line.split()[0] if line.strip() and not line.startswith(" ") else ""
        if first.endswith(":"):
            current = found.setdefault(first[:-1], [])
        elif first:
            current.append(first)
    return found


def test_every_method_stands_below_its_family_once(cli):
    found = families(cli("list", "methods").stdout)
    assert [name for name in found if name in FAMILIES] == [name for name in FAMILIES if name in found]
    listed = [(name, family) for family, names in found.items() for name in names if name in OWN]
    assert sorted(listed) == sorted((name, METHODS.get(name).info.family) for name in OWN)


@pytest.mark.parametrize("name", [name for name in OWN if name != "crh"])
def test_the_family_is_the_folder_and_the_year_is_that_of_the_paper(name):
    cls = METHODS.get(name)
    assert cls.info.family in (cls.__module__.split(".")[1], *(["reference"] if name == "lsh" else []))
    assert (1990 < cls.info.year < 2100) if cls.info.year else not cls.info.paper


def test_filters_go_together_and_unknown_ones_are_told(cli):
    shown = families(cli("list", "methods", "--family", "pairwise", "--fidelity", "account").stdout)
    wanted = [name for name in OWN if METHODS.get(name).info.family == "pairwise"]
    assert shown == {"pairwise": [name for name in wanted if METHODS.get(name).info.fidelity == "account"]}
    assert "No method of the family ranking has the fidelity reference." in cli(
        "list", "methods", "--family", "ranking", "--fidelity", "reference"
    ).stdout  # fmt: skip
    assert "Did you mean 'pairwise'?" in cli("list", "methods", "--family", "pairwize", code=2).stderr
    assert "Did you mean 'published'?" in cli("list", "methods", "--fidelity", "publishd", code=2).stderr
    assert "are of methods" in cli("list", "datasets", "--family", "pairwise", code=2).stderr
    assert "shows one method" in cli("list", "methods", "--fields", "crh", "--family", "x", code=2).stderr


@pytest.mark.parametrize("columns", ["72", "80", "120"])
def test_the_lists_fit_the_terminal(cli, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    for arguments in ([], *(["--fields", name] for name in OWN)):
        lines = cli("list", "methods", *arguments).stdout.splitlines()
        assert max(map(len, lines)) <= int(columns), (arguments, max(lines, key=len))


def test_fields_are_shown_with_default_and_help(cli):
    shown = " ".join(cli("list", "methods", "--fields", "csq").stdout.split())
    for name, field in options(METHODS.get("csq")).items():
        assert f"{name} {str(field.default).lower()} {field.metadata['help'].split()[0]}" in shown
    assert "centers, published, arXiv:1908.00347, version 1, from hashbench" in shown
    assert "--recipe paper: backbone=resnet50, optimizer=adam" in shown
    assert "With it, these fields: quantization=0.05, head_layers=3" in shown
    assert "Did you mean 'csq'?" in cli("list", "methods", "--fields", "cqs", code=2).stderr


def test_methods_of_this_process_and_other_families_are_listed(cli, fresh_methods):
    @hashbench.method("mine", family="cross-modal")
    class Mine(hashbench.DeepMethod):
        """A method."""

    shown = cli("list", "methods").stdout
    assert families(shown)["cross-modal"] == ["mine"]
    assert "version 1 from this process" in shown
    assert families(cli("list", "methods", "--family", "cross-modal").stdout) == {"cross-modal": ["mine"]}
    assert "It has no fields." in cli("list", "methods", "--fields", "mine").stdout
