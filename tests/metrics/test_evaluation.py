"""`evaluate` on arrays in every encoding, and the files it is fed from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from metrics_cases import Codes, make_codes
from scipy import sparse

from hashbench.metrics import evaluate, oracle, pack, read_array
from hashbench.metrics.arrays import read_codes, read_labels

BITS = 12


@pytest.fixture
def codes(multi_label: bool) -> Codes:
    return make_codes(queries=20, items=90, bits=BITS, classes=5, multi_label=multi_label)


@pytest.fixture
def single() -> Codes:
    return make_codes(queries=20, items=90, bits=BITS, classes=5, multi_label=False)


def by_definition(codes: Codes, measure) -> float:
    """Mean of a measure that ties do not change."""
    distances, shared = oracle.pairwise(codes.query, codes.database, codes.query_labels, codes.database_labels)
    return float(np.mean([measure(distances[q], shared[q]) for q in range(len(distances))]))


def test_the_measures_of_given_arrays(codes: Codes) -> None:
    given = codes.query, codes.database, codes.query_labels, codes.database_labels
    scores = evaluate(*given, measures=["P@H2", "F1@H<=4", "mAP@30/hits", "PR", "nDCG@5"], per_query=True, bounds=True)
    assert list(scores) == ["P@H<=2", "F1@H<=4", "mAP@30/hits", "nDCG@5"]
    assert (
        scores["P@H2"] == scores["P@H<=2"] == pytest.approx(by_definition(codes, lambda *at: oracle.in_ball(*at, 2)[0]))
    )
    assert scores["F1@H<=4"] == pytest.approx(by_definition(codes, lambda *at: oracle.in_ball(*at, 4)[2]))
    low, high = scores.bounds["mAP@30/hits"]
    assert low < scores["mAP@30/hits"] < high
    assert all(values.shape == (20,) and values.mean() == scores[name] for name, values in scores.per_query.items())
    assert list(scores.per_query) == list(scores)
    assert len(scores.curves["PR"]["x"]) == BITS + 1
    assert (scores.counts["queries"], scores.counts["database"], scores.bits, scores.ties) == (20, 90, BITS, "expected")
    plain = evaluate(*given)
    assert (list(plain), plain.per_query, plain.bounds) == (["mAP@all"], {}, {})
    assert evaluate(*given, ties="optimistic")["mAP@all"] > plain["mAP@all"]


ENCODINGS = {
    "bool": lambda codes: codes,
    "uint8 bits": lambda codes: codes.astype(np.uint8),
    "float bits": lambda codes: codes.astype(np.float32),
    "int8 signs": lambda codes: np.where(codes, 1, -1).astype(np.int8),
    "float signs": lambda codes: np.where(codes, 1.0, -1.0),
    "real": lambda codes: np.where(codes, 0.25, -3.5).astype(np.float16),
    "real with zeros": lambda codes: np.where(codes, 0.0, -0.5),
    "packed": pack,
    "list": lambda codes: codes.astype(int).tolist(),
    "tensor": lambda codes: torch.from_numpy(codes).float().requires_grad_() * 2 - 1,
    "bfloat16": lambda codes: (torch.from_numpy(codes).float() - 0.3).bfloat16(),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_encoding_gives_the_same_packed_codes(name: str, single: Codes) -> None:
    given = ENCODINGS[name](single.database)
    taken = read_codes(given, "Codes", bits=BITS if name == "packed" else None)
    assert taken.bits == BITS
    assert np.array_equal(taken.packed, pack(single.database))


def test_what_was_taken_is_said(single: Codes) -> None:
    real = np.where(single.database, 0.0, -0.5)
    zeros = int(single.database.sum())
    assert read_codes(real, "Query codes").note == (
        f"Query codes: 90 codes of 12 bits, float64 taken as the signs of real values, {zeros} zeros counted as one."
    )
    assert "packed bytes" in read_codes(pack(single.database), "Codes").note
    assert read_codes(pack(single.database), "Codes").bits == 16
    scores = evaluate(single.query, real, single.query_labels, single.database_labels)
    assert [note.split(":")[0] for note in scores.notes] == [
        *("Query codes", "Database codes", "Query labels", "Database labels")
    ]


def test_zeros_among_signs_are_refused_until_the_encoding_is_said() -> None:
    codes = np.array([[-1, 0, 1]])
    with pytest.raises(ValueError, match=r"hold -1 and 1 zeros.*--encoding real"):
        read_codes(codes, "Query codes")
    assert np.asarray(read_codes(codes, "Query codes", encoding="real").packed).tolist() == [[0b0110_0000]]


@pytest.mark.parametrize(
    ("codes", "settings", "reason"),
    [
        (np.array([[0.5, np.nan]]), {}, "Codes hold 1 NaN"),
        (np.array([[0.5, np.nan]]), {"encoding": "real"}, "Codes hold 1 NaN"),
        (np.array([[3, -4]]), {}, "say encoding real"),
        (np.array([1, 0]), {}, "two-dimensional"),
        (np.zeros((0, 4)), {}, "Codes are empty"),
        (np.zeros((4, 0)), {}, "Codes are empty"),
        (np.array([["a"]]), {}, "must be numbers or bool"),
        ([[1, 0], [1]], {}, "differ in length"),
        (np.ones((2, 4)), {"bits": 5}, "4 bits, not the 5 asked for"),
        (np.full((2, 4), 7, np.uint8), {"bits": 40}, "not the size of 40-bit codes"),
        (np.ones((2, 4)), {"encoding": "packed"}, "packed codes are bytes"),
        (np.full((2, 4), -1), {"encoding": "bits"}, "other values than 0 and 1"),
        (np.zeros((2, 4)), {"encoding": "signs"}, "other values than -1 and \\+1"),
        (np.zeros((2, 4)), {"encoding": "binary"}, "known are bits, signs, real, packed"),
    ],
)
def test_codes_that_mean_nothing_or_two_things_are_refused(codes, settings: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_codes(codes, "Codes", **settings)


@pytest.mark.parametrize(
    ("labels", "kind", "values"),
    [
        ([3, 1], None, [3, 1]),
        ([3.0, 1.0], None, [3, 1]),
        ([[3], [1]], None, [3, 1]),
        ([[0], [1]], "integers", [0, 1]),
        ([[0], [1]], "multi-hot", [[0], [1]]),
        ([0, -1], "integers", [0, -1]),
        ([True, False], "integers", [1, 0]),
        (torch.tensor([[0.0, 1.0]]), None, [[0, 1]]),
    ],
)
def test_labels_are_recognised(labels, kind, values) -> None:
    assert np.asarray(read_labels(labels, "Labels", kind=kind).values).tolist() == values


@pytest.mark.parametrize(
    ("labels", "kind", "reason"),
    [
        ([[0], [1]], None, "one column of 0 and 1.*--labels"),
        ([[0, 2], [1, 0]], None, "other values than 0 and 1"),
        ([0.5], None, "fractions"),
        ([np.nan], None, "NaN"),
        ([[[1]]], None, "labels are integers"),
        ([1, 2], "multi-hot", "not that of multi-hot labels"),
        ([[1, 0], [0, 1]], "integers", "not that of integers labels"),
        ([1], "one-hot", "known are integers, multi-hot"),
        ([], None, "empty"),
        ([0, -1, 3], None, "class number -1, either a class or no label.*--labels integers"),
        ([np.inf, 1], None, "infinite"),
        ([1e300, 1], None, r"class number 1e\+300 as float64, which is not exact"),
        ([10.0**18 + 1], None, "not exact"),
        (np.array([2**24], np.float32), None, "as float32, which is not exact"),
        (torch.tensor([300.0]).bfloat16(), None, "not exact"),
        (np.array([2**63], np.uint64), None, "not exact"),
        ([2**70], None, "beyond 64 bits"),
        ([True, False], None, "two classes or membership in one class.*--labels"),
        ([[-1, 1], [1, -1]], None, "for -1 and [+]1 give labels > 0"),
        (["a", ""], None, "the name '', which stands for no label"),
        (np.array([None, "a"], object), None, "objects .NoneType, str."),
        (np.array([1j]), None, "type complex128"),
        ([["a", "b"], ["c", "d"]], None, "names are one a row"),
        (["a"], "multi-hot", "no multi-hot labels"),
    ],
)
def test_labels_that_fit_nothing_are_refused(labels, kind, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_labels(labels, "Labels", kind=kind)


REAL = np.random.default_rng(0).normal(size=(20, 16))


@pytest.mark.parametrize(
    ("codes", "conversion", "settings"),
    [
        (1 / (1 + np.exp(-REAL)), r"lie between 0.* give codes > 0\.5", {"encoding": "real"}),
        (np.maximum(REAL, 0), "so that all their signs are one", {"encoding": "real"}),
        (
            np.where(REAL > 0, 255, 0).astype(np.uint8),
            r"bytes of 0, 255 alone.*give codes > 0 ",
            {"encoding": "packed"},
        ),
        (np.where(REAL > 0, 255, 1).astype(np.uint8), r"1, 255 alone.*codes\.view\(numpy\.int8\)", {"bits": 128}),
        (np.where(REAL > 0, 2, 1).astype(np.uint8), "bytes of 1, 2 alone.*give codes > 1 ", {"encoding": "packed"}),
        (pack(REAL > 0).view(np.int8), r"codes\.view\(numpy\.uint8\) ", {"encoding": "real"}),
        (pack(np.tile(REAL > 0, 4)).view(np.uint64), r"uint8\), 64 bits a word", {"encoding": "real"}),
        (np.where(REAL > 0, 2, 1), "give bits, codes > 1 ", {"encoding": "real"}),
        (pack(np.tile(REAL > 0, 4)).view(np.uint64)[:, 0], r"of words, codes\[:, None\]", None),
        (np.where(REAL > 0, np.inf, -1), "infinite values", None),
        (sparse.csr_array(REAL), r"codes\.toarray\(\)", None),
        (torch.tensor(REAL).to_sparse(), r"sparse_coo float64 cpu.*to_dense", None),
        (torch.empty(20, 16, device="meta"), "strided float32 meta", None),
        (torch.tensor(REAL + 0j).conj(), "type complex128", None),
        (torch.zeros(1).expand(10**9, 64), "a tensor whose values cannot be read", None),
        (np.ma.masked_less(REAL, 0), "masked values", None),
        (5, "a single int", None),
    ],
)
def test_codes_in_another_form_are_refused_with_the_conversion(codes, conversion, settings) -> None:
    with pytest.raises(ValueError, match=conversion):
        read_codes(codes, "Codes")
    if settings is not None:
        read_codes(codes, "Codes", **settings)


def test_codes_of_two_bytes_that_are_packed(single: Codes) -> None:
    assert read_codes(np.array([[0, 7]], np.uint8), "Codes").bits == 16
    with pytest.raises(ValueError, match=r"first bit lowest.*bitorder='little'"):
        evaluate(*[np.packbits(c, axis=1, bitorder="little") for c in (single.query, single.database)],
                 single.query_labels, single.database_labels, bits=BITS)  # fmt: skip


def test_doubtful_codes_and_labels_are_a_warning(single: Codes) -> None:
    labels = single.query_labels, single.database_labels
    one_word = np.zeros_like(single.query)
    constant = [np.pad(codes, ((0, 0), (0, 1))) for codes in (single.query, single.database)]
    for given, sentence in (
        ((one_word, single.database, *labels), "All 20 query codes are one and the same word"),
        ((single.query, pack(single.database), *labels), "taken as bits and database codes as packed.*highest"),
        ((single.query[:, :12], np.where(single.database, 0.5, -1), *labels), "as bits and database codes as real"),
        ((single.query, single.database, labels[0] + 1000, labels[1]), "No query has a relevant item"),
        ((*constant, *labels), None),
        ((single.query, np.where(single.database, 1, -1), *labels), None),
    ):
        bits = {"bits": BITS} if given[1].dtype == np.uint8 else {}
        if sentence is None:
            assert evaluate(*given).warnings == ()
            continue
        with pytest.warns(UserWarning, match=sentence):
            scores = evaluate(*given, **bits)
        assert len(scores.warnings) == 1


ONE_OF_THREE = np.arange(30) % 3
SAME_CLASSES = {
    "identifiers": ONE_OF_THREE + 10**18,
    "negative identifiers": ONE_OF_THREE * 7 - 10,
    "floats": ONE_OF_THREE * 1.0 + 2**24,
    "float64 tensor": torch.tensor(ONE_OF_THREE + 2.0**24),  # float32 would make two of them one
    "big-endian": ONE_OF_THREE.astype(">i8"),
    "unsigned": ONE_OF_THREE.astype(np.uint64) + 2**62,
    "column": ONE_OF_THREE[:, None],
    "row": ONE_OF_THREE[None],
    "objects": ONE_OF_THREE.astype(object),
    "names": np.array([*"abc"])[ONE_OF_THREE],
    "names in a list": np.array([*"abc"])[ONE_OF_THREE].tolist(),
    "names in a column": np.array([*"abc"])[ONE_OF_THREE][:, None],
    "names in bytes": np.array([*"abc"], "S")[ONE_OF_THREE],
    "names with blanks": np.array(["a ", " b", "c"], object)[ONE_OF_THREE],
    "long names": np.array(["x" * 5000, "y", "z"])[ONE_OF_THREE],
    "sparse": sparse.csr_array(np.eye(3)[ONE_OF_THREE]),
    "sparse columns": sparse.csc_matrix(np.eye(3, dtype=int)[ONE_OF_THREE]),
}


@pytest.mark.parametrize("form", SAME_CLASSES)
def test_classes_in_every_form_give_the_same(form: str) -> None:
    codes = np.random.default_rng(0).integers(0, 2, (30, 12))
    given = SAME_CLASSES[form]
    assert evaluate(codes, codes, given, given)["mAP@all"] == evaluate(codes, codes, *[ONE_OF_THREE] * 2)["mAP@all"]


@pytest.mark.parametrize("narrow", [np.int8, np.int16, np.int32])
@pytest.mark.parametrize("stored", [None, np.int64, np.float64])
def test_class_numbers_that_overflowed_on_one_side_are_refused(narrow, stored) -> None:
    codes = np.random.default_rng(0).integers(0, 2, (30, 12))
    right = ONE_OF_THREE + np.iinfo(narrow).max - 1  # two that fit, one that does not
    wrong = right.astype(narrow).astype(stored or narrow)
    said = rf"class number {min(wrong):.0f}, which {max(right)} of the \w+ labels overflows to as {narrow.__name__};"
    for side, sides in (("query", (wrong, right)), ("database", (right, wrong))):
        with pytest.raises(ValueError, match=rf"The {side} labels hold the {said} .*\(`--labels integers`\)"):
            evaluate(codes, codes, *sides)
        evaluate(codes, codes, *sides, labels="integers")
    for same in (wrong, right):
        assert evaluate(codes, codes, same, same)["mAP@all"] == evaluate(codes, codes, *[ONE_OF_THREE] * 2)["mAP@all"]


def test_negative_classes_that_none_overflows_to_are_classes() -> None:
    codes = np.eye(4, 8, dtype=bool)
    assert evaluate(codes[:2], codes, [300, 4], [-7, 300, 4, 300])["mAP@all"] < 1


def test_sparse_labels_of_several_classes(codes: Codes) -> None:
    hot = [
        labels if labels.ndim == 2 else labels[:, None] == np.unique(codes.database_labels)
        for labels in (codes.query_labels, codes.database_labels)
    ]
    plain = evaluate(codes.query, codes.database, *hot, measures="nDCG@9,mAP@all", workers=1)
    thin = evaluate(codes.query, codes.database, *map(sparse.csr_array, hot), measures=["nDCG@9", "mAP@all"])
    assert dict(thin) == dict(plain)


def test_names_that_look_alike_are_one_or_refused() -> None:
    codes = np.eye(2, 8, dtype=np.uint8)
    assert evaluate(codes, codes, ["caf\u00e9", "b"], ["cafe\u0301", "b"], measures=["mAP@all"])["mAP@all"] == 1
    with pytest.raises(ValueError, match="look alike, 'Cat' and 'cat'"):
        evaluate(codes, codes, ["cat", "b"], ["Cat", "b"])


def test_names_of_either_side_are_compared_as_words() -> None:
    codes = np.eye(4, 8, dtype=bool)
    scores = evaluate(codes[:2], codes, ["ox", "cat"], np.array(["ant", "cat", "ox", "dog"], "S"), per_query=True)
    assert scores.per_query["mAP@all"].tolist() == [pytest.approx(np.mean([1 / 2, 1 / 3, 1 / 4])), 1.0]
    with pytest.raises(ValueError, match="labels are names and the other's are not"):
        evaluate(codes, codes, [*"abcd"], [0, 1, 2, 3])


def test_labels_over_other_numbers_of_classes_are_refused() -> None:
    codes = np.eye(4, 8, dtype=bool)
    with pytest.raises(ValueError, match="query labels have 4 columns and the database labels 5"):
        evaluate(codes, codes, np.eye(4), np.eye(4, 5))


def test_measures_are_a_list_or_one_string(single: Codes) -> None:
    given = single.query, single.database, single.query_labels, single.database_labels
    assert list(evaluate(*given, measures="mAP@all")) == ["mAP@all"]
    assert list(evaluate(*given, measures="mAP@30/R, P@5")) == ["mAP@30/R", "P@5"]
    with pytest.raises(ValueError, match="no measure"):
        evaluate(*given, measures=[])


@pytest.mark.parametrize("settings", [{"device": "nope"}, {"device": "cuda:99"}, {"device": "meta"}, {"device": ""}])
def test_a_device_that_is_not_there_is_one_sentence(single: Codes, settings: dict) -> None:
    with pytest.raises(ValueError, match=r"The device '.*' is not there \(CUDA devices: \d+\)"):
        evaluate(single.query, single.database, single.query_labels, single.database_labels, **settings)


@pytest.mark.parametrize("name", ["workers", "threads"])
def test_more_processes_than_cores_can_use_are_refused(single: Codes, name: str) -> None:
    with pytest.raises(ValueError, match=f"1000000000 {name} are more than"):
        evaluate(single.query, single.database, single.query_labels, single.database_labels, **{name: 10**9})


def test_items_without_a_label_are_mentioned() -> None:
    assert "2 of them without any" in read_labels([[0, 0], [0, 1], [0, 0]], "Labels").note


def test_one_hot_labels_are_integers_in_disguise(single: Codes) -> None:
    classes = np.unique(single.database_labels)
    one_hot = [
        (labels[:, None] == classes).astype(np.float32) for labels in (single.query_labels, single.database_labels)
    ]
    plain = evaluate(single.query, single.database, single.query_labels, single.database_labels)
    assert evaluate(single.query, single.database, *one_hot)["mAP@all"] == plain["mAP@all"]


def test_what_does_not_fit_together_is_refused(single: Codes) -> None:
    labels = single.query_labels, single.database_labels
    with pytest.raises(ValueError, match="Query codes have 11 bits and database codes 12"):
        evaluate(single.query[:, 1:], single.database, *labels)
    with pytest.raises(ValueError, match="89 labels for 90 codes"):
        evaluate(single.query, single.database, labels[0], labels[1][:89])
    with pytest.raises(ValueError, match="Did you mean 'mAP@all'"):
        evaluate(single.query, single.database, *labels, measures=["map@all"])


def test_a_mode_changes_the_mean_average_precision_only(single: Codes) -> None:
    given = single.query, single.database, single.query_labels, single.database_labels
    plain = evaluate(*given, measures=["mAP@30/hits", "P@30"])
    scores = evaluate(*given, measures=["mAP@30/hits", "P@30", "mAP@all"], mode="fire", per_query=True)
    assert list(scores) == ["mAP@30/fire", "P@30", "mAP@all/fire"]
    assert scores["P@30"] == plain["P@30"]
    assert 0 < abs(scores["mAP@30/fire"] - plain["mAP@30/hits"]) < 0.1
    assert scores.per_query["mAP@30/fire"].mean() == scores["mAP@30/fire"]
    assert evaluate(*given, measures=["mAP@30/fire"])["mAP@30/fire"] == scores["mAP@30/fire"]
    assert list(evaluate(*given, measures=["mAP@30"], mode="dcmh")) == ["mAP@30/dcmh"]
    with pytest.raises(ValueError, match="fixes the denominator"):
        evaluate(*given, measures=["mAP@30/R"], mode="fire")
    with pytest.raises(ValueError, match="known are deephash-pytorch"):
        evaluate(*given, mode="csq")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no mAP@all"):
        evaluate(*given, mode="hashnet")


def test_the_mean_of_no_query_is_undefined(single: Codes) -> None:
    scores = evaluate(
        single.query,
        single.database,
        single.query_labels + 1000,
        single.database_labels,
        measures=["mAP@5"],
        mode="hashnet",
    )
    assert math.isnan(scores["mAP@5/hashnet"])


def test_the_arrays_that_deephash_pytorch_saves(tmp_path, single: Codes) -> None:
    """`*_binary.npy` are the signs, `*_label.npy` one-hot float32."""
    classes = np.unique(single.database_labels)
    for name, codes, labels in (
        ("tst", single.query, single.query_labels),
        ("trn", single.database, single.database_labels),
    ):
        np.save(tmp_path / f"{name}_binary.npy", np.where(codes, 1, -1).astype(np.float32))
        np.save(tmp_path / f"{name}_label.npy", (labels[:, None] == classes).astype(np.float32))
    arrays = [read_array(tmp_path / f"{name}_{kind}.npy") for kind in ("binary", "label") for name in ("tst", "trn")]
    plain = evaluate(single.query, single.database, single.query_labels, single.database_labels)
    assert evaluate(*arrays)["mAP@all"] == plain["mAP@all"]


def test_files_of_every_kind(tmp_path) -> None:
    array = np.arange(6).reshape(2, 3)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "one.npz", codes=array)
    np.savez(tmp_path / "two.npz", codes=array, labels=array + 1)
    torch.save(torch.from_numpy(array), tmp_path / "a.pt")
    torch.save({"codes": torch.from_numpy(array)}, tmp_path / "one.pt")
    assert isinstance(read_array(tmp_path / "a.npy"), np.memmap)
    for path, key, extra in [
        ("a.npy", None, 0),
        ("one.npz", None, 0),
        ("two.npz", "labels", 1),
        ("a.pt", None, 0),
        ("one.pt", "codes", 0),
    ]:
        assert np.asarray(read_array(tmp_path / path, key)).tolist() == (array + extra).tolist()


def test_files_that_cannot_be_read_are_one_sentence(tmp_path) -> None:
    np.savez(tmp_path / "two.npz", codes=np.ones(1), labels=np.ones(1))
    np.save(tmp_path / "a.npy", np.ones(1))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    torch.save(Codes(*[np.ones(1)] * 4), tmp_path / "object.pt")
    (tmp_path / "empty.npy").touch()
    (tmp_path / "text.docx").write_text("1,2")
    (tmp_path / "folder.npy").mkdir()
    for suffix in ("npy", "npz", "pt"):
        (tmp_path / f"damaged.{suffix}").write_bytes(b"not what it says")
    whole = (tmp_path / "two.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    for path, key, reason in [
        ("missing.npy", None, "does not exist"),
        ("empty.npy", None, r"is empty \(0 bytes\)"),
        ("text.docx", None, "kinds of file that are read"),
        ("folder.npy", None, "cannot be read"),
        ("objects.npy", None, "cannot be read"),
        ("object.pt", None, "holds more than plain arrays"),
        ("damaged.npy", None, "cannot be read"),
        ("cut.npz", None, "cannot be read"),
        ("objects.npz", None, "cannot be read"),
        ("damaged.npz", None, "cannot be read"),
        ("damaged.pt", None, "is damaged"),
        ("two.npz", None, "holds 2 arrays; name one of its arrays as the key: codes, labels"),
        ("two.npz", "code", "holds no 'code'"),
        ("a.npy", "codes", "leave out the key"),
    ]:
        with pytest.raises(ValueError, match=reason) as caught:
            read_array(tmp_path / path, key)
        assert "\n" not in str(caught.value), path
