"""What may share a cell, a row, a table, and what the cells say."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from result_cases import tuned

from hashbench.errors import HashbenchError
from hashbench.metrics.histograms import Histograms
from hashbench.metrics.measures import parse
from hashbench.results.sweeps.planned import Planned
from hashbench.results.tables.baseline import Baseline
from hashbench.results.tables.blocks import blocks
from hashbench.results.tables.comparison import Comparison, compare
from hashbench.results.tables.description import describe
from hashbench.results.tables.selection import each_once, select, select_planned


def cells(comparison):
    """Return {(title and caption, row label, bits): values}."""
    return {
        (f"{table.title}, {table.caption}", row.label, bits): cell.values
        for table in comparison.tables
        for row in table.rows
        for bits, cell in zip(table.bits, row.cells, strict=True)
    }


def test_a_cell_is_mean_and_sample_deviation_over_seeds(make):
    (table,) = Comparison.of([make(value, seed=seed) for seed, value in enumerate([0.1, 0.2, 0.6])]).tables
    ((cell,),) = [row.cells for row in table.rows]
    assert cell.values == (0.1, 0.2, 0.6)
    assert cell.mean == pytest.approx(0.3)
    assert cell.std == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1))


def test_one_seed_has_no_deviation_and_none_no_mean(make):
    (table,) = Comparison.of([make(bits=8), make(bits=16, method="csq")]).tables
    crh, csq = table.rows
    assert crh.cells[0].std is None
    assert crh.cells[1].values == ()
    assert np.isnan(crh.cells[1].mean)
    assert csq.cells[0].values == ()


def test_rows_are_methods_and_columns_ascending_bits(make):
    results = [make(method=method, bits=bits) for method in ("shc", "crh") for bits in (64, 8, 16)]
    (table,) = Comparison.of(results).tables
    assert table.bits == (8, 16, 64)
    assert [row.label for row in table.rows] == ["shc", "crh"]


def test_variants_of_a_method_stand_together_the_plain_one_first(make):
    fields = [{"reassign": False}, {}, {"heads": 1}]
    results = [make(fields=fields[0]), make(method="csq"), *(make(fields=field) for field in fields[1:])]
    (table,) = Comparison.of(results).tables
    assert [row.label for row in table.rows] == ["crh", "crh (heads=1)", "crh (reassign=false)", "csq"]


# What keeps runs apart


APART = [
    {"recipe": "scratch(epochs=5)"},
    {"backbone": "resnet34"},
    {"dataset": "other"},
    {"protocol": "b"},
    {"evaluated": "validation"},
    {"engine": 2},
    {"epochs": 5},
    {"ties": "optimistic"},
    {"provenance": {"split_sha256": "f" * 64}},
    {"provenance": {"data_integrity": "f" * 64}},
    {"provenance": {"weights_sha256": "f" * 64}},
]


@pytest.mark.parametrize("change", APART, ids=str)
def test_runs_that_differ_never_share_a_table(make, change):
    comparison = Comparison.of([make(0.1), make(0.9, seed=1), make(0.5, seed=2, **change)])
    assert [[row.cells[0].values for row in table.rows] for table in comparison.tables] == [[(0.1, 0.9)], [(0.5,)]]
    first, second = (f"{table.title}, {table.caption}" for table in comparison.tables)
    assert first.split("mean ±")[0] != second.split("one seed")[0]  # and the captions say why
    assert comparison.problems == ()


@pytest.mark.parametrize(
    "change",
    [{"fields": {"reassign": False}}, {"method_version": 2}, {"method": "csq"}, {"inputs": "features"}],
    ids=str,
)
def test_variants_of_a_method_share_a_table_but_no_row(make, change):
    (table,) = Comparison.of([make(0.1), make(0.9, seed=1), make(0.5, seed=2, **change)]).tables
    assert sorted(row.cells[0].values for row in table.rows) == [(0.1, 0.9), (0.5,)]
    assert len({row.label for row in table.rows}) == 2


def test_a_row_names_the_fields_that_differ_from_the_defaults(make):
    fields = {"solver": "hungarian", "reassign": False, "scale": None, "margin": 0.3}
    (table,) = Comparison.of([make(fields=fields), make(method_version=2)]).tables
    assert [row.label for row in table.rows] == [
        "crh v1 (margin=0.3, reassign=false, scale=null, solver=hungarian)",
        "crh v2",
    ]


def test_a_coordinate_that_a_later_version_adds_keeps_runs_apart_too(make):
    later = make(0.9, seed=1)
    later.coords["crops"] = 10
    comparison = Comparison.of([make(0.1), later])
    assert [table.rows[0].cells[0].values for table in comparison.tables] == [(0.1,), (0.9,)]
    assert "crops 10" in comparison.tables[1].caption


def test_the_caption_names_what_the_numbers_depend_on(make):
    (table,) = Comparison.of([make(seed=seed, evaluated="validation", epochs=7) for seed in range(3)]).tables
    assert table.title == "toy@a: mAP@all"
    assert table.caption == (
        "backbone resnet-small, recipe scratch, last epoch of 7, validation queries, ties expected, "
        "mean ± std (n) over 3 seeds."
    )


def test_reference_rows_share_the_table_with_a_mark(make):
    results = [
        make(0.5),
        make(0.2, method="itq", inputs="pixels", epochs=0),
        make(0.3, method="lsh", inputs="features", epochs=0),
    ]
    (table,) = Comparison.of(results).tables
    assert [(row.label, row.mark) for row in table.rows] == [("crh", ""), ("itq", "†"), ("lsh", "‡")]
    assert table.notes == (
        ("†", "learned from raw pixels, the others from images."),
        ("‡", "learned from fixed features, the others from images."),
    )


def test_a_row_without_epochs_stands_beside_every_number_of_epochs(make):
    results = [make(0.5, epochs=5), make(0.6, epochs=20), make(0.2, method="itq", inputs="pixels", epochs=0)]
    first, second = Comparison.of(results).tables
    assert [row.cells[0].values for row in first.rows] == [(0.5,), (0.2,)]
    assert [row.cells[0].values for row in second.rows] == [(0.6,), (0.2,)]
    (alone,) = Comparison.of(results[2:]).tables
    assert "no epochs" in alone.caption
    assert "learned from raw pixels" in alone.caption


# Doubtful runs


def test_a_run_found_twice_counts_once(make):
    result = make(0.5)
    comparison = Comparison.of([result, result, make(0.7, seed=1)])
    assert comparison.tables[0].rows[0].cells[0].values == (0.5, 0.7)
    assert comparison.problems == ()
    assert len(comparison.records) == 2


def test_a_copy_with_other_numbers_is_a_problem(make):
    comparison = Comparison.of([make(0.5, id="ab"), make(0.6, id="ab")])
    assert comparison.tables[0].rows[0].cells[0].values == (0.5,)
    assert "different numbers" in comparison.problems[0]


def test_a_copy_with_other_bounds_is_a_problem(make):
    first, other = make(0.5, id="ab"), replace(make(0.5, id="ab"), bounds={"mAP@all": (0.4, 0.6)})
    assert "different numbers" in Comparison.of([first, other]).problems[0]
    assert not Comparison.of([first, replace(first, time={"train": 9.0})]).problems
    rounded = replace(first, bounds={"mAP@all": (0.4, 0.6)})
    assert not Comparison.of([rounded, replace(rounded, bounds={"mAP@all": (0.4, 0.6000000000000001)})]).problems


def test_of_copies_one_with_histograms_is_taken(make, stored):
    whole = stored(make(0.5), n=np.zeros(1))
    bare = replace(whole, path=None)
    assert each_once([bare, whole]) == [whole]
    assert each_once([whole, bare]) == [whole]
    assert each_once([bare, replace(whole, metrics={"mAP@all": 0.6})]) == [bare]


@pytest.mark.parametrize("seed", [0, 1])
def test_runs_of_another_identity_are_not_averaged(make, seed):
    old = make(0.5, cell="old", seed=seed, provenance={"started": "2026-01-01"})
    new = make(0.6, cell="new", provenance={"started": "2026-02-01"})
    for order in ([old, new], [new, old]):
        comparison = Comparison.of(order)
        assert comparison.tables[0].rows[0].cells[0].values == (0.6,)
        assert "which differ in something" in comparison.problems[0]


@pytest.mark.parametrize(("key", "owner"), [("source_sha256", "method"), ("backbone_sha256", "backbone")])
def test_seeds_from_two_states_of_the_source_are_a_problem(make, key, owner):
    runs = [make(seed=seed, provenance={key: str(seed) * 64}) for seed in range(2)]
    (problem,) = Comparison.of(runs).problems
    assert f"different source code of the {owner}" in problem


def test_runs_from_before_backbones_had_a_source_share_a_cell_with_later_ones(make):
    assert Comparison.of([make(), make(seed=1, provenance={"backbone_sha256": "1" * 64})]).problems == ()


# Best of a column


def best(comparison):
    return [[cell.best for cell in row.cells] for table in comparison.tables for row in table.rows]


def test_the_best_of_each_column_is_marked(make):
    results = [make(0.3, bits=8), make(0.5, bits=16), make(0.4, bits=8, method="csq"), make(0.4, bits=16, method="csq")]
    assert best(Comparison.of(results)) == [[False, True], [True, False]]


def test_cells_that_print_the_same_are_both_best(make):
    assert best(Comparison.of([make(0.50001), make(0.50002, method="csq")])) == [[True], [True]]


def test_the_second_best_is_marked_where_there_is_a_third(make):
    values = {"crh": 0.5, "csq": 0.40001, "dpn": 0.40002, "itq": 0.2}
    rows = {row.label: row for row in Comparison.of([make(v, method=m) for m, v in values.items()]).tables[0].rows}
    assert [label for label, row in rows.items() if row.cells[0].second] == ["csq", "dpn"]
    (table,) = Comparison.of([make(0.5), make(0.4, method="csq")]).tables
    assert not any(row.cells[0].second for row in table.rows)


def test_alone_in_a_column_is_not_best(make):
    assert best(Comparison.of([make()])) == [[False]]
    assert best(Comparison.of([make(bits=8), make(bits=16, method="csq")])) == [[False, False], [False, False]]


# Measures


@pytest.fixture
def histograms():
    rng = np.random.default_rng(0)
    n = rng.integers(0, 9, (5, 33))
    return Histograms(n, rng.binomial(n, 0.4))


def test_the_default_measure_is_the_data_set_s(make):
    metrics = {"mAP@all": 0.1, "P@100": 0.2}
    tables = Comparison.of([make(metrics=metrics), make(metrics=metrics, dataset="b", measure="P@100")]).tables
    assert [(table.title, table.rows[0].cells[0].values) for table in tables] == [
        ("toy@a: mAP@all", (0.1,)),
        ("b@a: P@100", (0.2,)),
    ]


def test_the_default_measure_keeps_nothing_apart_when_another_is_asked_for(make):
    metrics = {"mAP@all": 0.1, "P@100": 0.2}
    results = [make(metrics=metrics), make(metrics=metrics, seed=1, measure="P@100")]
    (table,) = Comparison.of(results, measures=["mAP@all"]).tables
    assert table.rows[0].cells[0].values == (0.1, 0.1)
    assert [table.title for table in Comparison.of(results).tables] == ["toy@a: mAP@all", "toy@a: P@100"]


def test_measures_are_recomputed_from_the_histograms_where_they_are_not_stored(make, stored, histograms):
    result = stored(make(0.5), **histograms.arrays())
    comparison = Comparison.of([result], measures=["mAP@all", "mAP@7/hits", "P@H2"])
    assert [table.title for table in comparison.tables] == ["toy@a: mAP@all", "toy@a: mAP@7/hits", "toy@a: P@H<=2"]
    values = [table.rows[0].cells[0].values for table in comparison.tables]
    assert values[0] == (0.5,)  # as stored
    assert values[1] == (parse("mAP@7/hits").value(histograms),)
    assert values[2] == (parse("P@H<=2").value(histograms),)
    record = comparison.records[1]
    assert (record["lower"], record["upper"]) == parse("mAP@7/hits").bounds(histograms)
    assert comparison.records[2]["lower"] is None


def test_recomputed_measures_follow_the_tie_rule_of_the_run(make, stored, histograms):
    result = stored(make(ties="pessimistic"), **histograms.arrays())
    comparison = Comparison.of([result], measures=["mAP@7/hits"])
    assert comparison.records[0]["value"] == parse("mAP@7/hits").value(histograms, ties="pessimistic")
    assert comparison.records[0]["value"] != parse("mAP@7/hits").value(histograms)


def test_a_measure_that_cannot_be_had_is_missing_and_told_once(make, stored, histograms):
    whole = stored(make(), **histograms.arrays())
    bare = [stored(make(seed=seed)) for seed in (1, 2)]
    corrupt = stored(make(seed=3), **histograms.arrays())
    (corrupt.path / "histograms.npz").write_bytes(b"torn")
    comparison = Comparison.of([*bare, corrupt, whole], measures=["P@10"])
    assert comparison.tables[0].rows[0].cells[0].values == (parse("P@10").value(histograms),)
    (problem,) = comparison.problems
    assert problem.startswith(f"P@10 is unknown for 3 of 4 runs; the first: There is no {bare[0].path}")


def test_a_null_measure_without_histograms_is_missing(make):
    comparison = Comparison.of([make(metrics={"mAP@all": None})])
    assert comparison.tables[0].rows[0].cells[0].values == ()
    assert "mAP@all is unknown for 1 of 1 run" in comparison.problems[0]


@pytest.mark.parametrize(("name", "message"), [("mAP@1000/hit", "'mAP@1000/hit'"), ("PR", "is a curve")])
def test_what_is_no_measure_is_refused(make, name, message):
    with pytest.raises(HashbenchError, match=message):
        Comparison.of([make()], measures=[name])


# Folders


def test_compare_reads_folders(tmp_path, make, stored):
    stored(make(0.25))
    broken = stored(make(seed=1)).path / "result.json"
    broken.write_text("")
    comparison = compare(tmp_path / "runs")
    assert comparison.tables[0].rows[0].cells[0].values == (0.25,)
    assert str(broken) in comparison.problems[0]


def test_compare_without_a_finished_run(tmp_path, monkeypatch):
    with pytest.raises(HashbenchError, match=r"no readable finished run below .*; start one with `hashbench run`"):
        compare(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HashbenchError, match="There is no folder runs"):
        compare()


def test_an_empty_comparison_renders_to_nothing():
    comparison = Comparison.of([])
    assert comparison.tables == ()
    assert comparison.render("text") == ""


def test_cells_hold_the_mean_bounds_of_ties_and_rows_their_cost(make):
    (table,) = Comparison.of([make(0.5), make(0.7, seed=1), make(0.1, bits=64, metrics={"mAP@all": 0.1})]).tables
    (row,) = table.rows
    assert row.cells[0].bounds == pytest.approx((0.59, 0.61))
    assert row.cells[1].bounds is None
    assert (row.cost.train_s, row.cost.prepare_s, row.cost.images_per_s) == (12.5, None, 1000.0)
    assert row.cost.peak_memory_mb is None


def test_comparing_imports_neither_torch_nor_scipy_nor_matplotlib():
    heavy = "[m for m in ('torch', 'scipy', 'matplotlib') if m in sys.modules]"
    code = f"import sys, hashbench.results.tables.comparison; print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_one_result_is_described(make):
    text = describe(make(0.5, fields={"reassign": False}, provenance={"git": {"dirty": True}, "weights": None}))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "crh (reassign=false) on toy@a, 32 bits, seed 0"
    assert lines[1] == "backbone resnet-small, recipe scratch, last epoch of 20, test queries, ties expected"
    assert "mAP@all 0.5000 0.4900 0.5100" in lines
    for line in ("counts queries 10", "database 90", "seconds train 12.5000", "git dirty yes", "weights —"):
        assert line in lines


def test_rows_whose_items_all_have_one_code_are_marked(make):
    made = [(make(method="csq", seed=0), 1), (make(method="csq", seed=1), 5), (make(), 9)]
    table = Comparison.of([replace(result, code_stats={"distinct_codes": count}) for result, count in made]).tables[0]
    assert {row.label: row.mark for row in table.rows} == {"crh": "", "csq": "†"}
    assert ("†", "all items have one code in 1 of 2 runs (csq).") in table.notes


def tuning_note(*results):
    (note,) = [text for _, text in Comparison.of(results).tables[0].notes if text.startswith("Tuned")]
    return note


def test_equal_budgets_of_several_rows_are_said_once(make):
    three = [tuned(make(method="crh"), 3.0, rate=0.1), tuned(make(method="csq"), 200.0),
             tuned(make(method="shc"), 8.0, rate=0.1)]  # fmt: skip
    assert tuning_note(*three, make(method="dpn")) == (
        "Tuned on validation queries: 5 trials at 32 bits for each row, in 3 s to 3 min. "
        "Found: as it is: csq; recipe.learning_rate=0.1: crh, shc. Not tuned: dpn."
    )
    assert "for each row, in 3 s. Found" in tuning_note(three[0], tuned(make(method="dpn"), 3.0))
    other = tuning_note(*three, tuned(make(method="dpn"), 1.0, trials=4))
    assert other.endswith("The tuned rows had different numbers of trials.")
    assert "crh: 5 trials at 32 bits in 3 s, found recipe.learning_rate=0.1; csq: 5 trials at 32 bits in 3 min" in other


def test_a_tuned_row_is_called_so_unless_another_would_be_too(make):
    def labels(*results):
        return [row.label for row in Comparison.of(results).tables[0].rows]

    crh, csq = tuned(make(), margin=0.3, rate=0.1), tuned(make(method="csq"), trials=9)
    assert labels(make(), crh, csq) == ["crh", "crh (tuned)", "csq (tuned)"]
    full = "crh (margin=0.3, recipe.learning_rate=0.1, tuned over 5 trials)"
    other = tuned(make(), margin=0.4)
    assert labels(crh, csq, other) == [full, "crh (margin=0.4, tuned over 5 trials)", "csq (tuned)"]
    for name in ("crh (tuned)", full, "crh ()"):
        assert select([crh, csq], methods=[name]) == [crh]
        assert Comparison.of([crh, csq], against=Baseline(name)).tables[0].baseline == "crh (tuned)"
    with pytest.raises(HashbenchError, match="may be any of"):
        Comparison.of([crh, other], against=Baseline("crh (tuned)"))


def test_a_value_that_was_given_and_one_that_was_found_are_two_rows(make):
    found = tuned(make(), margin=0.3)
    given = tuned(make(fields={"margin": 0.3}))
    for results in ([found, given], [given, found]):
        assert [row.label for row in Comparison.of(results).tables[0].rows] == [
            "crh (margin=0.3, tuned)",
            "crh (tuned)",
        ]
        (block,) = blocks(results)
        assert [*block.rows(short=False)] == ["crh (margin=0.3, tuned over 5 trials)"]


def test_runs_that_are_missing_are_named_however_their_row_is_asked_for(make):
    result = tuned(make(), rate=0.1)
    row = "crh (recipe.learning_rate=0.1, tuned over 5 trials)"
    place = Path("runs/d@p/crh/16b/s0-0")
    cell, lone = (Planned(place, frozenset(), False, cell, row, "d@p") for cell in (result.coords["cell"], "other"))
    for name in ("crh", "crh (tuned)", row):
        assert select_planned([cell, lone], methods=[name], beside=[result]) == [cell, lone]
    assert select_planned([cell, lone], methods=["crh ()"], beside=[result]) == [cell]
    assert select_planned([cell, lone], methods=["csq"]) == []
