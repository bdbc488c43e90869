"""Replicas of the official releases of documents in their exact layout: a few made-up texts each."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np

GROUPS = ("comp.os.ms-windows.misc", "rec.autos", "sci.space")
TOPICS = ("earn", "money-fx", "cotton")


def words(topic: int, chance: np.random.Generator, count: int = 12) -> str:
    """Return a text of `count` words, most of which only its topic has, and words that are left out."""
    drawn = [f"word{topic}{number}" for number in chance.integers(0, 6, count)]
    return " ".join(["The", *drawn, f"common{chance.integers(0, 4)}", "and", "a", "WORD!"])


def newsgroups(each: int = 9) -> dict[str, bytes]:
    """Return `each` messages for every group and part by path, in latin-1, with header, quote and signature."""
    chance, files = np.random.default_rng(0), {}
    for part in ("train", "test"):
        for topic, group in enumerate(GROUPS):
            for number in range(each):
                text = (
                    f"From: ann{number}@example.org\nSubject: caf\xe9\n\nBob wrote:\n> quoted\n{words(topic, chance)}\n"
                )
                path = f"20news-bydate-{part}/{group}/{5000 + 10 * topic + number}"
                files[path] = f"{text}\n--\nAnn of signature\n".encode("latin-1")
    return files


def story(number: int, topics: list[str], text: str, *, split: str = "TRAIN", used: str = "YES") -> str:
    """Return a story as the .sgm files have it; `text` is all of TEXT."""
    found = "".join(f"<D>{topic}</D>" for topic in topics)
    return (
        f'<REUTERS TOPICS="{used}" LEWISSPLIT="{split}" CGISPLIT="TRAINING-SET" OLDID="{number + 5000}" '
        f'NEWID="{number}">\n<DATE>26-FEB-1987</DATE>\n<TOPICS>{found}</TOPICS>\n<PLACES><D>usa</D></PLACES>\n'
        f"<UNKNOWN>&#5; unread</UNKNOWN>\n<TEXT>&#2;\n{text}</TEXT>\n</REUTERS>\n"
    )


def told(title: str, body: str) -> str:
    return f"<TITLE>{title}</TITLE>\n<DATELINE>  NOWHERE, Feb 26 - </DATELINE><BODY>{body}\n Reuter\n&#3;</BODY>"


def reuters(each: int = 9) -> dict[str, bytes]:
    """Return two .sgm files: `each` stories for topic and part, and others that the split or the topics leave out."""
    chance = np.random.default_rng(1)
    kept = [
        (topics, split, told(f"AT&amp;T {words(len(topics), chance)}", words(topic, chance)))
        for split in ("TRAIN", "TEST")
        for topic, name in enumerate(TOPICS)
        for topics in [[name, "cocoa"] if topic == 0 else [name]] * each
    ]
    stories = [story(number, topics, text, split=split) for number, (topics, split, text) in enumerate(kept, start=1)]
    stories += [
        story(901, [], told("none", "no topic")),  # no topic at all
        story(902, ["rape-oil"], told("train", "alone")),  # a topic that no test story has
        story(903, ["earn"], told("unused", "unused"), split="NOT-USED"),
        story(904, ["earn"], told("bypass", "bypass"), used="BYPASS"),
        story(905, ["earn"], "unprocessed wording", split="TEST"),  # neither title nor body
    ]
    half = len(stories) // 2
    doctype = '<!DOCTYPE lewis SYSTEM "lewis.dtd">\n'
    parts = {"reut2-000.sgm": stories[:half], "reut2-001.sgm": stories[half:]}
    return {name: (doctype + "".join(part)).encode("latin-1") for name, part in parts.items()}


def agnews(each: int = 9) -> dict[str, bytes]:
    """Return train.csv and test.csv, quoted as the authors quote, with a backslash for a line's end."""
    chance, files = np.random.default_rng(2), {}
    for part in ("train", "test"):
        rows = [
            f'"{topic + 1}","Title, ""quoted""","{words(topic, chance)}\\on the next line"\n'
            for topic in range(4)
            for _ in range(each)
        ]
        files[f"{part}.csv"] = "".join(rows).encode()
    return files


def tmc(each: int = 9) -> dict[str, bytes]:
    """Return the four files of the competition, with Windows line ends in two."""
    chance, files = np.random.default_rng(3), {}
    for reports, matrix, end in (
        ("TrainingData.txt", "TrainCategoryMatrix.csv", "\r\n"),
        ("TestData.txt", "TestTruth.csv", "\n"),
    ):
        lines, rows = [], []
        for number in range(22 * each):
            topic = number % 22
            lines.append(f"{number + 1}~{words(topic, chance)}{end}")
            rows.append(",".join("1" if column in (topic, 0) else "-1" for column in range(22)) + end)
        files |= {reports: "".join(lines).encode(), matrix: "".join(rows).encode()}
    return files


MAKERS = {"20newsgroups": newsgroups, "reuters": reuters, "agnews": agnews, "tmc": tmc}
FOLDERS = {"20newsgroups": "", "reuters": "reuters21578", "agnews": "ag_news_csv", "tmc": "tmc2007"}
ARCHIVES = {
    "20newsgroups": "20news-bydate.tar.gz",
    "reuters": "reuters21578.tar.gz",
    "agnews": "ag_news_csv.tar.gz",
    "tmc": "tmc2007.tar.gz",
}


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "README.txt").write_text("nobody reads this")


def pack(path: Path, files: dict[str, bytes], *, top: str = "") -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in [*reversed(files.items()), ("README.txt", b"nobody reads this")]:
            member = tarfile.TarInfo(f"{top}{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
