"""Hash centers: what each generator guarantees, at the sizes that experiments use."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard

from hashbench.methods import codebooks
from hashbench.methods.codebooks import (
    balanced_words,
    distances,
    distinct_words,
    gilbert_varshamov_distance,
    hadamard_words,
    majority,
    max_distance_words,
    random_words,
    separated_words,
    spaced_words,
    spread,
    widest,
)


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


GENERATORS = {
    "random": random_words,
    "distinct": distinct_words,
    "distinct, many bits": lambda count, bits, g: distinct_words(count, 3 * bits, g),
    "balanced": balanced_words,
    "hadamard": hadamard_words,
    "separated": separated_words,
    "separated, many bits": lambda count, bits, g: separated_words(count, 3 * bits, g),
    "spaced": lambda count, bits, g: spaced_words(count, bits, 3, g),
    "max-distance": max_distance_words,
    "max-distance, many bits": lambda count, bits, g: max_distance_words(count, 5 * bits, g),
}


@pytest.mark.parametrize("generate", GENERATORS.values(), ids=GENERATORS)
def test_words_are_signs_and_follow_the_generator(generate):
    words = generate(12, 8, chance(1))
    assert words.dtype == torch.float32
    assert len(words) == 12
    assert words.abs().eq(1).all()
    assert torch.equal(words, generate(12, 8, chance(1)))
    assert not torch.equal(words, generate(12, 8, chance(2)))
    bits = torch.cat([generate(12, 8, chance(seed)) for seed in range(40)])[:, 1:]  # Hadamard's first bit is constant
    assert bits.mean(dim=0).abs().max() < 0.3


def test_random_words_may_repeat():
    assert random_words(5, 2, chance()).shape == (5, 2)


@pytest.mark.parametrize(("count", "bits"), [(256, 8), (1000, 16), (555, 64), (3, 2)])
def test_distinct_words_are_distinct(count, bits):
    assert len(distinct_words(count, bits, chance()).unique(dim=0)) == count


def test_distinct_words_draw_again_what_repeats(monkeypatch):
    rounds = iter([torch.ones(3, 20), torch.ones(2, 20), torch.tensor([[-1.0], [1.0]]) * torch.ones(20)])
    monkeypatch.setattr(codebooks, "random_words", lambda *_: next(rounds))
    words = distinct_words(2, 20, chance())
    assert words.mean(dim=1).tolist() == [1, -1]  # the first of each, in order


@pytest.mark.parametrize(("count", "bits"), [(100, 12), (20, 6), (10, 15), (1000, 16), (200, 100)])
def test_balanced_words_have_half_ones_and_do_not_repeat(count, bits):
    words = balanced_words(count, bits, chance())
    assert (words > 0).sum(dim=1).eq(bits // 2).all()
    assert len(words.unique(dim=0)) == count


def test_balanced_words_are_the_widest_of_the_draws():
    generator = chance()
    draws = [balanced_words(30, 12, generator) for _ in range(25)]
    best = balanced_words(30, 12, chance(), draws=25)
    assert spread(best) == max(map(spread, draws)) > spread(draws[0])


@pytest.mark.parametrize(("count", "bits"), [(1, 1), (2, 1), (10, 16), (16, 16), (17, 16), (32, 16), (100, 64), (2, 2)])
def test_hadamard_words_are_rows_of_the_matrix(count, bits):
    words = hadamard_words(count, bits, chance())
    rows = {tuple(row) for row in hadamard(bits)}
    if count > bits:
        rows |= {tuple(-value for value in row) for row in rows}
    assert {tuple(word) for word in words.int().tolist()} <= rows
    between = distances(words)[~torch.eye(count, dtype=torch.bool)].unique().tolist()
    assert set(between) <= ({bits / 2} if count <= bits else {bits / 2, bits})
    assert len(words.unique(dim=0)) == count


SIZES = list(itertools.product((10, 80, 100, 196, 555, 1000), (16, 32, 64)))
TABLE = [6, 13, 28, 5, 11, 24, 4, 10, 24, 4, 10, 23, 3, 9, 21, 3, 8, 21]  # as published for SHC


@pytest.mark.parametrize(("size", "distance"), list(zip(SIZES, TABLE, strict=True)))
def test_words_reach_the_gilbert_varshamov_distance(size, distance):
    assert gilbert_varshamov_distance(*size) == distance
    words = spaced_words(*size, distance, chance())
    assert words.shape == size
    assert spread(words)[0] >= distance


@given(st.integers(1, 5000), st.integers(1, 200))
def test_the_gilbert_varshamov_distance_is_the_smallest(count, bits):
    def enough(d):
        return 2**bits <= count * sum(math.comb(bits, i) for i in range(d))

    d = gilbert_varshamov_distance(count, bits)
    assert enough(d)
    assert not enough(d - 1)


def test_a_stuck_search_begins_anew():
    lengths = set()
    for seed in range(30):  # one search in three finds fewer than eight words
        lengths.add(len(codebooks._grow(torch.empty((0, 8)), 8, 4, chance(seed))))
        assert spread(spaced_words(8, 8, 4, chance(seed)))[0] >= 4
    assert min(lengths) < 8


def test_a_hopeless_search_says_so():
    with pytest.raises(ValueError, match=r"not 100; use more bits or a smaller distance"):
        spaced_words(100, 6, 5, chance())


@pytest.mark.parametrize(("bits", "distance"), [(5, 1), (5, 3), (12, 4), (16, 5), (40, 17), (64, 28)])
@pytest.mark.parametrize("count", [3, 40, 400])
def test_random_words_are_accepted_in_turn(bits, distance, count, monkeypatch):
    """Against a literal loop: one random word after the other, until there are enough or too many in a row failed."""
    monkeypatch.setattr(codebooks, "ATTEMPTS", 3000)
    stream, accepted, refused = chance(), [], 0
    while len(accepted) < count and refused < 3000:
        for word in random_words(1000, bits, stream):
            if len(accepted) == count or refused == 3000:
                break
            if all(int((word != other).sum()) >= distance for other in accepted):
                accepted.append(word)
                refused = 0
            else:
                refused += 1
    assert torch.equal(codebooks._grow(torch.empty((0, bits)), count, distance, chance()), torch.stack(accepted))


def test_tau_falls_when_nothing_is_far_enough(monkeypatch):
    asked = []

    def grow(words, count, distance, generator):
        asked.append(distance)
        return torch.ones((count if len(asked) == 5 else 1, words.shape[1]))

    monkeypatch.setattr(codebooks, "_grow", grow)
    max_distance_words(4, 100, chance())
    assert asked == [61, 60, 59, 58, 57]
    asked.clear()
    max_distance_words(4, 16, chance())
    assert asked == [10, 10, 10, 10, 10]  # ceil(.61 16), ..., ceil(.57 16)


@pytest.mark.parametrize(
    ("count", "bits", "least"), [(10, 16, 7), (100, 64, 25), (555, 64, 22), (8, 3, 1), (1, 12, 12)]
)
def test_max_distance_words_are_farther_apart_than_chance(count, bits, least):
    words = max_distance_words(count, bits, chance())
    assert spread(words)[0] >= least
    assert least > gilbert_varshamov_distance(count, bits) or count in (1, 8)


@pytest.mark.parametrize(
    ("count", "bits"), [(2, 8), (10, 12), (38, 12), (10, 24), (100, 16), (21, 48), (100, 32), (100, 64)]
)
def test_separated_words_reach_the_gilbert_varshamov_distance(count, bits):
    words = separated_words(count, bits, chance())
    far = gilbert_varshamov_distance(count, bits)
    assert min(sum(map(bool, a != b)) for a, b in itertools.combinations(words, 2)) >= far
    start = hadamard_words if bits & (bits - 1) == 0 and count <= 2 * bits else balanced_words
    if spread(start(count, bits, chance()))[0] >= far:
        assert torch.equal(words, start(count, bits, chance()))  # nothing to move
    else:
        assert spread(words)[1] > bits / 2  # the mean of random words, and about that of balanced ones


@pytest.mark.parametrize(("count", "bits"), [(3, 4), (3, 5), (5, 5), (4, 6), (3, 7)])
def test_separated_words_are_as_far_apart_as_a_search_through_all_words_says(count, bits):
    everything = [torch.tensor(word) for word in itertools.product([-1.0, 1.0], repeat=bits)]
    best = max(  # the first word may be any: flipping bits of all words changes no distance
        int(spread(torch.stack([everything[0], *rest]))[0])
        for rest in itertools.combinations(everything[1:], count - 1)
    )
    found = spread(separated_words(count, bits, chance(), sweeps=3))[0]
    assert min(gilbert_varshamov_distance(count, bits), best) <= found <= best


def literal_separated(count, bits, generator):
    """Return what lp-box ADMM makes of balanced words, with a system of equations and a dual for each constraint."""
    far = gilbert_varshamov_distance(count, bits)
    words = balanced_words(count, bits, generator).double().numpy()
    for i in range(count):
        h, most, gamma, rho = np.delete(words, i, axis=0), bits - 2 * far, (1 + math.sqrt(5)) / 2, 1e-5
        b = words[i].copy()
        tried = [b]
        if (h @ b).max() <= most:
            continue
        y = torch.rand(2 * bits + count - 1, generator=generator, dtype=torch.float64).numpy()
        y1, y2, y3 = y[:bits], y[bits : 2 * bits], y[2 * bits :]
        z1, z2, z3 = b.copy(), b.copy(), most - h @ b
        for _ in itertools.count():
            for _ in range(10):
                right = rho * z1 + rho * z2 + rho * h.T @ (most - z3) - y1 - y2 - h.T @ y3 - h.mean(axis=0)
                b = np.linalg.solve(2 * rho * np.eye(bits) + rho * h.T @ h, right)
                z1 = np.clip(b + y1 / rho, -1, 1)
                z2 = math.sqrt(bits) * (b + y2 / rho) / np.linalg.norm(b + y2 / rho)
                z3 = np.maximum(most - h @ b - y3 / rho, 0)
                y1 = y1 + gamma * rho * (b - z1)
                y2 = y2 + gamma * rho * (b - z2)
                y3 = y3 + gamma * rho * (h @ b + z3 - most)
            rho = rho * 1.09
            tried.append(np.where(b < 0, -1.0, 1.0))
            if max(abs(b - z1).max(), abs(b - z2).max(), abs(h @ b + z3 - most).max()) < 1e-6:
                break
        gaps = [[(b != g).sum() for g in h] for b in tried]
        words[i] = max(zip(tried, gaps, strict=True), key=lambda each: (min(*each[1], far), sum(each[1])))[0]
    return torch.from_numpy(words).float()


@pytest.mark.parametrize(("count", "bits", "seed"), [(12, 10, 0), (12, 10, 1), (10, 12, 1), (12, 12, 2)])
def test_separated_words_are_those_of_admm_written_out(count, bits, seed):
    words = separated_words(count, bits, chance(seed), sweeps=1)
    assert torch.equal(words, literal_separated(count, bits, chance(seed)))
    assert not torch.equal(words, balanced_words(count, bits, chance(seed)))


def test_separated_words_are_the_widest_on_the_way_where_a_search_stays_stuck():
    found = [spread(separated_words(4, 5, chance(), sweeps=sweeps)) for sweeps in range(3)]
    assert found == sorted(found)
    assert found[-1][0] < gilbert_varshamov_distance(4, 5)


@pytest.mark.parametrize(
    ("generate", "message"),
    [
        (lambda: distinct_words(9, 3, chance()), "9 different words do not fit into 3 bits"),
        (lambda: max_distance_words(9, 3, chance()), "9 different words do not fit into 3 bits"),
        (lambda: balanced_words(21, 6, chance()), "6 bits give 20 words with 3 ones"),
        (lambda: hadamard_words(4, 12, chance()), "12 is not a power of two"),
        (lambda: hadamard_words(33, 16, chance()), "gives 32 words of 16 bits, fewer than 33"),
    ],
)
def test_what_does_not_exist_is_refused(generate, message):
    with pytest.raises(ValueError, match=message):
        generate()


@given(st.integers(2, 30), st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_spread_is_smallest_and_mean_distance(count, bits, seed):
    words = random_words(count, bits, chance(seed))
    between = [int((a != b).sum()) for a, b in itertools.combinations(words.numpy(), 2)]
    assert spread(words) == (min(between), pytest.approx(np.mean(between)))
    assert distances(words)[0, -1] == (words[0] != words[-1]).sum()


def test_a_lone_word_is_as_far_as_can_be():
    assert spread(torch.ones(1, 24)) == (24, 24)


def test_widest_prefers_the_minimum_to_the_mean():
    close = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, -1], [-1, -1, -1, -1]])
    even = torch.tensor([[1.0, 1, 1, 1], [-1, -1, 1, 1], [1, 1, -1, -1]])
    apart = torch.tensor([[1.0, 1, 1, 1], [-1, -1, 1, 1], [1, -1, -1, 1]])
    assert widest([close, apart, even, close]) is even  # 2.67 bits on average, 2 at least; then 2 and 2


def test_majority_is_voted_bit_by_bit():
    labels = (torch.rand((40, 6), generator=chance()) < 0.5).float()
    words, ties = random_words(6, 9, chance(1)), random_words(1, 9, chance(2))[0]
    for row, target in zip(labels, majority(labels, words, ties), strict=True):
        for k in range(9):
            votes = sum(int(words[c, k]) for c in range(6) if row[c])
            assert target[k] == (ties[k] if votes == 0 else math.copysign(1, votes))
