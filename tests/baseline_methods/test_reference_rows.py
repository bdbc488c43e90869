"""The rows that every table needs: LSH, ITQ and the classifier."""

import itertools

import numpy as np
import pytest
import torch
from method_cases import make_batch, make_task, one_hot, some_labels, some_outputs, terms_and_gradients

from baselines.reference.classifier import Classifier
from baselines.shallow.itq import ITQ
from baselines.shallow.lsh import LSH
from hashbench.errors import HashbenchError
from hashbench.methods import projections
from hashbench.methods.codebooks import gilbert_varshamov_distance, spread
from hashbench.methods.projections import nearest_rotation, principal_components, random_rotation


class Features:
    """Training data that has nothing but features, off the origin and longer in some directions."""

    labels = None

    def __init__(self, count=200, width=24):
        chance = torch.Generator().manual_seed(0)
        self._features = torch.randn((count, width), generator=chance) * torch.linspace(0.2, 3, width) + 2

    def features(self):
        return self._features


def fitted(method, bits=16, data=None, seed=0):
    method.fit(make_task(bits=bits, inputs="features", seed=seed), data or Features())
    return method


@pytest.mark.parametrize("make", [LSH, ITQ])
@pytest.mark.parametrize("bits", [8, 24, 64])
def test_codes_are_bool_follow_the_seed_and_depend_on_one_row_each(make, bits):
    data = Features()
    method, inputs = fitted(make(), bits), data.features()
    codes = method.encode(inputs)
    assert codes.shape == (200, bits)
    assert codes.dtype == torch.bool
    assert torch.equal(codes, torch.cat([method.encode(row) for row in inputs.split(7)]))
    assert torch.equal(codes, fitted(make(), bits).encode(inputs))
    assert not torch.equal(codes, fitted(make(), bits, seed=1).encode(inputs))
    assert not make.supervised
    restored = make()
    for name, value in method.state_dict().items():
        restored.register_buffer(name, value)
    assert torch.equal(restored.encode(inputs), codes)
    assert 0.3 < codes.float().mean() < 0.7


def test_lsh_planes_are_gaussian_and_go_through_the_mean():
    method, inputs = fitted(LSH(), 2000), Features().features()
    assert float(method.planes.mean()) == pytest.approx(0, abs=0.02)
    assert float(method.planes.std()) == pytest.approx(1, abs=0.02)
    centred = inputs - inputs.mean(dim=0)
    assert torch.equal(method.encode(inputs), centred.double() @ method.planes >= 0)
    through_origin = fitted(LSH(center=False), 2000)
    assert torch.equal(through_origin.encode(inputs), inputs.double() @ method.planes >= 0)


def test_lsh_distance_is_the_angle():
    method, inputs = fitted(LSH(center=False), 8000), Features(count=5).features()
    codes = method.encode(inputs).float()
    for a, b in itertools.combinations(range(5), 2):
        angle = torch.arccos(torch.cosine_similarity(inputs[a], inputs[b], dim=0)) / torch.pi
        assert float((codes[a] != codes[b]).float().mean()) == pytest.approx(float(angle), abs=0.02)


@pytest.mark.parametrize("block", [1, 100, 2**27])
@pytest.mark.parametrize(("count", "width"), [(200, 24), (24, 24), (7, 24), (30, 700)])
def test_components_are_those_of_largest_variance(monkeypatch, count, width, block):
    monkeypatch.setattr(projections, "BLOCK", block)
    features = Features(count, width).features()
    components = principal_components(features, 6)
    _, _, rows = np.linalg.svd((features - features.mean(dim=0)).double().numpy(), full_matrices=False)
    assert components.shape == (width, 6)
    for component, row in zip(components.T.numpy(), rows, strict=False):
        assert abs(component @ row) == pytest.approx(1, abs=1e-6)
        assert component[abs(component).argmax()] > 0


@pytest.mark.parametrize(("count", "width"), [(70, 90), (90, 70)])
def test_components_of_sparse_rows_are_the_same_without_a_gram_matrix(monkeypatch, count, width):
    chance = torch.Generator().manual_seed(0)
    features = torch.rand((count, width), generator=chance)
    features *= torch.rand((count, width), generator=chance) < 0.08
    features[3] = 0
    wanted = principal_components(features, 3)
    monkeypatch.setattr(projections, "WIDE", 64)
    monkeypatch.setattr(torch.linalg, "eigh", lambda gram: pytest.fail("a Gram matrix was decomposed"))
    torch.testing.assert_close(principal_components(features, 3), wanted, rtol=0, atol=1e-5)
    monkeypatch.undo()
    monkeypatch.setattr(projections, "WIDE", 64)
    torch.testing.assert_close(principal_components(features + 0.1, 3), wanted, rtol=0, atol=1e-4)  # by the other way


def test_itq_of_photographs_takes_memory_by_their_number():
    photographs = Features(20, 3 * 256 * 256)  # a covariance of 154 GB
    method = fitted(ITQ(), 16, photographs)
    assert method.projection.shape == (196_608, 16)
    centred = (photographs.features() - photographs.features().mean(dim=0)).double()
    _, _, rows = torch.linalg.svd(centred, full_matrices=False)
    projected = centred @ rows[:16].T  # in the span of these rows, the method's own rotation of it is all there is
    torch.testing.assert_close((centred @ method.projection).square().sum(dim=1), projected.square().sum(dim=1))


@pytest.mark.parametrize(
    ("features", "spanned"),
    [
        (Features(16, 40).features(), 15),  # n inputs span n - 1 dimensions
        (Features(16, 16).features() + 1000, 15),
        (Features(16, 3 * 256 * 256).features() / 20 + 1000, 15),
        (Features(5, 20).features().repeat(50, 1), 4),  # the same few again and again, more than dimensions
        (Features(5, 4000).features().repeat(50, 1), 4),  # and fewer
        (Features(60, 5).features() @ torch.ones(5, 30), 1),
    ],
)
def test_itq_refuses_more_bits_than_the_training_set_spans(features, spanned):
    data = Features()
    data._features = features
    with pytest.raises(HashbenchError, match=rf"span {spanned} of their .*at most {spanned} bits"):
        fitted(ITQ(), 16, data)
    if spanned > 1:
        assert fitted(ITQ(), spanned, data).encode(features).shape == (len(features), spanned)
    assert fitted(LSH(), 16, data).encode(features).shape == (len(features), 16)


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        (torch.ones(90, 30), "The 90 training inputs are all the same, and itq needs some that differ"),
        (torch.ones(20, 300), "The 20 training inputs are all the same"),
        (Features(1, 30).features(), "The 1 training inputs are all the same"),
        (Features(90, 30).features() * 1e25, "too large for float32, up to 1e[+]26; scale them down"),
        (Features(20, 300).features() * 1e200, "too large for float32"),
    ],
)
def test_itq_says_what_of_the_inputs_it_cannot_take(features, reason):
    data = Features()
    data._features = features
    with pytest.raises(HashbenchError, match=reason):
        fitted(ITQ(), 16, data)
    if torch.isfinite(features).all():
        assert fitted(LSH(), 16, data).encode(features).shape == (len(features), 16)


@pytest.mark.parametrize("make", [LSH, ITQ])
def test_encoding_leaves_its_inputs_as_they_are(make):
    inputs = Features().features().double()
    method = fitted(make())
    codes, kept = method.encode(inputs), inputs.clone()
    assert torch.equal(method.encode(inputs), codes)
    assert torch.equal(inputs, kept)


def test_the_start_is_a_rotation():
    rotation = random_rotation(9, torch.Generator().manual_seed(0))
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(9, dtype=torch.float64))


def test_the_nearest_rotation_is_the_best_of_many():
    chance = torch.Generator().manual_seed(0)
    projected, codes = some_outputs(50, 5, 1), some_outputs(50, 5, 2).sign()

    def loss(rotation):
        return float(((codes - projected @ rotation) ** 2).sum())

    best = nearest_rotation(projected, codes)
    torch.testing.assert_close(best @ best.T, torch.eye(5, dtype=torch.float64))
    assert all(loss(best) <= loss(random_rotation(5, chance)) for _ in range(200))
    turned = torch.matrix_exp(0.01 * (codes[:5] - codes[:5].T))
    assert loss(best) < loss(best @ turned)


def quantization_error(method, inputs):
    rotated = (inputs.double() - method.mean) @ method.projection
    return float(((torch.where(rotated >= 0, 1.0, -1.0) - rotated) ** 2).sum())


def test_each_round_of_itq_loses_less():
    inputs = Features().features()
    errors = [quantization_error(fitted(ITQ(iterations=rounds), 12), inputs) for rounds in (0, 1, 2, 5, 20, 50)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.99 * errors[0]


def test_itq_rotates_the_principal_components():
    method, inputs = fitted(ITQ(), 12), Features().features()
    components = principal_components(inputs, 12)
    rotation = components.T @ method.projection
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(12, dtype=torch.float64), atol=1e-8, rtol=0)


def test_a_round_of_itq_is_signs_then_rotation():
    method, inputs = fitted(ITQ(iterations=3), 12), Features().features()
    components = principal_components(inputs, 12)
    projected = ((inputs - inputs.mean(dim=0)) @ components.float()).double().numpy()
    rotation = random_rotation(12, make_task().generator("rotation")).numpy()
    for _ in range(3):
        codes = np.where(projected @ rotation >= 0, 1, -1)
        left, _, right = np.linalg.svd(codes.T @ projected)
        rotation = right.T @ left.T
    np.testing.assert_allclose(method.projection.numpy(), components.numpy() @ rotation, atol=1e-8)


def test_itq_gives_more_bits_than_features():
    method = fitted(ITQ(), 64, Features(width=5))
    assert method.encode(Features(width=5).features()).float().mean(dim=0).sub(0.5).abs().max() < 0.3


def test_itq_refuses_negative_rounds():
    assert "iterations" in ITQ(iterations=-1).supports(make_task())
    assert ITQ().supports(make_task()) is None


def ready(classes=6, bits=16, seed=0) -> Classifier:
    method = Classifier()
    method.setup(make_task(classes, bits, seed=seed), {})
    return method


def test_the_classifier_is_trained_with_cross_entropy():
    method = ready()
    assert method.head(8, make_task(6, 16))(torch.zeros(2, 8)).shape == (2, 6)
    logits, labels = some_outputs(7, 6), some_labels(7, 6, multi_label=False)
    terms, gradient = terms_and_gradients(method, logits, labels)
    expected = torch.nn.functional.cross_entropy(logits[:-1], labels[:-1].argmax(dim=1))
    assert terms["cross_entropy"] == pytest.approx(float(expected))
    torch.testing.assert_close(gradient[:-1], (logits[:-1].softmax(dim=1) - labels[:-1]) / 6)
    assert gradient[-1].eq(0).all()


def test_the_classifiers_code_is_the_word_of_the_best_class():
    method = ready(10, 16)
    codes = method.codes(one_hot([3, 3, 9], 10))
    assert codes.dtype == torch.bool
    assert torch.equal(codes, method.words[[3, 3, 9]])
    assert spread(2.0 * method.words - 1)[0] > gilbert_varshamov_distance(10, 16)
    assert not torch.equal(ready(10, 16, seed=1).words, method.words)


def test_the_classifier_needs_a_word_and_one_class_per_sample():
    assert "one class per sample" in Classifier().supports(make_task(multi_label=True))
    assert "3 bits give 8 words" in Classifier().supports(make_task(10, 3))
    assert Classifier().supports(make_task(8, 3)) is None
    assert make_batch(torch.eye(2)).inputs.shape == (2, 1)
