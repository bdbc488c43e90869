"""Fashion-MNIST, its 10,000 test pictures that ship with hashbench, and multi-label mosaics made of them."""

from __future__ import annotations

import io
import struct
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from hashbench.datasets.base import Store, dataset, one_hot
from hashbench.datasets.files.releases import OfficialFile, Release, SourceFile
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    import numpy as np

SIDE = 28
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
TRAIN_IMAGES = OfficialFile("train-images-idx3-ubyte", 47_040_016, "f4a8712d7a061bf5bd6d2ca38dc4d50a")
TRAIN_LABELS = OfficialFile("train-labels-idx1-ubyte", 60_008, "9018921c3c673c538a1fc5bad174d6f9")
TEST_IMAGES = OfficialFile("t10k-images-idx3-ubyte", 7_840_016, "8181f5470baa50b63fa0f6fddb340f0a")
TEST_LABELS = OfficialFile("t10k-labels-idx1-ubyte", 10_008, "15d484375f8d13e6eb1aabb0c3f46965")
FASHION_MNIST = Release(
    title="Fashion-MNIST",
    folder="fashion-mnist",
    files=(TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS),
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    hint="Debian's package dataset-fashion-mnist puts it under /usr/share/datasets",
)
# The arrays `images` (10000, 28, 28) and `labels` (10000,) of the two official test files, by numpy.savez_compressed.
EMBEDDED = Path(__file__).parents[1] / "embedded" / "fashion_mnist_10k.npz"
EMBEDDED_SHA256 = "46c9b47966e9afc291aba1bd64716afac6577958abfa11cf099263a9490a8d3b"

MOSAIC_RULE = "mosaic-v1"
MOSAIC_PARTS = {"test": (1_000, 500), "train": (3_000, 2_000), "database": (6_000, 4_000)}  # pictures, mosaics


@dataset("fashion-mnist", protocols="fashion-mnist.toml")
def fashion_mnist(data_dir: Path | None) -> Store:
    """Return all 70,000 pictures of Fashion-MNIST, (70000, 1, 28, 28) uint8, labels (70000, 10)."""
    return read_idx(FASHION_MNIST, data_dir, name="fashion-mnist", classes=CLASSES)


@dataset("fashion-mnist-10k", protocols="fashion-mnist-10k.toml")
def fashion_mnist_10k(data_dir: Path | None) -> Store:
    """Return the embedded test pictures of Fashion-MNIST, (10000, 1, 28, 28) uint8, labels (10000, 10)."""
    images, numbers, source = _read_embedded()
    labels = one_hot(numbers, CLASSES, name="fashion-mnist-10k")
    return Store("fashion-mnist-10k", images[:, None], labels, CLASSES, sources=(source,))


@dataset("fashion-mosaic", protocols="fashion-mosaic.toml")
def fashion_mosaic(data_dir: Path | None) -> Store:
    """Return 6,500 mosaics of the embedded pictures, (6500, 1, 28, 28) uint8, multi-hot labels (6500, 10)."""
    images, numbers, source = _read_embedded()
    mosaics, labels, part = make_mosaics(images, one_hot(numbers, CLASSES, name="fashion-mosaic"))
    return Store("fashion-mosaic", mosaics, labels, CLASSES, part=part, sources=(source,))


def read_idx(release: Release, data_dir: Path | None, *, name: str, classes: tuple[str, ...]) -> Store:
    """Return the pictures of `release`, whose four IDX files are train images, train labels, test images, test labels.

    Raises HashbenchError for files that are missing, damaged or not of the IDX format.
    """
    import numpy as np

    contents, sources = release.read(data_dir)
    arrays = [_parse_idx(content, file) for file, content in contents.items()]
    images, numbers = np.concatenate(arrays[0::2]), np.concatenate(arrays[1::2])
    part = np.repeat(["train", "test"], [len(arrays[1]), len(arrays[3])])
    return Store(name, images[:, None], one_hot(numbers, classes, name=name), classes, part=part, sources=sources)


def make_mosaics(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mosaics (M, 1, 28, 28) uint8 of `images` (N, 28, 28), their labels (M, C) and the part each belongs to.

    The pictures, ranked by sha256, form a pool for each part, so no picture is in two parts. A mosaic is a 2x2 grid
    of pictures at half size; the m-th of a part fills the places whose bits are set in 1 + m mod 15, with the next
    pictures of its pool, whose order is drawn anew by sha256 each time it has been gone through.
    """
    import numpy as np

    places = np.array([[(1 + number % 15) >> bit & 1 for bit in range(4)] for number in range(15)], dtype=bool)
    halved = _halve(images)
    ranked = _ranked(images, range(len(images)), "pools")
    made, made_labels, parts = [], [], []
    for part, (num_pictures, num_mosaics) in MOSAIC_PARTS.items():
        pool, ranked = ranked[:num_pictures], ranked[num_pictures:]
        filled = places[np.arange(num_mosaics) % 15]
        needed = int(filled.sum())
        rounds = -(-needed // num_pictures)
        queue = [picture for turn in range(rounds) for picture in _ranked(images, pool, f"{part}/{turn}")][:needed]
        tiles = np.zeros((num_mosaics, 4, SIDE // 2, SIDE // 2), np.uint8)
        tiles[filled] = halved[queue]
        tile_labels = np.zeros((num_mosaics, 4, labels.shape[1]), np.uint8)
        tile_labels[filled] = labels[queue]
        grid = tiles.reshape(-1, 2, 2, SIDE // 2, SIDE // 2).transpose(0, 1, 3, 2, 4)
        made.append(grid.reshape(-1, 1, SIDE, SIDE))
        made_labels.append(tile_labels.max(axis=1))
        parts.append(np.repeat(part, num_mosaics))
    return np.concatenate(made), np.concatenate(made_labels), np.concatenate(parts)


def _read_embedded() -> tuple[np.ndarray, np.ndarray, SourceFile]:
    import numpy as np

    content = EMBEDDED.read_bytes() if EMBEDDED.is_file() else b""
    digest = sha256(content).hexdigest()
    if digest != EMBEDDED_SHA256:
        raise HashbenchError(
            f"{EMBEDDED} is missing or damaged: its sha256 is {digest} instead of {EMBEDDED_SHA256}; install hashbench "
            f"again."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return arrays["images"], arrays["labels"], SourceFile(EMBEDDED.name, f"sha256:{digest}", f"sha256:{digest}")


def _parse_idx(content: bytes, name: str) -> np.ndarray:
    """Return the array of an IDX file: two zero bytes, type 8 (unsigned byte), rank, sizes as big-endian uint32."""
    import numpy as np

    try:
        zero, kind, rank = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{rank}I", content, offset=4)
        if (zero, kind) != (0, 8):
            raise ValueError(f"its first bytes are {content[:4]!r}")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
    except (struct.error, ValueError) as error:
        raise HashbenchError(
            f"{name} of Fashion-MNIST is not an IDX file of unsigned bytes ({error}); delete it and fetch it again."
        ) from error


def _halve(images: np.ndarray) -> np.ndarray:
    """Return (N, H/2, W/2) uint8: the mean of every 2x2 block, in integers so that no machine rounds otherwise."""
    import numpy as np

    blocks = images.reshape(len(images), images.shape[1] // 2, 2, images.shape[2] // 2, 2).astype(np.uint16)
    return ((blocks.sum(axis=(2, 4)) + 2) // 4).astype(np.uint8)


def _ranked(images: np.ndarray, chosen: list[int] | range, purpose: str) -> list[int]:
    start = sha256(f"{MOSAIC_RULE}/{purpose}".encode() + b"\0")

    def rank(picture: int) -> bytes:
        digest = start.copy()
        digest.update(images[picture].tobytes())
        return digest.digest()

    return sorted(chosen, key=rank)
