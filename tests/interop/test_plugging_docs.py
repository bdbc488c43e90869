"""Every command and file of docs/plugging-in.md works as written; on the toy, which is quicker."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from hashbench.checks.gpu_pass import missing_device
from hashbench.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugging-in.md").read_text()
COMMANDS = re.findall(r"^    ((?:hashbench|pip|python) .*)$", PAGE, re.MULTILINE)
((NAME, TARGET),) = re.findall(r'^    (dlbhc) = "(.*)"$', PAGE, re.MULTILINE)
FILES = dict(re.findall(r"Save this as `(\w+\.py)`[^\n]*:\n\n```python\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def plugin_installed(tmp_path, monkeypatch):
    """Make the example findable as `pip install` does."""
    site = tmp_path / "site"
    metadata = site / "hashbench_dlbhc-1.0.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: hashbench-dlbhc\nVersion: 1.0.0\n")
    (metadata / "entry_points.txt").write_text(f"[hashbench.methods]\n{NAME} = {TARGET}\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.syspath_prepend(ROOT / "examples" / "hashbench-plugin" / "src")


def test_the_page_has_what_the_tests_look_for():
    assert set(FILES) == {"pair_loss.py", "train.py"}
    assert len(COMMANDS) == 10
    assert f'{NAME} = "{TARGET}"' in (ROOT / "examples" / "hashbench-plugin" / "pyproject.toml").read_text()


@pytest.mark.slow
def test_commands_and_files_work_as_written(plugin_installed, tmp_path, monkeypatch, fresh_methods, capsys):
    monkeypatch.setattr("hashbench.checks.verdict.BITS", (12,))
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    printed = {}
    for command in COMMANDS:
        program, *arguments = shlex.split(command.replace("fashion-mnist-10k", "toy"))
        if program == "hashbench":
            ran = CliRunner().invoke(main, arguments)
            assert ran.exit_code == 0, f"{command}\n{ran.output}"
            printed[command] = ran.stdout
        elif program == "python":
            text = Path(arguments[0]).read_text()
            Path(arguments[0]).write_text(text.replace('"n_class": 10', '"n_class": 3'))
            runpy.run_path(arguments[0], run_name="__main__")
    assert "epoch 2, 16 bits: loss" in capsys.readouterr().out
    listed = " ".join(printed["hashbench list methods"].split())
    assert re.search(r" dlbhc unstated batches [^:]* from hashbench-dlbhc 1\.0\.0 ", listed)
    if missing_device() is None:
        assert f"```text\n{printed['hashbench check crh']}```" in PAGE
    assert any("PairLoss (alpha=0.01)" in text for text in printed.values())
