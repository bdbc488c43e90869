"""VDSH and MISH against literal re-statements, one document, word and bit at a time, and what makes each itself."""

import math

import numpy as np
import pytest
import torch
from method_cases import gradients, make_task
from sklearn.neighbors import NearestNeighbors

from baselines.text.mish import MISH, Documents, decided, nearest, of_words, sparse_rows
from baselines.text.vdsh import VDSH
from hashbench.datasets.loading.batch import Batch
from hashbench.errors import HashbenchError
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
    assert (codes.sum(dim=0) == (count + 1) // 2).all()  # of an odd number of means one is the median, and a 1
    means = out[:, :3].numpy()
    np.testing.assert_array_equal(codes.numpy(), means >= np.median(means, axis=0))


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
    fields = {"memory": len(others), **fields}
    method, encoder = ready(MISH(block=4, near=2, near_bits=4, **fields), documents, bits=8)
    method.codes_made[: len(others)] = others
    method.of_document[: len(others)] = 10 + torch.arange(len(others))
    method.made += len(others)
    return method, encoder, documents


def signed(count, bits, seed):
    return torch.randint(2, (count, bits), generator=torch.Generator().manual_seed(seed)).double() * 2 - 1


def test_mish_finds_the_farthest_code_that_its_index_would_look_at(monkeypatch):
    others, code = signed(19, 8, seed=1), signed(12, 8, seed=2)
    method, _, _ = remembering(others, ranked=4)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    outcomes = set()
    for at in (0.0, 0.34, 0.67, 0.999):
        monkeypatch.setattr(torch, "rand", lambda count, device, at=at: torch.full((count,), at))
        document, block, product = method.problems(code)
        for i in range(12):
            d, distances, found = literal_blocks(method, code[i].tolist(), others.tolist())
            t = int(at * (d + 1))
            assert (int(block[i]), int(product[i])) == (t % 2, 4 - 2 * (t // 2))
            outcomes.add((bool(found[t]), t // 2))
            if found[t]:
                assert int(document[i]) - 10 in found[t]
                assert distances[int(document[i]) - 10] == max(distances[place] for place in found[t])
    assert {(True, 0), (True, 1), (False, 0)} <= outcomes


def test_mish_chooses_among_equally_far_codes_by_chance():
    others = signed(1, 8, seed=1).repeat(12, 1)
    others[:, 4:] *= -1
    others[0] *= torch.tensor([1.0] * 4 + [-1.0] * 4)
    method, _, _ = remembering(others, ranked=3)
    chosen = set()
    for seed in range(30):
        torch.manual_seed(seed)
        document, _, product = method.problems(others[:1])
        chosen |= {int(document)} if int(product) == 4 else set()
    assert len(chosen) > 4
    assert 10 not in chosen  # the nearest one


def test_the_problem_of_mish_has_the_largest_score_of_all_remembered(monkeypatch):
    others, code = signed(19, 8, seed=1), signed(40, 8, seed=2)
    others[5:9] = others[4]
    method, _, _ = remembering(others, ranked=4)
    noise = np.random.default_rng(3).normal(0, 4, (40, 19))  # as large as some scores, so that it decides some
    at = np.random.default_rng(4).random(40).astype(np.float32)
    monkeypatch.setattr(torch, "randn_like", lambda like: torch.from_numpy(noise))
    monkeypatch.setattr(torch, "rand", lambda count, device: torch.from_numpy(at))
    document, block, product = method.problems(code)
    outcomes = set()
    for i in range(40):
        inner = others.numpy() @ code[i].numpy()
        nearest_ones = np.sort(inner)[::-1][: int(4 * 19 / 30)]
        t = int(at[i] * ((8 - nearest_ones[-1]) / 2 + 1))
        inside = np.zeros(8)
        inside[t % 2 * 4 : t % 2 * 4 + 4] = 1
        in_block = others.numpy() @ (code[i].numpy() * inside)
        slow = (in_block == 4 - t // 2 * 2) & (inner < nearest_ones[-1])
        place = int(np.argmax(slow * -(inner - 8) + noise[i]))
        outcomes.add((bool(slow.any()), bool(slow[place]), bool(in_block[place] >= 4 - t // 2 * 2)))
        assert (int(document[i]), int(block[i]), int(product[i])) == (10 + place, t % 2, 4 - 2 * (t // 2))
    # a slow one that wins, or loses to noise; without any, another that pays as its block is near enough, or does not
    assert {(True, True, True), (True, False, False), (False, False, True), (False, False, False)} <= outcomes


@pytest.mark.parametrize("memory", [20_000, 30, 7])
def test_the_memory_of_mish_is_filled_by_the_untrained_encoder(memory):
    documents = some_documents(30)
    method, encoder = ready(MISH(block=4, near=2, near_bits=4, memory=memory, dropout=0.0), documents, bits=8)
    size = min(memory, 30)
    assert method.codes_made.shape == (size, 8)
    method.training_step(encoder, batch_of(documents[:4]))
    assert len(set(method.of_document.tolist())) == size
    assert method.of_document.tolist() != [*range(size)]  # in any order
    weights = [tensor.detach().numpy() for tensor in encoder.parameters()]
    hidden = documents.numpy()[method.of_document.numpy()]
    for at in (0, 2):
        hidden = np.maximum(hidden @ weights[at].T + weights[at + 1], 0)
    p = 1 / (1 + np.exp(-(hidden @ weights[4].T + weights[5])))
    np.testing.assert_array_equal(method.codes_made.numpy(), np.where(p > 0.5, 1, -1))
    assert not method.codes_made.requires_grad
    before = method.of_document.clone(), method.codes_made.clone()
    method.training_step(encoder, batch_of(documents[:4], step=1))
    assert torch.equal(method.of_document, before[0])
    assert torch.equal(method.codes_made, before[1])


def test_a_memory_of_mish_in_which_no_code_has_the_rank_is_refused():
    task = make_task(2, 8, inputs="text", num_train=30)
    assert "none at the rank 10" in MISH(block=4, memory=2, ranked=10).supports(task)
    assert MISH(block=4, memory=3, ranked=10).supports(task) is None


def test_of_fewer_documents_than_the_rank_mish_takes_the_farthest(monkeypatch):
    others, code = signed(30, 8, seed=1), signed(6, 8, seed=2)
    method, _, _ = remembering(others, ranked=100)
    method.of_document %= 30
    monkeypatch.setattr(torch, "rand", lambda count, device: torch.full((count,), 0.999))  # t = d
    _, block, product = method.problems(code)
    d = [max(int((one != other).sum()) for other in others) for one in code]
    assert block.tolist() == [t % 2 for t in d]
    assert product.tolist() == [4 - 2 * (t // 2) for t in d]


def test_bits_of_mish_are_decided_at_one_half_and_pass_the_gradient_on():
    method, _, _ = remembering(signed(15, 8, seed=1))
    logits = torch.tensor([[-3.0, -1e-3, 0.0, 1e-3, 2.0]], dtype=torch.float64).requires_grad_()
    bits = decided(logits)
    p = 1 / (1 + np.exp(-logits.detach().numpy()))
    np.testing.assert_array_equal(bits.detach().numpy(), 2 * np.ceil(p - 0.5) - 1)
    np.testing.assert_array_equal(method.codes(logits).numpy(), p > 0.5)
    weights = torch.arange(1.0, 6.0, dtype=torch.float64)
    gradient = torch.autograd.grad((bits * weights).sum(), logits)[0]
    np.testing.assert_allclose(gradient.numpy(), 2 * weights.numpy() * p * (1 - p))


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


@pytest.mark.parametrize("floor", [1e-10, 0.03, 0.0])
def test_mish_generates_a_document_by_its_code_and_by_a_near_one(monkeypatch, floor):
    method, encoder, documents = remembering(
        signed(15, 8, seed=1), dropout=0.0, ranked=6, alpha=0.5, memory=20, floor=floor
    )
    encoder.requires_grad_()
    monkeypatch.setattr(torch, "rand_like", lambda like: torch.full_like(like, 0.5))  # a bit is where p > 1/2
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    index = torch.tensor([4, 0, 29])  # the last document has no word
    batch = batch_of(documents[index], step=300_000, index=index)
    torch.manual_seed(7)
    terms, out = method.training_step(encoder, batch)
    torch.manual_seed(7)
    near = method.near_documents[index, int(torch.randint(2, (1,)))]
    assert not (near == index).any()
    floored = set()

    def evidence(logits, document):
        """Return minus the log-probability of a document's words by the code of these logits."""
        p = logits.sigmoid()
        code = 2 * ((p.detach() > 0.5).double() + p - p.detach()) - 1
        noisy = code + 0.7
        scores = [
            sum(method.embedding[w, k] * method.importance[w] * noisy[k] for k in range(8)) + method.bias[w]
            for w in range(WORDS)
        ]
        log_p = log_softmax(scores)
        learned = [max(log_p[w].exp(), log_p[w] * 0 + floor) for w in range(WORDS) if document[w] > 0]
        floored.update(bool(p == floor) for p in learned)
        return -sum(p.log() for p in learned)

    of_near = encoder(documents[near].float().double())  # as they are kept
    own = sum(evidence(out[i], documents[index[i]]) for i in range(3)) / 3
    other = sum(evidence(of_near[i], documents[index[i]]) for i in range(3)) / 3
    assert floored == ({False, True} if floor == 0.03 else {False})
    torch.testing.assert_close(terms["document"], own, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(terms["near document"], other, rtol=1e-10, atol=1e-12)
    for leaf in (method.embedding, method.importance, method.bias, encoder[0].weight, encoder[5].bias):
        literal = torch.autograd.grad(own + other, leaf, retain_graph=True)[0]
        ours = torch.autograd.grad(terms["document"] + terms["near document"], leaf, retain_graph=True)[0]
        torch.testing.assert_close(ours, literal, rtol=1e-9, atol=1e-12)
    method.after_step(encoder, batch)
    assert int(method.made) == 18
    assert method.of_document[15:18].tolist() == index.tolist()
    torch.testing.assert_close(method.codes_made[15:18], torch.where(out > 0, 1.0, -1.0).double().detach())


def test_mish_decides_the_bits_of_blocks_and_draws_those_of_the_decoder(monkeypatch):
    others = signed(30, 8, seed=1)
    method, encoder, documents = remembering(others, dropout=0.0, ranked=4, alpha=0.5)
    method.of_document %= 30
    index = torch.tensor([4, 0, 7, 11])
    batch = batch_of(documents[index], step=1, index=index)
    monkeypatch.setattr(torch, "rand", lambda count, device: torch.full((count,), 0.999))
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    terms = {}
    for chance in (0.0, 1.0):  # all bits are drawn as 1, or as -1
        monkeypatch.setattr(torch, "rand_like", lambda like, chance=chance: torch.full_like(like, chance))
        terms[chance], out = method.training_step(encoder, batch)
        log_p = log_softmax((method.embedding * method.importance[:, None]).sum(dim=1) * (1 - 2 * chance))
        words = -sum(log_p[w] for i in index for w in range(WORDS) if documents[i, w] > 0) / 4
        torch.testing.assert_close(terms[chance]["document"], words, rtol=1e-10, atol=1e-12)
    assert terms[0.0]["blocks"] == terms[1.0]["blocks"]
    code = torch.where(out > 0, 1.0, -1.0).double()
    document, block, product = method.problems(code)
    logits = encoder(documents[document].float().double())  # as they are kept
    p = logits.sigmoid()
    wanted = 0
    for i in range(4):
        part = range(int(block[i]) * 4, int(block[i]) * 4 + 4)
        bits = [2 * (float(p[i, k] > 0.5) + (p[i, k] - p[i, k].detach())) - 1 for k in part]
        same = sum(bit * code[i, k] for bit, k in zip(bits, part, strict=True))
        wanted = wanted + (0.5 * same / 4 if same >= product[i] else 0 * same)
    assert wanted != 0
    torch.testing.assert_close(terms[0.0]["blocks"], wanted)
    for leaf in encoder.parameters():
        torch.testing.assert_close(
            torch.autograd.grad(terms[0.0]["blocks"], leaf, retain_graph=True)[0],
            torch.autograd.grad(wanted, leaf, retain_graph=True)[0], rtol=1e-9, atol=1e-12,
        )  # fmt: skip


def test_mish_drops_the_second_layer_alone():
    documents = some_documents(30)
    _, encoder = ready(MISH(dropout=0.5, hidden=40, near=2), documents)
    given = []
    encoder[-1].register_forward_pre_hook(lambda layer, inputs: given.append(inputs[0].detach().numpy()))
    encoder(documents)
    weights = [tensor.detach().numpy() for tensor in encoder.parameters()]
    hidden = np.maximum(documents.numpy() @ weights[0].T + weights[1], 0)
    hidden = np.maximum(hidden @ weights[2].T + weights[3], 0)
    kept = given[0] != 0
    np.testing.assert_allclose(given[0][kept], 2 * hidden[kept])
    assert 0.4 < kept[hidden > 0].mean() < 0.6


def test_mish_begins_with_the_authors_weights():
    method, encoder = ready(MISH(near=2), some_documents(30), bits=64)
    embedding, importance = method.embedding.detach().numpy(), method.importance.detach().numpy()
    assert (np.abs(embedding) <= 1).all()
    assert abs(np.abs(embedding).mean() - 0.5) < 0.03
    assert ((importance >= 0.1) & (importance <= 1)).all()
    assert np.ptp(importance) > 0.5
    assert not method.bias.any()
    for layer, (rows, columns) in zip(encoder[::2], ((1000, WORDS), (1000, 1000)), strict=False):
        assert layer.weight.shape == (rows, columns)
        bound = np.sqrt(6 / (rows + columns))
        assert 0.99 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert not layer.bias.any()


def test_mish_overwrites_the_oldest_codes():
    method, encoder, documents = remembering(signed(5, 8, seed=1), memory=7)
    for start in (0, 4):
        index = torch.arange(start, start + 4)
        method.training_step(encoder, batch_of(documents[index], step=1, index=index))
        method.after_step(encoder, batch_of(documents[index], index=index))
    assert int(method.made) == 13
    assert method.of_document.tolist() == [2, 3, 4, 5, 6, 7, 1]


def test_a_memory_of_mish_smaller_than_a_batch_keeps_the_last_codes():
    method, encoder, documents = remembering(signed(3, 8, seed=1), ranked=10)
    batch = batch_of(documents[:5], step=1)
    _, out = method.training_step(encoder, batch)
    method.after_step(encoder, batch)
    assert method.of_document.tolist() == [2, 3, 4]
    torch.testing.assert_close(method.codes_made, torch.where(out[2:] > 0, 1.0, -1.0).double())


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


@pytest.mark.parametrize("count", [10, 12, 23, 24, 40, 64])
def test_few_documents_have_near_ones(count):
    documents = torch.rand((count, 100), generator=torch.Generator().manual_seed(0))
    method, _ = ready(MISH(), documents)
    near = method.near_documents.numpy()
    assert near.shape == (count, 9)
    for i, row in enumerate(near):
        assert len({i, *row.tolist()}) == 10
    if count == 10:
        assert [sorted({i, *row.tolist()}) for i, row in enumerate(near)] == [[*range(10)]] * 10


@pytest.mark.parametrize("cls", [VDSH, MISH])
def test_images_are_refused(cls):
    for inputs in ("images", "features", "pixels"):
        assert "images have no words" in cls().supports(make_task(2, 16, inputs=inputs))
    assert cls().supports(make_task(2, 16, inputs="vectors")) is None


@pytest.mark.parametrize("cls", [VDSH, MISH])
def test_vectors_below_0_are_refused(cls):
    documents = some_documents(30).float()
    documents[29, 3] = -0.1
    with pytest.raises(HashbenchError, match="weights of words, and some are below 0"):
        cls().prepare(make_task(2, 16, inputs="vectors"), Data(documents), None)


def test_settings_without_a_meaning_are_refused():
    task = make_task(2, 24, inputs="text")
    assert "24 bits are no multiple" in MISH().supports(task)
    assert "more than 200 training documents" in MISH(block=8, near=200).supports(task)
    assert "dropout" in MISH(block=8, dropout=1.0).supports(task)
    assert "floor" in MISH(block=8, floor=-1e-3).supports(task)
    assert "at least 1" in MISH(block=8, near=0).supports(task)
    assert "annealing" in VDSH(annealing=-1).supports(task)


def test_mish_tells_documents_apart_before_training():
    documents = torch.nn.functional.normalize(some_documents(30).float(), dim=1)
    _, encoder = ready(MISH(dropout=0.0, near=2, near_bits=4), documents)
    with torch.no_grad():
        out = encoder(documents.double())
    assert len(torch.unique(out[:-1] >= 0, dim=0)) > 20
    assert not out[-1].any()  # of a document without a word
