"""Retrieved images: the nearest by brute force, right and wrong told truly, and the data set checked."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hashbench.datasets import catalogue as datasets
from hashbench.errors import HashbenchError
from hashbench.metrics import pack
from hashbench.results.gallery import gallery
from hashbench.results.runs import RunDirectory
from hashbench.results.tables.blocks import blocks


@pytest.fixture(scope="module")
def toy():
    return datasets.load("toy@small")


@pytest.fixture
def run(make, stored, toy):
    """Store a run on the toy with random codes; returns the result, and the codes as bool."""

    def store(*, codes=True, split=toy.split.sha256, **coords):
        coords = {"dataset": "toy", "protocol": "small", "bits": 12} | coords
        result = stored(make(provenance={"split_sha256": split}, **coords))
        random = np.random.default_rng(coords["bits"])
        query = random.random((len(toy.split.query), coords["bits"])) < 0.5
        database = random.random((len(toy.split.database), coords["bits"])) < 0.5
        if codes:
            RunDirectory(result.path).write_arrays("codes", query=pack(query), database=pack(database))
        return result, query, database

    return store


def shown(source):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def test_the_images_shown_are_the_nearest(run, toy):
    result, query, database = run()
    (block,) = blocks([result])
    found = gallery(block, toy, queries=15, seed=0, nearest=7)
    assert len(found.queries) == 15
    for place, asked in enumerate(found.queries):  # all are asked, so in the order of the split
        image, labels = toy.store.inputs[toy.split.query[place]], toy.store.labels[toy.split.query[place]]
        assert (shown(asked.image.source) == image[0]).all()
        (ranking,) = asked.rankings
        distances = np.array(
            [sum(bit != other for bit, other in zip(query[place], code, strict=True)) for code in database]
        )
        assert [item.distance for item in ranking.nearest] == sorted(distances)[:7]
        last = ranking.nearest[-1].distance
        assert ranking.tied == (distances == last).sum()
        assert ranking.tied_shown == sum(item.distance == last for item in ranking.nearest)
        for item in ranking.nearest:
            at = [
                k
                for k in np.flatnonzero(distances == item.distance)
                if (toy.store.inputs[toy.split.database[k]][0] == shown(item.source)).all()
            ]
            (place_of,) = at  # that image lies at that distance
            theirs = toy.store.labels[toy.split.database[place_of]]
            assert item.relevant == bool(theirs @ labels)
            assert item.classes == "abc"[theirs.argmax()]


def test_the_seed_draws_the_queries(run, toy):
    (block,) = blocks([run()[0]])
    first, again, other = (
        [query.image.source for query in gallery(block, toy, queries=4, seed=seed).queries] for seed in (0, 0, 1)
    )
    assert first == again != other


def test_the_code_length_of_most_methods_is_shown(run, toy):
    runs = [run(method="crh", bits=12)[0], run(method="csq", bits=12)[0], run(method="crh", bits=24)[0]]
    found = gallery(blocks(runs)[0], toy, queries=1, seed=0)
    assert found.bits == 12
    assert [ranking.label for ranking in found.queries[0].rankings] == ["crh", "csq"]


def test_runs_without_codes_are_named_and_the_others_shown(run, toy):
    kept, bare = run(method="crh")[0], run(method="csq", codes=False)[0]
    found = gallery(blocks([kept, bare])[0], toy, queries=1, seed=0)
    assert [ranking.label for ranking in found.queries[0].rankings] == ["crh"]
    (sentence,) = found.missing
    assert sentence.startswith("csq: There is no ")
    with pytest.raises(HashbenchError, match="keeps its codes"):
        gallery(blocks([bare])[0], toy, queries=1, seed=0)


def test_codes_of_other_shapes_are_not_shown(run, toy):
    result = run()[0]
    RunDirectory(result.path).write_arrays(
        "codes", query=np.zeros((3, 2), np.uint8), database=np.zeros((3, 2), np.uint8)
    )
    with pytest.raises(HashbenchError, match="does not hold the codes of toy@small"):
        gallery(blocks([result])[0], toy, queries=1, seed=0)


def test_another_split_is_refused(run, toy):
    (block,) = blocks([run(split="0" * 64)[0]])
    with pytest.raises(HashbenchError, match="another split"):
        gallery(block, toy, queries=1, seed=0)


def test_vectors_are_no_pictures(run, toy):
    (block,) = blocks([run()[0]])
    vectors = replace(toy.store, inputs=np.zeros((len(toy.store.labels), 4), np.float32))
    with pytest.raises(HashbenchError, match="no pictures"):
        gallery(block, replace(toy, store=vectors), queries=1, seed=0)


def test_large_images_become_thumbnails(run, toy):
    (block,) = blocks([run()[0]])
    large = np.zeros((len(toy.store.labels), 3, 300, 150), np.uint8)
    found = gallery(block, replace(toy, store=replace(toy.store, inputs=large)), queries=1, seed=0)
    assert shown(found.queries[0].image.source).shape == (96, 48, 3)
