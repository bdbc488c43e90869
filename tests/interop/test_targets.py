"""Targets: names, modules and files; what a file may do to the process while it loads, and what stays of it."""

import os
import sys

import pytest

from hashbench.cli import main
from hashbench.errors import HashbenchError
from hashbench.interop.targets import resolve_method
from hashbench.methods.crh import CRH
from hashbench.registry import METHODS

pytestmark = pytest.mark.usefixtures("fresh_methods")

METHOD = """
import hashbench

@hashbench.method("mine", paper="none", version=3)
class Mine(hashbench.DeepMethod):
    pull: float = 2.0

    def loss(self, out, batch):
        return {"pull": self.pull * (out**2).mean()}
"""
LOSS = """
import torch

class Loss(torch.nn.Module):
    def __init__(self, config, bit):
        super().__init__()

    def forward(self, u, y, ind, config):
        return (u**2).mean()
"""


@pytest.fixture
def file(tmp_path):
    """Return a function that writes a file and returns its path as text."""

    def write(text, name="mine.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def test_a_name_and_a_module_mean_the_same_class():
    assert resolve_method("crh") is CRH
    assert resolve_method("hashbench.methods.crh:CRH") is CRH
    assert METHODS.entries()["crh"].origin.distribution == "hashbench"


def test_a_method_in_a_file_is_registered_with_the_file_as_its_origin(file):
    path = file(METHOD)
    cls = resolve_method(f"{path}:Mine")
    assert cls.info.version == 3
    assert METHODS.get("mine") is cls
    assert METHODS.entries()["mine"].origin.distribution == path


def test_a_file_is_read_anew_each_time(file):
    first = resolve_method(f"{file(METHOD)}:Mine")
    second = resolve_method(f"{file(METHOD.replace('2.0', '3.0'))}:Mine")
    assert (first().pull, second().pull) == (2.0, 3.0)
    assert METHODS.get("mine") is second


def test_relative_paths(file, tmp_path, monkeypatch):
    file(METHOD, "inner/mine.py")
    monkeypatch.chdir(tmp_path)
    assert resolve_method("inner/mine.py:Mine").info.name == "mine"
    assert METHODS.entries()["mine"].origin.distribution == "inner/mine.py"


def test_the_folder_is_on_the_path_only_while_loading_and_its_modules_stay_apart(file, monkeypatch):
    monkeypatch.setenv("CHANGED", "before")
    path, environment, modules = [*sys.path], dict(os.environ), set(sys.modules)
    for number, folder in enumerate("ab"):
        file(f"NUMBER = {number}", f"{folder}/tools_of_it.py")
        file("", f"{folder}/package_of_it/part.py")  # without __init__.py, as in old suites
        source = "import os\nimport package_of_it.part\nfrom tools_of_it import NUMBER\n"
        source += f"os.environ['CHOSEN'] = os.environ['CHANGED'] = '1'\nclass Other: pass\n{LOSS}"
        cls = resolve_method(f"loss-{folder}={file(source, f'{folder}/loss.py')}:Loss")
        assert number == cls.module.NUMBER
    assert (sys.path, dict(os.environ)) == (path, environment)
    assert {name.partition("@")[0] for name in set(sys.modules) - modules} == {"loss"}


def test_two_losses_of_one_name_need_a_name(file):
    resolve_method(f"{file(LOSS, 'a.py')}:Loss")
    other = file(LOSS, "b.py")
    with pytest.raises(HashbenchError, match=r"'Loss' is taken by .*a\.py.*give this one another.*other=.*b\.py:Loss"):
        resolve_method(f"{other}:Loss")
    assert resolve_method(f"second={other}:Loss").info.name == "second"


BAD = {
    "no class named": (lambda file: file(METHOD), r"names a file but no class in it; write .*mine\.py:NameOfTheClass"),
    "misspelt class": (lambda file: f"{file(METHOD)}:Mien", "Unknown class 'Mien'. Did you mean 'Mine'"),
    "no file": (lambda file: "nowhere/mine.py:Mine", r"nowhere/mine.py cannot be read \(No such file"),
    "no module": (lambda file: "no_such_package.mine:Mine", "no_such_package.mine does not load: ModuleNotFoundError"),
    "broken file": (lambda file: f"{file('import nothing_like_it')}:Mine", "does not load: ModuleNotFoundError"),
    "leaving file": (lambda file: f"{file('raise SystemExit(1)')}:Mine", "does not load: SystemExit"),
    "syntax": (lambda file: f"{file('def')}:Mine", "does not load: SyntaxError"),
    "undecorated": (
        lambda file: f"{file(METHOD.replace('@hashbench.method', '#'))}:Mine",
        "lacks the decorator @hashbench.method",
    ),
    "neither": (lambda file: f"{file('class Mine: pass')}:Mine", r"neither a method nor a loss; .*Mine\(config, bit\)"),
    "name taken": (
        lambda file: f"{file(METHOD.replace('mine', 'crh'))}:Mine",
        "'crh' is taken by hashbench.methods.crh",
    ),
    "named twice": (lambda file: f"other={file(METHOD)}:Mine", "has a name, 'mine'; leave 'other=' out"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_targets_are_one_sentence(file, case):
    target, sentence = BAD[case]
    with pytest.raises(HashbenchError, match=sentence) as caught:
        resolve_method(target(file))
    assert "\n" not in str(caught.value)


def test_check_on_the_command_line(file, monkeypatch):
    from click.testing import CliRunner

    from hashbench.checks import verdict

    monkeypatch.setattr(verdict, "BITS", (12,))
    good = CliRunner().invoke(main, ["check", f"{file(METHOD)}:Mine"])
    assert good.exit_code == 0
    assert good.output.startswith("mine version 3, none, from ")
    bad = CliRunner().invoke(main, ["check", f"{file(METHOD.replace('(out**2).mean()', 'out'))}:Mine"])
    assert bad.exit_code == 1
    assert "FAILED   loss terms are named scalars: single-label at 12 bits: the term 'pull'" in bad.output
    assert CliRunner().invoke(main, ["check", "nowhere.py:Mine"]).exit_code == 2
