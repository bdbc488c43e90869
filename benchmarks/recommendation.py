"""How long methods of users and items take to fit, and codes and scores to be measured, on generated pairs.

    python benchmarks/recommendation.py --users 6040 --items 3700 --pairs 1000000 --bits 32 --methods ch,bccf,dcf
    python benchmarks/recommendation.py --users 100000 --items 50000 --pairs 5000000 --bits 64 --methods ch

Seconds of the clock and of the processor, which differ where others use the machine too. The items' popularity falls
like 1 / rank; hashcf is trained for one epoch, to be multiplied by its epochs.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import sparse

from hashbench.methods import PairTask
from hashbench.metrics import evaluate_histograms, histograms, pack
from hashbench.metrics.pairs import read_pairs
from hashbench.metrics.scored import score_histograms
from hashbench.registry import METHODS

MEASURES = ["HR@10", "nDCG@10", "R@20", "mAP@all"]
SCORED_AT_MOST = 10_000  # users: a reference sorts all items for each


def generated(users: int, items: int, pairs: int) -> sparse.csr_matrix:
    """Return about as many pairs, float32 ratings 1 to 5; items by popularity, the same for all users."""
    drawn = np.random.default_rng(0)
    share = 1 / np.arange(1, items + 1)
    user, item = drawn.integers(0, users, pairs), drawn.choice(items, pairs, p=share / share.sum())
    keys = np.unique(user.astype(np.int64) * items + item)
    values = drawn.integers(1, 6, len(keys)).astype(np.float32)
    return sparse.csr_matrix((values, (keys // items, keys % items)), shape=(users, items))


def timed(what: str, compute: Callable[[], Any]) -> Any:
    """Print how long something takes, and return what comes out."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = compute()
    print(
        f"{what:<40} {time.perf_counter() - wall:10.1f} s {time.process_time() - cpu:10.1f} s of processor", flush=True
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=6040)
    parser.add_argument("--items", type=int, default=3700)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, default=32)
    parser.add_argument("--methods", default="ch,bccf,dcf,hashcf", help="to fit; empty: only the measuring")
    options = parser.parse_args()
    matrix = generated(options.users, options.items, options.pairs)
    print(f"{matrix.shape[0]:,} users, {matrix.shape[1]:,} items, {matrix.nnz:,} pairs, {options.bits} bits")
    held = np.random.default_rng(1).random(matrix.nnz) < 0.2
    user, item = matrix.nonzero()
    relevant, excluded = (
        sparse.csr_matrix((np.ones(which.sum()), (user[which], item[which])), shape=matrix.shape)
        for which in (held, ~held)
    )
    pairs = timed("reading the pairs", lambda: read_pairs(relevant, excluded, queries=options.users,
                                                          items=options.items))  # fmt: skip
    chance = torch.Generator().manual_seed(0)
    codes = [
        pack((torch.rand(count, options.bits, generator=chance) < 0.5).numpy())
        for count in (options.users, options.items)
    ]
    hist = timed(
        "codes to histograms", lambda: histograms(*codes, None, None, bits=options.bits, pairs=pairs, gains=True)
    )
    timed("histograms to measures with bounds", lambda: evaluate_histograms(hist, MEASURES))
    if options.users <= SCORED_AT_MOST:
        scores = np.random.default_rng(2).random((options.users, options.items))
        sizes = {"queries": options.users, "items": options.items}
        timed("scores to histograms", lambda: score_histograms([scores], pairs, **sizes))
    task = PairTask(options.bits, *matrix.shape, 0, torch.device("cpu"))
    for name in filter(None, options.methods.split(",")):
        fields = {"epochs": 1} if name == "hashcf" else {}
        method = METHODS.get(name)(**fields)
        timed(f"fit {name} {fields or ''}", lambda method=method: method.fit(task, matrix))


if __name__ == "__main__":
    main()
