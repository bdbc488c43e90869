"""Users and items: files are read as they are or refused by the line; splits follow from the pairs, not their order."""

import os
import random
import zipfile
from collections import defaultdict
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from pair_cases import some_pairs, write_pairs

from hashbench.datasets import catalogue
from hashbench.datasets.files.releases import SourceFile
from hashbench.datasets.interactions import loading, movielens
from hashbench.datasets.interactions.base import numbered
from hashbench.datasets.interactions.loading import find, load
from hashbench.datasets.interactions.splits import split_of
from hashbench.errors import HashbenchError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with the toy as toy.csv."""
    monkeypatch.chdir(tmp_path)
    write_pairs("toy.csv")
    return tmp_path


def named(data, which):
    """Return the pairs of a mask as a set of names."""
    store = data.store
    pairs = zip(store.user[which], store.item[which], strict=True)
    return {(store.users[u], store.items[i]) for u, i in pairs}


def key(rule, user, item):
    return sha256(f"{rule}\0{user}\0{item}".encode()).digest()


def test_leave_one_out_takes_the_last_and_of_equal_times_the_largest_hash(folder):
    rows = [*some_pairs(), ("single", "i1", "5", "3")]
    write_pairs("toy.csv", rows)
    of_user = defaultdict(list)
    for user, item, _, time in rows:
        of_user[user].append((float(time), key("last-v1", user, item), item))
    expected = {(user, max(pairs)[2]) for user, pairs in of_user.items() if len(pairs) > 1}
    data = load("pairs:toy.csv@leave-one-out")
    assert named(data, data.is_relevant) == expected
    assert named(data, data.is_train) == {row[:2] for row in rows} - expected
    assert "single" not in data.file_of_names["query"]
    tied = [user for user, pairs in of_user.items() if sorted(pairs)[-1][0] == sorted([*pairs, (0, b"", "")])[-2][0]]
    assert len(tied) > 5  # so that the rule had ties to break


def test_80_20_takes_a_fifth_of_each_users_pairs_by_hash(folder):
    of_user = defaultdict(list)
    for user, item, *_ in some_pairs():
        of_user[user].append((key("shares-by-user-v1", user, item), item))
    expected = {(user, item) for user, pairs in of_user.items() for _, item in sorted(pairs)[: len(pairs) // 5]}
    data = load("pairs:toy.csv@80-20")
    assert named(data, data.is_relevant) == expected
    assert named(data, data.is_train) == {row[:2] for row in some_pairs()} - expected


@pytest.mark.parametrize("protocol", ["leave-one-out", "80-20"])
def test_no_order_of_the_lines_changes_anything_and_each_change_of_a_line_does(folder, protocol):
    rows = some_pairs()
    before = load(f"pairs:toy.csv@{protocol}")
    random.Random(3).shuffle(rows)
    write_pairs("toy.csv", rows)
    after = load(f"pairs:toy.csv@{protocol}")
    assert (after.integrity, after.split_sha256) == (before.integrity, before.split_sha256)
    assert (after.train != before.train).nnz == 0
    assert after.file_of_names == before.file_of_names
    for changed in (("u1", "i99", *rows[0][2:]), (*rows[0][:2], "2.5", rows[0][3]), (*rows[0][:3], "77")):
        write_pairs("toy.csv", [changed, *rows[1:]])
        assert load(f"pairs:toy.csv@{protocol}").integrity != before.integrity


def test_the_hashes_of_a_split_do_not_move(folder):
    write_pairs("toy.csv", [("a", "x", "5", "1"), ("a", "y", "4", "2"), ("b", "x", "1", "3"), ("b", "z", "2", "3")])
    data = load("pairs:toy.csv@leave-one-out")
    assert data.integrity[:16] == "e9b063435bb1d297"
    assert data.split_sha256[:16] == "ce3962c3ea091c36"


def test_validation_splits_the_training_pairs_and_leaves_the_test_pairs_alone(folder):
    for protocol in ("leave-one-out", "80-20"):
        test, chosen = (load(f"pairs:toy.csv@{protocol}", evaluate_on=part) for part in ("test", "validation"))
        assert named(chosen, chosen.is_relevant) | named(chosen, chosen.is_train) == named(test, test.is_train)
        assert not named(chosen, chosen.is_relevant) & named(chosen, chosen.is_train)
        assert chosen.split_sha256 != test.split_sha256


def test_training_pairs_are_left_out_and_the_queries_are_users_with_something_to_find(folder):
    data = load("pairs:toy.csv@80-20")
    store, pairs = data.store, data.pairs
    assert data.sizes == (len(data.query), len(store.items))
    queries = [store.users[user] for user in data.query]
    for columns, which in ((pairs.relevant, data.is_relevant), (pairs.excluded, data.is_train)):
        found = {(queries[q], store.items[i]) for q, i in zip(columns.query, columns.items, strict=True)}
        assert found == {pair for pair in named(data, which) if pair[0] in queries}
    rating = {row[:2]: float(row[2]) for row in some_pairs()}
    dense = data.train.toarray()
    assert data.train.nnz == data.is_train.sum()
    for user, item in named(data, data.is_train):
        assert dense[store.users.index(user), store.items.index(item)] == rating[user, item]


def test_a_number_of_any_length_is_a_name():
    long = "9" * 5000  # which int() refuses
    assert numbered("toy", ["10", long, "0", "9"], ["x"] * 4).users == ("0", "9", "10", long)


def test_a_split_without_training_pairs_is_refused(folder):
    write_pairs("all.csv", [("a", "x", "test"), ("b", "y", "test")], header="user,item,part")
    with pytest.raises(HashbenchError, match="all@given leaves no pair to learn from"):
        load("pairs:all.csv")


def test_names_that_are_numbers_are_ordered_as_numbers():
    assert numbered("a", ["10", "9", "2"], ["b", "10", "9"]).users == ("2", "9", "10")
    assert numbered("a", ["10", "9", "2"], ["b", "10", "9"]).items == ("10", "9", "b")
    assert numbered("a", ["010", "9"], ["1", "2"]).users == ("010", "9")


def test_a_given_split_is_the_files_own_and_the_rest_is_optional(folder):
    write_pairs("toy.csv", [("a", "x", "train"), ("a", "y", "test"), ("b", "x", "train")], header="user,item,part")
    data = load("pairs:toy.csv")
    assert (data.name, named(data, data.is_relevant)) == ("toy@given", {("a", "y")})
    assert data.train.toarray().tolist() == [[1, 0], [1, 0]]
    Path("toy.tsv").write_text("item\tuser\nx\ta\ny\ta\n")
    with pytest.raises(HashbenchError, match="leaves no user a relevant item"):
        load("pairs:toy.tsv")


REFUSED = {
    "a,x,1,1\n": "the first line has the column 'a'; the first line names the columns: user,item",
    "user,rating\na,1\n": "has no column item",
    "user,item,item\na,x,y\n": "names one twice",
    "user,item\na\n": "line 2: it has 1 cells and there are 2 columns",
    "user,item\na,\n": "line 2: its item is empty",
    "user,item,rating\na,x,0\n": "line 2: its rating is '0'; write a number above 0",
    "user,item,rating\na,x,nan\n": "line 2: its rating is 'nan'",
    "user,item,rating\na,x,1e-50\n": "line 2: its rating is '1e-50'",
    "user,item,rating\na,x,-1\n": "line 2: its rating is '-1'",
    "user,item,time\na,x,today\n": "line 2: its time is 'today'; write a number",
    "user,item,part\na,x,valid\n": "line 2: its part is 'valid'; write train or test",
    "user,item\na,x\n\nb,y\na,x\n": "holds user 'a' with item 'x' twice, line 2 and line 5",
    "user,item\n": "holds no pair",
    "": "has no column user",
    'user,item\na,"x\n': "cannot be read",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: repr(text)[1:20])
def test_what_is_no_file_of_pairs_is_refused_by_the_line(folder, text):
    Path("toy.csv").write_text(text)
    with pytest.raises(HashbenchError) as caught:
        load("pairs:toy.csv")
    assert REFUSED[text] in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (os.fsdecode(b"l\xe9.csv"), "holds characters that cannot be printed"),
        ("two\nlines.csv", "holds characters that cannot be printed"),
        ("..csv", "has no name before its ending"),
        ("MovieLens-100k.csv", "has the name of the data set movielens-100k"),
    ],
    ids=["bytes", "lines", "dots", "registered"],
)
def test_names_that_are_none_or_another_ones_are_refused(folder, name, reason):
    write_pairs(name)
    with pytest.raises(HashbenchError, match=reason):
        load(f"pairs:{name}")


def test_a_name_is_one_word_without_the_sign_of_protocols(folder):
    write_pairs("my shop@x.csv")
    assert load("pairs:my shop@x.csv@80-20").name == "my_shop_x@80-20"


def test_other_names_and_places_are_refused_with_the_way_out(folder):
    Path("toy.txt").write_text("user,item\na,x\n")
    Path("latin.csv").write_bytes(b"user,item\n\xe4,x\n")
    write_pairs("plain.csv", [("a", "x"), ("a", "y")], header="user,item")
    for name, reason in (
        ("pairs:toy.txt", "neither .csv nor .tsv"),
        ("pairs:missing.csv", "There is no file missing.csv"),
        ("pairs:latin.csv", "must be text in UTF-8"),
        ("pairs:toy.csv@80-21", "Did you mean 'pairs:toy.csv@80-20'"),
        ("pairs:plain.csv@leave-one-out", "needs a column time"),
        ("movielens-100k@80-21", "Did you mean 'movielens-100k@80-20'"),
    ):
        with pytest.raises(HashbenchError) as caught:
            load(name)
        assert reason in str(caught.value), name
    for name in ("pairs:toy.csv", "movielens-100k@80-20"):
        with pytest.raises(HashbenchError, match=r"holds pairs of users and items.*family recommendation"):
            catalogue.load(name)


def release(separator="\t", file="u.data"):
    """Return a release of three ratings, and its file."""
    lines = [separator.join(line) for line in (("1", "7", "5", "30"), ("1", "9", "4", "20"), ("2", "7", "1", "10"))]
    return movielens.Release("ml-toy", file, separator, 3, 2, 2), ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize(("separator", "file"), [("\t", "u.data"), ("::", "ratings.dat")])
def test_movielens_is_read_from_its_folder_and_from_its_archive(tmp_path, separator, file):
    made, content = release(separator, file)
    assert movielens.state(made, tmp_path) == "missing"
    with zipfile.ZipFile(tmp_path / "ml-toy.zip", "w") as archive:
        archive.writestr(f"ml-toy/{file}", content)
    assert movielens.state(made, tmp_path) == "ready"
    packed = movielens.read("toy", made, tmp_path)
    (tmp_path / "ml-toy.zip").unlink()
    (tmp_path / "ml-toy").mkdir()
    (tmp_path / "ml-toy" / file).write_bytes(content)
    found = movielens.read("toy", made, tmp_path)
    assert found.integrity == packed.integrity
    assert (found.users, found.items) == (("1", "2"), ("7", "9"))
    assert (found.rating.tolist(), found.time.tolist()) == ([5, 4, 1], [30, 20, 10])
    assert found.official is None  # no checksum is known of it


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"1\t7\t5\t30\n1\t9\t4\n", "line 2 is '1.t9.t4', not user, item, rating and time"),
        (b"1\t7\t5\t30\n1\t9\t4\t20\n", "holds 2 ratings of 1 users and 2 items.*is this copy complete"),
        (b"1\t7\t5\t30\n1\t9\t6\t20\n2\t7\t1\t10\n", "from 1 to 6"),
        (b"1\t7\t5\t30\n1\t7\t4\t20\n2\t7\t1\t10\n", "holds user '1' with item '7' twice, line 1 and line 2"),
    ],
)
def test_a_damaged_copy_of_movielens_is_refused(content, reason):
    with pytest.raises(HashbenchError, match=reason.replace("'1.t9.t4'", r"'1\\t9\\t4'")):
        movielens.parse("toy", release()[0], content, SourceFile("u.data", "md5:0"))


def test_a_damaged_archive_and_a_missing_one_are_refused(tmp_path, monkeypatch):
    made, _ = release()
    with pytest.raises(HashbenchError, match=r"cannot be downloaded.*get ml-toy.zip from https://files.grouplens.org"):
        movielens.read("toy", made, tmp_path)
    (tmp_path / "ml-toy.zip").write_bytes(b"PK no archive")
    with pytest.raises(HashbenchError, match="is damaged or cannot be read"):
        movielens.read("toy", made, tmp_path)


def test_a_file_that_is_not_the_official_one_is_used_only_where_that_is_accepted(tmp_path, monkeypatch):
    made, content = release()
    source = find("movielens-100k")[0]
    other = replace(source, read=partial(movielens.read, "movielens-100k", replace(made, md5="0" * 32)))
    monkeypatch.setattr(loading, "find", lambda name, data_dir: (other, other.protocols[0]))
    (tmp_path / "ml-toy").mkdir()
    (tmp_path / "ml-toy" / "u.data").write_bytes(content)
    monkeypatch.delenv("HASHBENCH_ACCEPT_UNOFFICIAL", raising=False)
    with pytest.raises(HashbenchError, match="is not the official file of movielens-100k"):
        load("movielens-100k", data_dir=tmp_path)
    assert load("movielens-100k", data_dir=tmp_path, accept_unofficial=True).store.official is False


def test_the_official_protocols_are_three_and_liked_counts_ratings_of_four_or_more():
    names = [protocol.name for protocol in find("movielens-1m")[0].protocols]
    assert names == ["leave-one-out", "80-20", "80-20-liked"]
    assert find("movielens-1m@80-20-liked")[1].liked == 4


def test_only_liked_pairs_are_relevant(folder):
    whole = load("pairs:toy.csv@80-20")
    liked = split_of(whole.store, replace(whole.protocol, liked=4.0), "test")
    assert np.array_equal(liked.is_train, whole.is_train)
    assert np.array_equal(liked.is_relevant, whole.is_relevant & (whole.store.rating >= 4))
    assert 0 < liked.is_relevant.sum() < whole.is_relevant.sum()


@pytest.mark.parametrize("name", movielens.RELEASES)
def test_the_page_names_every_protocol(name):
    page = (Path(__file__).parents[3] / "docs" / "recommendation.md").read_text()
    assert all(f"`{protocol.full_name}`" in page for protocol in find(name)[0].protocols)


@pytest.mark.real
def test_movielens_100k_is_the_official_one():
    data = load("movielens-100k")
    assert data.store.official
    assert data.train.shape == (943, 1682)
    assert (data.train.nnz, data.is_relevant.sum()) == (99_057, 943)
