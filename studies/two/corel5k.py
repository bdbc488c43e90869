"""Write the lists of Corel5K that the study reads: `python studies/two/corel5k.py REPOSITORY FOLDER`.

REPOSITORY is a git clone (bare will do) of the public one that holds the photographs as files, ParkByungYoon/corel-5k
on GitHub; its pictures may not be given on. FOLDER gets images/, train.txt, test.txt (the queries) and database.txt:
photographs with a label that occurs in both published parts, of which 1,000 are drawn as queries and 2,000 of the
others to train.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import tarfile
from pathlib import Path

import numpy as np

from hashbench.datasets.files.archives import TAR_FILTER

PARTS = {"train_jpeg": "labels/training_label", "test_jpeg": "labels/test_label"}
QUERIES, TRAINED = 1000, 2000


def main(repository: Path, folder: Path) -> None:
    """Write images and lists; existing ones are written anew."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", "-C", str(repository), *arguments], check=True, capture_output=True).stdout

    numbers: dict[str, set[str]] = {}  # an image's labels, by its path in the repository
    occurring = []
    for part, listed in PARTS.items():
        rows = [line.split() for line in git("show", f"HEAD:{listed}").decode().splitlines() if line.strip()]
        numbers |= {f"{part}/{name}.jpeg": set(labels) for name, *labels in rows}
        occurring.append(set().union(*(labels for _, *labels in rows)))
    in_both = set.intersection(*occurring)
    words = sorted(in_both, key=int)
    images = sorted(path for path, labels in numbers.items() if labels & in_both)
    with tarfile.open(fileobj=io.BytesIO(git("archive", "HEAD", *PARTS))) as archive:
        archive.extractall(folder / "images", members=[archive.getmember(path) for path in images], **TAR_FILTER)
    drawn = np.random.default_rng(0).permutation(len(images))
    queries, others = drawn[:QUERIES], drawn[QUERIES:]
    for name, chosen in {"test": queries, "database": others, "train": others[:TRAINED]}.items():
        lines = [
            " ".join([f"images/{images[i]}", *("01"[word in numbers[images[i]]] for word in words)]) for i in chosen
        ]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    print(f"{len(images):,} photographs, {len(words)} labels")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path)
    parser.add_argument("folder", type=Path)
    main(**vars(parser.parse_args()))
