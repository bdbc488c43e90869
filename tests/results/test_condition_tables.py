"""A column for each condition: differences seed by seed, the queries they are of, what was measured on fewer seeds."""

import statistics

import pytest
from scipy import stats

from hashbench.errors import HashbenchError
from hashbench.results.figures.drawing import draw
from hashbench.results.tables.comparison import Comparison
from hashbench.results.tables.conditions import Condition, heads_of
from hashbench.results.tables.significance import paired

PGD = "pgd(eps={}/255, step=2/255, steps=7)"


@pytest.fixture
def measured(make):
    """Results of two methods by seed, as they are and under conditions: a function from {condition: values}."""

    def results(under, method="crh", bits=32):
        return [
            make(
                value,
                method=method,
                seed=seed,
                bits=bits,
                evaluated=f"test, {condition}" if condition != "clean" else "test",
                cell=f"{method}{bits}{condition}",
            )
            for condition, values in under.items()
            for seed, value in enumerate(values)
        ]

    return results


CLEAN = (0.8, 0.82, 0.78, 0.81, 0.79)
WEAK = (0.7, 0.75, 0.65, 0.72, 0.7)
STRONG = (0.3, 0.2, 0.25, 0.2, 0.35)


def table_of(results, **more):
    (table,) = Comparison.of(results, conditions=True, **more).tables
    return table


def test_columns_are_conditions_and_differences_are_of_the_same_seeds(measured):
    results = measured({PGD.format(8): STRONG, PGD.format(2): WEAK, "clean": CLEAN})
    table = table_of([*results, *measured({"clean": (0.9,), PGD.format(2): (0.4,)}, "csq")])
    assert table.column_heads == ("clean", "pgd eps=2/255", "pgd eps=8/255")
    crh, csq = table.rows
    assert [cell.mean for cell in crh.cells] == [pytest.approx(statistics.fmean(v)) for v in (CLEAN, WEAK, STRONG)]
    for cell, values in zip(crh.cells[1:], (WEAK, STRONG), strict=True):
        apart = [a - b for a, b in zip(values, CLEAN, strict=True)]
        assert cell.difference == pytest.approx(statistics.fmean(apart))
        raw = stats.ttest_rel(values, CLEAN).pvalue
        assert cell.p == pytest.approx(min(2 * raw, 1), rel=0.5)  # Holm's factor is 1 or 2
        assert cell.significance == "below"
    assert crh.cells[0].difference is None
    assert [cell.best for cell in csq.cells] == [True, False, False]
    assert [cell.values for cell in csq.cells] == [(0.9,), (0.4,), ()]
    notes = " ".join(sentence for _, sentence in table.notes)
    assert "pgd: step=2/255, steps=7." in notes
    assert "Differences not tested: 1 over fewer than 4 seeds" in notes


def test_a_row_measured_on_fewer_seeds_says_so_and_its_difference_is_of_those(measured):
    table = table_of(measured({"clean": CLEAN, "noise(sigma=0.1)": WEAK[:2]}))
    (row,) = table.rows
    assert row.cells[1].difference == pytest.approx((0.7 - 0.8 + 0.75 - 0.82) / 2)
    assert row.mark == "†"
    assert ("†", "measured on other seeds than clean, to which the differences are on the seeds of both: "
            "crh: noise (2 of 5).") in table.notes  # fmt: skip
    assert "† measured on other seeds" in Comparison.of(measured({"clean": CLEAN, "noise": WEAK[:2]}),
                                                        conditions=True).render("text")  # fmt: skip


def test_differences_over_fewer_seeds_than_their_cells_say_so(measured):
    more = measured({"clean(queries=5)": CLEAN[:2], "noise(sigma=0.1, queries=5)": WEAK, "clean": CLEAN})
    table = table_of(more)
    (row,) = table.rows
    noise = table.column_heads.index("noise")
    assert row.cells[noise].mean == pytest.approx(statistics.fmean(WEAK))
    assert row.cells[noise].difference == pytest.approx((0.7 - 0.8 + 0.75 - 0.82) / 2)
    assert any(sentence.endswith("crh: noise (2 of 5).") for mark, sentence in table.notes if mark == row.mark == "†")


def test_a_row_without_what_it_is_compared_with_says_so(measured):
    some = {"noise(sigma=0.1, queries=5)": (0.5,), "clean": (0.8,)}
    table = table_of([*measured({**some, "clean(queries=5)": (0.6,)}), *measured(some, "csq")])
    assert [row.cells[2].difference is None for row in table.rows] == [False, True]
    notes = [sentence for _, sentence in table.notes if sentence.startswith("Without differences")]
    (note,) = notes
    assert note.startswith("Without differences: noise(sigma=0.1, queries=5) of csq, as there is no clean(queries=5)")


def test_a_condition_on_some_queries_is_compared_with_clean_on_them(measured):
    some = {"noise(sigma=0.1, queries=5)": (0.5,), "clean": (0.8,)}
    without = table_of(measured(some))
    assert without.rows[0].cells[1].difference is None
    assert any("there is no clean(queries=5) of the same queries" in sentence for _, sentence in without.notes)
    both = table_of(measured({**some, "clean(queries=5)": (0.6,)}))
    assert both.column_heads == ("clean", "clean queries=5", "noise")
    assert both.rows[0].cells[2].difference == pytest.approx(-0.1)


def test_each_code_length_has_a_table_and_every_format_shows_it(measured):
    results = [r for bits in (16, 32) for r in measured({"clean": CLEAN, PGD.format(2): WEAK}, bits=bits)]
    comparison = Comparison.of(results, conditions=True)
    assert [table.bits for table in comparison.tables] == [(16, 16), (32, 32)]
    for form, shown in (("text", "↓−0.0960"), ("markdown", " pgd |"), ("latex", r"& pgd \\"), ("html", ">pgd</th>")):
        assert shown in comparison.render(form)
    header, first, second, *_ = comparison.render("csv").splitlines()
    place = header.split(",").index("condition")
    assert [first.split(",")[place], second.split('"')[1]] == ["clean", PGD.format(2)]


def test_without_conditions_and_with_a_baseline_it_is_refused(measured, make):
    with pytest.raises(HashbenchError, match="None of these runs was measured under a condition"):
        Comparison.of([make()], conditions=True)
    from hashbench.results.tables.baseline import Baseline

    with pytest.raises(HashbenchError, match="leave baseline and published out"):
        Comparison.of(measured({"clean": CLEAN, "blur": WEAK}), conditions=True, against=Baseline("crh"))


def test_heads_name_what_differs_and_conditions_sort_by_number():
    texts = ["pgd(eps=16/255, steps=7)", "pgd(eps=2/255, steps=7)", "clean", "blur(sigma=1)"]
    columns = sorted(map(Condition, texts), key=lambda condition: condition.order)
    assert heads_of(columns) == ["clean", "blur", "pgd eps=2/255", "pgd eps=16/255"]


@pytest.mark.parametrize("seed", range(3))
def test_the_paired_test_is_scipys(seed):
    import numpy as np

    first, second = np.random.default_rng(seed).normal(size=(2, 6))
    assert paired([*(first - second)]) == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert paired([0.1]) is None
    assert paired([0.1, 0.1]) is None


def lines_of(figure):
    """Return the points of each labelled line by panel title."""
    return {
        axes.get_title(): {
            line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
            for line in axes.get_lines()
            if not line.get_label().startswith("_")
        }
        for axes in figure.axes
        if axes.get_visible()
    }


def test_the_figure_has_means_over_the_severity_from_clean_on(measured):
    under = {"clean": (0.8, 0.9), PGD.format(2): (0.5, 0.7), PGD.format(16): (0.1, 0.3)}
    jpeg = {"jpeg(quality=10)": (0.4, 0.4), "jpeg(quality=50)": (0.6, 0.6), "blur(sigma=1)": (0.2, 0.2)}
    (drawing,), refusals = draw("robustness", measured({**under, **jpeg}))
    assert not refusals
    found = lines_of(drawing.figure)
    assert [*found] == ["jpeg, 32 bits", "pgd, 32 bits"]  # blur has one severity alone
    x, y = found["pgd, 32 bits"]["crh"]
    assert (x, y) == ([0, 2, 16], [pytest.approx(v) for v in (0.85, 0.6, 0.2)])
    assert found["jpeg, 32 bits"]["crh"][0] == [10, 50]  # a quality of 0 is not clean
    pgd = next(axes for axes in drawing.figure.axes if axes.get_title() == "pgd, 32 bits")
    assert pgd.get_xlabel() == "eps, in 1/255"
    assert len(pgd.collections) == 1  # the band over seeds


def test_the_figure_is_refused_where_no_field_varies(measured):
    for results in (measured({"clean": (0.5,)}), measured({"clean": (0.5,), "blur(sigma=1)": (0.4,)})):
        drawings, (refusal,) = draw("robustness", results)
        assert not drawings
        assert "measure some: hashbench evaluate-run RUNS" in str(refusal)


def test_the_report_has_the_table_and_the_figure(measured):
    from hashbench.results.report import report

    page = report(measured({"clean": (0.8, 0.9), PGD.format(2): (0.5, 0.7), PGD.format(16): (0.1, 0.3)}))
    assert "toy@a: under conditions" in page
    assert ">pgd eps=16/255</button>" in page
    assert 'id="c1-robustness"' in page
    assert "under conditions" not in report(measured({"clean": (0.8, 0.9)}))
