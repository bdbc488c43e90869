"""Results and comparisons show themselves: printed, in notebooks, and as a DataFrame."""

import sys
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

import hashbench
from hashbench.cli import main
from hashbench.errors import HashbenchError
from hashbench.results.tables.comparison import Comparison

EVIL = "<b>evil</b>&"


class Tags(HTMLParser):
    """Collects the tags of a fragment, and checks that they nest."""

    def __init__(self):
        super().__init__()
        self.seen, self._open = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in ("br",):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag


def tags(fragment):
    parser = Tags()
    parser.feed(fragment)
    parser.close()
    assert parser._open == []
    return parser.seen


def test_a_result_prints_what_show_does(make, stored):
    result = stored(make(method="csq", fields={"quantization": 0.1}))
    shown = CliRunner().invoke(main, ["show", str(result.path)])
    assert shown.exit_code == 0
    assert f"{result}\n" == shown.stdout
    assert "csq (quantization=0.1) on toy@a, 32 bits, seed 0" in str(result)


def test_a_comparison_prints_what_compare_does(make, stored, tmp_path):
    stored(make(0.5)), stored(make(0.75, method="csq"))
    shown = CliRunner().invoke(main, ["compare", str(tmp_path / "runs")])
    assert f"{hashbench.compare(tmp_path / 'runs')}\n" == shown.stdout


def test_notebooks_show_tables_and_escape_what_plugins_call_themselves(make):
    result = make(0.25, method=EVIL)
    for fragment in (result._repr_html_(), Comparison.of([result], problems=[EVIL])._repr_html_()):
        assert "table" in tags(fragment)
        assert "b" not in tags(fragment)
        assert "0.2500" in fragment
        assert "&lt;b&gt;evil&lt;/b&gt;&amp;" in fragment


def test_a_data_frame_has_a_row_for_each_run_and_measure(make):
    results = [make(0.5, seed=0), make(0.75, seed=1), make(0.25, method="csq")]
    frame = Comparison.of(results).to_pandas()
    assert frame.groupby("method")["value"].mean().to_dict() == {"crh": 0.625, "csq": 0.25}
    assert list(frame["seed"]) == [0, 1, 0]


def test_without_pandas_it_is_one_sentence(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(HashbenchError, match="pip install pandas"):
        Comparison.of([make()]).to_pandas()
