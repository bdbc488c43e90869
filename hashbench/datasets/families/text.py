"""Documents as bags of words: 20 Newsgroups, Reuters-21578, AG News and TMC, each with its official split."""

from __future__ import annotations

import csv
import html
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashbench.datasets.base import Store, dataset, one_hot
from hashbench.datasets.files.annotations import bad_line
from hashbench.datasets.files.bag_of_words import bag_of_words
from hashbench.datasets.files.documents import TextRelease
from hashbench.errors import HashbenchError

if TYPE_CHECKING:
    import numpy as np

    from hashbench.datasets.files.releases import SourceFile

NEWSGROUPS = TextRelease(
    title="20 Newsgroups (bydate)",
    files=r"20news-bydate-(?:train|test)/[\w.-]+/\d+",
    folders=("20news-bydate", "20newsgroups", ""),
    archive="20news-bydate.tar.gz",
    page="http://qwone.com/~jason/20Newsgroups/",
    sha256="8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610",  # as scikit-learn states it
)
REUTERS = TextRelease(
    title="Reuters-21578",
    files=r"reut2-\d{3}\.sgm",
    folders=("reuters21578", ""),
    archive="reuters21578.tar.gz",
    page="https://archive.ics.uci.edu/dataset/137/reuters+21578+text+categorization+collection",
)
AGNEWS = TextRelease(
    title="AG News",
    files=r"(?:train|test)\.csv",
    folders=("ag_news_csv", "agnews"),
    archive="ag_news_csv.tar.gz",
    page="the authors of character-level convolutional networks (Zhang, Zhao, LeCun, NeurIPS 2015)",
    has_top=True,
)
AGNEWS_CLASSES = ("World", "Sports", "Business", "Sci/Tech")
TMC = TextRelease(
    title="TMC (SIAM 2007 text mining competition)",
    files=r"TrainingData\.txt|TrainCategoryMatrix\.csv|TestData\.txt|TestTruth\.csv",
    folders=("tmc2007", "tmc"),
    archive="tmc2007.tar.gz",
    page="https://catalog.data.gov/dataset/siam-2007-text-mining-competition-dataset",
    has_top=True,
)
TMC_FILES = {"train": ("TrainingData.txt", "TrainCategoryMatrix.csv"), "test": ("TestData.txt", "TestTruth.csv")}
TMC_CLASSES = tuple(f"category {number}" for number in range(1, 23))
_QUOTED = re.compile(r"(writes in|writes:|wrote:|says:|said:|^In article|^Quoted from|^\||^>)")


@dataset("20newsgroups", protocols="20newsgroups.toml")
def newsgroups(data_dir: Path | None) -> Store:
    """Return the 18,846 messages of 20 Newsgroups, whole, as tf-idf vectors (18846, 10000), labels (18846, 20)."""
    return read_newsgroups(data_dir, name="20newsgroups", taken=lambda text: text)


@dataset("20newsgroups-body", protocols="20newsgroups-body.toml")
def newsgroups_body(data_dir: Path | None) -> Store:
    """Return 20 Newsgroups as `newsgroups` does, but without headers, quoted lines and signatures."""
    return read_newsgroups(data_dir, name="20newsgroups-body", taken=body)


@dataset("reuters", protocols="reuters.toml")
def reuters(data_dir: Path | None) -> Store:
    """Return the 10,789 ModApte stories of Reuters-21578 under its 90 topics, (10789, 10000), labels (10789, 90).

    ModApte takes the stories with TOPICS="YES" that LEWISSPLIT calls TRAIN or TEST. The topics are those of a training
    and a test story at least; stories without one of them are left out. The copy ApteMod, which circulates, has one
    training story fewer. The text is title and body, or all of TEXT where it has neither. Raises HashbenchError for
    files that are missing or damaged.
    """
    files, sources = REUTERS.read(data_dir)
    stories = [story for path, content in files.items() for story in _stories(path, content)]
    if not stories:
        raise HashbenchError(f"{sources[0].path} holds no story of the ModApte split; fetch {REUTERS.archive} again.")
    seen = Counter((part, topic) for _, _, part, topics in stories for topic in topics)
    parts = {part: {topic for at, topic in seen if at == part} for part in ("train", "test")}
    classes = tuple(sorted(parts["train"] & parts["test"]))
    kept = [story for story in stories if story[3].intersection(classes)]
    names, documents, part, topics = zip(*kept, strict=True) if kept else ((), (), (), ())
    labels = _multi_hot(topics, classes)
    return _store("reuters", documents, labels, classes, part, sources, names)


@dataset("agnews", protocols="agnews.toml")
def agnews(data_dir: Path | None) -> Store:
    """Return the 127,600 news of AG News, title and description, as tf-idf vectors (127600, 10000), labels (127600, 4).

    Raises HashbenchError for files that are missing and for lines that are not class, title and description.
    """
    import numpy as np

    files, sources = AGNEWS.read(data_dir)
    _require(files, ("train.csv", "test.csv"), AGNEWS, sources)
    documents, numbers, part = [], [], []
    for name, content in files.items():
        path = Path(sources[0].path) / name
        rows = csv.reader(io.StringIO(_text(path, content), newline=""), strict=True)
        for row in _valid(rows, path):
            documents.append(f"{row[1]} {row[2]}".replace("\\", " "))
            numbers.append(int(row[0]) - 1)
            part.append(name.removesuffix(".csv"))
    labels = one_hot(np.array(numbers, dtype=int), AGNEWS_CLASSES, name="agnews")
    return _store("agnews", documents, labels, AGNEWS_CLASSES, part, sources)


@dataset("tmc", protocols="tmc.toml")
def tmc(data_dir: Path | None) -> Store:
    """Return the 28,596 flight reports of TMC as tf-idf vectors (28596, 10000), labels (28596, 22).

    A line of TrainingData.txt and TestData.txt is a number, "~" and the report; the same line of
    TrainCategoryMatrix.csv and TestTruth.csv has 1 or -1 for each of 22 categories. Raises HashbenchError for files
    that are missing or damaged.
    """
    import numpy as np

    files, sources = TMC.read(data_dir)
    _require(files, [file for pair in TMC_FILES.values() for file in pair], TMC, sources)
    documents, names, part, labels = [], [], [], []
    for which, (reports, matrix) in TMC_FILES.items():
        path = Path(sources[0].path)
        lines = _text(path / reports, files[reports]).splitlines()
        rows = _text(path / matrix, files[matrix]).split()
        if len(lines) != len(rows):
            raise HashbenchError(
                f"{path / reports} has {len(lines):,} lines and {matrix} {len(rows):,}; fetch them again."
            )
        for number, (line, row) in enumerate(zip(lines, rows, strict=True), start=1):
            own, mark, text = line.partition("~")
            values = row.split(",")
            if not mark:
                raise bad_line(path / reports, number, "it has no '~' between number and text")
            if len(values) != len(TMC_CLASSES) or not {*values} <= {"1", "-1"}:
                raise bad_line(path / matrix, number, "it is not 22 values of 1 or -1")
            documents.append(text)
            names.append(f"{reports}/{own}")
            part.append(which)
            labels.append([value == "1" for value in values])
    return _store("tmc", documents, np.array(labels, dtype=np.uint8), TMC_CLASSES, part, sources, names)


def read_newsgroups(data_dir: Path | None, *, name: str, taken: Callable[[str], str]) -> Store:
    """Return the messages of 20 Newsgroups, of each what is `taken` of its text (latin-1), as data set `name`."""
    import numpy as np

    files, sources = NEWSGROUPS.read(data_dir)
    part = [path.partition("/")[0].removeprefix("20news-bydate-") for path in files]
    groups = [path.split("/")[1] for path in files]
    classes = tuple(sorted(set(groups)))
    labels = one_hot(np.array([classes.index(group) for group in groups]), classes, name=name)
    texts = [taken(content.decode("latin-1")) for content in files.values()]
    return _store(name, texts, labels, classes, part, sources, tuple(files))


def body(message: str) -> str:
    """Return a message without its header, quoted lines and signature, by the rules of scikit-learn's reader.

    The header ends at the first blank line. Lines that begin with ">" or "|", or introduce a quotation ("wrote:"), are
    quoted. The signature is what follows the last line of blanks or hyphens.
    """
    text = message.partition("\n\n")[2]
    lines = "\n".join(line for line in text.split("\n") if not _QUOTED.search(line)).strip().split("\n")
    end = max((at for at, line in enumerate(lines) if not line.strip().strip("-")), default=0)
    return "\n".join(lines[:end] if end else lines)


def _store(
    name: str,
    documents: Sequence[str],
    labels: np.ndarray,
    classes: tuple[str, ...],
    part: Sequence[str],
    sources: tuple[SourceFile, ...],
    names: Sequence[str] | None = None,
) -> Store:
    import numpy as np

    parts = np.array(part, dtype="<U5")
    for wanted in ("train", "test"):
        if wanted not in part:
            raise HashbenchError(f"{sources[0].path} holds no {wanted} document of {name}; is this copy complete?")
    inputs = bag_of_words(documents, name=name, fitted=parts == "train")
    return Store(name, inputs, labels, classes, part=parts, sources=sources, names=names and tuple(names))


_STORY = re.compile(r"<REUTERS(?P<head>[^>]*)>(?P<story>.*?)</REUTERS>", re.DOTALL)
_TOPIC = re.compile(r"<D>(.*?)</D>")


def _stories(path: str, content: bytes) -> list[tuple[str, str, str, set[str]]]:
    """Return name, text, part and topics of the stories that the ModApte split uses."""
    text, found = content.decode("latin-1"), []
    if text.count("<REUTERS") != text.count("</REUTERS>"):
        raise HashbenchError(f"{path} of Reuters-21578 is damaged: a story does not end; fetch it again.")
    for match in _STORY.finditer(text):
        head, story = dict(re.findall(r'(\w+)="([^"]*)"', match["head"])), match["story"]
        part = {"TRAIN": "train", "TEST": "test"}.get(head.get("LEWISSPLIT", ""))
        if head.get("TOPICS") == "YES" and part:
            topics = _TOPIC.findall(_between(story, "TOPICS"))
            said = " ".join(filter(None, (_between(story, "TITLE"), _between(story, "BODY"))))
            words = html.unescape(said or _between(story, "TEXT"))
            found.append((f"{path}/{head.get('NEWID', '')}", words, part, {*map(html.unescape, topics)}))
    return found


def _between(story: str, tag: str) -> str:
    match = re.search(rf"<{tag}\b[^>]*>(.*?)</{tag}>", story, re.DOTALL)
    return match[1] if match else ""


def _valid(rows: Any, path: Path) -> Iterator[list[str]]:
    """Yield the rows of a reader of AG News; raises HashbenchError with the line of one that cannot be used."""
    try:
        for row in rows:
            if len(row) != 3 or row[0] not in ("1", "2", "3", "4"):
                raise bad_line(path, rows.line_num, "it is not a class from 1 to 4, a title and a description")
            yield row
    except csv.Error as error:
        raise bad_line(path, rows.line_num, str(error)) from error


def _multi_hot(topics: Sequence[set[str]], classes: tuple[str, ...]) -> np.ndarray:
    import numpy as np

    labels = np.zeros((len(topics), len(classes)), dtype=np.uint8)
    for row, found in zip(labels, topics, strict=True):
        row[[classes.index(topic) for topic in found.intersection(classes)]] = 1
    return labels


def _require(
    files: dict[str, bytes], wanted: Sequence[str], release: TextRelease, sources: tuple[SourceFile, ...]
) -> None:
    missing = [name for name in wanted if name not in files]
    if missing:
        raise HashbenchError(f"{sources[0].path} holds {release.title} without {', '.join(missing)}; add what lacks.")


def _text(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HashbenchError(f"{path} is no text in UTF-8 ({error.reason}); fetch it again.") from error
