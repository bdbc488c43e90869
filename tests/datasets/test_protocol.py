import subprocess
import sys

import pytest

from hashbench.datasets.base import data_source, find_protocol
from hashbench.datasets.protocol import Sizes, read_protocols
from hashbench.errors import HashbenchError
from hashbench.registry import DATASETS

PROTOCOLS = {
    "cifar10@54k": (Sizes(5_000, 1_000, 54_000), False),
    "cifar10@59k": (Sizes(5_000, 1_000, 59_000), True),
    "cifar10@50k": (Sizes(50_000, 10_000, 50_000), True),
    "cifar10@unsup": (Sizes(5_000, 10_000, 50_000), True),
    "cifar100@45k": (Sizes(10_000, 5_000, 45_000), False),
    "fashion-mnist@64k": (Sizes(5_000, 1_000, 64_000), False),
    "fashion-mnist-10k@5k": (Sizes(4_000, 1_000, 5_000), False),
    "fashion-mosaic@4k": (Sizes(2_000, 500, 4_000), False),
}
GOOD = """
about = "toy pictures"
num_classes = 4
citation = "nobody"
licence = "MIT"
source = "https://example.org"
[[protocol]]
name = "p"
summary = "a few"
sizes = { train = 2, query = 1, database = 3 }
train_in_database = false
rule = "per-class-v1"
measures = ["mAP@all"]
"""


@pytest.mark.parametrize("name", PROTOCOLS)
def test_sizes_and_database_are_those_of_the_specification(name):
    protocol = find_protocol(name)
    assert (protocol.sizes, protocol.train_in_database) == PROTOCOLS[name]
    assert protocol.full_name == name
    assert protocol.multi_label == (name == "fashion-mosaic@4k")
    assert protocol.num_classes == (100 if name.startswith("cifar100") else 10)


def test_default_measures():
    assert find_protocol("cifar100").measures == ("mAP@all", "mAP@1000/hits", "mAP@100/hits")
    for name in PROTOCOLS:
        assert find_protocol(name).measures[0] == "mAP@all"


def test_every_protocol_has_citation_licence_source_and_no_name_twice():
    built_in = [name for name, entry in DATASETS.entries().items() if entry.builtin]
    protocols = [protocol for name in built_in for protocol in data_source(name).protocols]
    assert {protocol.full_name for protocol in protocols} == set(PROTOCOLS)
    names = [name for protocol in protocols for name in (protocol.full_name, *protocol.aliases)]
    assert len(names) == len(set(names))
    for protocol in protocols:
        assert protocol.citation
        assert protocol.licence
        assert protocol.source.startswith("https://")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cifar10", "cifar10@54k"),
        ("cifar10-1", "cifar10@59k"),
        ("cifar10-2", "cifar10@50k"),
        ("fashion-mosaic", "fashion-mosaic@4k"),
    ],
)
def test_bare_names_mean_the_first_protocol_and_aliases_their_own(name, meant):
    assert find_protocol(name).full_name == meant


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cifr10", "Unknown data set 'cifr10'. Did you mean 'cifar10'?"),
        ("cifar10@54", "Unknown protocol 'cifar10@54'. Did you mean 'cifar10@54k'?"),
        ("cifar10@", "Unknown protocol 'cifar10@'."),
        ("@54k", "Unknown data set '@54k'."),
        ("", "Unknown data set ''."),
    ],
)
def test_unknown_names_get_a_suggestion(name, sentence):
    with pytest.raises(HashbenchError) as error:
        find_protocol(name)
    assert str(error.value).startswith(sentence)


def test_reading_protocols_imports_neither_numpy_nor_torch():
    code = (
        "import sys; from hashbench.datasets.base import data_source; from hashbench.registry import DATASETS; "
        "assert all(data_source(name).protocols for name in DATASETS); "
        "assert not {'numpy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('rule = "per-class-v1"', 'rule = "per-clas"', "unknown rule 'per-clas'"),
        ("num_classes = 4", "", "lacks the key 'num_classes'"),
        ("num_classes = 4", 'num_classes = "4"', "not of type int"),
        ("num_classes = 4", "num_classes = true", "not of type int"),
        ("measures", "measure", "Did you mean 'measures'?"),
        ("query = 1,", "", "lacks the key 'query'"),
        ("[[protocol]]", "[protocols]", "states no protocol"),
        ("[[protocol]]", "protocol = [1]\n[other]", "states no protocol"),
        ('["mAP@all"]', "[]", "names no measure"),
        ("about =", "about", "cannot be read"),
    ],
)
def test_a_protocol_file_that_is_not_in_order_is_named_with_the_reason(tmp_path, old, new, reason):
    path = tmp_path / "toy.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(HashbenchError) as error:
        read_protocols("toy", path)
    assert reason in str(error.value)
    assert str(path) in str(error.value)


def test_a_protocol_file_in_order_is_read(tmp_path):
    path = tmp_path / "toy.toml"
    path.write_text(GOOD)
    (protocol,) = read_protocols("toy", path)
    assert protocol.full_name == "toy@p"
    assert protocol.sizes == Sizes(2, 1, 3)
    assert (protocol.aliases, protocol.multi_label) == ((), False)
