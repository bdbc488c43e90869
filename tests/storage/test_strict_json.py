import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashbench.storage.strict_json import as_text, canonical, digest, document, dumps, loads, texts

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None)
@given(PLAIN)
def test_plain_data_is_read_back_as_written(value):
    assert loads(dumps(value)) == value
    assert loads(canonical(value)) == value


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_a_document_is_the_same_value_laid_out(value):
    assert loads(document(value)) == value


def test_a_document_puts_two_levels_of_keys_on_lines_of_their_own():
    assert document({"a": 1, "b": {"c": [1, 2], "d": {"e": 3}}, "f": {}}) == (
        '{\n  "a": 1,\n  "b": {\n    "c": [1, 2],\n    "d": {"e": 3}\n  },\n  "f": {}\n}\n'
    )


def test_numpy_scalars_become_numbers():
    value = {"i": np.int64(3), "f": np.float32(0.5), "b": np.bool_(True), "t": (np.uint8(1), np.float64(2))}
    assert json.loads(dumps(value)) == {"i": 3, "f": 0.5, "b": True, "t": [1, 2.0]}


@pytest.mark.parametrize("undefined", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_undefined_is_null_in_a_file_and_refused_in_a_hash(undefined):
    assert dumps({"a": [undefined]}) == '{"a": [null]}'
    with pytest.raises(ValueError, match=r"a\[0\] is"):
        canonical({"a": [undefined]})


@pytest.mark.parametrize("bad", [object(), Path("x"), {1}, b"x", np.zeros(2), 1j, len])
def test_what_is_not_plain_data_is_named_by_its_path(bad):
    with pytest.raises(TypeError, match=r"^provenance\.versions\[1\] is a"):
        dumps({"provenance": {"versions": ["1", bad]}})


def test_keys_are_strings():
    with pytest.raises(TypeError, match=r"^a has the key 1"):
        dumps({"a": {1: 2}})


def test_the_canonical_text_does_not_depend_on_the_order_or_the_kind_of_sequence():
    assert canonical({"b": (1, 2.5), "a": None}) == canonical({"a": None, "b": [1, np.float64(2.5)]})
    assert canonical({"b": (1, 2), "a": "é"}) == '{"a":"\\u00e9","b":[1,2]}'


def test_the_digest_never_changes():
    # Run directories are found by it: another value here means that every finished run is computed again.
    assert (
        digest({"b": [1, 2.5, True], "a": None}) == "c4d7033a5afc0c842666b0afd7ff58e9704bb5b19bf47bc5fc929e412913efc1"
    )


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": Infinity}', '{"a": 1', "", "nothing"])
def test_only_strict_json_is_read(text):
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the parser says of it
        loads(text)


UNREADABLE = {
    "100,000 brackets": ("[" * 100_000 + "]" * 100_000, "nest"),
    "65 lists": ("[" * 65 + "]" * 65, "nest more than 64 deep"),
    "65 objects": ('{"a":' * 65 + "1" + "}" * 65, "nest more than 64 deep"),
    "an integer beyond floats": ("1" + "0" * 400, "beyond the largest number"),
    "a float beyond floats": ("[1e999]", "1e999 is beyond the largest number"),
    "thousands of digits": ("9" * 5000, "beyond the largest number"),
    "not a number": ("NaN", "NaN is not JSON"),
    "a key twice": ('{"a": {"b": 1, "b": 2}}', "the key 'b' stands there twice"),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_would_trip_its_readers_is_refused(what):
    text, sentence = UNREADABLE[what]
    with pytest.raises(ValueError, match=sentence):
        loads(text)


def test_names_of_files_that_are_no_text_are_read_back():
    assert loads(dumps(["bad\udcff"])) == ["bad\udcff"]
    assert as_text("bad\udcff") == "bad\\udcff"
    assert [*texts({"a": ["b", {"c": 1}]})] == ["a", "b", "c"]
