"""Completion as bash asks for it: names in lists, files for runs, and quickly, so without torch."""

import os
import shutil
import subprocess
import sys

import pytest

from hashbench import recipes
from hashbench.cli import completion
from hashbench.registry import BACKBONES, DATASETS, METHODS

BASH = r"""
eval "$(_HASHBENCH_COMPLETE=bash_source hashbench)"
compopt() { local IFS=" "; echo "compopt $*"; }
while read -r line; do
    COMP_WORDS=($line) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _hashbench_completion hashbench
    echo "${COMPREPLY[*]}"
done
"""
PROGRAM = """#!{python}
import sys
from hashbench.cli import main
try:
    main(prog_name="hashbench")
finally:
    assert "torch" not in sys.modules, "torch"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_names_and_files(tmp_path):
    program = tmp_path / "hashbench"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    asked = ["compa", "run --method crh,cs", "run --recipe fro", "compare --dataset fashion-mn", "show ru"]
    done = subprocess.run(
        ["bash", "-c", BASH],
        input="".join(f"hashbench {line}\n" for line in asked),
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "compare",
        "crh,csq",
        "frozen frozen-mlp",
        "fashion-mnist fashion-mnist-10k",
        "compopt -o default",  # the shell's own completion of paths
        "",
    ]


def test_every_registered_name_is_offered():
    assert completion.methods(None, None, "") == sorted(METHODS.entries())
    assert completion.datasets(None, None, "") == sorted(DATASETS.entries())
    assert completion.backbones(None, None, "") == sorted(BACKBONES.entries())
    assert completion.recipes(None, None, "") == sorted(recipes.names())


def test_what_is_in_a_list_is_not_offered_again():
    found = completion.methods(None, None, "crh,csq,")
    assert "crh,csq,dpn" in found
    assert not {"crh,csq,crh", "crh,csq,csq"} & {*found}
