"""Replicas of the official releases in their exact layout: a handful of small pictures each, and what is in them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
from PIL import Image
from scipy.io import savemat

from hashbench.datasets.base import DataSource
from hashbench.datasets.catalogue import data_source
from hashbench.datasets.families.mirflickr import CLASSES as MIRFLICKR_LABELS
from hashbench.datasets.files.releases import Release
from hashbench.datasets.protocol import Sizes

SIDES = (20, 24)  # height and width: not square, as the pictures of the releases
SYNSETS = tuple(f"n{number:08d}" for number in range(1, 101))  # of ImageNet100; not the real ones


@dataclass(frozen=True)
class Replica:
    """What a replica holds: by path, the names of the labels and the part that the release puts the picture in."""

    labels: dict[str, set[str]]
    parts: dict[str, str] | None = None
    unlabelled: int = 0


def picture(path: Path, hue: int) -> None:
    """Write a picture in the format of its name, of a tone that tells its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng([hue, *path.name.encode()])
    pixels = chance.integers(0, 60, (*SIDES, 3), dtype=np.uint8)
    pixels[..., hue % 3] += np.uint8(50 + 37 * hue % 140)
    Image.fromarray(pixels).save(path)


def write(path: Path, lines: list[str], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}{end}" for line in lines).encode())


def cub200(data: Path, *, classes: int = 4, train: int = 6, test: int = 4) -> Replica:
    root = data / "CUB_200_2011"
    names = [f"{number:03d}.Bird_{number}" for number in range(1, classes + 1)]
    rows = [(name, part) for name in names for part in ("1",) * train + ("0",) * test]
    paths = [f"{name}/{name[4:]}_{number:04d}_{number * 7}.jpg" for number, (name, _) in enumerate(rows, start=1)]
    for (name, _), path in zip(rows, paths, strict=True):
        picture(root / "images" / path, int(name[:3]))
    write(root / "classes.txt", [f"{number} {name}" for number, name in enumerate(names, start=1)])
    write(root / "images.txt", [f"{number} {path}" for number, path in enumerate(paths, start=1)])
    write(root / "image_class_labels.txt", [f"{i} {int(name[:3])}" for i, (name, _) in enumerate(rows, start=1)])
    write(root / "train_test_split.txt", [f"{i} {part}" for i, (_, part) in enumerate(rows, start=1)])
    return Replica(
        {f"images/{path}": {f"{int(name[:3])} {name}"} for path, (name, _) in zip(paths, rows, strict=True)},
        {f"images/{path}": "train" if part == "1" else "test" for path, (_, part) in zip(paths, rows, strict=True)},
    )


def nabirds(data: Path, *, sizes: tuple[int, ...] = (9, 14, 12)) -> Replica:
    """Write classes of a hierarchy, pictures in its leaves only, names with blanks, and Windows line ends."""
    root = data / "nabirds"
    leaves = {"817": "Oak Titmouse", "358": "Northern Cardinal (Adult Male)", "1010": "Oak Titmouse"}
    write(root / "classes.txt", ["0 Birds", "1 Ducks, Geese, and Swans", *(f"{n} {leaves[n]}" for n in sorted(leaves))])
    images, labels, split, found, parts = [], [], [], {}, {}
    chance = np.random.default_rng(0)
    for (leaf, name), size in zip(leaves.items(), sizes, strict=True):
        for number in range(size):
            image = UUID(bytes=chance.bytes(16))
            path = f"{int(leaf):04d}/{image.hex}.jpg"
            picture(root / "images" / path, int(leaf))
            images.append(f"{image} {path}")
            labels.append(f"{image} {leaf}")
            split.append(f"{image} {number % 2}")
            found[f"images/{path}"] = {f"{leaf} {name}"}
            parts[f"images/{path}"] = ("test", "train")[number % 2]
    write(root / "images.txt", images, "\r\n")
    write(root / "image_class_labels.txt", labels, "\r\n")
    write(root / "train_test_split.txt", split[::-1], "\r\n")
    write(root / "sizes.txt", [])  # files that nobody reads
    return Replica(found, parts)


CAR_MODELS = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Audi 100 Wagon 1994", "smart fortwo 2012")


def _struct(**fields: list[object]) -> np.ndarray:
    rows = np.zeros((1, len(next(iter(fields.values())))), [(name, object) for name in fields])
    for name, values in fields.items():
        rows[name][0, :] = values
    return rows


def cars(data: Path, *, each: int = 12) -> Replica:
    """Write the layout of the devkit, train and test apart; of each model, two thirds are train."""
    numbers = {
        part: [number for _ in range(count) for number in range(1, len(CAR_MODELS) + 1)]
        for part, count in (("train", each * 2 // 3), ("test", each - each * 2 // 3))
    }
    replica = cars_annotations(data, numbers, CAR_MODELS)
    for path in replica.labels:
        picture(data / "stanford_cars" / path, numbers[replica.parts[path]][int(path[-9:-4]) - 1])
    return replica


def cars_annotations(data: Path, numbers: dict[str, list[int]], models: tuple[str, ...]) -> Replica:
    """Write the MATLAB files of the devkit, for pictures of the classes `numbers`, from 1, of each part."""
    root = data / "stanford_cars"
    (root / "devkit").mkdir(parents=True)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": np.array([models], object)})
    labels, parts = {}, {}
    for part, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        names = [f"{place:05d}.jpg" for place in range(1, len(numbers[part]) + 1)]
        box = [1] * len(names)
        table = _struct(bbox_x1=box, bbox_y1=box, bbox_x2=box, bbox_y2=box, **{"class": numbers[part]}, fname=names)
        savemat(root / file, {"annotations": table})
        labels |= {
            f"cars_{part}/{name}": {models[number - 1]} for name, number in zip(names, numbers[part], strict=True)
        }
        parts |= dict.fromkeys((f"cars_{part}/{name}" for name in names), part)
        (root / f"cars_{part}").mkdir()
    return Replica(labels, parts)


def cars_as_one(data: Path, *, each: int = 12) -> Replica:
    """Write the layout of cars_annos.mat, all pictures in one folder."""
    root = data / "stanford_cars"
    numbers = [number for number in range(1, len(CAR_MODELS) + 1) for _ in range(each)]
    names = [f"car_ims/{place:06d}.jpg" for place in range(1, len(numbers) + 1)]
    test = [place % 3 == 0 for place in range(len(numbers))]
    for name, number in zip(names, numbers, strict=True):
        picture(root / name, number)
    table = _struct(relative_im_path=names, **{"class": numbers}, test=[int(flag) for flag in test])
    savemat(root / "cars_annos.mat", {"annotations": table, "class_names": np.array([CAR_MODELS], object)})
    return Replica(
        {name: {CAR_MODELS[number - 1]} for name, number in zip(names, numbers, strict=True)},
        {name: "test" if flag else "train" for name, flag in zip(names, test, strict=True)},
    )


def coco(data: Path) -> Replica:
    """Write three classes with gaps in their ids, crowds, several objects of a kind, and pictures without any."""
    root = data / "coco"
    categories = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}]
    shown = ((1,), (13,), (90,), (1, 13), (1, 1, 90), ())
    labels: dict[str, set[str]] = {}
    names = {entry["id"]: entry["name"] for entry in categories}
    unlabelled = 0
    for part, first in (("train2014", 9), ("val2014", 42)):
        images, annotations = [], []
        for place in range(24):
            number = first + 5 * place
            file = f"COCO_{part}_{number:012d}.jpg"
            picture(root / part / file, place % 6)
            images.append({"id": number, "file_name": file, "height": SIDES[0], "width": SIDES[1], "license": 3})
            for category in shown[place % 6]:
                crowd = int(place == 3)
                annotations.append(
                    {"id": len(annotations), "image_id": number, "category_id": category, "iscrowd": crowd}
                )
            if shown[place % 6]:
                labels[f"{part}/{file}"] = {names[category] for category in shown[place % 6]}
            else:
                unlabelled += 1
        table = {
            "info": {},
            "licenses": [],
            "images": images[::-1],
            "annotations": annotations,
            "categories": categories,
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(table))
    return Replica(labels, unlabelled=unlabelled)


def nuswide21(data: Path, *, each: int = 5) -> Replica:
    """Write 81 concepts, of which the last 21 are the most frequent, backslashes and Windows line ends."""
    root = data / "NUS-WIDE"
    concepts = sorted(f"concept{number:02d}" for number in range(81))
    frequent = concepts[60:]
    shown = [{concept} for concept in frequent for _ in range(each)]
    shown += [{frequent[number], frequent[-1 - number], concepts[number]} for number in range(10)]
    shown += [{concepts[number]} for number in range(6)]  # none of the 21
    images = [f"folder{number % 3}\\{number:04d}_{number * 31 + 7}.jpg" for number in range(len(shown))]
    for number, image in enumerate(images):
        picture(root / "Flickr" / image.replace("\\", "/"), concepts.index(max(shown[number])))
    write(root / "ImageList" / "Imagelist.txt", images, "\r\n")
    for concept in concepts:
        end = "\r\n" if concept in frequent[:3] else "\n"
        lines = [str(int(concept in labels)) for labels in shown]
        write(root / "Groundtruth" / "AllLabels" / f"Labels_{concept}.txt", lines, end)
    labels = {
        f"Flickr/{image}".replace("\\", "/"): found & set(frequent)
        for image, found in zip(images, shown, strict=True)
        if found & set(frequent)
    }
    return Replica(labels, unlabelled=6)


def mirflickr(data: Path, *, count: int = 80) -> Replica:
    """Write 38 label files, some with Windows line ends; every tenth picture is without a label."""
    root = data / "mirflickr25k"
    shown = [
        set() if number % 10 == 0 else {MIRFLICKR_LABELS[number % 38], MIRFLICKR_LABELS[number % 5]}
        for number in range(1, count + 1)
    ]
    for number, labels in enumerate(shown, start=1):
        picture(root / "mirflickr" / f"im{number}.jpg", len(labels) and number % 5)
    (root / "mirflickr" / "doc").mkdir()  # the archive also holds tags and licences
    for place, label in enumerate(MIRFLICKR_LABELS):
        numbers = [str(number) for number, labels in enumerate(shown, start=1) if label in labels]
        write(root / "mirflickr25k_annotations_v080" / f"{label}.txt", numbers, "\r\n" if place % 2 else "\n")
    write(root / "mirflickr25k_annotations_v080" / "README.txt", ["Annotations"])
    return Replica({f"mirflickr/im{number}.jpg": labels for number, labels in enumerate(shown, start=1)})


def imagenet_classes(root: Path) -> None:
    """Write a list in the form of HashNet's: pictures of the 100 classes, each with one column for each class."""
    lines = [
        f"/home/someone/imagenet/image/{synset}_{place}.JPEG " + " ".join(str(int(synset == of)) for of in SYNSETS)
        for place, synset in enumerate(SYNSETS[::-1] * 2)
    ]
    write(root / "imagenet100.txt", lines)


def imagenet100(data: Path, *, each: int = 3, folders: bool = False) -> Replica:
    """Write the 100 classes and one more; validation pictures in one folder with the devkit, or in class folders."""
    root = data / "imagenet"
    imagenet_classes(root)
    others = ("n00000101",)
    numbers = {synset: number for number, synset in enumerate((*others, *SYNSETS[::-1]), start=1)}
    labels, parts = {}, {}
    for synset in numbers:
        for place in range(each):
            path = f"train/{synset}/{synset}_{place * 11 + 3}.JPEG"
            picture(root / path, numbers[synset])
            labels[path], parts[path] = {synset}, "train"
    truth = list(numbers) * 2
    for place, synset in enumerate(truth, start=1):
        path = f"val/{synset + '/' if folders else ''}ILSVRC2012_val_{place:08d}.JPEG"
        picture(root / path, numbers[synset])
        labels[path], parts[path] = {synset}, "test"
    if not folders:
        devkit = root / "ILSVRC2012_devkit_t12" / "data"
        write(devkit / "ILSVRC2012_validation_ground_truth.txt", [str(numbers[synset]) for synset in truth])
        table = _struct(ILSVRC2012_ID=list(numbers.values()), WNID=list(numbers), words=["a thing"] * len(numbers))
        savemat(devkit / "meta.mat", {"synsets": table.reshape(-1, 1)})
    ours = {path: found for path, found in labels.items() if found <= set(SYNSETS)}
    return Replica(ours, {path: parts[path] for path in ours})


def cifar_files(release: Release, *, classes: int, each: int, label_bytes: int) -> dict[str, bytes]:
    """Return the content of the files of CIFAR-10 or CIFAR-100, each image of a tone that tells its class."""
    chance = np.random.default_rng(classes)
    numbers = np.tile(np.arange(classes, dtype=np.uint8), each)
    pixels = chance.integers(0, 60, (len(numbers), 3, 1024), dtype=np.uint8)
    pixels[np.arange(len(numbers)), numbers % 3] += (50 + 37 * numbers.astype(int) % 140).astype(np.uint8)[:, None]
    other = np.full((len(numbers), label_bytes - 1), 7, np.uint8)  # the coarse label of CIFAR-100
    records = np.concatenate([other, numbers[:, None], pixels.reshape(len(numbers), -1)], axis=1)
    shares = np.array_split(records, np.cumsum([len(records) * file.size // _bytes(release) for file in release.files]))
    return {file.name: share.tobytes() for file, share in zip(release.files, shares, strict=False)}


def _bytes(release: Release) -> int:
    return sum(file.size for file in release.files)


MAKERS: dict[str, Callable[[Path], Replica]] = {
    "cars": cars,
    "coco": coco,
    "cub200": cub200,
    "imagenet100": imagenet100,
    "mirflickr": mirflickr,
    "nabirds": nabirds,
    "nuswide21": nuswide21,
}
# The sizes of the protocols on the replicas; what a protocol leaves to its rule stays so.
SIZES = {
    "cars@a": Sizes(32, 16, 32),
    "cars@b": Sizes(16, 10, 22),
    "cifar10@54k": Sizes(50, 20, 50),
    "cifar10@59k": Sizes(50, 20, 100),
    "cifar10@50k": Sizes(100, 20, 100),
    "cifar10@unsup": Sizes(30, 50, 70),
    "cifar10@unseen": Sizes(70, 6, 30),
    "cifar100@45k": Sizes(200, 100, 300),
    "cifar100@unseen": Sizes(375, 25, 125),
    "coco@hashnet": Sizes(12, 8, 32),
    "cub200@official": Sizes(24, 16, 24),
    "fashion-mnist@64k": Sizes(50, 20, 50),
    "fashion-mnist@unseen": Sizes(70, 6, 30),
    "imagenet100@hashnet": Sizes(200, 200, 300),
    "imagenet100@unseen": Sizes(225, 50, 75),
    "mirflickr@38": Sizes(40, 12, 28),
    "nabirds@a": Sizes(17, 18, 17),
    "nabirds@b": Sizes(12, 8, 15),
    "nuswide21@tc21": Sizes(42, 21, 94),
}
CLASSES = {"cars": 4, "coco": 3, "cub200": 4, "nabirds": 3}  # where the replica has fewer classes than the release


def small(name: str, num_images: int) -> DataSource:
    """Return data set `name` with its protocols scaled to its replica of `num_images` pictures; all else is real."""
    real = data_source(name)
    return dataclasses.replace(
        real,
        protocols=tuple(
            dataclasses.replace(
                protocol,
                sizes=SIZES.get(protocol.full_name, protocol.sizes),
                num_classes=CLASSES.get(name, protocol.num_classes),
                num_images=num_images,
            )
            for protocol in real.protocols
        ),
    )
