"""Databases in files, in shards, by several processes: always the counts of the whole, never the whole in memory."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from metrics_cases import Codes, make_codes

from hashbench.cli import main
from hashbench.metrics import evaluate, oracle, pack, read_array
from hashbench.metrics.arrays import read_codes, read_labels
from hashbench.metrics.large.rows import FileRows, from_file
from hashbench.metrics.large.shard_counts import ShardCounts
from hashbench.metrics.large.shard_counts import merged as merged_histograms
from hashbench.metrics.large.shards import Shard

NAMES = ("q", "d", "ql", "dl")
PAGE = Path(__file__).parents[3] / "docs" / "large-databases.md"


@pytest.fixture
def codes(multi_label: bool) -> Codes:
    return make_codes(queries=9, items=203, bits=16, classes=6, multi_label=multi_label)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codes: Codes) -> list[str]:
    """The names of the files of queries and database, in the working folder."""
    monkeypatch.chdir(tmp_path)
    arrays = pack(codes.query), pack(codes.database), codes.query_labels, codes.database_labels
    for name, array in zip(NAMES, arrays, strict=True):
        np.save(f"{name}.npy", array)
    return [f"{name}.npy" for name in NAMES]


def hashbench(*arguments: str) -> str:
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def refusal(*arguments: str) -> str:
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 2
    assert ran.output.count("\n") == 1, ran.output
    return ran.output


def count_shards(files: list[str], of: int, *more: str) -> list[str]:
    parts = [f"part-{number}.npz" for number in range(1, of + 1)]
    for number, part in enumerate(parts, start=1):
        hashbench("evaluate", *files, "--shard", f"{number}/{of}", "--output", part, *more)
    return parts


def test_shards_counted_apart_give_the_values_of_the_whole(files: list[str], codes: Codes) -> None:
    measures = ["--measure", "mAP@all", "--measure", "mAP@30/hits", "--measure", "nDCG@20", "--measure", "PR"]
    parts = count_shards(files, 5, "--encoding", "packed", *measures)
    whole = hashbench("evaluate", *files, "--encoding", "packed", *measures, "--per-query", "new/whole.npz")
    assert hashbench("merge", *parts[::-1], *measures, "--per-query", "also-new/merged.npz") == whole
    with np.load("also-new/merged.npz") as merged, np.load("new/whole.npz") as expected:
        assert set(expected) == {"mAP@all", "mAP@30/hits", "nDCG@20"}
        for name in expected:
            assert np.array_equal(merged[name], expected[name])
    distances, shared = oracle.pairwise(codes.query, codes.database, codes.query_labels, codes.database_labels)
    hist = merged_histograms({part: ShardCounts.read(Path(part)) for part in parts})
    for q in range(9):
        assert hist.n[q].tolist() == np.bincount(distances[q], minlength=17).tolist()
        assert hist.r[q].tolist() == np.bincount(distances[q][shared[q] > 0], minlength=17).tolist()


def test_processes_count_what_one_counts(files: list[str], multi_label: bool, monkeypatch) -> None:
    arrays = [np.load(name) if multi_label else read_array(name) for name in files]  # in memory, and in files
    monkeypatch.setattr("hashbench.metrics.large.shards.SMALLEST", 20)
    seen: list[int] = []
    measures = ["mAP@all", "nDCG@10", "mAP@30/fire"]
    settings = {"encoding": "packed", "measures": measures, "per_query": True}
    shared = evaluate(*arrays, workers=2, progress=seen.append, **settings)
    alone = evaluate(*arrays, **settings)
    for name in measures:
        assert np.array_equal(shared.per_query[name], alone.per_query[name])
    assert sum(seen) == 203
    assert len(seen) == 10


def test_a_shard_of_its_own_files(files: list[str]) -> None:
    whole = hashbench("evaluate", *files, "--encoding", "packed")
    for name, rows in (("1", slice(0, 20)), ("2", slice(20, None))):
        for array in ("d", "dl"):
            np.save(f"{array}{name}.npy", np.load(f"{array}.npy")[rows])
        hashbench("evaluate", "q.npy", f"d{name}.npy", "ql.npy", f"dl{name}.npy", "--shard", f"{name}/2",
                  "--own-files", "--output", f"{name}.npz", "--encoding", "packed")  # fmt: skip
    assert hashbench("merge", "1.npz", "2.npz") == whole
    hashbench("evaluate", "q.npy", "d1.npy", "ql.npy", "dl1.npy", "--shard", "2/2", "--own-files", "--output", "2.npz",
              "--encoding", "packed")  # fmt: skip
    assert "1.npz and 2.npz count exactly the same" in refusal("merge", "1.npz", "2.npz")


@pytest.mark.parametrize("multi_label", [False], indirect=True)
class TestPartsThatDoNotBelongTogether:
    """Each is refused in one sentence that names the files."""

    def test_missing_and_double(self, files: list[str]) -> None:
        parts = count_shards(files, 3)
        assert "missing: 2/3" in refusal("merge", parts[0], parts[2])
        hashbench("evaluate", *files, "--shard", f"7/{10**17}", "--own-files", "--output", "far.npz")
        assert "parts of 99999999999999999 shards are missing: 1/" in refusal("merge", "far.npz")
        Path("again.npz").write_bytes(Path(parts[1]).read_bytes())
        assert "part-2.npz and again.npz are both shard 2/3" in refusal("merge", *parts, "again.npz")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ("queries", "queries differ"),
            ("labels", "queries differ"),
            ("length", "16 bits, the other of 13"),
            ("items", "203 items, the other of 202"),
            ("number", "one is shard 1/2, the other 2/3"),
            ("gains", "nDCG"),
            ("encoding", "taken as 'packed', of the other as 'bits'"),
        ],
    )
    def test_foreign(self, files: list[str], codes: Codes, change: str, reason: str) -> None:
        if change == "length":
            for name in ("q", "d"):
                np.save(f"{name}.npy", np.load(f"{name}.npy") & np.array([255, 0b1111_1000], np.uint8))
        hashbench("evaluate", *files, "--shard", "1/2", "--output", "a.npz", "--encoding", "packed")
        more = ["--encoding", "packed"]
        if change == "queries":
            np.save("q.npy", np.load("q.npy")[::-1])
        if change == "length":
            more += ["--bits", "13"]
        if change == "labels":
            np.save("ql.npy", np.load("ql.npy") + 1)
        if change == "items":
            for name in ("d", "dl"):
                np.save(f"{name}.npy", np.load(f"{name}.npy")[1:])
        if change == "gains":
            more += ["--measure", "nDCG@5"]
        if change == "encoding":
            np.save("d.npy", codes.database)
            more = ["--bits", "16"]
        shard = "2/3" if change == "number" else "2/2"
        hashbench("evaluate", *files, "--shard", shard, "--output", "b.npz", *more)
        assert reason in refusal("merge", "a.npz", "b.npz")

    def test_what_is_no_part(self, files: list[str]) -> None:
        (part,) = count_shards(files, 1)
        assert "is not a part" in refusal("merge", "q.npy")
        np.savez("other.npz", n=np.ones(1))
        assert "did not write it" in refusal("merge", "other.npz")
        assert "does not exist" in refusal("merge", "nowhere.npz")
        Path("cut.npz").write_bytes(Path(part).read_bytes()[:200])
        assert "cannot be read" in refusal("merge", "cut.npz")
        with np.load(part) as file:
            arrays = dict(file)
        for about, reason in (({"format": 99}, "another version"), ({"format": 1}, "is damaged")):
            np.savez("strange.npz", **arrays | {"about": np.array(json.dumps(about))})
            assert reason in refusal("merge", "strange.npz")

    @pytest.mark.parametrize(
        "change",
        [
            lambda arrays, about: arrays.update(n=-np.abs(arrays["n"])),
            lambda arrays, about: arrays.update(n=arrays["n"] * 1.5),
            lambda arrays, about: arrays.update(n=arrays["n"] * 1.0),
            lambda arrays, about: arrays.update(r=arrays["n"] + 99),
            lambda arrays, about: arrays.update(n=arrays["n"][:0], r=arrays["r"][:0]),
            lambda arrays, about: arrays.update(n=arrays["n"] * 0, r=arrays["r"] * 0),
            lambda arrays, about: arrays.update(n=arrays["n"] << 55),
            lambda arrays, about: arrays.update(n=arrays["n"] + np.eye(9, 17, dtype=int)),  # queries met other items
            lambda arrays, about: arrays.update(n=arrays["n"][:, :5], r=arrays["r"][:, :5]),
            lambda arrays, about: arrays.update(gains=arrays["r"][:, None] + 1),
            lambda arrays, about: about.update(shard={"number": 3, "of": 2}),
            lambda arrays, about: about.update(shard={"number": "1", "of": None}),
            lambda arrays, about: about.update(rows=[0, 7]),
            lambda arrays, about: about.update(rows=None),
            lambda arrays, about: about.update(items="many"),
            lambda arrays, about: about.update(encoding=5),
            lambda arrays, about: about.update(more=5),
            lambda arrays, about: arrays.update(about=np.array("5")),
            lambda arrays, about: arrays.update(about=np.array("[" * 100_000)),
            lambda arrays, about: arrays.pop("r"),
        ],
    )
    def test_damaged_counts(self, files: list[str], change) -> None:
        """As the first format stored them, without a sum of the counts."""
        (part,) = count_shards(files, 1)
        with np.load(part) as file:
            arrays = dict(file)
        about = json.loads(str(arrays.pop("about"))) | {"format": 1}
        assert about.pop("counts")
        np.savez(part, **arrays, about=np.array(json.dumps(about)))
        hashbench("merge", part)
        change(arrays, about)
        np.savez(part, **{"about": np.array(json.dumps(about))} | arrays)
        assert "part-1.npz is damaged; count that shard again" in refusal("merge", part)

    def test_sound_counts_that_are_others_than_were_written(self, files: list[str]) -> None:
        (part,) = count_shards(files, 1)
        with np.load(part) as file:
            arrays = dict(file)
        row = arrays["n"][0]
        place = row.argmax()
        row[place], row[place - 1] = row[place] - 1, row[place - 1] + 1
        np.savez(part, **arrays)
        assert "is damaged" in refusal("merge", part)

    def test_shards_of_two_databases_of_one_size(self, files: list[str]) -> None:
        more = ["--encoding", "packed"]
        for name, array in (("d", np.load("d.npy")[::-1]), ("dl", np.load("dl.npy")[::-1])):
            hashbench("evaluate", *files, "--shard", "1/2", "--output", "a.npz", *more)
            kept = np.load(f"{name}.npy")
            np.save(f"{name}.npy", array)
            hashbench("evaluate", *files, "--shard", "2/2", "--output", "b.npz", *more)
            assert "databases that differ in codes or labels" in refusal("merge", "a.npz", "b.npz")
            np.save(f"{name}.npy", kept)

    def test_queries_of_other_names(self, files: list[str]) -> None:
        for number, names in ((1, "abcdefghij"), (2, "zyxwvutsrq")):
            for labels in ("ql", "dl"):
                np.save("n" + labels, np.array([*names])[np.load(f"{labels}.npy") % 10])
            names_of = ["q.npy", "d.npy", "nql.npy", "ndl.npy"]
            hashbench("evaluate", *names_of, "--shard", f"{number}/2", "--output", f"{number}.npz")
        assert "queries differ" in refusal("merge", "1.npz", "2.npz")

    def test_what_shards_cannot_measure(self, files: list[str]) -> None:
        shard = ["evaluate", *files, "--shard", "1/1", "--output", "a.npz"]
        assert "order of the whole database" in refusal(*shard, "--measure", "mAP@10/fire")
        assert "leave out --mode" in refusal(*shard, "--mode", "fire")
        assert "must be given together" in refusal(*shard[:-2])
        assert "write 1/4" in refusal("evaluate", *files, "--shard", "5/4", "--output", "a.npz")
        assert "is empty" in refusal("evaluate", *files, "--shard", "1/1000", "--output", "a.npz")
        assert "at least 1" in refusal("evaluate", *files, "--workers", "0")
        assert "share the CPU" in refusal("evaluate", *files, "--workers", "2", "--device", "cuda")
        assert not Path("a.npz").exists()
        hashbench(*shard)
        assert "the same --measure nDCG@k" in refusal("merge", "a.npz", "--measure", "nDCG@5")
        assert "order of the whole database" in refusal("merge", "a.npz", "--measure", "mAP@10/fire")


def test_the_commands_of_the_page(files: list[str]) -> None:
    for short, name in zip(files, ("query_codes", "database_codes", "query_labels", "database_labels"), strict=True):
        Path(short).rename(f"{name}.npy")
    commands = re.findall(r"^    hashbench (.*)$", PAGE.read_text(), re.MULTILINE)
    assert len(commands) == 6
    printed = [hashbench(*shlex.split(command)) for command in commands]
    assert printed[0] == printed[1]
    assert printed[0].splitlines()[2].split() == printed[-1].splitlines()[2].split()  # mAP@all and its bounds


def test_shards_are_disjoint_and_cover_every_row() -> None:
    for items, of in ((203, 5), (7, 7), (3, 8), (10**10, 3)):
        bounds = [Shard(number, of).rows(items) for number in range(1, of + 1)]
        assert bounds[0][0] == 0
        assert bounds[-1][1] == items
        assert all(before[1] == after[0] for before, after in itertools.pairwise(bounds))


def test_rows_of_a_map_are_read_from_its_file(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.int32).reshape(20, 3)
    np.save(tmp_path / "a.npy", array)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    for rows, expected in ((mapped, array), (mapped[4:15], array[4:15]), (mapped[4:15][2:5], array[6:9])):
        taken = from_file(rows)
        assert isinstance(taken, FileRows)
        assert taken[1:3].tolist() == expected[1:3].tolist()
        assert len(taken[1:100]) == len(expected) - 1
    assert from_file(mapped[:, 1:]) is not None
    assert not isinstance(from_file(mapped[:, 1:]), FileRows)
    np.save(tmp_path / "columns.npy", np.asfortranarray(array))
    columns = from_file(np.load(tmp_path / "columns.npy", mmap_mode="r"))
    assert np.array_equal(columns, array)


def test_a_file_cut_short_under_us_is_one_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((50, 2), np.uint8))
    taken = from_file(np.load(tmp_path / "a.npy", mmap_mode="r"))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-10])
    with pytest.raises(ValueError, match="ends before row 50"):
        taken[40:50]


def test_a_file_cut_short_before_us_is_one_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((50, 2), np.uint8))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="ends before row 50"):
        from_file(mapped)


def changed_copy(path: str) -> np.ndarray:
    mapped = np.load(path, mmap_mode="c")
    mapped[:] = mapped[::-1].copy()
    return mapped


def replaced_since(path: str) -> np.ndarray:
    np.save("other.npy", np.load(path)[::-1])
    mapped = np.load(path, mmap_mode="r")
    Path("other.npy").replace(path)
    return mapped


@pytest.mark.parametrize("map_of", [changed_copy, replaced_since])
@pytest.mark.parametrize("side", [1, 3])
def test_the_array_is_measured_and_not_what_its_file_holds(files: list[str], codes: Codes, map_of, side: int) -> None:
    """A private copy that was changed, and a map whose path leads to another file by now; codes and labels."""
    arrays = [np.load(name) for name in files]
    arrays[side] = map_of(files[side])
    settings = {"encoding": "packed", "measures": ["mAP@all", "nDCG@10"]}
    expected = evaluate(*map(np.array, arrays), **settings)
    assert dict(evaluate(*arrays, **settings)) == dict(expected)
    assert dict(evaluate(*map(np.load, files), **settings)) != dict(expected)


def test_a_file_replaced_under_us_is_one_sentence(tmp_path: Path) -> None:
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.ones((50, 2), np.uint8))
    taken = from_file(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert isinstance(taken, FileRows)
    (tmp_path / "b.npy").replace(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"a\.npy was replaced by another file while being read"):
        taken[40:50]


def test_packed_labels_are_multi_hot_labels() -> None:
    labels = np.random.default_rng(0).random((30, 13)) < 0.2
    packed = read_labels(np.packbits(labels, axis=1), "Labels", kind="packed")
    assert np.array_equal(np.asarray(packed.values)[:, :13], labels)
    plain = make_codes(queries=5, items=30, bits=8, classes=13, multi_label=True)
    given = plain.query, plain.database, np.packbits(plain.query_labels, axis=1), np.packbits(labels, axis=1)
    expected = evaluate(plain.query, plain.database, plain.query_labels, labels)
    assert evaluate(*given, labels="packed")["mAP@all"] == expected["mAP@all"]
    for wrong in (labels.astype(np.int64), np.ones(3, np.uint8)):
        with pytest.raises(ValueError, match="packed labels are bytes"):
            read_labels(wrong, "Labels", kind="packed")


def test_no_more_is_looked_at_than_needed(tmp_path: Path, monkeypatch) -> None:
    """Packed codes and integer labels are recognised without a pass over them."""
    np.save(tmp_path / "codes.npy", np.arange(600_000, dtype=np.uint8).reshape(-1, 2))
    np.save(tmp_path / "labels.npy", np.ones(300_000, np.uint16))
    read: list[int] = []
    plain = FileRows.__getitem__
    monkeypatch.setattr(
        FileRows, "__getitem__", lambda self, rows: read.append(len(found := plain(self, rows))) or found
    )
    read_codes(read_array(tmp_path / "codes.npy"), "Codes")
    read_labels(read_array(tmp_path / "labels.npy"), "Labels")
    assert sum(read) < 70_000


LARGE = """
import re
from pathlib import Path
from hashbench.metrics import evaluate, read_array
arrays = [read_array(name + ".npy") for name in ("q", "d", "ql", "dl")]
evaluate(*arrays, labels={kind!r}, threads=1)
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux says what the peak was")
@pytest.mark.parametrize(
    ("codes_are", "labels_are"), [("packed", "integers"), ("bits", "packed"), ("packed", "multi-hot")]
)
def test_a_database_beyond_the_memory_cap(tmp_path: Path, codes_are: str, labels_are: str) -> None:
    """What the process holds beyond what it needs for one item is far less than the files or their labels unpacked."""
    items, cap_mb = 3_000_000, 20
    columns = {"packed": 8, "bits": 64}[codes_are]
    classes = {"integers": (), "multi-hot": (64,), "packed": (8,)}[labels_are]
    peaks = {}
    for count in (1, items):
        for name, rows in (("q", 2), ("d", count)):
            array = np.lib.format.open_memmap(tmp_path / f"{name}.npy", "w+", np.uint8, (rows, columns))
            array[:1] = np.arange(columns) if codes_are == "packed" else 1  # more than two values
            kind = np.int64 if labels_are == "integers" else np.uint8
            np.lib.format.open_memmap(tmp_path / f"{name}l.npy", "w+", kind, (rows, *classes))[:1] = 1
        ran = subprocess.run(
            [sys.executable, "-c", LARGE.format(kind=labels_are)],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        peaks[count] = int(ran.stdout) / 1024
    files_mb = sum((tmp_path / f"{name}.npy").stat().st_size for name in NAMES) / 2**20
    assert peaks[items] - peaks[1] < cap_mb < files_mb / 2, peaks
