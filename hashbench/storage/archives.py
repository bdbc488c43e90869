"""Several files as one: a zip file without compression, whose first member lists the others with their sha256.

Nothing in such a file is trusted before it is checked: members are read by name into memory, so that no name leads out
of a folder, and none is larger than the file that holds it.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from hashbench.errors import HashbenchError
from hashbench.storage.files import replacing
from hashbench.storage.strict_json import document, loads

CONTENTS = "contents.json"
UNDATED = (1980, 1, 1, 0, 0, 0)  # the same members give the same bytes
_MOST = 1 << 24  # bytes of the list of members


def write_archive(
    path: Path,
    kind: str,
    members: Mapping[str, bytes],
    about: Mapping[str, Any],
    *,
    allowed: Callable[[], None] = lambda: None,
) -> None:
    """Put `members`, bytes by name, at `path` in one step; `kind` and `about`, plain data, say what it is.

    `allowed` is called at the last moment, and raises where `path` must not be touched any more. Raises HashbenchError
    where it cannot be written.
    """
    listed = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in members.items()
    }
    contents = document({"kind": kind, **about, "members": listed}).encode()
    with replacing(path, allowed=allowed) as file, zipfile.ZipFile(file, "w") as archive:
        for name, content in {CONTENTS: contents, **members}.items():
            archive.writestr(zipfile.ZipInfo(name, UNDATED), content)


class Archive:
    """A file of `write_archive`, to be read; each member is compared with its sha256 as it is read."""

    def __init__(self, path: Path, *kinds: str):
        """Open it; raises HashbenchError where it is missing, damaged, or of none of the `kinds`."""
        self.path = path
        if path.exists() and not path.is_file():  # a pipe would be waited for
            kind = "a folder" if path.is_dir() else "no regular file"
            raise HashbenchError(f"{path} is {kind}; name a file that holds a {' or '.join(kinds)}.")
        try:
            self._archive = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise HashbenchError(f"There is no {path}; is the name right?") from None
        except (OSError, zipfile.BadZipFile) as error:
            raise self.unusable(f"it is cut short, or no {' or '.join(kinds)}", error) from error
        try:
            self.about = self._contents(kinds)
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._archive.close()

    def __contains__(self, name: str) -> bool:
        return name in self.about["members"]

    def read(self, name: str) -> bytes:
        """Return a member; raises HashbenchError where it is missing, damaged, or another than the list says."""
        stated = self.about["members"].get(name)
        if stated is None:
            raise self.unusable(f"it lacks '{name}'")
        content = self._read(name, stated["bytes"])
        if hashlib.sha256(content).hexdigest() != stated["sha256"]:
            raise self.unusable(f"its '{name}' is damaged")
        return content

    def unusable(self, reason: str, error: Exception | None = None) -> HashbenchError:
        """Return the error about this file, for a `reason` that is the end of a sentence."""
        detail = f" ({error})" if error is not None else ""
        return HashbenchError(f"{self.path} cannot be used: {reason}{detail}; copy it anew, or make it again.")

    def _contents(self, kinds: tuple[str, ...]) -> dict[str, Any]:
        infos = self._archive.infolist()
        names = [info.filename for info in infos]
        foreign = HashbenchError(f"{self.path} is no {' or '.join(kinds)} of hashbench; name another file.")
        if CONTENTS not in names:
            raise foreign
        if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
            raise self.unusable("its members are compressed or encrypted, which hashbench never does")
        try:
            about = loads(self._read(CONTENTS, min(self._archive.getinfo(CONTENTS).file_size, _MOST)))
            members = about["members"]
            listed = {name: int(stated["bytes"]) for name, stated in members.items() if len(stated["sha256"]) == 64}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.unusable("its list of members is damaged", error) from error
        if about.get("kind") not in kinds:
            raise foreign
        if sorted(names) != sorted([CONTENTS, *members]):
            raise self.unusable("it holds other members than it lists")
        if any(self._archive.getinfo(name).file_size != size for name, size in listed.items()) or len(listed) < len(
            members
        ):
            raise self.unusable("its members have other sizes than it lists")
        return dict(about)

    def _read(self, name: str, size: int) -> bytes:
        try:
            with self._archive.open(name) as member:
                content = member.read(size)
        except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, KeyError) as error:
            raise self.unusable(f"its '{name}' is damaged", error) from error
        if len(content) != size:
            raise self.unusable(f"its '{name}' is cut short")
        return content
