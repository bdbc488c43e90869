"""Layouts: percent, digits, no n, wide and transposed tables, hold what the runs hold, and say what is left out."""

import csv
import io
import re
import statistics
import sys
from itertools import product

import pytest
from test_render import Tags, compiled, needs_latex

from hashbench.cli import base
from hashbench.errors import HashbenchError
from hashbench.results.tables.baseline import Baseline
from hashbench.results.tables.comparison import Comparison
from hashbench.results.tables.published import PublishedNumber

VALUES = {"crh": 0.8123, "csq": 0.8119, "itq": 0.4}
MEASURES = ("mAP@all", "P@H<=2")


def value_of(method, dataset, bits, measure):
    return VALUES[method] - 0.1 * (dataset == "other") - bits / 1000 - 0.05 * (measure != MEASURES[0])


@pytest.fixture
def results(make):
    """Three methods on two data sets at two lengths under two measures, three seeds; itq only on one data set."""
    found = []
    for method, dataset, bits, seed in product(VALUES, ("toy", "other"), (16, 32), (0, 1, 2)):
        if (method, dataset) != ("itq", "other"):
            coords = {"method": method, "dataset": dataset, "bits": bits, "seed": seed}
            result = make(value_of(method, dataset, bits, MEASURES[0]) + (seed - 1) / 100, **coords)
            result.metrics[MEASURES[1]] = value_of(method, dataset, bits, MEASURES[1]) + (seed - 1) / 100
            found.append(result)
    return found


def rows_of(text):
    """Return the cells of the lines of a text's tables."""
    lines = [re.split(r"  +", line.strip()) for line in text.splitlines()]
    return [line for line in lines if len(line) > 2 and not set(line[0]) <= {"-"}]


def test_percent_and_digits(results):
    (table, _) = Comparison.of(results).tables
    text = Comparison.of(results).render(percent=True)
    assert table.rows[0].cells[0].mean == pytest.approx(0.7963)
    assert "79.6 ± 1.0 (3)" in text
    assert "Cells are in percent: 81.2 is a value of 0.812." in text
    assert "79.63 ± 1.00 (3)" in Comparison.of(results).render(percent=True, digits=2)
    assert "0.80 ± 0.01 (3)" in (text := Comparison.of(results).render(digits=2))
    assert "percent" not in text


def test_the_best_is_the_best_at_the_digits_that_are_shown(results):
    best = [line.count("*") for line in Comparison.of(results).render().splitlines() if line[:3] in VALUES]
    assert best == [2, 0, 0, 2, 0]
    best = [line.count("*") for line in Comparison.of(results).render(digits=2).splitlines() if line[:3] in VALUES]
    assert best == [2, 2, 0, 2, 2]  # 0.8123 and 0.8119 print the same


def test_what_has_no_rank_is_not_the_best_in_another_notation(make):
    number = PublishedNumber("arXiv:1", "table 2", "SHC", "toy@a", "alex_net", 16, "mAP@all", 0.99, "last epoch")
    results = [make(0.5, bits=16), make(0.4, bits=16, method="csq"), make(0.9, bits=16, method="mf")]
    results[2].provenance["codes"] = "none"
    text = Comparison.of(results, published=[number]).render(percent=True)
    assert re.findall(r"\*(\d\d\.\d)", text) == ["50.0"]


def test_differences_in_percent_are_points(results):
    text = Comparison.of(results, against=Baseline("csq")).render(percent=True, digits=2)
    assert "+0.04" in text
    assert "in percentage points." in text
    assert "in units" not in text


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "html"])
def test_without_n_the_caption_has_it_once(results, form):
    rendered = Comparison.of(results).render(form, counts=False)
    assert "(3)" not in rendered
    assert "(n)" not in rendered
    assert " ".join(rendered.split()).count("std over 3 seeds") == 2  # tables
    assert "Fewer" not in rendered


def test_without_n_the_cells_of_fewer_seeds_are_named(results):
    results = [r for r in results if (r.coords["method"], r.coords["bits"], r.coords["seed"]) != ("csq", 32, 2)]
    text = Comparison.of(results).render(counts=False, wide=True)
    assert "Fewer than 3 seeds: csq at toy@a, 32 bits (2), csq at other@a, 32 bits (2)." in " ".join(text.split())
    assert "(n)" not in text


@pytest.mark.parametrize("transpose", [False, True])
def test_a_wide_table_has_every_cell_of_the_others(results, transpose):
    comparison = Comparison.of(results, measures=MEASURES)
    assert len(comparison.tables) == 4
    html = comparison.render("html", wide=True, transpose=transpose, counts=False)
    rows = [row for row in Tags(html).rows if row[0] in (*VALUES, "") or "@a" in row[0]]
    columns = [*product(("toy", "other"), MEASURES, (16, 32))]
    if transpose:
        assert rows[0] == ["", *VALUES]
        assert [row[0] for row in rows[1:]] == [f"{d}@a, {m}, {b} bits" for d, m, b in columns]
        rows = [list(column) for column in zip(*rows, strict=True)]
        found = {row[0]: row[1:] for row in rows[1:]}
    else:
        found = {row[0]: row[1:] for row in rows if row[0] in VALUES}
        assert rows[0] == ["", "toy@a, mAP@all", "toy@a, P@H<=2", "other@a, mAP@all", "other@a, P@H<=2"]
    for method in VALUES:
        for (name, measure, bits), cell in zip(columns, found[method], strict=True):
            of = [r.metrics[measure] for r in results
                  if (r.coords["method"], r.coords["dataset"], r.coords["bits"]) == (method, name, bits)]  # fmt: skip
            expected = f"{statistics.fmean(of):.4f} ± {statistics.stdev(of):.4f}" if of else "—"
            assert cell == expected


def test_transposed_text_names_the_best_of_a_row(results):
    text = Comparison.of(results).render(transpose=True, counts=False)
    assert rows_of(text)[:2] == [
        ["crh", "csq", "itq"],
        ["16 bits", "*0.7963 ± 0.0100", "0.7959 ± 0.0100", "0.3840 ± 0.0100"],
    ]
    assert "* best of its row." in text


def test_footnotes_of_a_wide_table_say_of_which_data_set_they_are(make):
    results = [make(method=m, dataset=d) for m in ("crh", "itq") for d in ("toy", "other")]
    pixels = {"inputs": "pixels", "epochs": 0, "method": "lsh"}
    results += [make(dataset="toy", **pixels), make(dataset="other", fields={"a": 1}, **pixels)]
    numbers = [
        PublishedNumber("arXiv:1", f"table {d}", "SHC", f"{d}@a", "alex_net", 32, "mAP@all", 0.99, "last epoch")
        for d in ("toy", "other")
    ]
    text = " ".join(Comparison.of(results, published=numbers).render(wide=True).split())
    assert "lsh †" in text
    assert "lsh (a=1) †" in text
    assert "† learned from raw pixels, the others from images." in text  # of both
    assert "SHC, published ‡ §" in text
    assert "‡ toy@a: printed in arXiv:1, table toy" in text
    assert "§ other@a: printed in arXiv:1, table other" in text


def test_captions_that_differ_stand_below(results, make):
    text = " ".join(Comparison.of([*results, make(dataset="third", recipe="finetune")]).render(wide=True).split())
    assert "3 data sets: mAP@all conditions of the columns below." in text
    assert "toy@a; other@a: backbone resnet-small, recipe scratch" in text
    assert "third@a: backbone resnet-small, recipe finetune" in text


def test_tables_of_one_data_set_and_measure_are_not_joined(results, make):
    comparison = Comparison.of([*results, make(recipe="finetune")])
    with pytest.raises(HashbenchError, match=r"two: \"backbone .*recipe scratch.*\" and \"backbone .*recipe finetune"):
        comparison.render(wide=True)


def test_what_does_not_go_together_is_refused(results):
    comparison = Comparison.of(results)
    for options in ({"percent": True}, {"digits": 4}, {"counts": False}, {"wide": True}, {"transpose": True}):
        with pytest.raises(HashbenchError, match="csv has a line for each cell"):
            comparison.render("csv", **options)
    with pytest.raises(HashbenchError, match="0 to 8 decimal digits, not 9"):
        comparison.render(digits=9)
    with pytest.raises(HashbenchError, match="Costs are those of one data set"):
        comparison.render(wide=True, cost=True)
    with pytest.raises(HashbenchError, match="shows no differences"):
        Comparison.of(results, against=Baseline("csq")).render(wide=True)


@needs_latex
def test_wide_latex_compiles(results, tmp_path):
    comparison = Comparison.of(results, measures=MEASURES)
    wide = comparison.render("latex", wide=True, percent=True, counts=False)
    assert r"\multicolumn{2}{c}{toy@a, mAP@all} & \multicolumn{2}{c}{toy@a, P@H$<$=2}" in wide
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-5} \cmidrule(lr){6-7} \cmidrule(lr){8-9}" in wide
    turned = comparison.render("latex", wide=True, transpose=True)
    compiled(wide + "\n" + turned, tmp_path)


@pytest.mark.parametrize("width", [30, 60, 100])
def test_a_table_that_is_too_wide_is_broken_into_groups_of_columns(results, width):
    comparison = Comparison.of(results, measures=MEASURES)
    text = comparison.render(wide=True, width=width)
    whole = rows_of(comparison.render(wide=True))
    assert max(map(len, text.splitlines())) <= width
    for method in VALUES:
        (row,) = (row for row in whole if row[0] == method)
        broken = [cell for line in text.splitlines() if line.startswith(method) for cell in re.split("  +", line)[1:]]
        assert broken == row[1:]
    assert text.count("* best of its column.") == 1
    assert comparison.render(wide=True, width=1000) == comparison.render(wide=True)


def test_one_column_is_shown_however_narrow_the_terminal(results):
    lines = Comparison.of(results).render(width=5).splitlines()
    assert sum(line.split()[0] == "crh" for line in lines if line) == 4


def test_only_a_terminal_has_its_width_and_bold(results, stored, cli, monkeypatch):
    for result in results:
        stored(result)
    plain = cli("compare").stdout
    assert "\x1b" not in plain
    shown = []
    monkeypatch.setattr(Comparison, "render", lambda self, form, **options: shown.append(options) or "")
    monkeypatch.setattr(base.shutil, "get_terminal_size", lambda: base.os.terminal_size((40, 20)))
    monkeypatch.delenv("NO_COLOR", raising=False)
    for terminal, no_color in ((True, ""), (True, "1"), (False, "")):
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setattr(
            "hashbench.cli.compare.terminal", lambda terminal=terminal: _terminal(monkeypatch, terminal)
        )
        cli("compare")
    assert [(o["width"], o["bold"]) for o in shown] == [(40, True), (40, False), (None, False)]


def _terminal(monkeypatch, is_one):
    with monkeypatch.context() as patched:
        patched.setattr(sys.stdout, "isatty", lambda: is_one, raising=False)
        return base.terminal()


def test_bold_changes_no_other_letter(results):
    comparison = Comparison.of(results)
    bold = comparison.render(bold=True)
    assert re.findall(r"\x1b\[1m(\S+)", bold)[0] == "*0.7963"
    assert re.sub(r"\x1b\[\d*m", "", bold) == comparison.render()


def test_the_command_has_all_layouts(results, stored, cli):
    for result in results:
        stored(result)
    options = ("--percent", "--digits", 2, "--no-n", "--wide", "--transpose", "--measure", ",".join(MEASURES))
    out = cli("compare", *options).stdout
    assert ["toy@a, mAP@all, 16 bits", "*79.63 ± 1.00", "79.59 ± 1.00", "38.40 ± 1.00"] in rows_of(out)
    assert len(list(csv.DictReader(io.StringIO(cli("compare", "--format", "csv").stdout)))) == 10
    assert "csv has a line" in cli("compare", "--format", "csv", "--wide", code=2).stderr
