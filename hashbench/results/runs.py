"""The result store: a run is a directory, a finished run is one with a result.json, and there is no index."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import os
import re
import shutil
import traceback
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashbench.errors import HashbenchError
from hashbench.metrics.hamming import first_bits
from hashbench.metrics.histograms import Histograms
from hashbench.results.result import Result
from hashbench.storage import files
from hashbench.storage.locks import FolderLock, LockWatch, hold_lock, remove_leftover
from hashbench.storage.strict_json import digest, document, dumps, loads

RESULT = "result.json"
SPEC = "spec.json"
MAX_NAMES = 1 << 30  # bytes of the names of all images of a data set
UNDER = "under"  # in a run directory: the run measured again, a folder for each condition
TUNING = ".tuning"  # in a runs directory: studies; their trials are runs on validation queries, in no table
SCALARS = "tensorboard"  # the folder of what `--log-to tensorboard` wrote
_NO_FILE = (FileNotFoundError, NotADirectoryError)  # the second where a file is named instead of a run


class Replaced(HashbenchError):
    """A result was made with other codes or weights of a run than that has now."""


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run; they are written through the one that `lock()` yields."""

    path: Path
    own_lock: FolderLock | None = field(default=None, compare=False, repr=False)  # held by this process
    id: str | None = field(default=None, compare=False, repr=False)  # the only run that may lie here; None: any one

    @classmethod
    def at(cls, runs_dir: Path | str, *, dataset: str, method: str, bits: int, seed: int, id: str) -> RunDirectory:
        """Return where the run with this `id` (hex) and `dataset` ("name@protocol") belongs; makes nothing on disk."""
        name = f"s{seed}-{id[:8]}"
        return cls(Path(runs_dir) / folder_name(dataset) / folder_name(method) / f"{bits}b" / name, id=id)

    @property
    def spec(self) -> Path:
        """The resolved experiment: {"identity": {...}, "how": {...}}."""
        return self.path / SPEC

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
    def names(self) -> Path:
        """Which input each row of the codes is; not in runs from before it was kept."""
        return self.path / "names.json.gz"

    @property
    def model(self) -> Path:
        """The weights of the trained method."""
        return self.path / "model.pt"

    @property
    def centers(self) -> Path:
        """The hash centers of the classes, and how alike the classes are; only of methods that state centers."""
        return self.path / "centers.npz"

    @property
    def kept(self) -> tuple[Path, ...]:
        """The files whose sha256 the result states."""
        return self.histograms, self.codes, self.centers, self.model, self.names

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
    def again(self) -> RunDirectory:
        """Where a finished run is run again, until `replace_with` puts it in the place of the old one."""
        return RunDirectory(self.path / "again", self.own_lock, self.id)

    def beside(self, other: RunDirectory) -> str:
        """Return the way from the run directory `other`, or from its place while it is run again, to this one."""
        start = other.path.parent if other.path.name == "again" else other.path
        return Path(os.path.relpath(self.path, start)).as_posix()

    def training(self, result: Result) -> RunDirectory:
        """Return the run whose codes this one, with `result`, holds the first bits of.

        Raises HashbenchError where that is missing, or another one lies in its place.
        """
        of = result.provenance["prefix_of"]
        return self._other(of, f"holds the first {result.coords['bits']} bits of the codes of")

    def weights_of(self, result: Result) -> RunDirectory:
        """Return the run whose weights give the codes of this one, with `result`: itself, or its training.

        Raises HashbenchError as `training` does, and where these codes are not the first bits of the training's.
        """
        if "prefix_of" not in result.provenance:
            return self
        found, bits = self.training(result), result.coords["bits"]
        if files.is_file(self.codes) and files.is_file(found.codes):
            mine, theirs = self.read_codes(bits), found.read_codes()
            parts = mine.keys() & theirs.keys()
            if not all(np.array_equal(mine[part], first_bits(theirs[part], bits)) for part in parts):
                raise HashbenchError(
                    f"{self.path} does not hold the first {bits} bits of the codes that {found.path} has now; run it "
                    f"again with --rerun all, as that was trained again."
                )
        return found

    def start(self, result: Result) -> RunDirectory:
        """Return the run whose weights the training of this one, with `result`, began with.

        Raises HashbenchError where that is missing, or another one lies in its place.
        """
        return self._other(result.provenance["start"], "was started from")

    def surrogate(self, result: Result) -> RunDirectory:
        """Return the run on whose model the attack was made under which this one, with `result`, was measured.

        Raises HashbenchError where that is missing, or another one lies in its place.
        """
        return self._other(result.provenance["surrogate"], "was measured under an attack on")

    def _at(self, of: Mapping[str, Any]) -> RunDirectory:
        """Return the place at `path` from here."""
        return RunDirectory(Path(os.path.normpath(self.path / of["path"])))

    def _other(self, of: Mapping[str, Any], does: str) -> RunDirectory:
        """Return the run that lies at `path` from here, if it has the `id`; raises HashbenchError where it has not."""
        found = self._at(of)
        if not found.finished or found.read_result().id != of["id"]:
            raise HashbenchError(f"{self.path} {does} {found.path}, which is not there; copy it along, or run again.")
        return found

    def under(self, condition: str, id: str) -> RunDirectory:
        """Return where this run measured again under a `condition` (its name) belongs; `id` is of both, hex."""
        return RunDirectory(self.path / UNDER / f"{folder_name(condition)}-{id[:8]}", id=id)

    @property
    def run(self) -> RunDirectory:
        """The run of which this is a measuring under a condition; of any other directory, itself."""
        path = self.path.absolute()
        return RunDirectory(path.parent.parent) if path.parent.name == UNDER else self

    def refuse_condition(self) -> None:
        """Raise HashbenchError where this is a measuring under a condition, which has no model and names of its own."""
        if self.run is not self:
            raise HashbenchError(
                f"{self.path} is a run measured under a condition; name the run itself, {self.run.path}."
            )

    @property
    def finished(self) -> bool:
        """Whether the run has its result, be it one that cannot be read."""
        return files.exists(self.result)

    @contextlib.contextmanager
    def lock(self, watch: LockWatch | None = None) -> Iterator[RunDirectory]:
        """Make the directory and lock it for one writer; raises RunLocked naming the process that holds the lock.

        What it yields refuses to write (LockLost) once another process has taken the run over.
        """
        with hold_lock(self.path, watch) as own_lock:
            files.remove_temporary_files(self.path)
            mine = replace(self, own_lock=own_lock)
            if mine.again.finished:  # a process that was killed while it put the new run in the place of the old
                _refuse_other(mine.again.read_result(), mine.id or mine._stated_id(), mine.again.path)
                mine.replace_with(mine.again)
            yield mine

    def check(self) -> None:
        """Raise LockLost where this process held the lock and does no longer."""
        if self.own_lock is not None:
            self.own_lock.check()

    def replace_with(self, newer: RunDirectory) -> None:
        """Put the finished run `newer` in the place of this one; after a kill, the next owner completes it."""
        self.check()
        files.remove_temporary_files(newer.path)
        with files.reported(self.path):
            self.result.unlink(missing_ok=True)  # a reader finds the old run, none, or the new one; never a mixture
            shutil.rmtree(self.path / UNDER, ignore_errors=True)  # measured with the weights that are replaced
            shutil.rmtree(self.path / SCALARS, ignore_errors=True)  # of the training that is replaced
            for name in sorted(os.listdir(newer.path), key=lambda name: name == RESULT):
                os.replace(newer.path / name, self.path / name)
                (newer.path / name).unlink(missing_ok=True)  # still there where both were names of one file
            newer.path.rmdir()

    def remove_result(self) -> None:
        """Remove the result before the files that it states are replaced: a reader finds all of one, or no result."""
        self.check()
        with files.reported(self.result):
            self.result.unlink(missing_ok=True)

    def remove_kept(self) -> None:
        """Remove arrays and weights that lie here before a run is computed, whatever attempt or run they are from."""
        self.check()
        for path in self.kept:
            with files.reported(path):
                path.unlink(missing_ok=True)

    def write_spec(self, spec: dict[str, Any]) -> None:
        """Store the resolved experiment; raises TypeError where it is not plain data."""
        files.write_text(self.spec, document(spec), allowed=self.check)

    def read_spec(self) -> dict[str, Any]:
        """Return the resolved experiment; raises HashbenchError where it is missing or torn, or is none."""
        spec = {"how": {}, **_read_json(self.spec)}
        for key in ("identity", "how"):
            if not isinstance(spec.get(key), dict):
                raise _unreadable(self.spec, ValueError(f"the key '{key}' is missing or holds no object"))
        return spec

    def write_result(self, result: Result) -> None:
        """Store the result, by which the run is finished, and remove what only an unfinished run needs.

        It states the sha256 of the arrays and weights that lie here.
        """
        kept = {path.name: files.sha256(path) for path in self.kept if path.is_file()}
        if kept:
            result = replace(result, provenance={**result.provenance, "files": kept})
        text = document(result.to_dict())
        Result.from_json(text, path=self.path)  # what could not be read back is not written
        files.write_text(self.result, text, allowed=self.check)
        for path in (self.failure, self.checkpoint):
            with files.reported(path):
                path.unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Remove checkpoint, failure and lock of a finished run, left by a process that was killed after the result."""
        with contextlib.suppress(OSError, HashbenchError):  # in a read-only folder they do no harm
            self.failure.unlink(missing_ok=True)
            self.checkpoint.unlink(missing_ok=True)
            if not self.again.path.exists():
                remove_leftover(self.path)

    def read_result(self) -> Result:
        """Return the result.

        Raises HashbenchError where the run is unfinished, and where its result is corrupt or that of another run; and
        Replaced where it was measured under a condition with other codes or weights than are there now.
        """
        result = self._own_result()
        if result.condition:
            self._refuse_replaced(result)
        return result

    def _own_result(self) -> Result:
        """Return the result, whatever it was measured with."""
        result = Result.from_json(_read(self.result), path=self.path)
        _refuse_other(result, self.id or self._stated_id(), self.path)
        return result

    def _refuse_replaced(self, result: Result) -> None:
        """Raise Replaced where run or surrogate have others of the files that a result under a condition states."""
        stated = {"run": (self.run, result.provenance.get("measured_with", {}))}
        if surrogate := result.provenance.get("surrogate"):
            place = replace(self._at(surrogate), id=surrogate["id"])
            stated[f"surrogate {place.path}"] = (place, surrogate.get("measured_with", {}))
        for name, (run, then) in stated.items():
            if others := run.others_than(then):
                raise Replaced(
                    f"{self.path} was measured with another {others} than the {name} has now; measure it again with "
                    f"`hashbench evaluate-run`, or delete the folder."
                )

    def content(self) -> dict[str, str]:
        """Return the sha256 of the run's codes and weights by name: as its result states them, else of what lies here.

        Raises HashbenchError where the result cannot be read.
        """
        result = self._own_result()
        return {
            path.name: result.files.get(path.name) or files.sha256(path)
            for path in (self.codes, self.model)
            if path.name in result.files or files.is_file(path)
        }

    def others_than(self, then: Mapping[str, str]) -> str:
        """Return which of the files that had the sha256 `then` are others in this run now, "" where none is.

        What is not stated, or cannot be read, is not compared.
        """
        try:
            now = self.content() if then else {}
        except HashbenchError:
            return ""
        return " and ".join(name for name, sha256 in then.items() if now.get(name, sha256) != sha256)

    def _stated_id(self) -> str | None:
        """Return the id of the experiment in the spec, None where that cannot be read."""
        try:
            return digest(self.read_spec()["identity"])
        except (HashbenchError, KeyError, TypeError, ValueError):
            return None

    def stated_files(self) -> dict[str, str]:
        """Return the sha256 of the run's files by name as its result states them; {} where it does not."""
        try:
            return dict(loads(files.read_note(self.result))["provenance"]["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def require_stated(self, path: Path) -> None:
        """Raise HashbenchError where a file of this run is another than the result states."""
        self._require_stated(path, files.sha256(path))

    def _require_stated(self, path: Path, sha256: str) -> None:
        if self.stated_files().get(path.name, sha256) != sha256:
            raise HashbenchError(
                f"{path} is not the file that this run's result was stored with, but damaged or another run's; put its "
                f"own back, or delete its folder and run again."
            )

    def write_arrays(self, name: str, **arrays: ArrayLike) -> None:
        """Store numeric `arrays` as `name`.npz, compressed; raises TypeError for anything that needs a pickle."""
        plain = {key: np.asarray(array) for key, array in arrays.items()}
        for key, array in plain.items():
            if array.dtype.hasobject:
                raise TypeError(f"The array '{key}' of {name}.npz holds Python objects; store numbers only.")
        with files.replacing(self.path / f"{name}.npz", allowed=self.check) as file:
            np.savez_compressed(file, **plain)  # type: ignore[arg-type]  # its stub takes allow_pickle first

    def read_arrays(self, name: str, *, as_stated: bool = True) -> dict[str, NDArray[Any]]:
        """Return the arrays of `name`.npz by name.

        Raises HashbenchError where the file is missing or corrupt, and, unless `as_stated` is false, where it is
        another than the result states.
        """
        path = self.path / f"{name}.npz"
        try:
            with files.regular(path) as opened:
                content = opened.read()
            if as_stated:
                self._require_stated(path, hashlib.sha256(content).hexdigest())
            file = io.BytesIO(content)
            if not zipfile.is_zipfile(file):  # numpy would take it for a pickle, and say how to load that
                raise ValueError("it is torn or no .npz file")
            file.seek(0)
            with np.load(file, allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        except _NO_FILE:
            raise _missing(path) from None
        except HashbenchError:
            raise
        except Exception as error:  # a damaged zip file makes zipfile, zlib and numpy raise a dozen kinds
            raise _unreadable(path, error) from error

    def share_arrays(self, name: str, others: Iterable[RunDirectory], arrays: Mapping[str, ArrayLike]) -> None:
        """Store `arrays` as `write_arrays` does; where one of `others` has them, as a second name of its file."""
        for other in others:
            with contextlib.suppress(HashbenchError):  # one that lacks the file has nothing to share
                theirs = other.read_arrays(name)
                same = all(key in theirs and np.array_equal(theirs[key], array) for key, array in arrays.items())
                source = other.path / f"{name}.npz"
                if same and files.share(source, self.path / f"{name}.npz", allowed=self.check):
                    return
        self.write_arrays(name, **arrays)

    def read_codes(self, bits: int | None = None) -> dict[str, NDArray[Any]]:
        """Return the packed codes by part, (n, ceil(bits / 8)) uint8; under a condition, the database's lie in the run.

        Raises HashbenchError as `read_arrays` does, and for arrays of another kind, or of another width than `bits`.
        """
        own = self.read_arrays("codes")
        codes = own if self.run is self else self.run.read_arrays("codes") | own
        for part in {"query", "database"} & codes.keys():
            packed = codes[part]
            width = packed.shape[-1:] if bits is None else (-(-bits // 8),)
            if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1:] != width:
                what = f"the codes of the {part} are {packed.dtype} {packed.shape} instead of packed bits"
                raise _unreadable(self.codes, ValueError(what))
        return codes

    def read_histograms(self, bits: int | None) -> Histograms:
        """Return the distance histograms of codes of `bits` bits, or of a ranking by scores (None).

        Raises HashbenchError as `read_arrays` does, and for arrays that are no counts.
        """
        arrays = self.read_arrays("histograms")
        try:
            if any(array.dtype.kind not in "iu" or array.min(initial=0) < 0 for array in arrays.values()):
                raise ValueError("its arrays hold something else than counts")
            found = Histograms.from_arrays(arrays)
            if bits not in (None, found.bits) or (found.r > found.n).any():
                raise ValueError(f"its counts are not those of codes of {bits} bits")
        except (KeyError, ValueError) as error:
            raise _unreadable(self.histograms, error) from error
        return found

    def write_names(self, names: dict[str, Any]) -> None:
        """Store which input each row of the codes is, `Dataset.names`, as a second name of another run's file of them.

        It is the same in all runs of a split, and large where the data set is.
        """
        content = gzip.compress(dumps(names).encode(), compresslevel=6, mtime=0)
        for other in self._neighbours(self.names.name):
            with contextlib.suppress(OSError):  # removed meanwhile, or not ours to read
                same = other.stat().st_size == len(content) and other.read_bytes() == content
                if same and files.share(other, self.names, allowed=self.check):
                    return
        with files.replacing(self.names, allowed=self.check) as file:
            file.write(content)

    def read_names(self) -> dict[str, Any] | None:
        """Return what `write_names` stored of the run, None where it has no such file.

        Raises HashbenchError where the file is corrupt, or is not about the rows of the run's codes.
        """
        path = self.run.names
        if not files.exists(path):
            return None
        try:
            with gzip.open(io.BytesIO(_read(path))) as file:
                content = file.read(MAX_NAMES + 1)
            if len(content) > MAX_NAMES:
                raise OSError(f"it has more than {MAX_NAMES:,} bytes")
            names = _object(path, content)
        except (EOFError, OSError, zlib.error) as error:
            raise _unreadable(path, error) from error
        rows = {part: len(codes) for part, codes in self.read_codes().items()}
        named = {part: len(names[part]) for part in rows if isinstance(names.get(part), list)}
        if rows != named:
            self.refuse_condition()  # which may be of some of the queries
        if rows != named or names.get("split_sha256") != self.read_result().provenance.get("split_sha256"):
            raise HashbenchError(f"{path} names other rows than those of {self.codes}; copy both files anew.")
        return names

    def _neighbours(self, name: str) -> Iterator[Path]:
        """Yield the files called `name` of the runs on the same data set, where this one lies as `at` says."""
        path = self.path.absolute()
        path = path.parent if path.name == "again" else path
        if re.fullmatch(r"\d+b", path.parent.name):
            yield from path.parents[2].glob(f"*/*b/*/{name}")

    def append_log(self, entry: dict[str, Any]) -> None:
        """Add one line to the log; raises TypeError where `entry` is not plain data."""
        line = dumps(entry).encode() + b"\n"
        self.check()
        with files.reported(self.log), open(self.log, "ab+") as file:
            _drop_torn_line(file)
            file.write(line)

    def read_log(self) -> list[dict[str, Any]]:
        """Return the log's entries, [] without a log; of an epoch that was done again after a kill, only the last."""
        if not files.exists(self.log):
            return []
        *lines, _torn = _read(self.log).split(b"\n")
        entries: dict[Any, dict[str, Any]] = {}
        for number, line in enumerate(lines):
            entry = _object(self.log, line)
            if not isinstance(entry.get("epoch", 0), int):
                raise _unreadable(self.log, ValueError(f"an epoch is called {entry['epoch']!r:.60}"))
            entries[("epoch", entry["epoch"]) if "epoch" in entry else number] = entry
        return list(entries.values())

    def write_failure(self, error: BaseException) -> None:
        """Store why the run ended without a result: the error, its traceback, and when."""
        failure = {
            "error": str(error) if isinstance(error, HashbenchError) else f"{type(error).__name__}: {error}",
            "traceback": "".join(traceback.format_exception(error)),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        files.write_text(self.failure, document(failure), allowed=self.check)

    def read_failure(self) -> str:
        """Return the error that ended the last attempt, in one line; raises HashbenchError where none can be read."""
        return " ".join(str(_read_json(self.failure).get("error")).split())


def folder_name(name: str) -> str:
    """Return a registered name as one folder name; a plug-in may have any name, the id keeps runs apart."""
    return re.sub(r"[^\w@+=.-]|^\.", "_", name)


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
        return files.read_note(path)
    except _NO_FILE:
        if path.is_symlink():
            raise _unreadable(path, ValueError("it is a link to a place where nothing is")) from None
        raise _missing(path) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _read_json(path: Path) -> dict[str, Any]:
    return _object(path, _read(path))


def _object(path: Path, text: bytes) -> dict[str, Any]:
    """Return the JSON object that `text` of the file is; raises HashbenchError where it is none."""
    try:
        data = loads(text)
        if not isinstance(data, dict):
            raise ValueError(f"it holds {type(data).__name__} where an object is expected")
    except ValueError as error:
        raise _unreadable(path, error) from error
    return data


def _refuse_other(result: Result, id: str | None, folder: Path) -> None:
    """Raise HashbenchError where the `result` in a folder is not that of the run `id`, if that is known."""
    if id is not None and result.id != id:
        of = result.coords
        raise HashbenchError(
            f"{folder / RESULT} is of another run ({of['method']} on {of['dataset']}@{of['protocol']}, {of['bits']} "
            f"bits, seed {of['seed']}, id {result.id[:8]}) than the folder, whose id is {id[:8]}; put its own back, or "
            f"move the folder away and run again."
        )


def refuse_file_of_a_run(path: Path) -> None:
    """Raise HashbenchError where `path`, which a user wants written, is or leads to a file of a finished run."""
    for place in (path, Path(os.path.realpath(path))):
        run = place.parent
        if place.name in {RESULT, SPEC, *RunDirectory(run).stated_files()} and (run / RESULT).exists():
            raise HashbenchError(f"{path} is a file of the run in {run} and is not written over; name another.")


def _missing(path: Path) -> HashbenchError:
    return HashbenchError(
        f"There is no {path}; {path.parent} is no run directory, or not finished, or the file was not copied along."
    )


def _unreadable(path: Path, error: Exception) -> HashbenchError:
    """Return the error about a file that is damaged, or that the operating system does not let us read."""
    if isinstance(error, OSError) and error.errno not in (None, errno.EISDIR):  # what is in it may well be whole
        return HashbenchError(f"{path} cannot be read: {_reason(error)}; check who may read it, and the disk.")
    return HashbenchError(f"{path} cannot be read: {_reason(error)}; delete its folder and run again to have it anew.")


def _reason(error: Exception) -> str:
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    return "it is a folder" if error.errno == errno.EISDIR else os.strerror(error.errno)
