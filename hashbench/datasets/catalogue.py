"""Data sets by name: which there are, which protocol a name means, and `load`, which turns a name into a `Dataset`.

Finding a protocol imports neither numpy nor torch; what needs numpy is imported where data are read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hashbench.datasets.base import Dataset, DataSource
from hashbench.datasets.protocol import Protocol, name_and_draw
from hashbench.errors import HashbenchError, unknown
from hashbench.registry import DATASETS

if TYPE_CHECKING:
    from hashbench.datasets.families.user_data import Reading
    from hashbench.datasets.files.releases import FromFiles

ACCEPT_UNOFFICIAL = "HASHBENCH_ACCEPT_UNOFFICIAL"
EVALUATE_ON = ("test", "validation")
OWN_KINDS = ("folder:", "lists:", "arrays:")  # what the names of own data start with, before a path
OTHER_KINDS = {"pairs:": "pairs"}  # own data that hold other things than inputs with labels, and their track
OWN_PROTOCOLS = ("given", "auto", "unseen")
OWN_NEEDS = {  # what own data need for a protocol
    "given": "'given' needs data with a split of their own.",
    "unseen": "'unseen' needs images with one label, of five classes or more.",
}


def track_of(name: str) -> str | None:
    """Return the track of a data set that holds other things than inputs with labels ("pairs"), None of all others."""
    for start, track in OTHER_KINDS.items():
        if name.startswith(start):
            return track
    registered = name.partition("@")[0]
    return getattr(DATASETS.get(registered), "track", None) if registered in DATASETS else None


def data_source(name: str) -> DataSource:
    """Return the data set registered as `name`; raises HashbenchError for unknown names."""
    source = DATASETS.get(name)
    if track := track_of(name):
        raise _of_track(name, track)
    if not isinstance(source, DataSource):
        raise HashbenchError(
            f"The data set '{name}' cannot be used: {source!r} lacks the decorator @hashbench.dataset."
        )
    return source


def find_protocol(name: str, *, data_dir: str | Path | None = None) -> Protocol:
    """Return the protocol that `dataset`, `dataset@protocol` or an alias names, without reading any data.

    A bare data set means its first protocol, and `dataset@protocol-draw2` another split by the same rule. Of own data
    (`folder:PATH`, `lists:PATH`, `arrays:PATH`) all but the pixels is read. Raises HashbenchError with the nearest
    known name.
    """
    return find(name, data_dir)[1]


def find(
    name: str, data_dir: str | Path | None = None, *, reading: Reading | None = None
) -> tuple[DataSource, Protocol]:
    """Return the data set and the protocol that a name means, as `find_protocol` does; own data read as `reading`."""
    if name.startswith(tuple(OTHER_KINDS)):
        raise _of_track(name, track_of(name))
    if name.startswith(OWN_KINDS):
        from hashbench.datasets.families.user_data import own_source  # needs numpy

        set_name, wanted = own_name(name)
        source = own_source(set_name, data_dir, reading=reading)
    else:
        set_name, _, wanted = name.partition("@")
        if set_name not in DATASETS:
            aliases = _aliases()
            if name in aliases:
                return data_source(aliases[name].dataset), aliases[name]
            hint = "`hashbench list datasets` shows all."
            if os.path.exists(name):
                hint = f"Own data are {', '.join(f'{kind}{name}' for kind in OWN_KINDS)}, by what lies there."
            kinds = [kind for kind in OWN_KINDS if name.lower().split(":")[0].strip().rstrip("s") == kind.rstrip("s:")]
            if kinds and ":" in name:
                raise HashbenchError(f"'{name}' is no data set; own data are {kinds[0]}{name.partition(':')[2]}.")
            raise unknown("data set", set_name or name, [*DATASETS, *aliases], hint=hint)
        source = data_source(set_name)
    found = {protocol.name: protocol for protocol in source.protocols}
    if name == set_name:
        return source, next(iter(found.values()))
    if wanted in found:
        return source, found[wanted]
    first, draw = name_and_draw(wanted)
    if first in found:
        return source, found[first].drawn(draw)
    known = [protocol.full_name for protocol in found.values()]
    hint = OWN_NEEDS[first] if source.spelling else "`hashbench list datasets` shows all."
    raise unknown("protocol", f"{set_name}@{wanted}", known, hint=hint)


def own_name(name: str) -> tuple[str, str]:
    """Return the two sides of `folder:PATH@protocol`; an "@" in a path is no protocol's."""
    path, _, protocol = name.rpartition("@")
    if name.startswith(tuple(OTHER_KINDS)):  # whose files all have an ending, as no protocol has
        return (path, protocol) if path and "." not in protocol else (name, "")
    return (path, protocol) if name_and_draw(protocol)[0] in OWN_PROTOCOLS and path else (name, "")


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    evaluate_on: str = "test",
    accept_unofficial: bool = False,
    size: int | None = None,
    integrity: str | None = None,
) -> Dataset:
    """Return the data set that `name` means, split by its protocol's rule, with the audit of the split.

    A set of image files is opened as it was prepared at `size` pixels (None: the size of the images whose `integrity`
    is given, else the one its protocols state, else the only one there is); a set of arrays is read, or opened where it
    was prepared. On `validation`, a fifth of the training images become the queries, the others are both training
    images and database; the protocol's own query and database images are not used. Raises HashbenchError for unknown
    names, for missing, damaged or unprepared files, for files that are not the official ones (unless accepted, here or
    by HASHBENCH_ACCEPT_UNOFFICIAL=1), and for a split that contradicts its protocol.
    """
    # Imported here because they need numpy, which listing protocols must not wait for.
    from hashbench.datasets.audit import audited_split
    from hashbench.datasets.prepared.opening import PreparedStore, open_or_read

    if evaluate_on not in EVALUATE_ON:
        raise unknown("part to evaluate on", evaluate_on, EVALUATE_ON)
    source, protocol = find(name, data_dir)
    store = open_or_read(source, data_dir, size=size, integrity=integrity)
    require_official(store, accept_unofficial=accept_unofficial)
    kept = store.kept_split(protocol, evaluate_on) if isinstance(store, PreparedStore) else None
    parts, found = kept or audited_split(store, protocol, evaluate_on)
    return Dataset(store, protocol, parts, evaluate_on, found)


def require_official(data: FromFiles, *, accept_unofficial: bool) -> None:
    """Raise HashbenchError where a file of `data` is not the official one and that is not accepted."""
    if accept_unofficial or os.environ.get(ACCEPT_UNOFFICIAL, "") not in ("", "0"):
        return
    for file in data.sources:
        if file.official is False:
            raise HashbenchError(
                f"{file.path} is not the official file of {data.name}: its checksum is {file.digest} instead of "
                f"{file.expected}; fetch the official one, or accept it with --accept-unofficial "
                f"({ACCEPT_UNOFFICIAL}=1), which the results will state."
            )


def _of_track(name: str, track: str | None) -> HashbenchError:
    return HashbenchError(
        f"{name} holds {track} of users and items, not inputs with labels; `hashbench run` takes it, with methods of "
        f"the family recommendation."
    )


def _aliases() -> dict[str, Protocol]:
    found: dict[str, Protocol] = {}
    for name in DATASETS:
        try:
            protocols = data_source(name).protocols
        except HashbenchError:
            continue  # a broken plug-in must not hide the names of the others
        for protocol in protocols:
            for alias in protocol.aliases:
                found.setdefault(alias, protocol)
    return found
