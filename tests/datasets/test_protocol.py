import subprocess
import sys

import pytest

from hashbench.datasets.catalogue import data_source, find_protocol, track_of
from hashbench.datasets.protocol import Sizes, read_protocols
from hashbench.errors import HashbenchError
from hashbench.registry import DATASETS

PROTOCOLS = {
    "20newsgroups@bow": (Sizes(11_314, 7_532, 11_314), True),
    "20newsgroups-body@bow": (Sizes(11_314, 7_532, 11_314), True),
    "agnews@bow": (Sizes(120_000, 7_600, 120_000), True),
    "cars@a": (Sizes(8_144, 8_041, 8_144), True),
    "cars@b": (Sizes(5_880, 1_958, 8_347), False),
    "cars@unseen": ((None, None, None), False),
    "cifar10@54k": (Sizes(5_000, 1_000, 54_000), False),
    "cifar10@59k": (Sizes(5_000, 1_000, 59_000), True),
    "cifar10@50k": (Sizes(50_000, 10_000, 50_000), True),
    "cifar10@unsup": (Sizes(5_000, 10_000, 50_000), True),
    "cifar10@unseen": (Sizes(35_000, 3_000, 15_000), False),
    "cifar100@45k": (Sizes(10_000, 5_000, 45_000), False),
    "cifar100@unseen": (Sizes(37_500, 2_500, 12_500), False),
    "coco@hashnet": (Sizes(10_000, 5_000, 117_218), True),
    "cub200@official": (Sizes(5_994, 5_794, 5_994), True),
    "cub200@unseen": ((None, None, None), False),
    "fashion-mnist@64k": (Sizes(5_000, 1_000, 64_000), False),
    "fashion-mnist@unseen": (Sizes(42_000, 3_000, 18_000), False),
    "fashion-mnist-10k@5k": (Sizes(4_000, 1_000, 5_000), False),
    "fashion-mnist-10k@unseen": (Sizes(5_600, 600, 2_400), False),
    "fashion-mosaic@4k": (Sizes(2_000, 500, 4_000), False),
    "imagenet100@hashnet": (Sizes(13_000, 5_000, 128_503), True),
    "imagenet100@unseen": ((None, None, None), False),
    "mirflickr@38": (Sizes(4_000, 1_000, 20_000), False),
    "nabirds@a": (Sizes(23_929, 24_633, 23_929), True),
    "nabirds@b": (Sizes(16_384, 8_171, 24_007), False),
    "nabirds@unseen": ((None, None, None), False),
    "nuswide21@tc21": (Sizes(10_500, 2_100, 193_734), True),
    "reuters@bow": (Sizes(7_770, 3_019, 7_770), True),
    "tmc@bow": (Sizes(21_519, 7_077, 21_519), True),
}
TEXT = {"20newsgroups": 20, "20newsgroups-body": 20, "agnews": 4, "reuters": 90, "tmc": 22}
CLASSES = {
    "cars": 196, "cifar10": 10, "cifar100": 100, "coco": 80, "cub200": 200, "fashion-mnist": 10,
    "fashion-mnist-10k": 10, "fashion-mosaic": 10, "imagenet100": 100, "mirflickr": 38, "nabirds": 555, "nuswide21": 21,
    **TEXT,
}  # fmt: skip
MULTI_LABEL = {"coco", "fashion-mosaic", "mirflickr", "nuswide21", "reuters", "tmc"}
AT_5000 = {"coco@hashnet", "nuswide21@tc21"}
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
    assert protocol.multi_label == (protocol.dataset in MULTI_LABEL)
    assert protocol.num_classes == CLASSES[protocol.dataset]


@pytest.mark.parametrize("name", [name for name, (sizes, _) in PROTOCOLS.items() if None not in sizes])
def test_query_and_database_of_an_all_embracing_protocol_make_up_the_set(name):
    protocol = find_protocol(name)
    if protocol.num_images is not None and protocol.rule != "unseen-v1":
        apart = 0 if protocol.train_in_database else protocol.sizes.train
        assert apart + protocol.sizes.query + protocol.sizes.database == protocol.num_images


def test_every_single_label_set_of_images_has_unseen_classes_and_no_size_is_left_to_a_rule_without_a_count():
    for name in CLASSES:
        protocols = data_source(name).protocols
        assert ("unseen" in [protocol.name for protocol in protocols]) == (name not in {*MULTI_LABEL, *TEXT})
        for protocol in protocols:
            assert None not in protocol.sizes or protocol.num_images


def test_default_measures():
    assert find_protocol("cifar100").measures == ("mAP@all", "mAP@1000/hits", "mAP@100/hits")
    for name in PROTOCOLS:
        special = "mAP@5000/hits" if name in AT_5000 else "mAP@1000/hits" if name == "imagenet100@hashnet" else None
        if find_protocol(name).dataset in TEXT:
            assert find_protocol(name).measures == ("P@100", "mAP@all")
        else:
            assert find_protocol(name).measures[0] == (special or "mAP@all")


def test_every_protocol_has_citation_licence_source_and_no_name_twice():
    built_in = [name for name, entry in DATASETS.entries().items() if entry.builtin and track_of(name) is None]
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
        ("imagenet", "imagenet100@hashnet"),
        ("nuswide_21", "nuswide21@tc21"),
        ("coco", "coco@hashnet"),
        ("mirflickr", "mirflickr@38"),
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
        "import sys; from hashbench.datasets.catalogue import data_source, track_of; "
        "from hashbench.registry import DATASETS; "
        "assert all(data_source(name).protocols for name in DATASETS if track_of(name) is None); "
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
        ("query = 1,", 'query = "rule",', "needs a number of query images"),
        ("query = 1,", 'query = "ruler",', "not of type int"),
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
    path.write_text(GOOD.replace("database = 3", 'database = "rule"'))
    assert read_protocols("toy", path)[0].sizes == (2, 1, None)
    assert (protocol.aliases, protocol.multi_label) == ((), False)


def test_another_draw_is_a_protocol_of_its_own():
    assert find_protocol("cifar10@54k-draw12").full_name == "cifar10@54k-draw12"
    for name in ("cifar10@54k-draw1", "cifar10@54k-draw02", "cifar10@54k-draw"):  # the first has no number
        with pytest.raises(HashbenchError, match="Unknown protocol"):
            find_protocol(name)
    with pytest.raises(HashbenchError, match="takes its split as given"):
        find_protocol("cifar10@50k-draw2")
