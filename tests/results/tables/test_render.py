import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from hashbench.errors import HashbenchError
from hashbench.results.tables import escaping
from hashbench.results.tables.baseline import Baseline
from hashbench.results.tables.comparison import Comparison
from hashbench.results.tables.published import PublishedNumber

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
    assert r"a\_b\|\<i\>\&%\$#{x}\~^\\\*" in rows[3]
    assert {row.replace(r"\|", "").count("|") for row in rows} == {4}


def test_latex(comparison):
    latex = comparison.render("latex")
    for line in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrr}", r"\centering"):
        assert line in latex
    assert r"crh & \textbf{0.8100 $\pm$ 0.0100 (3)} & 0.9000 (1) \\" in latex
    assert r"a\_b\textbar{}$<$i$>$\&\%\$\#\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}{*}"
    assert r"\underline{0.6000" in latex
    assert r"\caption{toy@a: mAP@all, backbone resnet-small" in latex
    assert r"\textsuperscript{\dag} learned from raw pixels" in latex


def compiled(latex, folder):
    """Return the log of pdflatex, which must end well."""
    source = r"\documentclass{article}\usepackage{booktabs}\begin{document}%s\end{document}"
    (folder / "table.tex").write_text(source % ("\n" + latex + "\n"))
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "table.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in done.stdout
    return done.stdout


needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")


@needs_latex
def test_latex_compiles(comparison, tmp_path):
    compiled(comparison.render("latex"), tmp_path)


@needs_latex
def test_latex_compiles_with_every_mark_and_any_name(full, tmp_path):
    compiled(full.render("latex", bounds=True, cost=True), tmp_path)
    letters = "".join(map(chr, range(0x20, 0x250))) + "λ中😀\n\u202e"
    rows = [letters[i : i + 24] for i in range(0, len(letters), 24)]
    compiled("\n\n".join(escaping.latex(row) for row in rows), tmp_path)
    table = r"\begin{tabular}{l}" + "".join(escaping.latex(n) + r" \\" + "\n" for n in ("[1]", "*", "[2]", "-"))
    compiled(table + r"\end{tabular}", tmp_path)


def test_latex_is_balanced(full):
    latex = full.render("latex", bounds=True, cost=True)
    bare = re.sub(r"\\[\\{}$&%#_]", "", latex)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert latex.count(r"\begin{") == latex.count(r"\end{")
    body = latex.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {4}


@pytest.fixture
def full(make):
    """Every feature once: a baseline with tests, a mark, bounds, cost, a hostile name, a published row."""
    values = {NASTY: [0.5, 0.51, 0.52, 0.54], "csq": [0.6, 0.61, 0.62, 0.63], "dpn": [0.1, 0.2, 0.1, 0.15]}
    results = [make(v, method=m, seed=seed, bits=16) for m, vs in values.items() for seed, v in enumerate(vs)]
    results += [make(0.4, method="itq", inputs="pixels", epochs=0, bits=16)]
    number = PublishedNumber("arXiv:1", "table <2>", "CSQ&", "toy@a", "alex_net", 16, "mAP@all", 0.787, "best epoch")
    return Comparison.of(results, against=Baseline("csq"), published=[number])


def test_text_with_everything(full):
    expected = r"""toy@a: mAP@all
backbone resnet-small, recipe scratch, last epoch of 20, test queries, ties expected, mean ± std (n)
over 1 to 4 seeds.

method                                                    16 bits    train s    images/s    peak MB
------------------  ---------------------------------------------  ---------  ----------  ---------
csq                         *0.6150 ± 0.0129 (4) [0.6050, 0.6250]       12.5       1,000          —
a_b|<i>&%$#{x}~^\*  0.5175 ± 0.0171 (4) [0.5075, 0.5275] ↓−0.0975       12.5       1,000          —
dpn                 0.1375 ± 0.0479 (4) [0.1275, 0.1475] ↓−0.4775       12.5       1,000          —
itq †                         0.4000 (1) [0.3900, 0.4100] −0.2150       12.5       1,000          —
CSQ&, published ‡                                          0.7870          —           —          —
† learned from raw pixels, the others from images.
Signed numbers are differences to csq, in units of the measure: +0.0100 is one point of 100 more.
↑ ↓ significantly above or below csq: Welch's t-test over seeds (two-sided, n = 4), Holm-corrected
over the 2 tests of this table, alpha 0.05.
Differences not tested: 1 with fewer than 4 seeds on a side.
‡ printed in arXiv:1, table <2>, for the same protocol and measure: backbone alex_net (here
resnet-small), epoch: best epoch (here last epoch), ties as in its own code (here expected). Not run
here, so neither ranked nor tested.
[worst, best]: the means if all items at one distance came in the worst or the best order.
Cost: means over all runs of a row; train s is the training alone, no method here has stages before
that. On an unknown device.
* best of its column."""
    assert full.render("text", bounds=True, cost=True) == expected


def test_a_difference_has_its_sign_and_no_negative_zero(make):
    values = {"crh": 0.5, "csq": 0.512, "dpn": 0.488, "shc": 0.49999}
    text = Comparison.of([make(v, method=m) for m, v in values.items()], against=Baseline("crh")).render()
    ends = {
        line.split()[0]: line.split()[-1] for line in text.splitlines() if line.split() and line.split()[0] in values
    }
    assert ends == {"crh": "0.5000", "csq": "+0.0120", "dpn": "−0.0120", "shc": "±0.0000"}


def test_the_preparation_has_its_own_column_where_there_is_one(make):
    results = [make(0.5), make(0.6, method="shc")]
    results[1].time["prepare"] = 8.8
    text = Comparison.of(results).render(cost=True)
    rows = [line.split() for line in text.splitlines()]
    assert ["crh", "0.5000", "12.5", "—", "1,000", "—"] in rows
    assert ["shc", "*0.6000", "12.5", "8.8", "1,000", "—"] in rows
    assert "prepare s its own stages before that" in " ".join(text.split())
    assert "prepare s" not in Comparison.of(results[:1]).render(cost=True)


def test_costs_of_different_devices_are_not_to_be_compared(make):
    devices = [{"device": "cpu", "device_name": "x", "threads": n} for n in (1, 2)]
    results = [make(seed=seed, provenance=device) for seed, device in enumerate(devices)]
    text = " ".join(Comparison.of(results).render(cost=True).split())
    assert "On cpu (x, 1 thread); cpu (x, 2 threads), so not to be compared." in text
    assert "so not" not in Comparison.of(results[:1]).render(cost=True)


class Tags(HTMLParser):
    """Checks that every tag is closed in order, and collects the texts of cells."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & {*self.open}:
            self.rows[-1][-1] += data


def test_html(full):
    html = full.render("html")
    rows = Tags(html).rows
    assert rows[0] == ["method", "16 bits"]
    assert rows[1] == ["csq", "0.6150 ± 0.0129 (4)"]
    assert rows[2] == [NASTY, "0.5175 ± 0.0171 (4) ↓−0.0975"]
    assert rows[-1] == ["CSQ&, published ‡", "0.7870"]
    for part in ("<caption>", "<thead>", "<strong>0.6150", "<u>0.5175", '<tbody class="published">', "<figcaption>"):
        assert part in html
    assert "<i>" not in html
    assert "table &lt;2&gt;" in html


def test_csv_has_one_line_a_cell(full):
    rows = list(csv.DictReader(io.StringIO(full.render("csv"))))
    assert [row["row"] for row in rows] == ["csq", NASTY, "dpn", "itq", "CSQ&, published"]
    csq, nasty, _, itq, paper = rows
    assert (csq["bits"], csq["measure"], csq["n"], csq["best"], csq["difference"]) == ("16", "mAP@all", "4", "True", "")
    assert [float(value) for value in nasty["values"].split()] == [0.5, 0.51, 0.52, 0.54]
    assert float(nasty["mean"]) == pytest.approx(0.5175)
    assert float(nasty["difference"]) == pytest.approx(-0.0975)
    assert (nasty["test"], nasty["baseline"]) == ("seeds", "csq")
    assert 0 < float(nasty["p_holm"]) < 0.05
    assert (itq["p_holm"], itq["test"]) == ("", "")
    assert "raw pixels" in itq["note"]
    assert (paper["source"], paper["mean"], paper["backbone"]) == ("arXiv:1, table <2>", "0.787", "")
    assert csq["backbone"] == "resnet-small"


FORMULAS = [
    *("=1+1", "+x", "-x", "@x", "-1+2", "\t=1", "\r=1", "\n=1+1", " =1+1", "  @x", "\xa0=1", "\u3000=1", "\u200b=1"),
    *("\ufeff=1", "\x00=1", "\x1f =1", "\ufe0f=1", "\uff1d1+1", "\uff0b1", "\uff0dx", "\uff20x", " \uff1d1", "\ufe661"),
]


@pytest.mark.parametrize("name", FORMULAS)
def test_csv_has_no_formulas(make, name):
    (row,) = csv.DictReader(io.StringIO(Comparison.of([make(method=name)]).render("csv")))
    assert row["method"] == row["row"] == "'" + name.replace("\r", "\n")


@pytest.mark.parametrize("name", ["-1", "+1.5", "-2e-3", "a=1", "crh", "", "1-1", "\u22121"])
def test_what_is_no_formula_stays_as_it_is(name):
    assert escaping.csv(name) == name


def test_csv_has_no_formulas_in_its_first_line_and_numbers_stay_numbers(make):
    result = make(method="csq", seed=1)
    other = replace(result, coords={**result.coords, "=1+1": "x"}, metrics={"mAP@all": -0.5}, bounds={})
    (row,) = csv.DictReader(io.StringIO(Comparison.of([other]).render("csv")))
    assert row["'=1+1"] == "x"
    assert row["mean"] == "-0.5"


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "html"])
def test_no_name_breaks_a_line_or_steers_a_terminal(make, form):
    results = [make(method="a\n\nb\x1b[2Jc\u202ed")]
    rendered = Comparison.of(results, against=Baseline("a\n\nb\x1b[2Jc\u202ed")).render(form)
    assert not {"\x1b", "\u202e"} & {*rendered}
    (line,) = [line for line in rendered.splitlines() if "0.5000" in line]
    assert "a  b" in line


def test_tables_of_one_seed_do_not_count(make):
    text = Comparison.of([make(0.5), make(0.25, method="csq")]).render("text")
    assert "one seed." in text
    assert "(1)" not in text


def test_an_unknown_format_is_refused(comparison):
    with pytest.raises(HashbenchError, match=r"Unknown format 'latx'\. Did you mean 'latex'\?"):
        comparison.render("latx")


FORMS = ("text", "markdown", "latex", "html", "csv")


@pytest.mark.parametrize("form", FORMS)
def test_the_fidelity_that_results_state_is_shown(make, form):
    stated = {"crh": "account", "csq": "published", "dpn": "published", "own": "unstated", "old": None}
    results = [
        make(method=method, bits=bits, provenance={} if fidelity is None else {"fidelity": fidelity})
        for method, fidelity in stated.items()
        for bits in (16, 32)
    ]
    rendered = Comparison.of(results).render(form)
    if form == "csv":
        rows = {row["method"]: row["fidelity"] for row in csv.DictReader(io.StringIO(rendered))}
        assert rows == {method: fidelity or "" for method, fidelity in stated.items()}
    else:
        sign = r"$^\circ$" if form == "latex" else "°"
        note = f"Fidelity: account (crh), published (csq, dpn), unstated (own); {sign} marks what is not published."
        assert note in rendered
        for method, fidelity in stated.items():  # one that is the best of its column has the sign beside it
            assert (f"{method} {sign}" in rendered) == (fidelity in ("account", "unstated"))


def test_rows_of_one_method_that_state_different_fidelities_are_named(make):
    results = [
        make(method_version=1, provenance={"fidelity": "reconstructed"}),
        make(method_version=2, seed=0, provenance={"fidelity": "reconstructed"}),
        make(method_version=2, seed=1, provenance={"fidelity": "published", "started": "2026-01-02T00:00:00+00:00"}),
    ]
    assert "Fidelity: published (crh v2), reconstructed (crh v1); °" in Comparison.of(results).render()


@pytest.mark.parametrize("form", FORMS)
def test_tables_are_as_before_where_no_fidelity_is_stated(make, form):
    for provenance in ({}, {"fidelity": "unstated"}):
        rendered = Comparison.of([make(method=method, provenance=provenance) for method in ("crh", "csq")]).render(form)
        assert ("fidelity" in rendered.lower()) == (form == "csv" and provenance != {})
