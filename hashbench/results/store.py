"""The result store: a run is a directory, a finished run is one with a result.json, and nothing else keeps books."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashbench.errors import HashbenchError
from hashbench.results import files
from hashbench.results.plain import document, dumps, loads
from hashbench.results.result import Result

RESULT = "result.json"


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run; whoever writes them holds `lock()`."""

    path: Path

    @classmethod
    def at(cls, runs_dir: Path | str, *, dataset: str, method: str, bits: int, seed: int, id: str) -> RunDirectory:
        """Return where the run with this `id` (hex) and `dataset` ("name@protocol") belongs; makes nothing on disk."""
        name = f"s{seed}-{id[:8]}"
        return cls(Path(runs_dir) / _folder_name(dataset) / _folder_name(method) / f"{bits}b" / name)

    @property
    def spec(self) -> Path:
        """The resolved experiment: {"identity": {...}, "how": {...}}."""
        return self.path / "spec.json"

    @property
    def result(self) -> Path:
        """The result; that it exists means that the run is finished."""
        return self.path / RESULT

    @property
    def histograms(self) -> Path:
        """The distance histograms per query."""
        return self.path / "histograms.npz"

    @property
    def codes(self) -> Path:
        """The packed codes of query and database."""
        return self.path / "codes.npz"

    @property
    def model(self) -> Path:
        """The weights of the trained method."""
        return self.path / "model.pt"

    @property
    def centers(self) -> Path:
        """The hash centers of the classes, and how alike the classes are; only of methods that state centers."""
        return self.path / "centers.npz"

    @property
    def log(self) -> Path:
        """One line of JSON per epoch."""
        return self.path / "log.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The state to resume from; there only while the run is unfinished."""
        return self.path / "checkpoint.pt"

    @property
    def failure(self) -> Path:
        """The error that ended the last attempt; there only after a failure."""
        return self.path / "FAILED.json"

    @property
    def finished(self) -> bool:
        """Whether the run has its result."""
        return self.result.is_file()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Make the directory and be its only writer; raises HashbenchError naming the process that already is."""
        files.make_folder(self.path)
        lock = self.path / "lock"
        with files.reported(lock):
            handle = _locked(lock)
        try:
            files.remove_parts(self.path)
            yield
        finally:
            with contextlib.suppress(OSError):  # a folder that was moved away meanwhile took its lock along
                lock.unlink()
            os.close(handle)

    def write_spec(self, spec: dict[str, Any]) -> None:
        """Store the resolved experiment; raises TypeError where it is not plain data."""
        files.write_text(self.spec, document(spec))

    def read_spec(self) -> dict[str, Any]:
        """Return the resolved experiment; raises HashbenchError where it is missing or torn."""
        return _read_json(self.spec)

    def write_result(self, result: Result) -> None:
        """Store the result, by which the run is finished, and remove what only an unfinished run needs."""
        text = document(result.to_dict())
        Result.from_json(text, path=self.path)  # what could not be read back is not written
        files.write_text(self.result, text)
        with files.reported(self.path):
            self.failure.unlink(missing_ok=True)
            self.checkpoint.unlink(missing_ok=True)

    def read_result(self) -> Result:
        """Return the result; raises HashbenchError where the run is unfinished or its result corrupt."""
        return Result.from_json(_read(self.result), path=self.path)

    def write_arrays(self, name: str, **arrays: ArrayLike) -> None:
        """Store numeric `arrays` as `name`.npz, compressed; raises TypeError for anything that needs a pickle."""
        plain = {key: np.asarray(array) for key, array in arrays.items()}
        for key, array in plain.items():
            if array.dtype.hasobject:
                raise TypeError(f"The array '{key}' of {name}.npz holds Python objects; store numbers only.")
        with files.replacing(self.path / f"{name}.npz") as file:
            np.savez_compressed(file, **plain)  # type: ignore[arg-type]  # its stub takes allow_pickle first

    def read_arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of `name`.npz by name; raises HashbenchError where the file is missing or corrupt."""
        path = self.path / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        except FileNotFoundError:
            raise _missing(path) from None
        except Exception as error:  # a damaged zip file makes zipfile, zlib and numpy raise a dozen kinds
            raise _corrupt(path, error) from error

    def append_log(self, entry: dict[str, Any]) -> None:
        """Add one line to the log; raises TypeError where `entry` is not plain data."""
        line = dumps(entry).encode() + b"\n"
        with files.reported(self.log), open(self.log, "ab+") as file:
            _drop_torn_line(file)
            file.write(line)

    def read_log(self) -> list[dict[str, Any]]:
        """Return the log's entries, [] without a log; of an epoch that was done again after a kill, only the last."""
        if not self.log.exists():
            return []
        *lines, _torn = _read(self.log).split(b"\n")
        entries: dict[Any, dict[str, Any]] = {}
        for number, line in enumerate(lines):
            try:
                entry = loads(line)
            except ValueError as error:
                raise _corrupt(self.log, error) from error
            entries[("epoch", entry["epoch"]) if "epoch" in entry else number] = entry
        return list(entries.values())

    def write_failure(self, error: BaseException) -> None:
        """Store why the run ended without a result: the error, its traceback, and when."""
        failure = {
            "error": f"{type(error).__name__}: {error}",
            "traceback": "".join(traceback.format_exception(error)),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        files.write_text(self.failure, document(failure))


def find_runs(roots: Iterable[Path | str]) -> tuple[list[Result], list[str]]:
    """Return the finished runs below `roots`, in the order of their paths, and a sentence for each that is corrupt.

    A root may be a runs directory, any folder inside one, or one run; raises HashbenchError where it does not exist.
    """
    results, problems = [], []
    for folder in dict.fromkeys(folder for root in roots for folder in _run_folders(Path(root))):
        try:
            results.append(RunDirectory(folder).read_result())
        except HashbenchError as error:
            problems.append(str(error))
    return results, problems


def _run_folders(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        raise HashbenchError(f"There is no folder {root}; name a runs directory, or start a run with `hashbench run`.")
    for folder, subfolders, names in os.walk(root):
        subfolders.sort(key=_natural)
        if RESULT in names:
            subfolders.clear()  # runs do not nest
            yield Path(folder)


def _natural(name: str) -> list[tuple[str, int]]:
    """Return the key that sorts 8b before 16b."""
    return [(text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", name)]


def _folder_name(name: str) -> str:
    """Return a registered name as one folder name; a plug-in may call itself anything, the id keeps runs apart."""
    return re.sub(r"[^\w@+=.-]|^\.", "_", name)


def _locked(path: Path) -> int:
    """Return a handle on the lock file `path`, held until it is closed or the kernel ends the process."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before us removes the file as it leaves; then this is a lock on a file that nobody else sees.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    os.truncate(handle, 0)
                    os.write(handle, str(os.getpid()).encode())
                    return handle
        except BlockingIOError:
            owner = os.pread(handle, 32, 0).decode(errors="replace") or "unknown"
            os.close(handle)
            raise HashbenchError(
                f"{path.parent} is being written by process {owner}; wait for it to end, or end it and run again."
            ) from None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _drop_torn_line(file: BinaryIO) -> None:
    """Cut what a killed process left of its last line, so that the next line starts on its own."""
    if not file.seek(0, os.SEEK_END):
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise _corrupt(path, error) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = loads(_read(path))
    except ValueError as error:
        raise _corrupt(path, error) from error
    return data


def _missing(path: Path) -> HashbenchError:
    return HashbenchError(f"There is no {path}; the run is not finished, or the file was not copied along.")


def _corrupt(path: Path, error: Exception) -> HashbenchError:
    return HashbenchError(f"{path} cannot be read: {error}; delete its folder and run again to have it anew.")
