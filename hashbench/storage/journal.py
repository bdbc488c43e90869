"""A file of entries that grows line by line, whose whole lines survive a kill, and which says what it belongs to."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from hashbench.storage.files import reported
from hashbench.storage.strict_json import canonical, dumps, loads


class Journal:
    """Entries of plain data in a file, each with a sha256 over itself and all before it, the first over its subject.

    `entries` are those that were there for the same subject. From the first line on that is torn, altered, or about
    another subject, the file is cut, so that nothing foreign or damaged is ever read. Raises HashbenchError where it
    cannot be written.
    """

    def __init__(self, path: Path, subject: dict[str, Any]):
        """Continue the entries in `path` about `subject`, plain data, or begin anew."""
        self.entries: list[Any] = []
        self._path, self._digest = path, sha256(canonical(subject).encode())
        with reported(path):
            self._file: BinaryIO = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115  (closed in __exit__)
            whole = 0
            for line in self._file:
                text = line[65:-1]
                if line != self._line(text):
                    break
                self.entries.append(loads(text))
                self._digest.update(text)
                whole += len(line)
            self._file.seek(whole)
            self._file.truncate()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with reported(self._path):
            self._file.close()

    def append(self, entry: Any) -> None:
        """Write an entry so that it lasts through a power cut."""
        text = dumps(entry).encode()
        with reported(self._path):
            self._file.write(self._line(text))
            self._file.flush()
            os.fsync(self._file.fileno())
        self._digest.update(text)

    def _line(self, text: bytes) -> bytes:
        """Return the line of the next entry: the sha256 of all up to it, a blank, the entry."""
        digest = self._digest.copy()
        digest.update(text)
        return digest.hexdigest().encode() + b" " + text + b"\n"
