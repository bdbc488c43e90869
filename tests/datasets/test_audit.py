import dataclasses
import json

import numpy as np
import pytest

from hashbench.datasets.audit import audit, require
from hashbench.datasets.base import Split
from hashbench.datasets.protocol import Protocol, Sizes
from hashbench.errors import HashbenchError


def parts(train, query, database):
    return Split(*(np.array(part, dtype=np.int64) for part in (train, query, database)), sha256="")


def protocol(sizes, *, train_in_database=False, num_classes=3, multi_label=False):
    return Protocol(
        dataset="toy", name="p", sizes=Sizes(*sizes), train_in_database=train_in_database, rule="given-v1",
        measures=("mAP@all",), summary="", num_classes=num_classes, about="", citation="", licence="", source="",
        multi_label=multi_label,
    )  # fmt: skip


LABELS = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_the_audit_counts_what_is_there(make_store):
    store = make_store(labels=LABELS)
    found = audit(store, parts([0, 1], [2, 3], [0, 4, 5]))
    assert found.sizes == Sizes(2, 2, 3)
    assert found.train_per_class == (1, 1, 0)
    assert found.query_per_class == (1, 0, 1)
    assert found.database_per_class == (1, 1, 0)
    assert (found.train_in_query, found.train_in_database, found.query_in_database) == (0, 1, 0)
    assert found.unlabelled == 1
    assert found.queries_without_relevant == 1  # nothing of class 2 in the database
    assert json.loads(json.dumps(dataclasses.asdict(found)))["sizes"] == [2, 2, 3]
    assert "1 queries without a relevant item" in str(found)


def test_pixel_identical_copies_are_reported_and_so_are_their_other_labels(make_store):
    inputs = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4), dtype=np.uint8)
    inputs[[0, 3, 5]] = inputs[2]
    inputs[4] = inputs[1]
    labels = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    found = audit(make_store(labels=labels, inputs=inputs), parts([0], [1, 2], [3, 4, 5]))
    assert found.queries_copied_in_database == 2
    assert found.queries_copied_with_other_labels == 1
    assert found.queries_copied_in_train == 1


@pytest.mark.parametrize(
    ("split", "asked", "reason"),
    [
        (([0], [1, 2], [2, 3]), protocol((1, 2, 2)), "unseen queries, but 1 of them are in the database"),
        (([0, 1], [1, 2], [3]), protocol((2, 2, 1)), "1 in train"),
        (([0, 1], [2], [1, 3]), protocol((2, 1, 2)), "states no train items in the database, but 1 of 2"),
        (([0, 1], [2], [1, 3]), protocol((2, 1, 2), train_in_database=True), "states all train items"),
        (([0, 1], [2], [3, 4]), protocol((2, 1, 3)), "states 2 train, 1 query and 3 database items, but toy gives"),
        (([0], [1], [2]), protocol((1, 1, 1), num_classes=4), "states 4 classes, but toy has 3"),
    ],
)
def test_a_split_that_contradicts_its_protocol_is_an_error(make_store, split, asked, reason):
    store = make_store(labels=LABELS)
    with pytest.raises(HashbenchError, match=reason):
        require(audit(store, parts(*split)), store, asked)


def test_images_of_several_classes_need_a_multi_label_protocol(make_store):
    store = make_store(labels=[[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    found = audit(store, parts([0], [1], [2]))
    require(found, store, protocol((1, 1, 1), multi_label=True))
    with pytest.raises(HashbenchError, match="single-label protocol"):
        require(found, store, protocol((1, 1, 1)))
