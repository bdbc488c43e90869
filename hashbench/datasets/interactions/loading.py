"""Data sets of users and items by name: which protocol a name means, and `load`, which reads and splits the pairs."""

from __future__ import annotations

from pathlib import Path

from hashbench.datasets.catalogue import own_name, require_official
from hashbench.datasets.interactions.base import InteractionDataset, InteractionProtocol, InteractionSource
from hashbench.datasets.interactions.own import KIND, own_pairs
from hashbench.errors import unknown
from hashbench.registry import DATASETS


def find(name: str, data_dir: Path | None = None) -> tuple[InteractionSource, InteractionProtocol]:
    """Return the data set and the protocol that `dataset`, `dataset@protocol` or `pairs:FILE@protocol` means.

    Without a protocol it is the first. Raises HashbenchError with the nearest known name.
    """
    if name.startswith(KIND):
        set_name, wanted = own_name(name)
        found = own_pairs(set_name, data_dir)
    else:
        set_name, _, wanted = name.partition("@")
        found = DATASETS.get(set_name)
    assert isinstance(found, InteractionSource)
    known = {protocol.name: protocol for protocol in found.protocols}
    if not wanted:
        return found, found.protocols[0]
    if wanted not in known:
        names = [f"{set_name}@{protocol}" for protocol in known]
        hint = "leave-one-out needs a column time, given a column part." if name.startswith(KIND) else ""
        raise unknown("protocol", name, names, hint=hint or "`hashbench list datasets` shows all.")
    return found, known[wanted]


def load(
    name: str, *, data_dir: Path | None = None, evaluate_on: str = "test", accept_unofficial: bool = False
) -> InteractionDataset:
    """Return the data set that `name` means, split by its protocol's rule.

    Raises HashbenchError as `find` does, for missing or damaged files, for files that are not the official ones (unless
    accepted, here or by HASHBENCH_ACCEPT_UNOFFICIAL=1), and for data that the rule cannot split.
    """
    from hashbench.datasets.interactions.splits import split_of

    source, protocol = find(name, data_dir)
    store = source.read(data_dir)
    require_official(store, accept_unofficial=accept_unofficial)
    return split_of(store, protocol, evaluate_on)
