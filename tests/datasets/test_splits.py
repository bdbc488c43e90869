import dataclasses
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashbench.datasets.protocol import DRAWN, RULES, Protocol, Sizes
from hashbench.datasets.rules import RULES as IMPLEMENTED
from hashbench.datasets.splits import hold_out, split
from hashbench.errors import HashbenchError

GIVEN = np.array(["train"] * 20 + ["test"] * 8 + ["database"] * 12)


def protocol(rule="per-class-v1", sizes=(8, 4, 28), *, train_in_database=False, multi_label=False):
    return Protocol(
        dataset="toy", name="p", sizes=Sizes(*sizes), train_in_database=train_in_database, rule=rule,
        measures=("mAP@all",), summary="", num_classes=4, about="", citation="", licence="", source="",
        multi_label=multi_label,
    )  # fmt: skip


def shuffled(store, seed):
    order = np.random.default_rng(seed).permutation(len(store.inputs))
    part = None if store.part is None else store.part[order]
    return dataclasses.replace(store, inputs=store.inputs[order], labels=store.labels[order], part=part)


def test_every_rule_a_protocol_may_name_is_implemented():
    assert set(IMPLEMENTED) == set(RULES)


def test_a_large_set_is_ranked_by_its_official_names_and_not_by_its_pixels(make_store):
    names = tuple(f"train/{number}.jpg" for number in range(40))
    one, other = make_store(names=names, seed=1), make_store(names=names, seed=2)
    for part in ("train", "query", "database"):
        np.testing.assert_array_equal(getattr(split(one, protocol()), part), getattr(split(other, protocol()), part))
    members = np.flatnonzero(one.labels[:, 3])
    order = sorted(members, key=lambda i: sha256(b"per-class-v1\0" + names[i].encode()).digest())
    assert set(members) & set(split(one, protocol()).query.tolist()) == {order[0]}
    shuffle = np.random.default_rng(0).permutation(40)
    moved = make_store(inputs=one.inputs[shuffle], labels=one.labels[shuffle], names=tuple(names[i] for i in shuffle))
    assert split(moved, protocol()).sha256 == split(one, protocol()).sha256


@pytest.mark.parametrize("rule", DRAWN)
def test_another_draw_of_a_rule_is_another_split_that_no_order_of_the_files_changes(make_store, rule):
    store = make_store(part=GIVEN, each=10)
    first = protocol(rule, (20, 4, 16))
    draws = [split(store, first), *(split(store, first.drawn(draw)) for draw in range(2, 8))]
    assert len({draw.sha256 for draw in draws}) > (
        2 if rule == "unseen-v1" else 6
    )  # which has four classes to draw from
    assert {(len(draw.train), len(draw.query)) for draw in draws} == {(len(draws[0].train), len(draws[0].query))}
    assert split(shuffled(store, 0), first.drawn(7)).sha256 == draws[-1].sha256


def test_another_draw_hashes_its_number_with_the_rule(make_store):
    names = tuple(f"train/{number}.jpg" for number in range(40))
    store = make_store(names=names)
    members = np.flatnonzero(store.labels[:, 3]).tolist()
    first = min(members, key=lambda i: sha256(b"per-class-v1, draw 2\0" + names[i].encode()).digest())
    assert set(members) & set(split(store, protocol().drawn(2)).query.tolist()) == {first}


def test_a_given_split_has_no_other_draw():
    with pytest.raises(HashbenchError, match="takes its split as given"):
        protocol("given-v1").drawn(2)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("train_in_database", [False, True])
def test_the_same_images_in_the_same_order_come_out_of_any_order_of_the_files(make_store, rule, train_in_database):
    store = make_store(part=GIVEN, each=10)
    asked = protocol(rule, (20, 4, 16), train_in_database=train_in_database)
    first = split(store, asked)
    for seed in range(3):
        again = split(shuffled(store, seed), asked)
        other = shuffled(store, seed)
        for part in ("train", "query", "database"):
            np.testing.assert_array_equal(
                store.inputs[getattr(first, part)], other.inputs[getattr(again, part)], err_msg=part
            )
        assert again.sha256 == first.sha256
        assert other.integrity == store.integrity
        if rule != "shares-v1":  # which leaves too few train images of each class to hold a fifth out
            assert hold_out(other, again).sha256 == hold_out(store, first).sha256


def test_per_class_takes_the_same_number_of_each_class_by_hash(make_store):
    store = make_store()
    parts = split(store, protocol())
    for name, count in (("train", 2), ("query", 1), ("database", 7)):
        assert store.labels[getattr(parts, name)].sum(axis=0).tolist() == [count] * 4
    # the documented rule, restated
    members = np.flatnonzero(store.labels[:, 3])
    ranked = sorted(members, key=lambda i: sha256(b"per-class-v1\0" + store.inputs[i].tobytes()).digest())
    in_class = {name: set(members) & set(getattr(parts, name).tolist()) for name in ("query", "train")}
    assert in_class == {"query": set(ranked[:1]), "train": set(ranked[1:3])}


def test_the_parts_cover_the_set_without_overlap_unless_train_is_in_the_database(make_store):
    store = make_store()
    apart = split(store, protocol())
    assert sorted([*apart.train, *apart.query, *apart.database]) == list(range(40))
    within = split(store, protocol(sizes=(8, 4, 36), train_in_database=True))
    assert set(within.train) < set(within.database)
    assert sorted([*within.query, *within.database]) == list(range(40))
    np.testing.assert_array_equal(apart.query, within.query)
    np.testing.assert_array_equal(apart.train, within.train)
    assert apart.sha256 != within.sha256


def test_given_follows_the_source_and_overall_ranks_multi_label_images(make_store):
    parts = split(make_store(part=GIVEN), protocol("given-v1", (20, 8, 12)))
    assert [sorted(part.tolist()) for part in (parts.train, parts.query, parts.database)] == [
        list(range(20)), list(range(20, 28)), list(range(28, 40)),
    ]  # fmt: skip
    labels = np.random.default_rng(0).integers(0, 2, (40, 4))
    overall = split(make_store(labels=labels), protocol("overall-v1", (10, 5, 25), multi_label=True))
    assert (len(overall.train), len(overall.query), len(overall.database)) == (10, 5, 25)
    assert sorted([*overall.train, *overall.query, *overall.database]) == list(range(40))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equal_pictures_never_make_the_split_depend_on_the_order(make_store_of_copies, seed):
    store = make_store_of_copies
    for asked in (protocol(sizes=(8, 4, 28)), protocol("overall-v1", (8, 4, 28))):
        assert split(shuffled(store, seed), asked).sha256 == split(store, asked).sha256


def test_the_hash_names_the_images_of_each_part_whatever_rule_picked_them(make_store):
    store = make_store()
    picked = split(store, protocol())
    part = np.full(40, "database")
    part[picked.train], part[picked.query] = "train", "test"
    store = dataclasses.replace(store, part=part)
    assert split(store, protocol("given-v1")).sha256 == picked.sha256
    part[picked.train[0]], part[picked.query[0]] = "test", "train"
    assert split(store, protocol("given-v1")).sha256 != picked.sha256


@pytest.fixture(scope="module")
def make_store_of_copies():
    from hashbench.datasets.base import Store

    pictures = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4), dtype=np.uint8)
    chance = np.random.default_rng(1)
    labels = np.eye(4, dtype=np.uint8)[np.tile(np.arange(4), 10)]
    return Store("toy", pictures[chance.integers(0, 6, 40)], labels, ("a", "b", "c", "d"))


def test_validation_takes_a_fifth_of_each_class_of_train_and_nothing_else(make_store):
    store = make_store(each=20)
    parts = split(store, protocol(sizes=(40, 4, 36)))
    held = hold_out(store, parts)
    assert store.labels[held.query].sum(axis=0).tolist() == [2] * 4
    assert store.labels[held.train].sum(axis=0).tolist() == [8] * 4
    assert sorted([*held.query, *held.train]) == sorted(parts.train)
    np.testing.assert_array_equal(held.train, held.database)
    assert held.sha256 != parts.sha256


def test_validation_of_a_multi_label_set_takes_a_fifth_of_train(make_store):
    store = make_store(labels=np.random.default_rng(0).integers(0, 2, (40, 4)))
    held = hold_out(store, split(store, protocol("overall-v1", (20, 5, 15), multi_label=True)))
    assert (len(held.query), len(held.train), len(held.database)) == (4, 16, 16)


def test_validation_needs_five_train_images_of_a_class(make_store):
    store = make_store()
    with pytest.raises(HashbenchError, match="too few train images"):
        hold_out(store, split(store, protocol(sizes=(16, 4, 20))))


@pytest.mark.parametrize(
    ("rule", "sizes", "reason"),
    [
        ("per-class-v1", (36, 8, 0), "needs 11 images of class 'class 0', but toy has 10"),
        ("per-class-v1", (8, 5, 27), "evenly among the 4 classes"),
        ("overall-v1", (40, 8, 0), "needs 48 images, but toy has 40"),
        ("given-v1", (8, 4, 28), "comes without one"),
    ],
)
def test_a_store_that_does_not_fit_is_refused(make_store, rule, sizes, reason):
    with pytest.raises(HashbenchError, match=reason):
        split(make_store(), protocol(rule, sizes))


def test_per_class_refuses_images_of_several_classes(make_store):
    with pytest.raises(HashbenchError, match="several classes"):
        split(make_store(labels=np.ones((40, 4))), protocol())


def counts(store, parts):
    return {name: store.labels[getattr(parts, name)].sum(axis=0).tolist() for name in ("train", "query", "database")}


def uneven(make_store, sizes, **fields):
    labels = np.repeat(np.eye(len(sizes), dtype=np.uint8), sizes, axis=0)
    return make_store(labels=labels, **fields)


def test_even_shares_give_the_largest_classes_one_more(make_store):
    store = uneven(make_store, [6, 9, 7, 8])
    found = counts(store, split(store, protocol("even-v1", (10, 6, 14))))
    assert found == {"train": [2, 3, 2, 3], "query": [1, 2, 1, 2], "database": [3, 4, 4, 3]}
    with pytest.raises(HashbenchError, match="needs 9 images of class 'class 0', but toy has 6"):
        split(store, protocol("even-v1", (20, 16, 0)))


def test_proportional_shares_follow_the_class_sizes_by_largest_remainders(make_store):
    store = uneven(make_store, [40, 20, 7, 3])
    found = counts(store, split(store, protocol("proportional-v1", (35, 10, 25))))
    assert found["train"] == [20, 10, 4, 1]  # 20, 10, 3.5, 1.5: the first of equal remainders
    assert found["query"] == [6, 3, 1, 0]  # 5.71, 2.86, 1, .43
    assert np.sum([*found.values()], axis=0).tolist() == [40, 20, 7, 3]


def test_per_label_gives_every_class_its_images_the_rarest_first(make_store):
    labels = np.random.default_rng(3).integers(0, 10, (200, 4)) < [6, 2, 4, 8]
    store = make_store(labels=labels)
    parts = split(store, protocol("per-label-v1", (40, 20, 140), multi_label=True))
    assert (len(parts.train), len(parts.query), len(parts.database)) == (40, 20, 140)
    assert sorted([*parts.train, *parts.query, *parts.database]) == list(range(200))
    rarest = np.flatnonzero(labels[:, 1])
    order = sorted(rarest, key=lambda i: sha256(b"per-label-v1\0" + store.inputs[i].tobytes()).digest())
    assert set(order[:5]) <= set(parts.query)
    assert set(order[5:15]) <= set(parts.train)
    assert (labels[parts.query].sum(axis=0) >= 5).all()
    assert (labels[parts.train].sum(axis=0) >= 10).all()
    with pytest.raises(HashbenchError, match=r"needs 60 images that show 'class 1', but toy has \d+"):
        split(store, protocol("per-label-v1", (160, 80, 0), multi_label=True))


def test_images_without_a_label_are_only_found_never_asked_with_nor_trained_on(make_store):
    labels = np.random.default_rng(0).integers(0, 2, (60, 4))
    labels[::3] = 0
    store = make_store(labels=labels)
    unlabelled = {*np.flatnonzero(~store.labels.any(axis=1)).tolist()}
    for rule, sizes in (("overall-v2", (20, 10, 30)), ("shares-v1", (0, 0, 0))):
        parts = split(store, protocol(rule, sizes, multi_label=True))
        assert unlabelled <= set(parts.database.tolist())
        assert len(parts.query)


def test_official_queries_stay_and_train_is_drawn_from_the_rest(make_store):
    store = make_store(part=GIVEN)
    parts = split(store, protocol("given-query-v1", (12, 8, 32), train_in_database=True))
    assert sorted(parts.query) == list(range(20, 28))
    assert store.labels[parts.train].sum(axis=0).tolist() == [3] * 4
    assert set(parts.train) < set(parts.database)
    with pytest.raises(HashbenchError, match="needs 9 train images of class 'class 0', but toy has 8"):
        split(store, protocol("given-query-v1", (36, 8, 32)))


@pytest.mark.parametrize("part", [None, GIVEN])
def test_unseen_classes_ask_and_answer_and_never_train(make_store, part):
    store = make_store(part=part)
    parts = split(store, protocol("unseen-v1", (None, None, None)))
    found = counts(store, parts)
    order = sorted(range(4), key=lambda number: sha256(f"unseen-v1\0class {number}".encode()).digest())
    for number in range(4):
        asks, others = (2, 8)  # one in five, as in GIVEN
        unseen = number == order[0]
        assert found["train"][number] == (0 if unseen else others)
        assert (found["query"][number], found["database"][number]) == ((asks, others) if unseen else (0, 0))
    if part is not None:
        assert set(part[parts.query]) == {"test"}
        assert "test" not in part[[*parts.train, *parts.database]]


def test_a_quarter_of_the_classes_rounded_up_is_unseen(make_store):
    for classes, unseen in ((2, 1), (5, 2), (8, 2), (10, 3)):
        store = make_store(classes=classes, each=5)
        found = counts(store, split(store, protocol("unseen-v1", (None, None, None))))
        assert np.count_nonzero(found["query"]) == unseen
        assert np.count_nonzero(found["train"]) == classes - unseen


def test_shares_of_own_data(make_store):
    store = uneven(make_store, [20, 5, 3, 2])
    found = counts(store, split(store, protocol("shares-v1", (None, None, None))))
    assert found == {"train": [8, 2, 1, 0], "query": [2, 1, 1, 0], "database": [10, 2, 1, 2]}


def test_the_number_of_images_of_a_complete_copy_is_checked_first(make_store):
    asked = dataclasses.replace(protocol(sizes=(400, 100, 300)), num_images=41)
    with pytest.raises(HashbenchError, match=r"toy has 41 images, but 40 were found; is this copy complete\?"):
        split(make_store(), asked)
