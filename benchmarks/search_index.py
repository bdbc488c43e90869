"""An index of generated photos, from folder to answers: `python benchmarks/search_index.py RUN`.

RUN takes pictures, for example `hashbench run --method crh --dataset fashion-mnist-10k --bits 64 --epochs 2`. The
photos are small JPEGs of noisy waves in a temporary folder; `--images N` says how many, `--index FILE` takes an index
that is there. One thread searches.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tabulate import tabulate

from hashbench.search.contents import read_contents
from hashbench.search.index import open_index
from hashbench.search.ways import Exact, Graph, build_graph

QUERIES, TOP, SIZE, INSIDE = 200, 10, 32, 1000


def make_photos(folder: Path, count: int) -> None:
    """Write so many JPEGs, a thousand to a folder."""
    random = np.random.default_rng(0)
    down, right = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    for place in range(count):
        path = folder / f"{place // INSIDE:04}" / f"{place:07}.jpg"
        path.parent.mkdir(exist_ok=True)
        slope, tilt, shift = 20 * random.random(3)
        wave = 0.5 + 0.25 * np.sin(slope * down + tilt * right + shift) + 0.1 * random.standard_normal((SIZE, SIZE))
        Image.fromarray((np.clip(wave, 0, 1) * 255).astype(np.uint8)).save(path, quality=80)


def main() -> None:
    """Print what indexing costs, then what a query does in each kind of index."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("run")
    asked.add_argument("--images", type=int, default=5000)
    asked.add_argument("--index", type=Path)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        photos, path = Path(temporary) / "photos", given.index or Path(temporary) / "photos.hashindex"
        if given.index is None:
            photos.mkdir()
            make_photos(photos, given.images)
            started = time.perf_counter()
            command = [sys.executable, "-m", "hashbench", "index", given.run, str(photos), "-o", str(path)]
            subprocess.run(command, check=True)
            seconds = time.perf_counter() - started
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(f"indexed in {seconds:,.1f} s, {given.images / seconds:,.0f} images/s, peak {peak:,.0f} MB")
        print(f"{path.stat().st_size / 1e6:,.1f} MB on disk")
        started = time.perf_counter()
        index = open_index(path)
        print(f"opened in {time.perf_counter() - started:.2f} s")
        contents = read_contents(path)
        queries = contents.codes[np.random.default_rng(1).integers(0, len(contents.codes), QUERIES)].copy()
        queries[:, 0] ^= np.uint8(0b101)  # near some, equal to few
        exact: list[np.ndarray] = []
        rows = []
        for kind in ("flat", "multi-index", "hnsw"):
            started = time.perf_counter()
            changed = replace(contents, kind=kind, graph=build_graph(contents.codes) if kind == "hnsw" else None)
            way = Graph(changed) if kind == "hnsw" else Exact(changed)
            built = time.perf_counter() - started
            way.nearest(queries[0], TOP)  # compiles
            started = time.perf_counter()
            found = [np.sort(way.nearest(query, TOP)[1])[:TOP] for query in queries]
            ms = 1000 * (time.perf_counter() - started) / QUERIES
            exact = exact or found
            missed = np.mean([np.mean(mine > best) for mine, best in zip(found, exact, strict=True)])
            rows.append({"kind": kind, "seconds to build": f"{built:.2f}", "ms a query": f"{ms:.3f}",
                         "of 10 distances, larger than the nearest": f"{10 * missed:.2f}"})  # fmt: skip
        print(tabulate(rows, headers="keys", disable_numparse=True))
        image = np.zeros((1, *index.model.shape), np.uint8)
        index.model.encode(image)
        started = time.perf_counter()
        for _ in range(20):
            index.model.encode(image)
        print(f"encoding one photo: {1000 * (time.perf_counter() - started) / 20:.1f} ms")


if __name__ == "__main__":
    main()
