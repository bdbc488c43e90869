"""Files of arrays in every form that labels and codes come in: each is read as the array that was written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import io as scipy_io
from scipy import sparse

from hashbench.metrics import evaluate, read_array
from hashbench.metrics.large.files import read_arrays

NUMBERS = np.arange(12) % 3
NAMES = np.array(["cat", "golden dog", "ox"], object)[NUMBERS]
HOT = np.eye(3, dtype=int)[NUMBERS]
IDS = NUMBERS * 10**17 + 10**18


def lines(array: np.ndarray, separator: str = ",", end: str = "\n", title: str = "") -> str:
    rows = [separator.join(map(str, np.atleast_1d(row))) for row in array]
    return end.join([title] * bool(title) + rows)


TEXTS: dict[str, tuple[str, str, np.ndarray]] = {
    "numbers": (".csv", lines(NUMBERS), NUMBERS),
    "of Windows, with a title": (".csv", "\ufeff" + lines(NUMBERS, end="\r\n", title="label") + "\r\n", NUMBERS),
    "floats": (".txt", lines(NUMBERS * 1.0), NUMBERS),
    "identifiers": (".tsv", lines(IDS), IDS),
    "one-hot": (".csv", lines(HOT), HOT),
    "semicolons": (".csv", lines(HOT, ";"), HOT),
    "tabs": (".tsv", lines(HOT, "\t"), HOT),
    "blanks in .csv": (".csv", lines(HOT, " "), HOT),
    "signs": (".txt", lines(2 * HOT - 1, "  "), 2 * HOT - 1),
    "pandas": (".csv", pd.DataFrame(HOT).to_csv(), HOT),
    "pandas without rows' numbers": (".csv", pd.DataFrame(HOT).to_csv(index=False), HOT),
    "pandas of named columns": (".csv", pd.DataFrame(HOT, columns=[*"abc"]).to_csv(), HOT),
    "pandas of one column": (".csv", pd.Series(NUMBERS, name="y").to_csv(), NUMBERS),
    "pandas of names": (".csv", pd.Series(NAMES, name="species").to_csv(), NAMES),
    "pandas of bool": (".csv", pd.DataFrame(HOT > 0).to_csv(), HOT > 0),
    "truth values": (".csv", lines(NUMBERS > 2), NUMBERS > 2),
    "truth values with a title": (".tsv", lines(NUMBERS > 2, title="label"), NUMBERS > 2),
    "pandas of truth values": (".csv", pd.Series(NUMBERS > 2, name="flag").to_csv(), NUMBERS > 2),
    "names": (".csv", lines(NAMES), NAMES),
    "names with a title": (".tsv", lines(NAMES, title="Class"), NAMES),
    "names with commas": (".csv", lines(np.array([f'"{name}, big"' for name in NAMES])), NAMES + ", big"),
    "a name that may be a title": (".csv", "label\nox\nlabel", np.array(["label", "ox", "label"])),
    "one word": (".txt", "cat", np.array(["cat"])),
    "savetxt with a header": (".txt", "# labels\n" + lines(NUMBERS), NUMBERS),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("name", TEXTS)
def test_text_is_the_array_that_was_written(tmp_path: Path, name: str, encoding: str) -> None:
    suffix, text, expected = TEXTS[name]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(text.lstrip("\ufeff" if encoding == "utf-16" else "").encode(encoding))
    found = read_array(path)
    assert found.shape == expected.shape
    assert found.tolist() == expected.tolist()


def test_a_column_by_its_name(tmp_path: Path) -> None:
    table = pd.DataFrame({"file": [f"{number}.jpg" for number in range(12)], "label": NUMBERS, "name": NAMES})
    table.to_csv(tmp_path / "a.csv", index=False)
    assert read_array(tmp_path / "a.csv", "label").tolist() == NUMBERS.tolist()
    assert read_array(tmp_path / "a.csv", "name").tolist() == NAMES.tolist()
    table[["label"]].to_csv(tmp_path / "numbers.csv")
    assert read_array(tmp_path / "numbers.csv", "label").tolist() == NUMBERS.tolist()
    table.assign(flag=NUMBERS > 2).to_csv(tmp_path / "flags.csv")
    assert read_array(tmp_path / "flags.csv", "flag").tolist() == (NUMBERS > 2).tolist()
    with pytest.raises(
        ValueError, match=r"3 columns, '0\.jpg' among them; keep one column, or name it as FILE:NAME \(file"
    ):
        read_array(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="no column 'lable'; its first line names file, label, name"):
        read_array(tmp_path / "a.csv", "lable")


@pytest.mark.parametrize(
    ("suffix", "text", "reason"),
    [
        (".csv", "1,0\n1", r"line 2: it has 1 columns, those before 2"),
        (".txt", "cat\n\ngolden dog", r"line 3: it has 2 columns, those before 1; names with blanks belong into a \.c"),
        (".csv", "1,,0\n1,0,0", "line 1: a cell is empty"),
        (".csv", "a,b\n1,0,0", "2 names in its first line, but 3 columns"),
        (".csv", "cat\n1\ndog\n2", "numbers and words in one column, 'cat'"),
        (".csv", "\n \n", "holds no rows"),
        (".csv", "\0", "no text"),
        (".csv", b"caf\xe9", "cannot be read"),
    ],
)
def test_text_that_is_no_array_is_refused_with_its_line(tmp_path: Path, suffix: str, text, reason: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=rf"a\{suffix}.*{reason}"):
        read_array(tmp_path / f"a{suffix}")


def test_two_arrays_in_one_npy_file_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.save(file, np.eye(4))
        np.save(file, np.eye(4))
    with pytest.raises(ValueError, match="it holds 256 bytes after its array"):
        read_array(tmp_path / "a.npy")


def test_matlab_files(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    held = {"codes": HOT * 1.0, "row": NUMBERS, "names": NAMES, "sparse": sparse.csc_array(HOT * 1.0), "s": {"a": 1}}
    scipy_io.savemat(path, held)
    assert read_array(path, "codes").tolist() == HOT.tolist()
    assert read_array(path, "row").tolist() == [NUMBERS.tolist()]
    assert read_array(path, "names").tolist() == NAMES.tolist()
    assert read_array(path, "sparse").toarray().tolist() == HOT.tolist()
    assert read_arrays(path, ["row", "other"])[1] == [*held]
    codes = np.eye(12, 8, dtype=bool)
    as_row = evaluate(codes, codes, read_array(path, "row"), NUMBERS)
    assert as_row["mAP@all"] == evaluate(codes, codes, NUMBERS, NUMBERS)["mAP@all"]
    with pytest.raises(ValueError, match="MATLAB structure"):
        evaluate(codes, codes, read_array(path, "s"), NUMBERS)
    path.write_bytes(b"MATLAB 7.3 MAT-file" + bytes(493) + b"\x89HDF\r\n")
    with pytest.raises(ValueError, match=r"a\.mat cannot be read: it is HDF5 .*'-v7'"):
        read_array(path)


def test_a_folder_holds_a_file_for_each_array(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", HOT * 0.5)
    (tmp_path / "labels.csv").write_text(lines(NAMES, title="label"))
    (tmp_path / "notes.md").write_text("no array")
    found, held = read_arrays(tmp_path, ["features", "labels", "part"])
    assert held == ["features", "labels"]
    assert found["labels"].tolist() == NAMES.tolist()
    torch.save(torch.zeros(3), tmp_path / "labels.pt")
    with pytest.raises(ValueError, match="holds 2 files called 'labels'; keep one"):
        read_arrays(tmp_path, ["labels"])
    with pytest.raises(ValueError, match="holds one array; put a file for each array into a folder"):
        read_arrays(tmp_path / "features.npy", ["features"])


def test_a_sparse_matrix_of_scipy(tmp_path: Path) -> None:
    sparse.save_npz(tmp_path / "a.npz", sparse.csr_array(HOT))
    assert read_array(tmp_path / "a.npz").toarray().tolist() == HOT.tolist()


def odd_places() -> dict[str, Callable[[Path], Path]]:
    def pipe(folder: Path) -> Path:
        os.mkfifo(folder / "a.npy")
        return folder / "a.npy"

    def header(shape: tuple[int, ...]) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            with (folder / "a.npy").open("wb") as file:
                about = {"descr": "<i8", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, about)
                file.write(bytes(1000))
            return folder / "a.npy"

        return write

    return {
        "a pipe": pipe,
        "a folder": lambda folder: folder,
        "a long name": lambda folder: folder / ("x" * 5000 + ".npy"),
        "no name": lambda folder: Path(""),
        "a NUL": lambda folder: folder / "a\0.npy",
        "terabytes": header((10**12, 16)),
        "negative": header((-5, 16)),
        "overflow": header((2**62, 2**62)),
        "no integer of C": header((2**70,)),
    }


@pytest.mark.parametrize("name", odd_places())
def test_odd_places_and_promises_are_one_sentence(tmp_path: Path, name: str, recwarn) -> None:
    path = odd_places()[name](tmp_path)
    with pytest.raises(ValueError, match=r"cannot be read|does not exist") as caught:
        read_array(path)
    assert len(str(caught.value)) < 800
    assert "\n" not in str(caught.value)
    assert not recwarn.list
