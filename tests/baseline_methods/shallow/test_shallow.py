"""The shallow methods against scikit-learn, scipy and literal re-statements of what they minimise."""

import itertools
import math

import numpy as np
import pytest
import torch
from method_cases import make_task, one_hot, some_labels
from scipy.linalg import eigh
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA

from baselines.shallow.itq_cca import ITQCCA, canonical_directions
from baselines.shallow.ksh import KSH, ascended, largest_direction
from baselines.shallow.pcah import PCAH
from baselines.shallow.rslh import RSLH
from baselines.shallow.sdh import SDH
from baselines.shallow.sh import SH
from baselines.shallow.sph import SpH
from hashbench.errors import HashbenchError
from hashbench.methods import coordinate_descent, radial_features, random_words, ridge


class Data:
    """Features around class means, off the origin and longer in some directions, with labels; the last has none."""

    def __init__(self, count=120, width=20, classes=4, *, multi_label=False):
        chance = torch.Generator().manual_seed(0)
        self.labels = some_labels(count, classes, multi_label=multi_label).float()
        means = 2 * torch.randn((classes, width), generator=chance)
        noise = torch.randn((count, width), generator=chance) * torch.linspace(0.3, 2, width)
        self._features = self.labels @ means + noise + 3

    def features(self):
        return self._features


def fitted(method, bits=8, data=None, seed=0):
    data = data or Data()
    classes = data.labels.shape[1]
    task = make_task(classes, bits, inputs="features", seed=seed, num_train=len(data.labels))
    assert method.supports(task) is None
    method.fit(task, data)
    return method


ALL = [PCAH, SH, SpH, ITQCCA, SDH, KSH, RSLH]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("bits", [3, 8, 16])
@pytest.mark.parametrize("make", ALL, ids=lambda make: make.info.name)
def test_codes_are_bool_follow_the_seed_and_depend_on_one_row_each(make, bits, multi_label):
    data = Data(multi_label=multi_label)
    method, inputs = fitted(make(), bits, data), data.features()
    codes = method.encode(inputs)
    assert codes.shape == (120, bits)
    assert codes.dtype == torch.bool
    assert torch.equal(codes, torch.cat([method.encode(row) for row in inputs.split(7)]))
    assert torch.equal(codes, fitted(make(), bits, data).encode(inputs))
    assert 0.2 < codes.float().mean() < 0.8
    if make.supervised:  # a class's codes are nearer to each other than to those of others
        labels = data.labels
        alike = (labels @ labels.T > 0) & labels.any(dim=1) & labels.any(dim=1)[:, None]
        distance = torch.cdist(codes.float(), codes.float(), p=0)
        assert distance[alike].mean() < 0.8 * distance[~alike].mean()


def test_bits_of_pcah_are_the_signs_of_scikit_learns_components():
    inputs = Data().features()
    codes = fitted(PCAH(), 12).encode(inputs).numpy()
    wanted = PCA(12).fit(inputs.double().numpy()).transform(inputs.double().numpy()) >= 0
    for bit, other in zip(codes.T, wanted.T, strict=True):
        assert (bit == other).all() or (bit != other).all()


def test_bits_of_sh_are_the_smoothest_waves_of_all():
    inputs, bits = Data().features(), 10
    method = fitted(SH(), bits)
    along = PCA(bits).fit_transform(inputs.double().numpy())
    spans = along.max(axis=0) - along.min(axis=0)
    waves = sorted(
        (mode / span, mode, component) for component, span in enumerate(spans) for mode in range(1, bits + 1)
    )
    codes = method.encode(inputs).numpy()
    for bit, (_, mode, component) in zip(codes.T, waves[:bits], strict=True):
        # From either end of the range: the sign of a component is arbitrary, and turns the odd waves.
        phases = [mode * math.pi * (x - along[:, component].min()) / spans[component] for x in along[:, component]]
        wanted = np.cos(phases) >= 0
        assert (bit == wanted).mean() in (0, 1)
    assert len({component for _, _, component in waves[:bits]}) > 1
    assert max(mode for _, mode, _ in waves[:bits]) > 1


def test_spheres_of_sph_hold_half_the_inputs_and_two_of_them_a_quarter():
    data = Data(2000, 12)
    method = fitted(SpH(), 16, data)
    codes = method.encode(data.features()).double()
    assert (codes.sum(dim=0) == 1000).all()
    off = [abs(float(codes[:, i] @ codes[:, j]) - 500) for i, j in itertools.combinations(range(16), 2)]
    assert np.mean(off) <= 0.1 * 500
    for bit, (pivot, radius) in enumerate(zip(method.pivots, method.radii, strict=True)):
        distances = [math.dist(row, pivot.tolist()) for row in data.features().double().tolist()]
        assert [distance <= float(radius) for distance in distances] == codes[:, bit].bool().tolist()


def test_a_round_of_sph_moves_pivots_by_the_mean_of_the_papers_forces():
    data, bits = Data(), 5
    before, after = (fitted(SpH(iterations=rounds, mean_tolerance=0), bits, data) for rounds in (0, 1))
    inside = before.encode(data.features()).double()
    quarter = len(inside) / 4
    for i in range(bits):
        force = torch.zeros(20, dtype=torch.float64)
        for j in range(bits):
            if i != j:
                both = sum(float(a and b) for a, b in zip(inside[:, i], inside[:, j], strict=True))
                force += 0.5 * (both - quarter) / quarter * (before.pivots[i] - before.pivots[j])
        torch.testing.assert_close(after.pivots[i], before.pivots[i] + force / bits)


@pytest.mark.parametrize("multi_label", [False, True])
def test_directions_of_itq_cca_are_those_of_scikit_learn(multi_label):
    data = Data(400, 12, 5, multi_label=multi_label)
    features, targets = data.features()[:-1], data.labels[:-1].double()
    directions, correlations = canonical_directions(features, features.mean(dim=0), targets, 1e-9)
    number = 5 if multi_label else 4
    other = CCA(number, scale=False, max_iter=5000, tol=1e-12)
    scores, answers = other.fit_transform(features.double().numpy(), targets.numpy())
    centred = (features.double() - features.double().mean(dim=0)).numpy()
    covariance = centred.T @ centred / len(centred)
    for k in range(number):
        mine = centred @ directions[:, k].numpy()
        assert abs(np.corrcoef(mine, scores[:, k])[0, 1]) == pytest.approx(1, abs=1e-4)
        assert float(correlations[k]) == pytest.approx(np.corrcoef(scores[:, k], answers[:, k])[0, 1], abs=1e-4)
        assert float(directions[:, k] @ torch.from_numpy(covariance) @ directions[:, k]) == pytest.approx(1, abs=1e-4)
    if not multi_label:
        assert float(correlations[4]) == pytest.approx(0, abs=1e-6)  # four directions tell five classes


def test_itq_cca_rotates_the_scaled_directions():
    data = Data(300, 12, 5)
    method, bits = fitted(ITQCCA(), 4, data), 4
    features, targets = data.features()[:-1], data.labels[:-1].double()
    directions, correlations = canonical_directions(features, features.mean(dim=0), targets, 1e-4)
    scaled = (directions * correlations)[:, :bits]
    rotation = torch.linalg.lstsq(scaled, method.projection).solution
    torch.testing.assert_close(scaled @ rotation, method.projection)
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(bits, dtype=torch.float64), atol=1e-8, rtol=0)
    wide = fitted(ITQCCA(), 32, data)  # more bits than classes: five directions in all
    assert int(torch.linalg.matrix_rank(wide.projection, rtol=1e-6)) == 4


def sdh_objective(codes, targets, mapped, classifier, projection, settings):
    """Return |Y - B W|^2 + lambda |W|^2 + nu (|B - F|^2 + ridge |P|^2), entry by entry."""

    def squares(rows):
        return sum(float(value) ** 2 for row in rows for value in row)

    return (
        squares(targets - codes @ classifier)
        + settings.classifier_decay * squares(classifier)
        + settings.map_weight * (squares(codes - mapped @ projection) + settings.map_decay * squares(projection))
    )


def test_no_step_of_sdh_raises_its_objective():
    data, bits = Data(60), 6
    settings = SDH(map_weight=0.1, anchors=15)
    chance = torch.Generator().manual_seed(1)
    targets = data.labels.double()
    mapped = torch.rand((60, 15), generator=chance, dtype=torch.float64)
    codes = torch.randn((60, bits), generator=chance, dtype=torch.float64).sign()
    classifier, projection = ridge(codes, targets, 1.0), ridge(mapped, codes, 1e-2)
    values = [sdh_objective(codes, targets, mapped, classifier, projection, settings)]
    for _ in range(3):
        linear = targets @ classifier.T + 0.1 * mapped @ projection
        codes = coordinate_descent(codes, classifier @ classifier.T, linear)
        values.append(sdh_objective(codes, targets, mapped, classifier, projection, settings))
        classifier = ridge(codes, targets, 1.0)
        values.append(sdh_objective(codes, targets, mapped, classifier, projection, settings))
        projection = ridge(mapped, codes, 1e-2)
        values.append(sdh_objective(codes, targets, mapped, classifier, projection, settings))
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(values))
    assert values[-1] < 0.9 * values[0]


def literal_sdh(data, bits, method, rounds):
    """Return the code of each labelled input after the rounds, bit by bit, from the method's own anchors and start."""
    features, targets = data.features()[:-1].double(), data.labels[:-1].double().numpy()
    anchors = method.anchor_inputs.double()
    width = np.mean([math.dist(x, a) for x in features.tolist() for a in anchors.tolist()])
    mapped = np.array([[math.exp(-math.dist(x, a) ** 2 / (2 * width**2)) for a in anchors.tolist()]
                       for x in features.tolist()])  # fmt: skip
    words = torch.randint(2, (len(features), bits), generator=make_task(bits=bits).generator("codes"))
    codes = 2.0 * words.numpy() - 1
    for _ in range(rounds):
        w = np.linalg.solve(codes.T @ codes + np.eye(bits), codes.T @ targets)
        p = np.linalg.solve(mapped.T @ mapped + 1e-2 * np.eye(len(anchors)), mapped.T @ codes)
        for _ in range(10):
            for k in range(bits):
                others = [m for m in range(bits) if m != k]
                pull = targets @ w[k] + 0.1 * (mapped @ p)[:, k] - codes[:, others] @ (w[others] @ w[k])
                codes[:, k] = np.where(pull == 0, codes[:, k], np.sign(pull))
    return mapped @ np.linalg.solve(mapped.T @ mapped + 1e-2 * np.eye(len(anchors)), mapped.T @ codes)


def test_sdh_is_its_paper_step_by_step():
    data = Data(60)
    method = fitted(SDH(map_weight=0.1, anchors=15, rounds=3), 6, data)
    outputs = literal_sdh(data, 6, method, rounds=3)
    assert np.array_equal(method.encode(data.features()[:-1]).numpy(), outputs >= 0)


def test_the_first_direction_of_ksh_is_that_of_scipy():
    chance = torch.Generator().manual_seed(0)
    kernel = torch.randn((30, 6), generator=chance, dtype=torch.float64)
    residue = torch.randn((30, 30), generator=chance, dtype=torch.float64)
    residue = residue + residue.T
    found = largest_direction(kernel, residue).numpy()
    _, vectors = eigh((kernel.T @ residue @ kernel).numpy(), (kernel.T @ kernel).numpy())
    assert abs(found @ vectors[:, -1]) / np.linalg.norm(found) / np.linalg.norm(vectors[:, -1]) == pytest.approx(
        1, abs=1e-5
    )
    assert np.linalg.norm(kernel.numpy() @ found) ** 2 == pytest.approx(30, rel=1e-4)


def test_the_steps_of_ksh_ascend_its_relaxed_objective():
    chance = torch.Generator().manual_seed(0)
    kernel = torch.randn((40, 6), generator=chance, dtype=torch.float64)
    labels = one_hot([i % 4 for i in range(40)], 4)
    residue = 8 * (2 * labels @ labels.T - 1)

    def objective(a):
        bits = [
            2 / (1 + math.exp(-sum(x * y for x, y in zip(row, a.tolist(), strict=True)))) - 1 for row in kernel.tolist()
        ]
        return sum(float(residue[i, j]) * bits[i] * bits[j] for i in range(40) for j in range(40))

    start = largest_direction(kernel, residue)
    values = [objective(ascended(kernel, residue, start, steps)) for steps in (0, 1, 5, 50)]
    assert values == sorted(values)
    assert values[-1] > values[0]


def test_codes_of_ksh_lower_the_error_of_inner_products_bit_by_bit():
    data = Data(80)
    labelled = data.labels[:-1]
    target = 2 * (labelled @ labelled.T).double() - 1
    errors = []
    for bits in (1, 2, 4, 8):
        codes = 2 * fitted(KSH(anchors=40), bits, data).encode(data.features()[:-1]).double() - 1
        errors.append(float((codes @ codes.T / bits - target).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def literal_rslh(codes, labels, method, *, square, weight):
    """Return H (K, n) and B after the rounds, and the objective after each step, with S (n, n) pair by pair."""
    h, y, (alpha, beta, gamma) = codes.numpy().T, labels.numpy().T, (method.reconstruction, method.pairs, method.twin)
    s = np.array([[1 if (p * q).any() else method.dissimilar for q in y.T] for p in y.T])

    def nearest(rows):  # U V' of the thin singular value decomposition
        u, _, v = np.linalg.svd(rows, full_matrices=False)
        return math.sqrt(square) * u @ v

    def objective(w):
        parts = ((alpha, h - w @ y), (1, y - w.T @ b), (beta, s - h.T @ b), (gamma, h - b))
        return sum(scale * float(np.linalg.norm(part) ** 2) for scale, part in parts)

    b, values = nearest(h), []
    for _ in range(method.rounds):
        w = (alpha * h @ y.T + b @ y.T) @ np.linalg.inv(alpha * y @ y.T + square * np.eye(len(y)))
        values.append(objective(w))
        b = nearest(w @ y + beta * h @ s + gamma * h)
        values.append(objective(w))
        h = np.where(weight * w @ y + beta * b @ s + gamma * b < 0, -1.0, 1.0)
        values.append(objective(w))
    return h, b, values


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("fields", [{}, {"twin_norm": "n", "dissimilar": 0.0}, {"code_step": "1"}], ids=str)
def test_rslh_is_its_formulas_and_no_step_raises_its_objective(multi_label, fields):
    labels = some_labels(60, 5, multi_label=multi_label)[:-1]
    method = RSLH(pairs=0.01, twin=2.0, rounds=3, reconstruction=0.5, **fields)
    start = torch.randn((59, 3), generator=torch.Generator().manual_seed(2), dtype=torch.float64).sign()
    square, weight = 59 if "twin_norm" in fields else 1, 1 if "code_step" in fields else 0.5
    wanted_codes, wanted_twin, values = literal_rslh(start, labels, method, square=square, weight=weight)
    codes, twin, _ = method.fit_codes(start, labels)
    assert np.array_equal(codes.numpy(), wanted_codes.T)
    np.testing.assert_allclose(twin.numpy(), wanted_twin.T, atol=1e-9)
    torch.testing.assert_close(twin.T @ twin, square * torch.eye(3, dtype=torch.float64))
    if weight == 0.5:
        assert all(after <= before + 1e-9 for before, after in itertools.pairwise(values))
        assert values[-1] < values[0] - 0.1


@pytest.mark.parametrize("rows_at_once", [7, 4096])
def test_the_map_of_rslh_is_as_wide_as_the_nearest_anchor_is_far(rows_at_once, monkeypatch):
    monkeypatch.setattr("baselines.shallow.rslh.BLOCK", rows_at_once)
    data = Data(40)
    method = fitted(RSLH(anchors=15), 4, data)
    features, anchors = data.features()[:-1].tolist(), method.anchor_inputs.tolist()
    nearest = [min(math.dist(x, a) for a in anchors if a != x) for x in features]
    assert float(method.width) == pytest.approx(np.mean(nearest), rel=1e-5)
    mapped = np.array(
        [[math.exp(-(math.dist(x, a) ** 2) / (2 * np.mean(nearest) ** 2)) for a in anchors] for x in features]
    )
    start = random_words(39, 4, make_task().generator("codes")).double()
    codes = method.fit_codes(start, data.labels[:-1].double())[0].numpy()
    centred = mapped - mapped.mean(axis=0)
    wanted = centred @ np.linalg.solve(centred.T @ centred + 1e-6 * np.eye(15), centred.T @ codes)
    assert np.array_equal(method.encode(data.features()[:-1]).numpy(), wanted >= 0)


def literal_ksh(data, bits, method, sample):
    """Return the codes of all inputs, bit by bit, from the method's own anchors: the paper, and its authors' width."""
    features, anchors = data.features().double().tolist(), method.anchor_inputs.double().tolist()
    squares = np.array([[math.dist(x, a) ** 2 for a in anchors] for x in features])
    mapped = np.exp(-squares / (2 * squares.mean()))
    mapped = mapped - mapped.mean(axis=0)
    task = make_task(data.labels.shape[1], bits, inputs="features", num_train=len(features))
    labelled = [i for i, row in enumerate(data.labels.tolist()) if any(row)]
    chosen = [labelled[i] for i in torch.randperm(len(labelled), generator=task.generator("sample"))[:sample].tolist()]
    kernel, labels = mapped[chosen], data.labels[chosen].numpy()
    count = len(chosen)
    residue = np.array([[bits * (1.0 if x @ y > 0 else -1.0) for y in labels] for x in labels])
    gram = kernel.T @ kernel

    def relaxed(a):
        h = 2 / (1 + np.exp(-kernel @ a)) - 1
        return -h @ residue @ h, -kernel.T @ ((residue @ h) * (1 - h * h))

    codes = []
    for _ in range(bits):
        _, vectors = eigh(kernel.T @ residue @ kernel, gram + 1e-6 * gram.diagonal().mean() * np.eye(len(gram)))
        first = vectors[:, -1] * math.sqrt(count / (vectors[:, -1] @ gram @ vectors[:, -1]))
        first *= np.sign(first[np.abs(first).argmax()])
        old, new, deltas, bound, costs = first, first, [0.0, 1.0], 1.0, [relaxed(first)[0]]
        for _ in range(500):
            probe = new + (deltas[-2] - 1) / deltas[-1] * (new - old)
            cost, gradient = relaxed(probe)
            while True:
                step = -gradient / bound
                if relaxed(probe + step)[0] <= cost + gradient @ step + bound / 2 * (step @ step):
                    break
                bound *= 2
            old, new = new, probe + step
            deltas.append((1 + math.sqrt(1 + 4 * deltas[-1] ** 2)) / 2)
            costs.append(relaxed(new)[0])
            if abs(costs[-1] - costs[-2]) / count <= 1e-2:
                break
        spectral, smooth = (np.where(kernel @ a >= 0, 1.0, -1.0) for a in (first, new))
        found, own = (new, smooth) if smooth @ residue @ smooth > spectral @ residue @ spectral else (first, spectral)
        residue = residue - np.outer(own, own)
        codes.append(mapped @ found >= 0)
    return np.array(codes).T


@pytest.mark.parametrize("multi_label", [False, True])
def test_ksh_is_its_paper_bit_by_bit(multi_label):
    data = Data(90, multi_label=multi_label)
    data._features = data._features.double()
    method = fitted(KSH(anchors=12, sample=50), 6, data)
    assert np.array_equal(method.encode(data.features()).numpy(), literal_ksh(data, 6, method, 50))


def test_ksh_keeps_the_spectral_direction_where_steps_make_it_worse(monkeypatch):
    data = Data(80)
    wanted = fitted(KSH(anchors=40, steps=0), 4, data)
    monkeypatch.setattr("baselines.shallow.ksh.ascended", lambda kernel, residue, start, steps: 0 * start)
    assert torch.equal(fitted(KSH(anchors=40), 4, data).projection, wanted.projection)


def test_ksh_ends_where_no_step_can_be_small_enough():
    kernel, start = torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    residue = torch.full((3, 3), math.nan, dtype=torch.float64)
    assert torch.equal(ascended(kernel, residue, start, 5), start)


@pytest.mark.parametrize("intercept", [False, True])
def test_sdh_maps_a_constant_where_there_is_an_intercept(intercept):
    data = Data(60)
    method = fitted(SDH(anchors=15, intercept=intercept), 6, data)
    assert method.projection.shape == (15 + intercept, 6)
    mapped = radial_features(data.features().double(), method.anchor_inputs.double(), method.width)
    outputs = mapped @ method.projection[:15]
    if intercept:
        outputs = outputs + method.projection[15]
    assert torch.equal(method.encode(data.features()), outputs >= 0)


class Constant(Data):
    """Features that are all the same."""

    def features(self):
        return torch.ones_like(self._features)


class Unlabelled(Data):
    """No input has a label."""

    def __init__(self):
        super().__init__()
        self.labels = torch.zeros_like(self.labels)


@pytest.mark.parametrize(
    ("make", "data", "reason"),
    [
        (PCAH, Data(width=5), "at most 5 bits"),
        (PCAH, Constant(), "inputs are all the same, and pcah needs"),
        (SH, Constant(), "inputs are all the same, and sh needs"),
        (SH, Data(5), "sh needs as many"),
        (SpH, Data(1), "sph needs two"),
        (ITQCCA, Constant(), "features that vary"),
        (ITQCCA, Unlabelled(), "that vary"),
        (SDH, Constant(), "features that differ"),
        (SDH, Unlabelled(), "there are none"),
        (KSH, Constant(), "that differ"),
        (KSH, Unlabelled(), "some with labels"),
        (RSLH, Constant(), "features that differ"),
        (RSLH, Unlabelled(), "as many training inputs with labels"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(make, data, reason):
    with pytest.raises(HashbenchError, match=reason):
        fitted(make(), 8, data)


def test_settings_without_a_meaning_are_refused():
    for method in (
        SpH(start_inputs=0), SpH(iterations=-1), ITQCCA(iterations=-1), ITQCCA(regularization=0.0), SDH(map_decay=0.0),
        SDH(anchors=0), KSH(sample=0), KSH(steps=-1), RSLH(rounds=0), RSLH(twin=-1.0), RSLH(map_decay=0.0),
    ):  # fmt: skip
        assert "at least" in method.supports(make_task()) or "more than" in method.supports(make_task())
