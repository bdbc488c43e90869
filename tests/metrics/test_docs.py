"""The table of docs/metrics.md is what its script prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_documented_table_is_the_printed_one() -> None:
    script = [sys.executable, ROOT / "benchmarks" / "metrics_table.py"]
    printed = subprocess.run(script, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert printed.count("\n") == 19
    assert printed in (ROOT / "docs" / "metrics.md").read_text()
