import csv
import io
import shutil
import subprocess

import pytest

from hashbench.errors import HashbenchError
from hashbench.results.table import Comparison

NASTY = r"a_b|<i>&%$#{x}~^\*"


@pytest.fixture
def comparison(make):
    results = [make(0.8 + seed / 100, seed=seed, bits=16) for seed in range(3)]
    results += [make(0.9, bits=32), make(0.6, method=NASTY, bits=16)]
    results += [make(0.4, method="itq", inputs="pixels", epochs=0, bits=16)]
    return Comparison.of(results)


def test_text(comparison):
    expected = """\
toy@a: mAP@all
backbone resnet-small, recipe scratch, last epoch of 20, test queries, ties expected, mean ± std (n)
over 1 to 3 seeds.

method                           16 bits     32 bits
------------------  --------------------  ----------
crh                 *0.8100 ± 0.0100 (3)  0.9000 (1)
a_b|<i>&%$#{x}~^\\*            0.6000 (1)           —
itq †                         0.4000 (1)           —
† learned from raw pixels, the others from images.
* best of its column."""
    assert comparison.render("text") == expected
    assert str(comparison) == expected


def test_markdown(comparison):
    caption, table, note = comparison.render("markdown").split("\n\n")
    assert caption.startswith("**toy@a: mAP@all**, backbone resnet-small, recipe scratch, last epoch of 20")
    assert note == "† learned from raw pixels, the others from images."
    rows = table.splitlines()
    assert rows[2].split("|")[2].strip() == "**0.8100 ± 0.0100 (3)**"
    assert r"a_b\|\<i>&%$#{x}~^\\\*" in rows[3]
    assert {row.replace(r"\|", "").count("|") for row in rows} == {4}


def test_latex(comparison):
    latex = comparison.render("latex")
    for line in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrr}", r"\centering"):
        assert line in latex
    assert r"crh & \textbf{0.8100 $\pm$ 0.0100 (3)} & 0.9000 (1) \\" in latex
    assert r"a\_b\textbar{}$<$i$>$\&\%\$\#\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}* & 0.6000" in latex
    assert r"\caption{toy@a: mAP@all, backbone resnet-small" in latex
    assert r"\textsuperscript{\dag} learned from raw pixels" in latex


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(comparison, tmp_path):
    source = r"\documentclass{article}\usepackage{booktabs}\begin{document}%s\end{document}"
    (tmp_path / "table.tex").write_text(source % ("\n" + comparison.render("latex") + "\n"))
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in done.stdout


def test_csv_has_one_line_a_run_and_measure(make):
    results = [make(0.5, seed=seed, fields={"solver": "a,b"}) for seed in range(2)]
    rows = list(csv.DictReader(io.StringIO(Comparison.of(results, measures=["mAP@all", "P@9"]).render("csv"))))
    assert [(row["seed"], row["measure"], row["value"]) for row in rows] == [
        ("0", "mAP@all", "0.5"),
        ("0", "P@9", ""),
        ("1", "mAP@all", "0.5"),
        ("1", "P@9", ""),
    ]
    first = rows[0]
    assert first["fields"] == '{"solver":"a,b"}'
    assert (first["lower"], first["upper"]) == ("0.49", "0.51")
    assert (first["dataset"], first["protocol"], first["bits"], first["engine"]) == ("toy", "a", "32", "1")


def test_tables_of_one_seed_do_not_count(make):
    text = Comparison.of([make(0.5), make(0.25, method="csq")]).render("text")
    assert "one seed." in text
    assert "(1)" not in text


def test_an_unknown_format_is_refused(comparison):
    with pytest.raises(HashbenchError, match=r"Unknown format 'latx'\. Did you mean 'latex'\?"):
        comparison.render("latx")
