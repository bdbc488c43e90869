"""The pairwise and triplet methods against literal re-statements of their losses, one pair and one bit at a time."""

import math
from itertools import product

import pytest
import torch
from method_cases import gradients, make_batch, make_task, some_labels, some_outputs

from baselines.pairwise.dbdh import DBDH
from baselines.pairwise.dch import DCH
from baselines.pairwise.dhn import DHN
from baselines.pairwise.dpsh import DPSH
from baselines.pairwise.dsh import DSH
from baselines.pairwise.dshsd import DSHSD
from baselines.pairwise.hashnet import HashNet
from baselines.pairwise.idhn import IDHN
from baselines.pairwise.mihash import MIHash
from baselines.ranking.dtsh import DTSH
from baselines.ranking.talr import TALR
from hashbench.datasets.loading.batch import Batch

N, K, C, TRAIN = 7, 12, 5, 20


def ready(method, bits=K, **task):
    made = make_task(C, bits, num_train=TRAIN, **task)
    assert method.supports(made) is None
    method.setup(made, {})
    return method.double()


def batch_of(labels, step=0, first=0):
    index = torch.arange(first, first + len(labels))
    return Batch((torch.zeros(len(labels), 1),), labels, index, 0, step)


def share(a, b):
    return any(x and y for x, y in zip(a, b, strict=True))


def overlap(a, b):
    either = sum(bool(x or y) for x, y in zip(a, b, strict=True))
    return sum(bool(x and y) for x, y in zip(a, b, strict=True)) / either if either else 0


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def likelihood(t, s):
    return (1 + (-t).exp()).log() if s else (1 + t.exp()).log()  # -log p and -log(1 - p), p = 1 / (1 + e^-t)


def weights(pairs, labels, by_overlap):
    """Return HashNet's weight of each pair counted."""
    alike = [share(labels[i], labels[j]) for i, j in pairs]
    ones, zeros = sum(alike), len(alike) - sum(alike)
    found = []
    for (i, j), s in zip(pairs, alike, strict=True):
        weight = len(pairs) / (ones if s else zeros)
        found.append(weight * overlap(labels[i], labels[j]) if s and by_overlap else weight)
    return found


def compare(method, out, labels, literal, batch=None):
    """Compare value and gradient of a method's loss with a function of the outputs that says the same in loops."""
    leaf, other = out.clone().requires_grad_(), out.clone().requires_grad_()
    terms = method.loss(leaf, batch or batch_of(labels))
    total = sum(terms.values())
    wanted = literal(other)
    torch.testing.assert_close(total, wanted, rtol=1e-10, atol=1e-12)
    gradient = gradients(total, leaf)
    torch.testing.assert_close(gradient, gradients(wanted, other), rtol=1e-9, atol=1e-12)
    assert gradient[-1].eq(0).all()  # the row without a label carries no loss
    assert gradient[0].ne(0).any()


def several(labels):
    return bool((labels.sum(dim=1) > 1).any())


@pytest.fixture(params=[False, True], ids=["single", "multi"])
def cases(request):
    labels = some_labels(N, C, multi_label=request.param)
    return some_outputs(N, K), labels, [i for i in range(N) if labels[i].any()]


@pytest.mark.parametrize(
    ("scaling", "eta", "balance"), [("sums", 50.0, False), ("sums", 3.0, True), ("means", 0.1, False)]
)
def test_dpsh(cases, scaling, eta, balance):
    out, labels, labelled = cases
    method = ready(DPSH(scaling=scaling, quantization=eta, balance=balance), multi_label=several(labels))
    earlier = some_outputs(4, K, seed=5)  # of samples 10 to 13
    seen = batch_of(some_labels(5, C, multi_label=False, seed=4)[:4], first=10)
    method.loss(earlier, seen)
    method.after_step(None, seen)

    def literal(u):
        rows = [(u[j].detach(), labels[j]) for j in labelled]
        rows += [(earlier[j], seen.labels[j]) for j in range(4)]
        alike = sum(share(labels[i], label) for i in labelled for _, label in rows)
        number, pairs = len(labelled) * len(rows), 0
        for i, (row, label) in product(labelled, rows):
            s = share(labels[i], label)
            weight = number / (alike if s else number - alike) if balance else 1
            pairs = pairs + weight * likelihood(dot(u[i], row) / 2, s)
        squares = sum((math.copysign(1, float(u[i, k].detach())) - u[i, k]) ** 2 for i in labelled for k in range(K))
        if scaling == "sums":
            return pairs / (len(labelled) * len(rows)) + eta * squares / (len(labelled) * TRAIN)
        return pairs / (len(labelled) * len(rows)) + eta * squares / (len(labelled) * K)

    compare(method, out, labels, literal)


def test_the_memory_of_dpsh_holds_each_samples_own_last_outputs():
    method = ready(DPSH())
    for step, rows in enumerate(([0, 3, 5], [5, 1, 0])):
        out = some_outputs(3, K, seed=step)
        batch = Batch((torch.zeros(3, 1),), torch.eye(C, dtype=torch.float64)[:3], torch.tensor(rows), 0, step)
        method.loss(out, batch)
        method.after_step(None, batch)
    first, last = some_outputs(3, K, seed=0), some_outputs(3, K, seed=1)
    expected = {3: first[1], 5: last[0], 1: last[1], 0: last[2]}
    for row in range(TRAIN):
        wanted = expected.get(row, torch.zeros(K, dtype=torch.float64))
        torch.testing.assert_close(method.memory.outputs[row], wanted)
    assert method.memory.labels.any(dim=1).nonzero()[:, 0].tolist() == [0, 1, 3, 5]


@pytest.mark.parametrize(("scale", "over"), [(1, "sum"), (0.5, "mean")], ids=["the authors' code", "a common suite"])
@pytest.mark.parametrize("squash", [True, False])
@pytest.mark.parametrize("pairs", ["batch", "memory"])
def test_dhn(cases, squash, pairs, scale, over):
    out, labels, labelled = cases

    def literal(v):
        h = v.tanh() if squash else v
        other = h if pairs == "batch" else h.detach()
        total = sum(
            likelihood(scale * dot(h[i], other[j]), share(labels[i], labels[j])) for i in labelled for j in labelled
        )
        corner = sum(((h[i, k].abs() - 1).cosh()).log() for i in labelled for k in range(K))
        return total / len(labelled) ** 2 + 0.3 * corner / len(labelled) / (K if over == "mean" else 1)

    fields = {"scale": scale, "quantization": 0.3, "quantization_over": over, "squash": squash, "pairs": pairs}
    compare(ready(DHN(**fields), multi_label=several(labels)), out, labels, literal)


def test_dhn_takes_the_step_of_its_authors_code(cases):
    """The code's two layers write gradients of h = tanh v rather than a loss: 2 (sigmoid t - s) h / n^2, lambda / n."""
    out, labels, labelled = cases
    v = out.requires_grad_()
    terms = ready(DHN(), multi_label=several(labels)).loss(v, batch_of(labels))
    h, n = v.detach().tanh(), len(labelled)
    wanted = torch.zeros_like(h)
    for i in labelled:
        for j in labelled:
            t = float(dot(h[i], h[j]))
            wanted[i] += 2 * (1 / (1 + math.exp(-t)) - share(labels[i], labels[j])) * h[j] / n**2
        wanted[i] += 0.2 * (h[i].abs() - 1).tanh() * h[i].sign() / n
    torch.testing.assert_close(gradients(sum(terms.values()), v), wanted * (1 - h**2), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("self_pairs", [False, True])
@pytest.mark.parametrize("by_overlap", [False, True])
@pytest.mark.parametrize(("step", "beta"), [(0, 1.0), (199, 1.0), (200, math.sqrt(2)), (650, 2.0)])
def test_hashnet(cases, self_pairs, by_overlap, step, beta):
    out, labels, labelled = cases
    counted = [(i, j) for i, j in product(labelled, labelled) if self_pairs or i != j]

    def literal(v):
        h = (beta * v).tanh()
        terms = [likelihood(10 / K * dot(h[i], h[j]), share(labels[i], labels[j])) for i, j in counted]
        both = zip(weights(counted, labels, by_overlap), terms, strict=True)
        return sum(weight * term for weight, term in both) / len(counted)

    method = ready(HashNet(label_overlap=by_overlap, self_pairs=self_pairs))
    compare(method, out, labels, literal, batch_of(labels, step=step))


def test_the_continuation_of_hashnet_grows_and_is_logged():
    method = ready(HashNet(), steps_per_epoch=100)
    betas = [method.end_epoch(epoch, {})["beta"] for epoch in range(20)]
    assert betas == sorted(betas)
    assert betas[0] == 1  # after 100 iterations
    assert betas[1] == betas[2] == pytest.approx(math.sqrt(2))
    assert betas[19] == pytest.approx(math.sqrt(11))


@pytest.mark.parametrize("pairs", ["batch", "memory"])
def test_dsh(cases, pairs):
    out, labels, labelled = cases
    out = out / 2  # so that some distances are below and others beyond the margin
    counted = [(i, j) for i, j in product(labelled, labelled) if pairs == "memory" or i != j]

    def literal(v):
        other = v if pairs == "batch" else v.detach()
        total, beyond = 0, 0
        for i, j in counted:
            distance = sum((v[i, k] - other[j, k]) ** 2 for k in range(K))
            if share(labels[i], labels[j]):
                total = total + distance / 2
            else:
                beyond += float(distance.detach()) > 2 * K
                total = total + max(2 * K - distance, 0 * distance) / 2
        assert beyond > 0
        corner = sum((v[i, k].abs() - 1).abs() for i in labelled for k in range(K))
        return total / len(counted) + 0.05 * 2 * corner / len(labelled)

    method = ready(DSH(quantization=0.05, pairs=pairs), multi_label=several(labels))
    out[0] *= 4
    compare(method, out, labels, literal)


@pytest.mark.parametrize("fields", [{}, {"squash": False, "largest_cosine": 0.99, "self_pairs": True},
                                    {"label_overlap": True, "gamma": 5.0}])  # fmt: skip
def test_dch(cases, fields):
    out, labels, labelled = cases
    gamma, most = fields.get("gamma", 20.0), fields.get("largest_cosine", 1.0)
    counted = [(i, j) for i, j in product(labelled, labelled) if fields.get("self_pairs") or i != j]

    def distance(a, b):
        cosine = dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5
        return K / 2 * (1 - (cosine if cosine < most else cosine.detach() * 0 + most))

    def literal(v):
        h = v.tanh() if fields.get("squash", True) else v
        total = 0
        for weight, (i, j) in zip(weights(counted, labels, fields.get("label_overlap")), counted, strict=True):
            d = distance(h[i], h[j])
            term = (1 + d / gamma).log() if share(labels[i], labels[j]) else (1 + gamma / d).log()
            total = total + weight * term / len(counted)
        one = torch.ones(K, dtype=torch.float64)
        return total + 0.1 * sum((1 + distance(h[i].abs(), one) / gamma).log() for i in labelled) / len(labelled)

    compare(ready(DCH(**fields)), out, labels, literal)


@pytest.mark.parametrize("power", [1, 2])
def test_dbdh(cases, power):
    out, labels, labelled = cases

    def literal(v):
        cut = torch.stack([torch.stack([v[i, k] if abs(v[i, k]) <= 1 else v[i, k].detach().sign() for k in range(K)])
                           for i in range(N)])  # fmt: skip
        total = sum(
            likelihood(dot(cut[i], cut[j].detach()) / 2, share(labels[i], labels[j]))
            for i, j in product(labelled, labelled)
        )
        means = [sum(cut[i]) / K for i in labelled]
        return total / len(labelled) ** 2 + 0.3 * sum(abs(mean) ** power for mean in means) / len(labelled)

    compare(ready(DBDH(balance=0.3, power=power), multi_label=several(labels)), out, labels, literal)


@pytest.mark.parametrize(("error", "scale"), [("similarity", 0.5), ("suite", 0.5), ("code", None)])
def test_idhn(cases, error, scale):
    out, labels, labelled = cases
    alpha = 5 / K if scale is None else scale

    def literal(v):
        u = v / (1 + v.abs())
        total = 0
        for i, j in product(labelled, labelled):
            common = sum(x * y for x, y in zip(labels[i].tolist(), labels[j].tolist(), strict=True))
            s = common / math.sqrt(sum(labels[i].tolist()) * sum(labels[j].tolist()))
            p = dot(u[i], u[j].detach())
            if common == 0 or labels[i].tolist() == labels[j].tolist():
                total = total + likelihood(alpha * p, common > 0)
            elif error == "similarity":
                total = total + 0.2 * ((p + K) / 2 - s * K) ** 2
            elif error == "code":
                total = total + 0.2 * K * ((p + K) / 2 / K - s) ** 2
            else:
                total = total + 0.2 * (alpha * p + K - 2 * s * K) ** 2
        corner = sum((u[i, k].abs() - 1).abs() for i in labelled for k in range(K))
        return total / len(labelled) ** 2 + 0.3 * corner / (len(labelled) * K)

    method = ready(IDHN(scale=scale, soft=0.2, quantization=0.3, soft_error=error), multi_label=several(labels))
    compare(method, out, labels, literal)


def test_dshsd(cases):
    out, labels, labelled = cases
    method = ready(DSHSD(pairs=0.3), multi_label=several(labels))
    weight = method.classifier.weight.detach()

    def literal(v):
        h = v.tanh()
        total = 0
        for i in labelled:
            logits = [dot(row, h[i]) for row in weight]
            if several(labels):
                for y, logit in zip(labels[i], logits, strict=True):
                    p = 1 / (1 + (-logit).exp())
                    total = total - (p.log() if y else (1 - p).log()) / len(labelled)
            else:
                whole = sum(logit.exp() for logit in logits)
                total = total - (logits[int(labels[i].argmax())].exp() / whole).log() / len(labelled)
        for i, j in product(labelled, labelled):
            distance = sum((h[i, k] - h[j, k]) ** 2 for k in range(K))
            cost = distance if share(labels[i], labels[j]) else max(2 * K - distance, 0 * distance)
            total = total + 0.3 * cost / 2 / len(labelled) ** 2
        return total

    compare(method, out, labels, literal)


@pytest.mark.parametrize("scaling", ["sums", "means"])
@pytest.mark.parametrize(
    ("fields", "scale", "margin"),
    [({}, 0.5, K / 2), ({"scale": 1.0, "margin": 5.0, "self_pairs": True}, 1.0, 5.0)],
)
def test_dtsh(cases, fields, scale, margin, scaling):
    out, labels, labelled = cases

    def literal(u):
        queries = []
        for q in labelled:
            near = [j for j in labelled if share(labels[q], labels[j]) and (j != q or fields.get("self_pairs"))]
            far = [j for j in labelled if not share(labels[q], labels[j])]
            costs = [
                (1 + (margin - scale * dot(u[q], u[p]) + scale * dot(u[q], u[n])).exp()).log()
                for p in near
                for n in far
            ]
            if costs:
                queries.append(costs)
        assert len(queries) > 0
        squares = sum((math.copysign(1, float(u[i, k].detach())) - u[i, k]) ** 2 for i in labelled for k in range(K))
        if scaling == "means":
            means = [sum(costs) / len(costs) for costs in queries]
            return sum(means) / len(means) + 2 * squares / (len(labelled) * K)
        return (sum(map(sum, queries)) + 2 * squares) / sum(map(len, queries))

    compare(ready(DTSH(quantization=2.0, scaling=scaling, **fields)), out, labels, literal)


def bins_of(distance, count, largest):
    """Return the share of a distance in each of `count + 1` bins whose centres are the ends of equal parts."""
    width = largest / count
    return [max(1 - abs(distance - centre * width) / width, 0 * distance) for centre in range(count + 1)]


def soft_histograms(v, q, others, scale, bins):
    """Return the summed shares of the distances from q to each of `others`, bin by bin."""
    h = 2 / (1 + (-scale * v).exp()) - 1
    shares = [bins_of((K - dot(h[q], h[j])) / 2, bins, K) for j in others]
    return [sum((row[b] for row in shares), 0 * v.sum()) for b in range(bins + 1)]


@pytest.mark.parametrize(("fields", "scale", "bins"), [({}, 1.0, K // 2), ({"scale": 2.5, "bins": 16}, 2.5, 16)])
def test_mihash(cases, fields, scale, bins):
    out, labels, labelled = cases

    def entropy(counts):
        total = float(sum(counts).detach())
        return sum((-(c / total) * (c / total).log2() for c in counts if c > 0), 0 * sum(counts))

    def literal(v):
        information = 0
        for q in labelled:
            near = [j for j in labelled if j != q and share(labels[q], labels[j])]
            far = [j for j in labelled if not share(labels[q], labels[j])]
            parts = [(len(some), soft_histograms(v, q, some, scale, bins)) for some in (near, far)]
            both = [a + b for a, b in zip(parts[0][1], parts[1][1], strict=True)]
            conditional = sum(size / (len(labelled) - 1) * entropy(counts) for size, counts in parts if size)
            information = information + entropy(both) - conditional
        return -information / len(labelled)

    compare(ready(MIHash(**fields)), out, labels, literal)


def test_the_information_of_mihash_is_that_of_a_yes_or_no_where_the_codes_tell_all():
    """Classes of 3, 3 and 2 samples at distances 0 and K / 2: the distance says whether a sample is a neighbour."""
    labels = torch.eye(3, dtype=torch.float64)[[0, 0, 0, 1, 1, 1, 2, 2]]
    words = torch.tensor([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1]], dtype=torch.float64)
    value = ready(MIHash(scale=100.0), bits=4).loss(labels @ words, make_batch(labels))["information"]
    chances = [near / 7 for near in (2, 2, 2, 2, 2, 2, 1, 1)]
    wanted = sum(p * math.log2(p) + (1 - p) * math.log2(1 - p) for p in chances) / 8
    assert float(value) == pytest.approx(wanted)


@pytest.mark.parametrize(("fields", "scale", "bins"), [({}, 1.0, K), ({"scale": 2.5, "bins": 5}, 2.5, 5)])
def test_talr(cases, fields, scale, bins):
    out, labels, labelled = cases

    def literal(v):
        total = 0
        for q in labelled:
            others = [j for j in labelled if j != q]
            near = [j for j in others if share(labels[q], labels[j])]
            alike, every = (soft_histograms(v, q, some, scale, bins) for some in (near, others))
            for b in range(bins + 1):
                found = sum(alike[: b + 1]) + sum(alike[:b]) + 1
                seen = sum(every[: b + 1]) + sum(every[:b]) + 1
                total = total + alike[b] * found / seen / max(len(near), 1)
        return -total / len(labelled)

    compare(ready(TALR(**fields)), out, labels, literal)


def test_talr_is_the_mean_average_precision_of_codes_without_ties():
    """With one similar sample for each query and no tie, the relaxed precision 2 / (2 rank) is the exact one."""
    bits = 8
    words = torch.tensor([[1] * (bits - k) + [-1] * k for k in (0, 1, 3, 7)], dtype=torch.float64)
    labels = torch.eye(2, dtype=torch.float64)[[0, 1, 0, 1]]
    value = ready(TALR(scale=100.0), bits=bits).loss(words, make_batch(labels))["precision"]
    exact = 0
    for q in range(4):
        ranked = sorted((j for j in range(4) if j != q), key=lambda j: -float(words[q] @ words[j]))
        exact += 1 / (1 + [share(labels[q], labels[j]) for j in ranked].index(True)) / 4
    assert -float(value) == pytest.approx(exact)


ALL = [
    DPSH(), DHN(), DHN(pairs="memory"), HashNet(), DSH(), DSH(pairs="memory"), DCH(), DBDH(), IDHN(), DSHSD(), DTSH(),
    DTSH(scaling="means"),
    MIHash(), TALR(),
]  # fmt: skip


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.info.name)
def test_batches_without_pairs_and_large_outputs_stay_finite(method):
    method = ready(method)
    for labels, scale in (
        (torch.zeros(3, C, dtype=torch.float64), 1),  # no label
        (torch.eye(C, dtype=torch.float64)[:1], 1),  # one sample
        (torch.eye(C, dtype=torch.float64)[:3], 1),  # no similar pair
        (torch.eye(C, dtype=torch.float64)[[1, 1, 1]], 1),  # no dissimilar pair
        (torch.eye(C, dtype=torch.float64)[[1, 1, 2]], 1e4),
    ):
        out = (some_outputs(len(labels), K) * scale).requires_grad_()
        total = torch.stack([*method.loss(out, make_batch(labels)).values()]).sum()
        assert torch.isfinite(total)
        assert torch.isfinite(gradients(total, out)).all()
        if not labels.any():
            assert total == 0


def test_settings_without_a_meaning_are_refused():
    assert "at least 1" in HashNet(growth_every=0).supports(make_task())
    assert "at least 1" in MIHash(bins=0).supports(make_task())
    assert "at least 1" in TALR(bins=0).supports(make_task())
    assert "1 or 2" in DBDH(power=3).supports(make_task())
    assert "more than 0" in DCH(gamma=0.0).supports(make_task())
