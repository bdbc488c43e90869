import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hashbench.datasets.loading.augment import AUGMENTATIONS, augmentation
from hashbench.datasets.loading.loader import TrainLoader, inference_batches, steps_per_epoch
from hashbench.errors import HashbenchError
from hashbench.system.seeds import generator

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 3, 16, 16), dtype=np.uint8)
LABELS = np.eye(5, dtype=np.uint8)[np.arange(50) % 5]


def make(inputs=IMAGES, labels=LABELS, **settings):
    return TrainLoader(inputs, labels, **{"batch_size": 8, "seed": 0, "device": "cpu", **settings})


def order(loader, epoch=0):
    return torch.cat([batch.index for batch in loader.epoch(epoch)])


def test_a_batch_holds_the_samples_its_index_names():
    for batch in make().epoch(0):
        torch.testing.assert_close(batch.inputs * 255, torch.from_numpy(IMAGES)[batch.index].float())
        torch.testing.assert_close(batch.labels, torch.from_numpy(LABELS)[batch.index].float())
        assert batch.inputs is batch.views[0]
        assert (batch.inputs.dtype, batch.labels.dtype, batch.index.dtype) == (
            torch.float32, torch.float32, torch.int64,
        )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 40), batch_size=st.integers(1, 41))
def test_every_sample_comes_exactly_once_and_no_batch_of_one_is_left_over(count, batch_size):
    loader = make(np.zeros((count, 2), np.float32), None, batch_size=batch_size)
    batches = list(loader.epoch(3))
    assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == list(range(count))
    assert len(batches) == loader.steps_per_epoch == steps_per_epoch(count, batch_size)
    sizes = [len(batch.index) for batch in batches]
    assert set(sizes[:-1]) <= {batch_size}
    if batch_size > 1 and count > 1:
        assert 2 <= sizes[-1] <= batch_size + 1


def test_steps_count_over_the_whole_run():
    loader = make(batch_size=16)
    steps = [(batch.epoch, batch.step) for epoch in range(2) for batch in loader.epoch(epoch)]
    assert steps == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (1, 6), (1, 7)]


def test_one_seed_means_the_same_order_whatever_else_is_set():
    expected = order(make())
    assert expected.tolist() != sorted(expected.tolist())
    for other in ({"augment": name} for name in AUGMENTATIONS):
        assert torch.equal(order(make(**other)), expected)
    for other in ({"batch_size": 50}, {"augment": ["none", "flip"]}, {"size": 8}, {"labels": None}):
        assert torch.equal(order(make(**other)), expected)
    assert torch.equal(order(make(IMAGES[:, 0, 0].astype(np.float32))), expected)


def test_other_seeds_and_other_epochs_mean_other_orders_but_an_epoch_can_be_had_again():
    loader = make()
    assert not torch.equal(order(loader, 0), order(loader, 1))
    assert not torch.equal(order(loader, 0), order(make(seed=1), 0))
    assert torch.equal(order(loader, 1), order(make(), 1))


def test_the_same_seed_gives_the_same_views_and_batch_size_does_not_change_them():
    first = torch.cat([batch.inputs for batch in make(augment="resized-crop-flip").epoch(2)])
    for batch_size in (8, 13, 50):
        again = torch.cat([batch.inputs for batch in make(augment="resized-crop-flip", batch_size=batch_size).epoch(2)])
        torch.testing.assert_close(again, first)


def test_each_view_and_each_epoch_is_augmented_on_its_own():
    loader = make(augment=["pad-crop-flip"] * 2, batch_size=50)
    (batch,) = loader.epoch(0)
    assert len(batch.views) == 2
    assert not torch.equal(batch.views[0], batch.views[1])
    single = next(make(augment="pad-crop-flip", batch_size=50).epoch(0)).inputs
    assert torch.equal(batch.views[0], single)
    drawn = [
        augmentation("pad-crop-flip").draw(generator(0, "augment", epoch, 0), 50, height=16, width=16)
        for epoch in (0, 1)
    ]
    assert not torch.equal(drawn[0].boxes, drawn[1].boxes)
    expected = augmentation("pad-crop-flip").apply(torch.from_numpy(IMAGES)[batch.index], drawn[0])
    assert torch.equal(batch.views[0], expected)


def test_each_view_may_have_an_augmentation_of_its_own():
    names = ("none", "resized-crop-flip-jitter", "pad-crop")
    (batch,) = make(augment=names, batch_size=50).epoch(1)
    images = torch.from_numpy(IMAGES)[batch.index]
    for at, (name, view) in enumerate(zip(names, batch.views, strict=True)):
        drawn = augmentation(name).draw(generator(0, "augment", 1, at), 50, height=16, width=16)
        assert torch.equal(view, augmentation(name).apply(images, drawn))


def test_views_have_the_size_and_the_memory_layout_asked_for():
    for augment in AUGMENTATIONS:
        for channels_last in (False, True):
            batch = next(make(augment=augment, size=24, channels_last=channels_last).epoch(0))
            assert batch.inputs.shape == (8, 3, 24, 24)
            assert batch.inputs.is_contiguous(
                memory_format=torch.channels_last if channels_last else torch.contiguous_format
            )


def test_vectors_and_unlabelled_sets_take_the_same_path():
    vectors = np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32)
    loader = make(vectors, None, augment=["none"] * 2)
    assert loader.labels is None
    for batch in loader.epoch(0):
        assert batch.labels is None
        for view in batch.views:
            torch.testing.assert_close(view, torch.from_numpy(vectors)[batch.index])
    with pytest.raises(HashbenchError, match="'pad-crop' is for images, but these inputs are vectors; use 'none'"):
        make(vectors, None, augment="pad-crop")


def test_the_training_set_may_be_a_read_only_memory_map(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where a tensor would share memory that cannot be written
        assert torch.equal(next(make(mapped).epoch(0)).inputs, next(make().epoch(0)).inputs)
    assert torch.equal(next(make(torch.from_numpy(IMAGES)).epoch(0)).inputs, next(make().epoch(0)).inputs)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"batch_size": 0}, "batch size of 0"),
        ({"augment": []}, "number of views of 0"),
        ({"inputs": IMAGES[:0], "labels": LABELS[:0]}, "training set of 0"),
        ({"augment": "pad-corp"}, "Did you mean 'pad-crop'?"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(wrong, reason):
    with pytest.raises(HashbenchError, match=reason):
        make(**wrong)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 99])
def test_inference_gives_all_inputs_in_order(batch_size, tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    for inputs in (IMAGES, mapped, torch.from_numpy(IMAGES)):
        batches = list(inference_batches(inputs, batch_size=batch_size, device="cpu"))
        assert all(len(batch) <= batch_size for batch in batches)
        torch.testing.assert_close(torch.cat(batches) * 255, torch.from_numpy(IMAGES).float())


def test_inference_on_a_subset_reads_only_that_subset():
    class Watched:
        ndim, shape, dtype, read = IMAGES.ndim, IMAGES.shape, IMAGES.dtype, 0

        def __len__(self):
            return len(IMAGES)

        def __getitem__(self, chosen):
            rows = IMAGES[chosen]
            self.read += len(rows)
            return rows

    watched, index = Watched(), np.array([31, 4, 4, 17])
    got = torch.cat(list(inference_batches(watched, batch_size=3, device="cpu", index=index, size=8)))
    assert watched.read == len(index)
    everything = torch.cat(list(inference_batches(IMAGES, batch_size=50, device="cpu", size=8)))
    torch.testing.assert_close(got, everything[index])


def test_inference_leaves_vectors_alone_and_lays_images_out_as_asked():
    vectors = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    torch.testing.assert_close(
        torch.cat(list(inference_batches(vectors, batch_size=2, device="cpu"))), torch.from_numpy(vectors)
    )
    batch = next(inference_batches(IMAGES, batch_size=4, device="cpu", size=8, channels_last=True))
    assert batch.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.gpu
@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_the_gpu_sees_the_same_batches(augment):
    settings = {"augment": [augment] * 2, "size": 24}
    for here, there in zip(make(**settings).epoch(1), make(device="cuda", **settings).epoch(1), strict=True):
        assert there.inputs.is_cuda
        assert torch.equal(here.index, there.index.cpu())
        for a, b in zip(here.views, there.views, strict=True):
            torch.testing.assert_close(a, b.cpu(), atol=1e-4, rtol=0)
