"""Data sets of documents: official layouts read right, the rule of the words kept, one sentence for what is wrong."""

import collections
import dataclasses
import logging
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import text_replicas as replicas
from scipy.sparse import csr_matrix
from sklearn.datasets import _twenty_newsgroups as by_sklearn
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

import hashbench
from hashbench.datasets.catalogue import data_source, load
from hashbench.datasets.families import text
from hashbench.datasets.files import bag_of_words as bags
from hashbench.datasets.files.documents import TextRelease
from hashbench.datasets.protocol import Sizes
from hashbench.datasets.splits import split
from hashbench.errors import HashbenchError
from hashbench.registry import DATASETS

NAMES = list(replicas.MAKERS)
TRAIN = [True, True, True, False]
DOCUMENTS = ["The apple, the apple: PEAR2 a", "pear2 fig", "the fig naïve apple", "unseen apple unseen unseen"]


def read(tmp_path, name, files=None):
    replicas.write(tmp_path / replicas.FOLDERS[name], files or replicas.MAKERS[name]())
    return data_source(name).read(tmp_path)


@pytest.fixture
def documents(monkeypatch):
    """Return what is asked to be vectorised: the arguments of the last call."""
    asked = {}

    def keep(found, *, name, fitted):
        asked.update(documents=found, name=name, fitted=fitted)
        return csr_matrix(np.arange(1, len(found) + 1, dtype=np.float32)[:, None])

    monkeypatch.setattr(text, "bag_of_words", keep)
    return asked


def literal_tf_idf(documents, fitted, count):
    """Return the rows of documents, word by word."""
    tokens = [
        [word for word in re.findall(r"\w\w+", document.lower()) if word not in ENGLISH_STOP_WORDS]
        for document in documents
    ]
    of_training = [found for found, used in zip(tokens, fitted, strict=True) if used]
    total = collections.Counter(word for found in of_training for word in found)
    words = sorted(sorted(total, key=lambda word: (-total[word], word))[:count])
    idf = {w: np.log((1 + len(of_training)) / (1 + sum(w in found for found in of_training))) + 1 for w in words}
    rows = np.array([[found.count(word) * idf[word] for word in words] for found in tokens])
    lengths = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0), words


@pytest.mark.parametrize("count", [2, 3, 100])
def test_the_words_are_those_of_the_rule(count):
    fitted = np.array(TRAIN)
    rows = bags.bag_of_words(DOCUMENTS, name="toy", fitted=fitted, vocabulary=count)
    wanted, words = literal_tf_idf(DOCUMENTS, fitted, count)
    assert words == {2: ["apple", "fig"], 3: ["apple", "fig", "pear2"]}.get(count, ["apple", "fig", "naïve", "pear2"])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.toarray(), wanted, rtol=1e-6)
    vectorizer = TfidfVectorizer(stop_words="english", vocabulary=words).fit(DOCUMENTS[:3])
    np.testing.assert_allclose(rows.toarray(), vectorizer.transform(DOCUMENTS).toarray(), rtol=1e-6)


def test_documents_without_a_word_stay_as_zeros_and_are_counted(caplog):
    rows = bags.bag_of_words([*DOCUMENTS, "the only"], name="toy", fitted=np.array([*TRAIN, False]), vocabulary=2)
    assert rows[4].nnz == 0
    assert rows[2].nnz == 2
    assert "toy: 1 of 5 documents have none of the 2 words; they stay, as rows of zeros." in caplog.text


def test_the_vectors_are_kept_until_documents_or_parts_change(monkeypatch, caplog):
    fitted = np.array(TRAIN)
    first = bags.bag_of_words(DOCUMENTS, name="toy", fitted=fitted)
    counted = []
    monkeypatch.setattr(bags, "_counts", lambda *given, real=bags._counts: counted.append(1) or real(*given))
    again = bags.bag_of_words(DOCUMENTS, name="toy", fitted=fitted)
    assert not counted
    assert again.shape == first.shape
    assert (again != first).nnz == 0
    bags.bag_of_words([*DOCUMENTS[:3], "fig"], name="toy", fitted=fitted)
    bags.bag_of_words(DOCUMENTS, name="toy", fitted=~fitted)
    assert len(counted) == 2
    for path in (bags.cache_root() / "words").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:-40])
    third = bags.bag_of_words(DOCUMENTS, name="toy", fitted=fitted)
    assert (third != first).nnz == 0
    assert "is damaged" in caplog.text
    assert len(counted) == 3


def test_without_scikit_learn_the_way_out_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(HashbenchError, match=r"toy is text, .* pip install 'hashbench\[text\]'"):
        bags.bag_of_words(DOCUMENTS, name="toy", fitted=np.array(TRAIN))


def test_training_documents_without_a_word_are_refused():
    with pytest.raises(HashbenchError, match="documents of toy have no word"):
        bags.bag_of_words(["the", "of"], name="toy", fitted=np.array([True, False]))
    with pytest.raises(HashbenchError, match="training documents of toy have no word"):
        bags.bag_of_words(["the", "apple"], name="toy", fitted=np.array([True, False]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("top", ["", "folder/"])
def test_the_archive_gives_the_same_set_as_its_folder(tmp_path, name, top):
    if top and name in ("20newsgroups", "reuters"):
        pytest.skip("its archive has no folder around its files")
    files = replicas.MAKERS[name]()
    (tmp_path / "packed").mkdir()
    (tmp_path / "unpacked").mkdir()
    replicas.pack(tmp_path / "packed" / replicas.ARCHIVES[name], files, top=top)
    packed, unpacked = data_source(name).read(tmp_path / "packed"), read(tmp_path / "unpacked", name)
    assert packed.integrity == unpacked.integrity
    assert packed.names == unpacked.names
    assert [source.path for source in packed.sources] == [str(tmp_path / "packed" / replicas.ARCHIVES[name])]
    assert unpacked.official is None  # no checksum of a folder is known
    assert packed.official is (False if name == "20newsgroups" else None)  # a replica is not the official archive


def test_newsgroups_are_whole_messages_by_path(tmp_path, documents):
    files = replicas.newsgroups()
    store = read(tmp_path, "20newsgroups", files)
    assert store.names == tuple(sorted(files))
    assert store.classes == replicas.GROUPS
    for path, label, part, document in zip(store.names, store.labels, store.part, documents["documents"], strict=True):
        assert document == files[path].decode("latin-1")
        assert path.startswith(f"20news-bydate-{part}/{store.classes[label.argmax()]}/")
    assert documents["fitted"].tolist() == [part == "train" for part in store.part]


def test_a_body_is_what_scikit_learn_leaves(tmp_path, documents):
    replicas.write(tmp_path, replicas.newsgroups())
    data_source("20newsgroups-body").read(tmp_path)
    assert all("Subject" not in kept and "quoted" not in kept and "signature" not in kept and "common" in kept
               for kept in documents["documents"])  # fmt: skip
    odd = [
        "no header at all",
        "a: b\n\n",
        "a: b\n\nIn article 3 she says: x\n| bar\nkept > this\n\n---\nme\n\n",
        "a\n\n--\nx",
    ]
    for message in [*odd, *(content.decode("latin-1") for content in replicas.newsgroups().values())]:
        wanted = by_sklearn.strip_newsgroup_header(message)
        wanted = by_sklearn.strip_newsgroup_footer(by_sklearn.strip_newsgroup_quoting(wanted))
        assert text.body(message).strip() == wanted.strip()


def test_reuters_are_the_modapte_stories_of_common_topics(tmp_path, documents):
    store = read(tmp_path, "reuters")
    assert store.classes == tuple(sorted(["cocoa", *replicas.TOPICS]))
    assert len(store.labels) == 2 * 9 * 3 + 1
    assert not any(name.endswith(("/901", "/902", "/903", "/904")) for name in store.names)
    by_name = dict(zip(store.names, documents["documents"], strict=True))
    assert by_name["reut2-001.sgm/905"].split() == ["unprocessed", "wording"]
    assert by_name["reut2-000.sgm/1"].startswith("AT&T ")
    assert not any("unread" in found or "NOWHERE" in found for found in by_name.values())
    first = store.names.index("reut2-000.sgm/1")
    assert [store.classes[label] for label in np.flatnonzero(store.labels[first])] == ["cocoa", "earn"]
    assert (store.part == "test").sum() == 9 * 3 + 1


def test_agnews_are_title_and_description(tmp_path, documents):
    store = read(tmp_path, "agnews")
    assert store.labels.sum(axis=0).tolist() == [18] * 4
    assert documents["documents"][0].startswith('Title, "quoted" The ')
    assert documents["documents"][0].endswith(" on the next line")
    assert set(store.part[:36]) == {"test"}  # in the order of the files' names


def test_tmc_are_reports_under_the_matrix(tmp_path, documents):
    store = read(tmp_path, "tmc")
    assert store.labels[1].tolist() == [1, 1, *[0] * 20]
    assert store.names[1] == "TrainingData.txt/2"
    assert documents["documents"][1].startswith("The word1")
    assert (store.part == "train").sum() == 22 * 9


WRONG = [
    ("20newsgroups", lambda files: {}, r"20 Newsgroups \(bydate\) is not in .*get 20news-bydate.tar.gz from http"),
    ("20newsgroups", lambda files: {k: v for k, v in files.items() if "train" in k}, "holds no test document"),
    ("reuters", lambda files: {"reut2-000.sgm": b"<!DOCTYPE>"}, "holds no story of the ModApte split"),
    ("reuters", lambda files: {"reut2-000.sgm": files["reut2-000.sgm"][:-20]}, "reut2-000.sgm .* a story does not end"),
    ("reuters", lambda files: {"reut2-001.sgm": files["reut2-001.sgm"]}, "holds no train document of reuters"),
    ("agnews", lambda files: {"train.csv": files["train.csv"]}, "AG News without test.csv"),
    (
        "agnews",
        lambda files: {**files, "test.csv": b'"5","a","b"\n'},
        r"Line 1 of .*test.csv cannot be used: it is not",
    ),
    ("agnews", lambda files: {**files, "test.csv": b'"1","a"x,"b"\n'}, r"Line 1 of .*test.csv cannot be used"),
    ("agnews", lambda files: {**files, "test.csv": b'"1","\xff","b"\n'}, r"test.csv is no text in UTF-8"),
    ("tmc", lambda files: {**files, "TestTruth.csv": b""}, "has 198 lines and TestTruth.csv 0"),
    ("tmc", lambda files: {**files, "TestData.txt": files["TestData.txt"].replace(b"~", b" ", 1)}, "Line 1 .* no '~'"),
    ("tmc", lambda files: {**files, "TestTruth.csv": files["TestTruth.csv"].replace(b"-1", b"2", 1)}, "22 values of"),
]


@pytest.mark.parametrize(("name", "change", "said"), WRONG)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, documents, name, change, said):
    with pytest.raises(HashbenchError, match=said):
        read(tmp_path, name, change(replicas.MAKERS[name]()) or {"other.txt": b""})


def test_archives_that_are_damaged_empty_or_too_large_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "reuters21578.tar.gz"
    replicas.pack(path, replicas.reuters())
    whole = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("hashbench.datasets.files.documents.MOST_BYTES", 1000)
        with pytest.raises(HashbenchError, match="unpacks to more than 1,000 bytes"):
            data_source("reuters").read(tmp_path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HashbenchError, match="is damaged or cannot be read"):
        data_source("reuters").read(tmp_path)
    replicas.pack(path, {"other.sgm": b""})
    with pytest.raises(HashbenchError, match="holds none of the files of Reuters-21578"):
        data_source("reuters").read(tmp_path)


def scaled(name, store):
    """Return data set `name` with its protocol scaled to its replica."""
    real = data_source(name)
    train, test = (int((store.part == part).sum()) for part in ("train", "test"))
    protocol = dataclasses.replace(
        real.protocols[0], sizes=Sizes(train, test, train), num_classes=len(store.classes), num_images=train + test
    )
    return dataclasses.replace(real, protocols=(protocol,))


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_way_from_files_to_precision(tmp_path, fresh_registry, name, caplog):
    DATASETS._loaded[name] = scaled(name, read(tmp_path, name))
    caplog.set_level(logging.ERROR)
    result = hashbench.run("lsh", name, bits=16, data_dir=tmp_path, runs_dir=tmp_path / "runs", progress=False)
    assert result.coords["inputs"] == "text"
    assert result.coords["measure"] == "P@100"
    assert result.ties == "expected"
    assert {"P@100", "mAP@all"} <= result.metrics.keys()
    loaded = load(name, data_dir=tmp_path)
    assert set(loaded.split.train) == set(loaded.split.database)
    held_out = load(name, data_dir=tmp_path, evaluate_on="validation")
    assert len(held_out.split.query) > 0
    assert set(held_out.split.query) | set(held_out.split.train) == set(loaded.split.train)


OFFICIAL = {
    "20newsgroups": lambda: {
        f"20news-bydate-{part}/group.{number % 20}/{number}": b"x"
        for part, count in (("train", 11_314), ("test", 7_532))
        for number in range(count)
    },
    "agnews": lambda: {
        f"{part}.csv": b"".join(b'"%d","a","b"\n' % (number % 4 + 1) for number in range(count))
        for part, count in (("train", 120_000), ("test", 7_600))
    },
    "tmc": lambda: {
        name: one * count
        for count, pair in ((21_519, text.TMC_FILES["train"]), (7_077, text.TMC_FILES["test"]))
        for name, one in zip(pair, (b"1~a\n", b"1," + b"-1," * 20 + b"1\n"), strict=True)
    },
    "reuters": lambda: {
        "reut2-000.sgm": "".join(
            replicas.story(number, [f"topic{number % 90}"], "words", split=split)
            for split, count in (("TRAIN", 7_770), ("TEST", 3_019))
            for number in range(count)
        ).encode()
    },
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_files_as_long_as_the_official_ones_give_the_stated_sizes(tmp_path, documents, monkeypatch, name):
    source = hashbench.datasets.source(Path(__file__))
    monkeypatch.setattr(TextRelease, "read", lambda self, data_dir: (OFFICIAL[name](), (source,)))
    store, (protocol,) = data_source(name).read(tmp_path), data_source(name).protocols
    assert len(store.classes) == protocol.num_classes
    parts = split(store, protocol)
    assert (len(parts.train), len(parts.query), len(parts.database)) == protocol.sizes
    with pytest.raises(HashbenchError, match="is this copy complete"):
        protocol.require_count(len(store.labels) - 1)


@pytest.mark.real("20newsgroups")
def test_the_real_20_newsgroups():
    loaded = load("20newsgroups")
    assert loaded.audit.sizes == (11_314, 7_532, 11_314)
    assert loaded.store.inputs.shape == (18_846, 10_000)
    assert loaded.store.integrity.startswith("c42cbd03")
    assert loaded.split.sha256.startswith("2601ec4b")


@pytest.mark.real("reuters")
def test_the_real_reuters():
    loaded = load("reuters")
    assert loaded.audit.sizes == (7_770, 3_019, 7_770)
    assert loaded.store.inputs.shape == (10_789, 10_000)
    assert loaded.store.integrity.startswith("5bf8f1fc")
    assert loaded.split.sha256.startswith("b9d96bc5")
