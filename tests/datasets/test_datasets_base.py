import importlib.util
import sys

import numpy as np
import pytest

import hashbench
from hashbench.datasets.base import Store, one_hot
from hashbench.datasets.catalogue import data_source, find_protocol, load
from hashbench.errors import HashbenchError
from hashbench.registry import DATASETS

TOML = """
about = "sketched pictures"
num_classes = 4
citation = "nobody"
licence = "MIT"
source = "https://example.org"
[[protocol]]
name = "p"
summary = "a few"
sizes = { train = 40, query = 4, database = 36 }
train_in_database = false
rule = "per-class-v1"
measures = ["mAP@all"]
aliases = ["sketches-1"]
"""
READER = """
import hashbench, numpy as np
from hashbench.datasets.base import Store, one_hot
from hashbench.datasets.files.releases import SourceFile

CLASSES = ("a", "b", "c", "d")

@hashbench.dataset("sketches", protocols="sketches.toml")
def sketches(data_dir):
    images = np.random.default_rng(0).integers(0, 256, (80, 1, 4, 4), dtype=np.uint8)
    sources = (SourceFile("a.bin", "md5:1", "md5:1"), SourceFile("b.bin", "md5:2", EXPECTED))
    return Store("sketches", images, one_hot(np.arange(80) % 4, CLASSES, name="sketches"), CLASSES, sources=sources)
"""


@pytest.fixture
def plug_in(tmp_path, monkeypatch, fresh_registry):
    """Return a function that imports a module with a data set, as a plug-in's would be."""

    def bring(*, toml=TOML, expected="md5:2", name="sketches_plug_in"):
        (tmp_path / "sketches.toml").write_text(toml)
        path = tmp_path / f"{name}.py"
        path.write_text(f"EXPECTED = {expected!r}\n{READER}")
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return bring


def test_a_data_set_of_ones_own_is_one_function_and_one_file(plug_in):
    module = plug_in()
    assert data_source("sketches") is module.sketches
    assert find_protocol("sketches-1").full_name == "sketches@p"
    loaded = load("sketches")
    assert (loaded.name, loaded.evaluated, loaded.num_classes, loaded.kind, loaded.multi_label) == (
        "sketches@p", "test", 4, "images", False,
    )  # fmt: skip
    assert [len(part) for part in (loaded.split.train, loaded.split.query, loaded.split.database)] == [40, 4, 36]
    assert loaded.audit.query_per_class == (1, 1, 1, 1)


def test_validation_asks_with_train_images_only(plug_in):
    plug_in()
    test, validation = load("sketches"), load("sketches", evaluate_on="validation")
    assert validation.evaluated == "validation"
    used = {*validation.split.train, *validation.split.query, *validation.split.database}
    assert used == set(test.split.train)
    assert validation.audit.sizes == (32, 8, 32)
    assert validation.audit.query_in_database == 0
    with pytest.raises(HashbenchError, match=r"Unknown part to evaluate on 'tset'\. Did you mean 'test'\?"):
        load("sketches", evaluate_on="tset")


def test_files_that_are_not_the_official_ones_need_to_be_accepted(plug_in, monkeypatch):
    plug_in(expected="md5:3")
    with pytest.raises(HashbenchError) as error:
        load("sketches")
    for part in ("b.bin", "md5:2", "md5:3", "--accept-unofficial", "HASHBENCH_ACCEPT_UNOFFICIAL=1"):
        assert part in str(error.value)
    assert load("sketches", accept_unofficial=True).store.official is False
    monkeypatch.setenv("HASHBENCH_ACCEPT_UNOFFICIAL", "0")
    with pytest.raises(HashbenchError, match="not the official file"):
        load("sketches")
    monkeypatch.setenv("HASHBENCH_ACCEPT_UNOFFICIAL", "1")
    assert load("sketches").store.official is False


@pytest.mark.parametrize(("expected", "official"), [("md5:2", True), (None, None)])
def test_official_is_known_only_where_every_checksum_is(plug_in, expected, official):
    plug_in(expected=expected)
    assert load("sketches").store.official is official


def test_a_split_that_does_not_fit_its_protocol_is_an_error(plug_in):
    plug_in(toml=TOML.replace("database = 36", "database = 37"))
    with pytest.raises(
        HashbenchError, match="sketches@p states 40 train, 4 query and 37 database items, but sketches gives"
    ):
        load("sketches")


def test_names_that_are_taken_and_missing_protocol_files_are_refused(plug_in, fresh_registry):
    plug_in()
    with pytest.raises(HashbenchError, match="'sketches' is taken by sketches_plug_in"):
        plug_in(name="another_plug_in")
    with pytest.raises(HashbenchError, match=r"protocols of data set 'nothing' cannot be read from .*nothing\.toml"):
        hashbench.dataset("nothing", protocols="nothing.toml")(lambda data_dir: None)


def test_a_registered_thing_that_is_no_data_set_is_refused(fresh_registry):
    DATASETS.register("odd", object())
    with pytest.raises(HashbenchError, match=r"lacks the decorator @hashbench\.dataset"):
        load("odd")


@pytest.mark.parametrize(
    ("inputs", "labels", "reason"),
    [
        (np.zeros((3, 8, 8), np.uint8), np.eye(3, dtype=np.uint8), "inputs of toy are uint8 of shape"),
        (np.zeros((3, 1, 8, 8), np.float32), np.eye(3, dtype=np.uint8), "inputs of toy are float32"),
        (np.zeros((3, 8), np.float64), np.eye(3, dtype=np.uint8), "inputs of toy are float64"),
        (np.zeros((3, 8), np.float32), np.arange(3), "labels of toy are int64"),
        (np.zeros((3, 8), np.float32), np.eye(4, dtype=np.uint8), "one row for each input"),
        (np.zeros((3, 8), np.float32), 2 * np.eye(3, dtype=np.uint8), "zeros and ones"),
    ],
)
def test_a_store_says_what_it_takes(inputs, labels, reason):
    with pytest.raises(HashbenchError, match=reason):
        Store("toy", inputs, labels, ("a", "b", "c"))


def test_a_part_for_each_input():
    with pytest.raises(HashbenchError, match="part of toy"):
        Store("toy", np.zeros((2, 8), np.float32), np.eye(2, dtype=np.uint8), ("a", "b"), part=np.array(["train"]))


def test_integrity_sees_pixels_and_labels_but_no_order(make_store):
    store = make_store()
    order = np.random.default_rng(0).permutation(40)
    assert make_store(inputs=store.inputs[order], labels=store.labels[order]).integrity == store.integrity
    assert make_store(inputs=store.inputs, labels=store.labels[::-1]).integrity != store.integrity
    other = store.inputs.copy()
    other[7, 0, 0, 0] ^= 1
    assert make_store(inputs=other).integrity != store.integrity


def test_vectors_are_a_kind_of_their_own():
    store = Store("toy", np.zeros((2, 8), np.float32), np.array([[1, 1], [0, 1]], np.uint8), ("a", "b"))
    assert (store.kind, store.multi_label) == ("vectors", True)


def test_one_hot():
    assert one_hot(np.array([2, 0]), ("a", "b", "c"), name="toy").tolist() == [[0, 0, 1], [1, 0, 0]]
    for numbers in ([3], [-1]):
        with pytest.raises(HashbenchError, match="toy has labels from"):
            one_hot(np.array(numbers), ("a", "b", "c"), name="toy")
