"""Papers' numbers: the file, its reader, and where they stand in a table."""

import pytest

from hashbench.errors import HashbenchError
from hashbench.registry import DATASETS
from hashbench.results.tables.baseline import Baseline
from hashbench.results.tables.comparison import Comparison
from hashbench.results.tables.published import PUBLISHED, read_published

HEAD = "source,where,method,dataset,backbone,bits,measure,value,selection\n"
LINE = "arXiv:1,table 2,CSQ,toy@a,alexnet,32,mAP@all,.75,best epoch on the query set\n"


@pytest.fixture
def file(tmp_path):
    def write(text):
        (tmp_path / "numbers.csv").write_text(text)
        return tmp_path / "numbers.csv"

    return write


def test_the_file_that_comes_along_is_right():
    numbers = read_published()
    assert len(numbers) == len(PUBLISHED.read_text().splitlines()) - 1 > 400
    shc = [
        n for n in numbers if (n.method, n.dataset, n.bits, n.measure) == ("SHC", "cifar100@45k", 64, "mAP@1000/hits")
    ]
    assert [(n.source, n.where, n.value) for n in shc] == [("arXiv:2507.08404", "table 5", 0.617)]


def test_data_sets_that_are_here_have_the_protocols_that_the_file_names():
    for name in sorted({number.dataset for number in read_published()}):
        dataset, _, protocol = name.partition("@")
        if dataset in DATASETS.entries():
            assert protocol in {p.name for p in DATASETS.get(dataset).protocols}, name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with the line source,where,"),
        ("method,value\n", "must begin with the line"),
        (HEAD + LINE.replace("toy@a", "toy"), "line 2: the data set 'toy' has no protocol"),
        (HEAD + LINE + LINE.replace("32", "0"), "line 3: bits are '0'"),
        (HEAD + LINE.replace("32", "x"), "bits are 'x'"),
        (HEAD + LINE.replace(".75", "75.0"), "'75.0' lies outside"),
        (HEAD + LINE.replace(".75", "nan"), "'nan' lies outside"),
        (HEAD + LINE.replace(".75", "high"), "'high' lies outside"),
        (HEAD + LINE.replace("mAP@all", "mAP@1000"), "does not say what it divides by"),
        (HEAD + LINE.replace("mAP@all", "P@H2"), "the measure 'P@H2' is written P@H<=2"),
        (HEAD + LINE.replace("arXiv:1", ""), "source is empty"),
        (HEAD + LINE.replace("\n", ",more\n"), "more or fewer values"),
        (HEAD + "arXiv:1,table 2\n", "more or fewer values"),
        (HEAD + LINE + LINE.replace(".75", ".76"), "line 3: this number stands there already"),
        (HEAD + LINE.replace("CSQ", '"CSQ'), "cannot be read"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(file, text, message):
    with pytest.raises(HashbenchError) as error:
        read_published(file(text))
    assert message in str(error.value)
    assert "numbers.csv" in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(HashbenchError, match="cannot be read"):
        read_published(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(HEAD.encode() + b"\xff\xfe")
    with pytest.raises(HashbenchError, match="cannot be read"):
        read_published(tmp_path / "latin.csv")


def test_published_rows_stand_last_with_what_differs(make, file):
    numbers = read_published(
        file(HEAD + LINE + LINE.replace(",32,", ",64,").replace(".75", ".8") + LINE.replace("CSQ", "SHC"))
    )
    results = [make(0.5, bits=16), make(0.5, bits=32), make(0.2, bits=32, method="itq", inputs="pixels", epochs=0)]
    (table,) = Comparison.of(results, published=numbers).tables
    assert [(row.label, row.mark, row.published) for row in table.rows] == [
        ("crh", "", False),
        ("itq", "†", False),
        ("CSQ, published", "‡", True),
        ("SHC, published", "‡", True),
    ]
    assert [cell.values for cell in table.rows[2].cells] == [(), (0.75,)]  # 64 bits were not run
    assert table.rows[2].source == "arXiv:1, table 2"
    (note,) = [sentence for mark, sentence in table.notes if mark == "‡"]
    for words in (
        "printed in arXiv:1, table 2",
        "backbone alexnet (here resnet-small)",
        "best epoch on the query set (here last epoch)",
        "neither ranked nor tested",
    ):
        assert words in note


def test_other_conditions_have_notes_of_their_own(make, file):
    numbers = read_published(file(HEAD + LINE + LINE.replace("table 2", "table 3").replace("alexnet", "resnet-small")))
    (table,) = Comparison.of([make()], published=numbers).tables
    assert [row.mark for row in table.rows] == ["", "†", "‡"]
    assert "backbone resnet-small, epoch" in table.notes[1][1]  # nothing to tell apart


def test_published_numbers_are_never_best_nor_tested(make, file):
    numbers = read_published(file(HEAD + LINE))
    results = [make(v + s / 100, method=m, seed=s) for m, v in {"crh": 0.5, "dpn": 0.4}.items() for s in range(4)]
    (table,) = Comparison.of(results, published=numbers, against=Baseline("crh")).tables
    crh, _dpn, csq = table.rows
    assert crh.cells[0].best
    assert csq.cells[0].values == (0.75,)
    cell = csq.cells[0]
    assert (cell.best, cell.second, cell.difference, cell.p, cell.std) == (False, False, None, None, None)
    with pytest.raises(HashbenchError, match="Unknown baseline 'CSQ'"):
        Comparison.of(results, published=numbers, against=Baseline("CSQ"))


@pytest.mark.parametrize(
    "change", [{"dataset": "toys"}, {"protocol": "b"}, {"evaluated": "validation"}, {"bits": 48}], ids=str
)
def test_numbers_of_another_task_are_left_out_and_told(make, file, change):
    comparison = Comparison.of([make(**change)], published=read_published(file(HEAD + LINE)))
    assert [row.label for row in comparison.tables[0].rows] == ["crh"]
    (problem,) = comparison.problems
    known = "nothing" if "dataset" in change else "toy@a mAP@all at 32 bits"
    assert problem.endswith(f"for these images there is {known}.")


def test_another_measure_is_another_number(make, file):
    metrics = {"mAP@1000/R": 0.4}
    numbers = read_published(file(HEAD + LINE.replace("mAP@all", "mAP@1000/hits")))
    comparison = Comparison.of([make(metrics=metrics)], measures=["mAP@1000/R"], published=numbers)
    assert len(comparison.tables[0].rows) == 1
    assert "mAP@1000/hits at 32 bits" in comparison.problems[0]
