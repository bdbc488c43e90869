"""The benchmark of commands over many runs, on few of them and in this process."""

import importlib.util
from pathlib import Path

from click.testing import CliRunner

import hashbench
from hashbench.cli import main

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "many_runs.py"


def test_each_command_is_timed_over_runs_that_verify(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("many_runs", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name, value in {"METHODS": ("lsh", "pcah"), "DATASETS": ("toy",), "BITS": (8,)}.items():
        monkeypatch.setattr(script, name, value)
    said = {}

    def seconds(*arguments):
        if arguments in said:  # the second try
            return 1.0, 0.5
        ran = CliRunner().invoke(main, arguments)
        assert ran.exit_code == 0, ran.output
        said[arguments] = ran.stdout
        return 2.0, 0.5

    monkeypatch.setattr(script, "seconds", seconds)
    printed = CliRunner().invoke(script.main, ["--seeds", "2", "--times", "2", "--folder", str(tmp_path / "runs")])
    assert printed.exit_code == 0, printed.output
    lines = [line.split("  ")[0] for line in printed.output.splitlines()[2:]]
    assert [line.strip() for line in lines] == [f"hashbench {name}" for name in ("--help", "run", "report", "verify")]
    assert printed.output.count("1.00") == 4  # the better try of each
    assert len(hashbench.find_runs([tmp_path / "runs"])[0]) == 4
    assert [*said.values()][-1].startswith("4 runs: 4 as stored")
