"""Text files of official releases, read from their folder or straight from their .tar.gz, which is never unpacked."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hashbench.datasets.files.releases import DAMAGE, SourceFile, data_root
from hashbench.errors import HashbenchError

MOST_BYTES = 2**31  # of a release, unpacked


@dataclass(frozen=True)
class TextRelease:
    """The text files of a data set: how their paths look, in which folders they may lie, and their archive."""

    title: str
    files: str  # a regular expression of their paths, "/" between names, from the folder or the archive's top
    folders: tuple[str, ...]  # below the data folder, tried in this order; "" is the data folder itself
    archive: str
    page: str  # where to get it
    sha256: str | None = None  # of the archive; None: not known for certain
    has_top: bool = False  # whether the archive's members lie in a folder that people may unpack under another name

    def read(self, data_dir: Path | None) -> tuple[dict[str, bytes], tuple[SourceFile, ...]]:
        """Return the contents by path, sorted, and what they were read from, with its sha256.

        Of a folder that is the hash over paths and contents. Raises HashbenchError for what is missing or damaged.
        """
        root = data_root(data_dir)
        for folder in self.folders:
            if found := self._read_folder(root / folder):
                total = hashlib.sha256()
                for path, content in found.items():
                    total.update(path.encode() + b"\0" + hashlib.sha256(content).digest())
                return found, (SourceFile(str(root / folder), f"sha256:{total.hexdigest()}"),)
        archive = root / self.archive
        if not os.path.isfile(archive):
            where = ", ".join(f"{folder}/" for folder in self.folders if folder)
            raise HashbenchError(
                f"{self.title} is not in {root}: get {self.archive} from {self.page} and put it there, packed or "
                f"unpacked{where and f' in {where}'}, or say with --data-dir where it is."
            )
        return self._read_archive(archive)

    def _read_folder(self, folder: Path) -> dict[str, bytes]:
        if not os.path.isdir(folder):
            return {}
        pattern = "/".join(["*"] * (self.files.count("/") + 1))
        found = {}
        for path in folder.glob(pattern):
            name = path.relative_to(folder).as_posix()
            if re.fullmatch(self.files, name) and path.is_file():
                try:
                    found[name] = path.read_bytes()
                except OSError as error:
                    raise HashbenchError(f"{path} cannot be read ({error.strerror}).") from error
        return dict(sorted(found.items()))

    def _read_archive(self, archive: Path) -> tuple[dict[str, bytes], tuple[SourceFile, ...]]:
        found, left = {}, MOST_BYTES
        try:
            with archive.open("rb") as packed:
                digest = hashlib.file_digest(packed, "sha256").hexdigest()
            with tarfile.open(archive, "r|gz") as tar:
                for member in tar:
                    parts = PurePosixPath(member.name).parts
                    name = "/".join(parts[self.has_top and len(parts) > 1 :])
                    left -= member.size
                    if left < 0:
                        raise HashbenchError(f"{archive} unpacks to more than {MOST_BYTES:,} bytes; fetch it again.")
                    stream = tar.extractfile(member) if member.isfile() and re.fullmatch(self.files, name) else None
                    if stream is not None:
                        found[name] = stream.read()
        except DAMAGE as error:
            raise HashbenchError(f"{archive} is damaged or cannot be read ({error}); fetch it again.") from error
        if not found:
            raise HashbenchError(f"{archive} holds none of the files of {self.title}; fetch it from {self.page}.")
        expected = self.sha256 and f"sha256:{self.sha256}"
        return dict(sorted(found.items())), (SourceFile(str(archive), f"sha256:{digest}", expected),)
