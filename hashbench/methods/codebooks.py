"""Hash centers and codebooks: words of a given length in {-1, +1}, drawn from a given generator.

Every generator of words returns float32 (count, bits) with entries in {-1, +1}, the same for the same state of its
`torch.Generator`, and raises ValueError when no such words exist. What each one guarantees:

    random_words        nothing; words may repeat
    distinct_words      no word twice
    balanced_words      no word twice, floor(bits / 2) ones in each
    hadamard_words      any two at a distance of bits / 2, or complements of each other
    spaced_words        any two at a given distance or more
    max_distance_words  no word twice, and a smallest distance that chance alone does not reach
    separated_words     nothing; but nearly always the Gilbert-Varshamov distance between any two
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from scipy.linalg import hadamard
from torch import Tensor

#: Random words tried for one place of a codebook before the search for it counts as stuck.
ATTEMPTS = 10_000

#: Of lp-box ADMM, as MDS's authors set them: the first and the largest penalty, its growth, and the step of the duals.
PENALTIES, GROWTH, GOLDEN = (1e-5, 1e7), 1.09, (1 + math.sqrt(5)) / 2


def random_words(count: int, bits: int, generator: torch.Generator) -> Tensor:
    """Return `count` words of independent fair bits."""
    return 2 * torch.randint(0, 2, (count, bits), generator=generator).float() - 1


def distinct_words(count: int, bits: int, generator: torch.Generator) -> Tensor:
    """Return `count` different words drawn uniformly; raises ValueError when 2^bits < count."""
    _check_room(count, bits)
    if bits <= 16:
        index = torch.randperm(2**bits, generator=generator)[:count]
        return 2.0 * ((index[:, None] >> torch.arange(bits)) & 1) - 1.0
    words = torch.empty((0, bits))
    while len(words) < count:  # a repeat is rare from 17 bits on: one round nearly always does
        words = _first_of_each(torch.cat([words, random_words(count - len(words), bits, generator)]))
    return words


def balanced_words(count: int, bits: int, generator: torch.Generator, *, draws: int = 1) -> Tensor:
    """Return `count` different words with floor(bits / 2) ones each: the widest of `draws` such codebooks.

    CSQ's centers where the Hadamard matrix gives none (Yuan et al., arXiv:1908.00347); a repeated word is drawn again.
    Raises ValueError when fewer such words exist.
    """
    exist = math.comb(bits, bits // 2)
    if exist < count:
        raise ValueError(f"{bits} bits give {exist} words with {bits // 2} ones, fewer than {count}; use more bits.")

    def draw() -> Tensor:
        words = torch.empty((0, bits))
        while len(words) < count:
            rank = torch.rand((count - len(words), bits), generator=generator).argsort(dim=1)
            words = _first_of_each(torch.cat([words, torch.where(rank < bits // 2, 1.0, -1.0)]))
        return words

    return widest(draw() for _ in range(draws))


def hadamard_words(count: int, bits: int, generator: torch.Generator) -> Tensor:
    """Return rows of the Hadamard matrix H, or of [H; -H] when there are more words than bits, in random order.

    CSQ's centers (Yuan et al., arXiv:1908.00347): any two are at a distance of bits / 2, complements of bits. Raises
    ValueError unless bits is a power of two and count <= 2 bits.
    """
    if bits < 1 or bits & (bits - 1):
        raise ValueError(f"A Hadamard matrix of {bits} rows is not available: {bits} is not a power of two.")
    if count > 2 * bits:
        raise ValueError(f"The Hadamard matrix gives {2 * bits} words of {bits} bits, fewer than {count}.")
    rows = torch.from_numpy(hadamard(bits, dtype=float)).float()
    if count > bits:
        rows = torch.cat([rows, -rows])
    return rows[torch.randperm(len(rows), generator=generator)[:count]]


def spaced_words(count: int, bits: int, distance: int, generator: torch.Generator) -> Tensor:
    """Return `count` words with any two at `distance` bits or more: random words, accepted where they keep it.

    SHC's start (Chen et al., arXiv:2507.08404). A codebook that finds no next word in 10,000 is begun anew; raises
    ValueError when ten of them end so.
    """
    longest = 0
    for _ in range(10):
        accepted = _grow(torch.empty((0, bits)), count, distance, generator)
        if len(accepted) == count:
            return accepted
        longest = max(longest, len(accepted))
    raise ValueError(
        f"A search found {longest} words of {bits} bits at a distance of {distance} or more, not {count}; "
        "use more bits or a smaller distance."
    )


def max_distance_words(count: int, bits: int, generator: torch.Generator) -> Tensor:
    """Return `count` different words as far apart as random search gets them.

    DPN's maximal-distance targets (Fan et al., IJCAI 2020): a random word is accepted when it differs from all accepted
    in a share tau of the bits; tau falls from .61 by .01 after 10,000 rejects in a row. It stops at one bit of
    distance, so that no word comes twice. Raises ValueError when 2^bits < count.
    """
    _check_room(count, bits)
    words, percent = torch.empty((0, bits)), 61
    while len(words) < count:
        distance = max(-(-percent * bits // 100), 1)  # ceil(tau bits) in whole numbers: .01 is no binary fraction
        words = _grow(words, count, distance, generator)
        percent -= 1
    return words


def central_words(count: int, bits: int, generator: torch.Generator, *, draws: int = 20) -> Tensor:
    """Return CSQ's centers (count, bits): rows of the Hadamard matrix where it has so many, else balanced words.

    It has 2 bits rows where the bits are a power of two. Balanced words are the widest of `draws` codebooks. Raises
    ValueError where there are too few balanced words (Yuan et al., arXiv:1908.00347).
    """
    if _has_hadamard(count, bits):
        return hadamard_words(count, bits, generator)
    return balanced_words(count, bits, generator, draws=draws)


def lack_of_central_words(count: int, bits: int) -> str | None:
    """Return why there are no `count` central words of so many bits, as a sentence, or None where there are."""
    words = math.comb(bits, bits // 2)
    if _has_hadamard(count, bits) or words >= count:
        return None
    return f"{bits} bits give {words} balanced words, too few for {count} classes; use more bits."


def _has_hadamard(count: int, bits: int) -> bool:
    return bits & (bits - 1) == 0 and count <= 2 * bits


def separated_words(count: int, bits: int, generator: torch.Generator, *, sweeps: int = 50) -> Tensor:
    """Return `count` words that are moved, one by one, until any two are at the Gilbert-Varshamov distance or more.

    MDS's centers (Wang et al., CVPR 2023), which begin as CSQ's: a word too near to another one is replaced by one that
    lp-box ADMM finds. Where `sweeps` over the words do not suffice, the widest codebook on the way is returned. The
    authors solve for words that keep the distance too, and take an iterate where the penalty is largest; here the best
    of all iterates is taken. Raises ValueError where CSQ's centers do not exist.
    """
    distance = gilbert_varshamov_distance(count, bits)
    rows = min(count, 2 * bits) if bits & (bits - 1) == 0 else 0
    words = hadamard_words(rows, bits, generator) if rows else torch.empty((0, bits))
    if rows < count:
        words = torch.cat([words, balanced_words(count - rows, bits, generator)])
    found = [words.clone()]
    for _ in range(sweeps):
        if spread(found[-1])[0] >= distance:
            break
        for i in range(count):
            others = torch.cat([words[:i], words[i + 1 :]]).double().numpy()
            word = words[i].double().numpy()
            if (others @ word).max() > bits - 2 * distance:
                duals = torch.rand(2 * bits + count - 1, generator=generator, dtype=torch.float64).numpy()
                words[i] = torch.from_numpy(_separate(word, others, distance, duals))
        found.append(words.clone())
    return widest(found)


def gilbert_varshamov_distance(count: int, bits: int) -> int:
    """Return the smallest d with 2^bits / count <= sum_{i<d} binom(bits, i), SHC's minimum distance.

    The Gilbert-Varshamov bound guarantees `count` words at distance d - 1; d itself is what random search still reaches
    (Chen et al., arXiv:2507.08404).
    """
    ball = 0
    for d in range(1, bits + 2):
        ball += math.comb(bits, d - 1)
        if count * ball >= 2**bits:
            return d
    raise ValueError(f"{count} words of {bits} bits have no minimum distance.")


def distances(words: Tensor) -> Tensor:
    """Return the Hamming distances (count, count) between words in {-1, +1}."""
    return (words.shape[1] - words @ words.T) / 2


def spread(words: Tensor) -> tuple[float, float]:
    """Return the smallest and the mean Hamming distance between two of the words; that of a lone word is `bits`."""
    count, bits = words.shape
    if count == 1:
        return float(bits), float(bits)
    between = distances(words).fill_diagonal_(bits)  # no distance is larger, so the diagonal is never the smallest
    total = float(between.sum(dtype=torch.float64)) - count * bits
    return float(between.min()), total / (count * (count - 1))


def widest(codebooks: Iterable[Tensor]) -> Tensor:
    """Return the codebook with the largest minimum distance, of those the one with the largest mean distance."""
    return max(codebooks, key=spread)


def majority(labels: Tensor, words: Tensor, ties: Tensor) -> Tensor:
    """Return the targets (n, bits) of samples with several classes: each bit as in most of their classes' words.

    `labels` (n, C) multi-hot, `words` (C, bits); where the votes are even, the bit of the word `ties` (bits,) decides
    (CSQ's centroid for multi-label data, arXiv:1908.00347).
    """
    votes = labels @ words
    return torch.where(votes == 0, ties, votes.sign())


def _check_room(count: int, bits: int) -> None:
    if bits < 63 and count > 2**bits:
        raise ValueError(f"{count} different words do not fit into {bits} bits, which give {2**bits}.")


def _first_of_each(words: Tensor) -> Tensor:
    """Drop repeated rows, keeping the first of each in its place."""
    _, group = torch.unique(words, dim=0, return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(words)).scatter_reduce(0, group, torch.arange(len(words)), "amin")
    return words[first.sort().values]


def _grow(words: Tensor, count: int, distance: int, generator: torch.Generator) -> Tensor:
    """Return `words` (n, bits) with random ones added that are at `distance` or more from all before them.

    Ends at `count` words, or sooner when 10,000 random words in a row were too near.
    """
    most = words.shape[1] - 2 * distance  # the inner product of words at the distance; float32 holds it exactly
    refused = 0
    while len(words) < count and refused < ATTEMPTS:
        tried = random_words(1000, words.shape[1], generator)
        far = (tried @ words.T <= most).all(dim=1)
        start = 0
        while len(words) < count and far.any():
            place = int(far.int().argmax())
            if refused + place - start >= ATTEMPTS:
                return words
            words = torch.cat([words, tried[place : place + 1]])
            far[: place + 1] = False
            far &= tried @ tried[place] <= most
            refused, start = 0, place + 1
        refused += len(tried) - start
    return words


def _separate(word: np.ndarray, others: np.ndarray, distance: int, duals: np.ndarray) -> np.ndarray:
    """Return a word (bits,) at the distance of all `others` (n, bits), or as near to it as lp-box ADMM comes.

    ADMM minimises the mean inner product <b, h_j> under <b, h_j> <= K - 2 d, for b in the cube [-1, 1]^K and on the
    sphere of radius sqrt K, which meet in the corners. Of iterates whose signs keep the distance, the one with the
    largest mean distance is taken. `duals` (2 bits + n,) are where the multipliers begin.
    """
    bits = len(word)
    constraints = np.concatenate([np.eye(bits), np.eye(bits), others])  # times b: in the cube, on the sphere, below
    inverse = np.linalg.inv(constraints.T @ constraints)
    back, slope = inverse @ constraints.T, inverse @ others.mean(axis=0)
    low, high = np.full(len(constraints), -np.inf), np.full(len(constraints), np.inf)
    low[:bits], high[:bits], high[2 * bits :] = -1, 1, bits - 2 * distance
    sphere = slice(bits, 2 * bits)

    def rank(found: np.ndarray) -> tuple[float, float]:
        inner = others @ found
        return min((bits - inner.max()) / 2, distance), -inner.sum()

    best, best_rank = word, rank(word)
    penalty, at_most = PENALTIES[0], 0
    parts, scaled = constraints @ word, duals / penalty
    while at_most < 100:
        for _ in range(10):
            product = constraints @ (back @ (parts - scaled) - slope / penalty)
            parts = np.clip(product + scaled, low, high)
            parts[sphere] *= math.sqrt(bits / (parts[sphere] @ parts[sphere]))
            scaled = scaled + GOLDEN * (product - parts)
        grown = min(GROWTH * penalty, PENALTIES[1])
        penalty, scaled, at_most = grown, scaled * (penalty / grown), at_most + (grown == PENALTIES[1])
        found = np.where(product[:bits] < 0, -1.0, 1.0)
        if (found_rank := rank(found)) > best_rank:
            best, best_rank = found, found_rank
        if np.abs(product - parts).max() < 1e-6:
            break
    return best
