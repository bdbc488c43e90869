"""VDSH and MISH against literal re-statements, one document, word and bit at a time, and what makes each itself."""

import math

import numpy as np
import pytest
import torch
from method_cases import gradients, make_task
from sklearn.neighbors import NearestNeighbors

from baselines.text.mish import MISH, Documents, nearest, of_words, sparse_rows
from baselines.text.vdsh import VDSH
from hashbench.datasets.loading.batch import Batch
from hashbench.methods import signs_of_waves, smoothest_waves

N, WORDS, K = 5, 23, 16


def some_documents(count=N, seed=0):
    """Return documents (count, WORDS), float64, of which the last has no word."""
    chance = torch.Generator().manual_seed(seed)
    documents = torch.rand((count, WORDS), generator=chance, dtype=torch.float64)
    documents *= torch.rand((count, WORDS), generator=chance) < 0.3
    documents[-1] = 0
    return documents


def batch_of(documents, step=0, index=None):
    index = torch.arange(len(documents)) if index is None else index
    return Batch((documents,), None, index, 0, step)


class Data:
    """A training set of documents."""

    def __init__(self, documents):
        self.documents = documents

    def features(self):
        return self.documents.float()

    def fresh(self):
        yield batch_of(self.documents)


def ready(method, documents, bits=K, **task):
    """Return the method and its encoder, in float64."""
    torch.manual_seed(0)
    task = make_task(2, bits, inputs="text", num_train=len(documents), **task)
    assert method.supports(task) is None
    method.setup(task, method.prepare(task, Data(documents), None))
    return method.double(), method.head(WORDS, task).double()


def log_softmax(scores):
    whole = sum(score.exp() for score in scores)
    return [(score.exp() / whole).log() for score in scores]


@pytest.mark.parametrize(("step", "annealing"), [(0, 4), (3, 4), (9, 4), (0, 0)])
@pytest.mark.parametrize(("count", "floor"), [(1, 1e-10), (N, 1e-10), (N, 1e-3), (N, 0.0)])
def test_vdsh_is_the_negative_evidence_bound(step, annealing, count, floor):
    documents = some_documents(count + 1)[:count]
    method, _ = ready(VDSH(annealing=annealing, floor=floor), documents, bits=4)
    out = torch.randn(count, 8, dtype=torch.float64).requires_grad_()
    z = torch.randn(count, 4, dtype=torch.float64).requires_grad_()
    terms = method.terms(out, z, batch_of(documents, step))
    words, divergence, floored = 0, 0, set()
    for i in range(count):
        scores = [sum(method.embedding[w, k] * z[i, k] for k in range(4)) + method.bias[w] for w in range(WORDS)]
        log_p = log_softmax(scores)
        learned = [
            max(log_p[w].exp() * documents[i, w], log_p[w] * 0 + floor) for w in range(WORDS) if documents[i, w] > 0
        ]
        floored |= {bool(product == floor) for product in learned}
        words = words - sum(product.log() for product in learned) / count
        for k in range(4):
            mean, log_variance = out[i, k], out[i, 4 + k]
            divergence = divergence - (1 + log_variance - mean**2 - log_variance.exp()) / 2 / count
    assert floored == ({False, True} if floor == 1e-3 else {False})
    weight = 1 if annealing == 0 else min(step / annealing, 1)
    torch.testing.assert_close(terms["words"], torch.as_tensor(words, dtype=torch.float64), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(terms["divergence"], weight * divergence, rtol=1e-10, atol=1e-12)
    total, wanted = sum(terms.values()), words + weight * divergence
    for leaf in (z, method.embedding, method.bias):
        torch.testing.assert_close(
            torch.autograd.grad(total, leaf, retain_graph=True)[0],
            torch.autograd.grad(wanted, leaf, retain_graph=True)[0], rtol=1e-9, atol=1e-12,
        )  # fmt: skip
    torch.testing.assert_close(gradients(total, out), gradients(wanted, out), rtol=1e-9, atol=1e-12)


def test_vdsh_draws_from_the_gaussian_of_its_encoder():
    documents = some_documents(4)
    method, encoder = ready(VDSH(dropout=0.0), documents, bits=4)
    out = encoder(documents)
    assert ((out[:, 4:] > 0) & (out[:, 4:] < 1)).all()  # a log-variance squashed by a sigmoid
    torch.manual_seed(5)
    terms, given = method.training_step(encoder, batch_of(documents, 2))
    torch.manual_seed(5)
    noise = torch.randn(4, 4, dtype=torch.float64)
    z = torch.stack([given[i, :4] + given[i, 4:].exp().sqrt() * noise[i] for i in range(4)])
    assert terms == method.terms(given, z, batch_of(documents, 2))


@pytest.mark.parametrize("count", [6, 7])
def test_vdsh_parts_each_bit_at_the_median_of_the_training_set(count):
    documents = some_documents(count)
    method, _ = ready(VDSH(), documents, bits=3)
    assert method.wants_fresh_pass(0)
    out = torch.randn(count, 6, dtype=torch.float64)
    for part in torch.arange(count).split(4):
        assert method.epoch_sums(out[part], batch_of(documents[part], index=part)) == {}
    assert method.end_epoch(0, {}) == {}
    np.testing.assert_allclose(method.medians.numpy(), np.median(out[:, :3].numpy(), axis=0), rtol=1e-12)
    codes = method.codes(out)
    assert codes.shape == (count, 3)
    assert (codes.sum(dim=0) == count // 2).all()


def literal_blocks(method, code, others):
    """Return for each code which remembered ones are slow, by t, in plain loops: (d, {t: [places]})."""
    bits, size = len(code), method.block
    distances = [sum(a != b for a, b in zip(code, other, strict=True)) for other in others]
    rank = method.ranked * len(others) // method.task.num_train
    d = sorted(distances)[rank - 1]
    found = {}
    for t in range(d + 1):
        block, radius = t % (bits // size), t // (bits // size)
        part = slice(block * size, (block + 1) * size)
        found[t] = [
            place
            for place, other in enumerate(others)
            if sum(a * b for a, b in zip(code[part], other[part], strict=True)) == size - 2 * radius
            and distances[place] > d
        ]
    return d, distances, found


def remembering(others, **fields):
    """Return a MISH of 8 bits in blocks of 4 that remembers `others`, of documents 10, 11, ..."""
    documents = some_documents(30)
    method, encoder = ready(MISH(block=4, near=2, near_bits=4, **fields), documents, bits=8)
    method.codes_made[: len(others)] = others
    method.of_document[: len(others)] = 10 + torch.arange(len(others))
    method.made += len(others)
    return method, encoder, documents


def signed(count, bits, seed):
    return torch.randint(2, (count, bits), generator=torch.Generator().manual_seed(seed)).double() * 2 - 1


def test_mish_finds_the_farthest_code_that_its_index_would_look_at(monkeypatch):
    others, code = signed(19, 8, seed=1), signed(12, 8, seed=2)
    method, _, _ = remembering(others, ranked=4, memory=20)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    outcomes = set()
    for at in (0.0, 0.34, 0.67, 0.999):
        monkeypatch.setattr(torch, "rand", lambda count, device, at=at: torch.full((count,), at))
        document, block, product = method.problems(code)
        for i in range(12):
            d, distances, found = literal_blocks(method, code[i].tolist(), others.tolist())
            t = int(at * (d + 1))
            assert (int(block[i]), bool(found[t])) == (t % 2, int(product[i]) <= 4)
            outcomes.add((bool(found[t]), t // 2))
            if found[t]:
                assert int(product[i]) == 4 - 2 * (t // 2)
                assert int(document[i]) - 10 in found[t]
                assert distances[int(document[i]) - 10] == max(distances[place] for place in found[t])
    assert {(True, 0), (True, 1), (False, 0)} <= outcomes


def test_mish_chooses_among_equally_far_codes_by_chance():
    others = signed(1, 8, seed=1).repeat(12, 1)
    others[:, 4:] *= -1
    others[0] *= torch.tensor([1.0] * 4 + [-1.0] * 4)
    method, _, _ = remembering(others, ranked=3, memory=20)
    chosen = set()
    for seed in range(30):
        torch.manual_seed(seed)
        document, _, product = method.problems(others[:1])
        chosen |= {int(document)} if int(product) == 4 else set()
    assert len(chosen) > 4
    assert 10 not in chosen  # the nearest one


def test_empty_places_of_the_memory_of_mish_have_no_rank(monkeypatch):
    code = signed(1, 8, seed=1)
    others = -code.repeat(15, 1)
    others[:3, 0] *= -1  # three at a distance of 7, the others at 8
    method, _, _ = remembering(others, ranked=6, memory=20)  # the third nearest
    monkeypatch.setattr(torch, "rand", lambda count, device: torch.full((count,), 0.999))  # t = d
    _, block, _ = method.problems(code)
    assert block.tolist() == [7 % 2]


def test_mish_pushes_a_block_away_while_it_is_near():
    method, _, _ = remembering(signed(15, 8, seed=1))
    code, other = signed(5, 8, seed=3), signed(5, 8, seed=4).requires_grad_()
    block, product = torch.tensor([0, 1, 0, 1, 0]), torch.tensor([4, 0, -4, 2, 5])
    total = method.blocks(code, other, block, product)
    literal = 0
    for i in range(5):
        same = sum(code[i, k] * other[i, k] for k in range(int(block[i]) * 4, int(block[i]) * 4 + 4))
        literal = literal + (same / 5 if same >= product[i] else 0)
    torch.testing.assert_close(total, literal)
    assert total != 0
    torch.testing.assert_close(gradients(total, other), gradients(literal, other))


def test_mish_generates_a_document_and_a_near_one(monkeypatch):
    method, encoder, documents = remembering(signed(15, 8, seed=1), dropout=0.0, ranked=6, alpha=0.5)
    encoder.requires_grad_()
    monkeypatch.setattr(torch, "rand_like", lambda like: torch.full_like(like, 0.5))  # a bit is where p > 1/2
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    index = torch.tensor([4, 0, 29])  # the last document has no word
    batch = batch_of(documents[index], step=300_000, index=index)
    torch.manual_seed(7)
    terms, out = method.training_step(encoder, batch)
    torch.manual_seed(7)
    near = method.near_documents[index].gather(1, torch.randint(2, (3, 1)))[:, 0]
    own, other = 0, 0
    for i in range(3):
        p = out[i].sigmoid()
        code = 2 * ((p.detach() > 0.5).double() + p - p.detach()) - 1
        noisy = code + 0.7
        scores = [
            sum(method.embedding[w, k] * method.importance[w] * noisy[k] for k in range(8)) + method.bias[w]
            for w in range(WORDS)
        ]
        log_p = log_softmax(scores)
        own = own - sum(log_p[w] for w in range(WORDS) if documents[index[i], w] > 0) / 3
        other = other - sum(log_p[w] for w in range(WORDS) if documents[near[i], w] > 0) / 3
    torch.testing.assert_close(terms["document"], own, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(terms["near document"], other, rtol=1e-10, atol=1e-12)
    for leaf in (method.embedding, method.importance, method.bias, encoder[0].weight):
        literal = torch.autograd.grad(own + other, leaf, retain_graph=True)[0]
        ours = torch.autograd.grad(terms["document"] + terms["near document"], leaf, retain_graph=True)[0]
        torch.testing.assert_close(ours, literal, rtol=1e-9, atol=1e-12)
    method.after_step(encoder, batch)
    assert int(method.made) == 18
    assert method.of_document[15:18].tolist() == index.tolist()
    torch.testing.assert_close(method.codes_made[15:18], torch.where(out > 0, 1.0, -1.0).double().detach())


def test_mish_overwrites_the_oldest_codes():
    method, encoder, documents = remembering(signed(5, 8, seed=1), memory=7)
    for start in (0, 4):
        index = torch.arange(start, start + 4)
        method.training_step(encoder, batch_of(documents[index], index=index))
        method.after_step(encoder, batch_of(documents[index], index=index))
    assert int(method.made) == 13
    assert method.of_document.tolist() == [2, 3, 4, 5, 6, 7, 1]


def test_mish_waits_until_its_memory_reaches_the_rank():
    method, _, _ = remembering(signed(2, 8, seed=1), ranked=10)  # 10 x 2 codes / 30 documents: less than one
    _, _, product = method.problems(signed(6, 8, seed=2))
    assert (product == 5).all()


def test_a_batch_of_one_document_has_a_finite_gradient():
    method, encoder, documents = remembering(signed(15, 8, seed=1), ranked=6)
    for index in (torch.tensor([3]), torch.tensor([29])):
        terms, _ = method.training_step(encoder, batch_of(documents[index], index=index))
        sum(terms.values()).backward()
        assert all(parameter.grad.isfinite().all() for parameter in [*encoder.parameters(), *method.parameters()])


def test_documents_come_back_from_sparse_rows():
    documents = some_documents(8)
    documents[2] = 0
    rows = Documents(sparse_rows(documents))
    index = torch.tensor([7, 2, 0, 3, 0])
    torch.testing.assert_close(rows(index), documents[index], rtol=0, atol=0)
    assert rows.state_dict() == {}  # what is prepared lies beside a run's weights already
    assert math.isclose(float(of_words(torch.ones(8, WORDS), documents)), float((documents > 0).sum() / 8))


def test_near_documents_are_the_nearest_others():
    codes = torch.rand(40, 12, generator=torch.Generator().manual_seed(0)) < 0.5
    codes[7] = codes[3]
    found = nearest(codes, 5, rows=16)
    distances, _ = NearestNeighbors(n_neighbors=6, metric="hamming").fit(codes.numpy()).kneighbors(codes.numpy())
    ours = (codes[:, None] != codes[found]).double().mean(dim=2)
    np.testing.assert_allclose(ours.numpy(), distances[:, 1:])
    assert 3 in found[7]
    assert not (found == torch.arange(40)[:, None]).any()
    documents = some_documents(30)
    prepared = MISH(near=3, near_bits=6).prepare(make_task(2, K, inputs="text"), Data(documents), None)
    waves = smoothest_waves(documents.float(), 6, method="test")
    torch.testing.assert_close(prepared["near"], nearest(signs_of_waves(documents, waves), 3))


@pytest.mark.parametrize("cls", [VDSH, MISH])
def test_images_are_refused(cls):
    for inputs in ("images", "features", "pixels"):
        assert "images have no words" in cls().supports(make_task(2, 16, inputs=inputs))
    assert cls().supports(make_task(2, 16, inputs="vectors")) is None


def test_settings_without_a_meaning_are_refused():
    task = make_task(2, 24, inputs="text")
    assert "24 bits are no multiple" in MISH().supports(task)
    assert "more than 200 training documents" in MISH(block=8, near=200).supports(task)
    assert "dropout" in MISH(block=8, dropout=1.0).supports(task)
    assert "at least 1" in MISH(block=8, near=0).supports(task)
    assert "annealing" in VDSH(annealing=-1).supports(task)


def test_mish_tells_documents_apart_before_training():
    documents = torch.nn.functional.normalize(some_documents(30).float(), dim=1)
    _, encoder = ready(MISH(dropout=0.0, near=2, near_bits=4), documents)
    with torch.no_grad():
        out = encoder(documents.double())
    assert len(torch.unique(out[:-1] >= 0, dim=0)) > 20
    assert not out[-1].any()  # of a document without a word
