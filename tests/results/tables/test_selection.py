import pytest
from result_cases import tuned

from hashbench.errors import HashbenchError
from hashbench.results.tables.baseline import Baseline
from hashbench.results.tables.comparison import Comparison, compare
from hashbench.results.tables.selection import select


@pytest.fixture
def results(make):
    return [
        make(method=method, dataset=dataset, protocol=protocol, bits=bits)
        for dataset, protocol in (("toy", "a"), ("toy", "b"), ("other", "a"))
        for method in ("crh", "csq")
        for bits in (16, 32)
    ]


def coords(results, *keys):
    return [*dict.fromkeys(tuple(r.coords[key] for key in keys) for r in results)]


def test_everything_is_kept_in_order_when_nothing_is_named(results):
    assert select(results) == results


def test_names_cut_and_order(results):
    assert coords(select(results, methods=["csq"]), "method") == [("csq",)]
    assert coords(select(results, methods=["csq", "crh"]), "method") == [("csq",), ("crh",)]
    assert coords(select(results, datasets=["toy"]), "dataset", "protocol") == [("toy", "a"), ("toy", "b")]
    assert coords(select(results, datasets=["other", "toy@b"]), "dataset", "protocol") == [("other", "a"), ("toy", "b")]
    assert coords(select(results, bits=[32]), "bits") == [(32,)]
    assert len(select(results, methods=["crh"], datasets=["toy@a"], bits=[16])) == 1


def test_one_row_of_a_method_is_named_as_the_table_names_it(make):
    results = [make(), make(fields={"heads": 1}), make(fields={"heads": 1, "reassign": False}), make(method="csq")]
    rows = lambda *names: [r.coords["fields"] for r in select(results, methods=names)]  # noqa: E731
    assert rows("crh") == [{}, {"heads": 1}, {"heads": 1, "reassign": False}]
    assert rows("crh ()") == [{}]
    assert rows("crh (heads=1, reassign=false)", "crh (heads=1)") == [{"heads": 1, "reassign": False}, {"heads": 1}]
    assert rows("csq ()") == rows("csq") == [{}]


def test_the_baseline_stays_as_the_one_row_that_it_names(make):
    results = [make(), make(fields={"heads": 1}), make(method="csq"), make(method="dpn", fields={"margin": 2})]
    rows = lambda name: [  # noqa: E731
        (r.coords["method"], r.coords["fields"]) for r in select(results, methods=["csq"], baseline=name)
    ]
    assert rows("crh") == rows("crh ()") == [("csq", {}), ("crh", {})]
    assert rows("crh (heads=1)") == [("csq", {}), ("crh", {"heads": 1})]
    assert rows("dpn") == [("csq", {}), ("dpn", {"margin": 2})]  # no plain row: the method
    assert rows("csq") == rows("shc") == [("csq", {})]  # there already, and nowhere


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"methods": ["chr"]}, r"Unknown method 'chr'\. Did you mean 'crh'\?"),
        ({"datasets": ["toy@c"]}, r"Unknown data set 'toy@c'\. Did you mean 'toy@"),
        ({"bits": [64]}, r"Unknown code length '64'\. .* among these results"),
    ],
)
def test_what_no_result_has_is_refused(results, wanted, message):
    with pytest.raises(HashbenchError, match=message):
        select(results, **wanted)


def test_a_published_method_alone_leaves_no_run(results):
    with pytest.raises(HashbenchError, match="No run has all that was asked for"):
        select(results, methods=["HashNet"], known_methods=["HashNet"])
    with pytest.raises(HashbenchError, match="No run has all that was asked for"):
        select(results, methods=["hashnet"], known_methods=["HashNet"])  # a name of ours, without a run


def test_the_filters_of_compare_keep_the_baseline_and_the_paper_s_spelling(tmp_path, make, stored):
    for method in ("crh", "csq", "dpn"):
        stored(make(method=method))
    line = "arXiv:1,t,{},toy@a,x,32,mAP@all,.7,best\n"
    file = tmp_path / "numbers.csv"
    file.write_text("source,where,method,dataset,backbone,bits,measure,value,selection\n"
                    + line.format("CSQ") + line.format("HashNet") + line.format("SHC"))  # fmt: skip
    options = {"methods": ["csq", "HashNet"], "baseline": "crh", "published": file}
    (table,) = compare(tmp_path / "runs", **options).tables
    assert [row.label for row in table.rows] == ["crh", "csq", "CSQ, published", "HashNet, published"]
    (table,) = compare(tmp_path / "runs", methods=["csq ()", "dpn"], published=file).tables
    assert [row.label for row in table.rows] == ["csq", "dpn", "CSQ, published"]


def test_a_row_is_named_by_its_fields_however_it_was_tuned(make):
    best, ablation = tuned(make(), margin=0.1), tuned(make(fields={"reassign": False}))
    assert select([best, ablation], methods=["crh (reassign=false)"]) == [ablation]
    assert select([best, ablation], methods=["crh ()"]) == [best]
    plain = make(fields={"reassign": False})
    assert select([best, ablation, plain], methods=["crh (reassign=false)"]) == [plain]  # the row of just that name
    table = Comparison.of([best, ablation], against=Baseline("crh (reassign=false)")).tables[0]
    assert table.baseline == "crh (reassign=false, tuned)"
    assert Comparison.of([best, ablation], against=Baseline("crh ()")).tables[0].baseline == "crh (tuned)"
