"""Data sets: protocols, readers, splits and the device loader; the names below are what a data set in code needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashbench.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Archive": "hashbench.datasets.store",
        "Dataset": "hashbench.datasets.base",
        "ImageFiles": "hashbench.datasets.imagefiles",
        "ImageRelease": "hashbench.datasets.archives",
        "OfficialFile": "hashbench.datasets.store",
        "Packed": "hashbench.datasets.archives",
        "Protocol": "hashbench.datasets.protocol",
        "Release": "hashbench.datasets.store",
        "SourceFile": "hashbench.datasets.store",
        "Split": "hashbench.datasets.base",
        "Store": "hashbench.datasets.base",
        "data_root": "hashbench.datasets.store",
        "dataset": "hashbench.datasets.base",
        "find_protocol": "hashbench.datasets.base",
        "load": "hashbench.datasets.base",
        "one_hot": "hashbench.datasets.base",
        "prepare": "hashbench.datasets.building",
        "read_lines": "hashbench.datasets.annotations",
        "read_pairs": "hashbench.datasets.annotations",
        "relative_path": "hashbench.datasets.annotations",
        "source": "hashbench.datasets.annotations",
    },
)

if TYPE_CHECKING:
    from hashbench.datasets.annotations import read_lines as read_lines
    from hashbench.datasets.annotations import read_pairs as read_pairs
    from hashbench.datasets.annotations import relative_path as relative_path
    from hashbench.datasets.annotations import source as source
    from hashbench.datasets.archives import ImageRelease as ImageRelease
    from hashbench.datasets.archives import Packed as Packed
    from hashbench.datasets.base import Dataset as Dataset
    from hashbench.datasets.base import Split as Split
    from hashbench.datasets.base import Store as Store
    from hashbench.datasets.base import dataset as dataset
    from hashbench.datasets.base import find_protocol as find_protocol
    from hashbench.datasets.base import load as load
    from hashbench.datasets.base import one_hot as one_hot
    from hashbench.datasets.building import prepare as prepare
    from hashbench.datasets.imagefiles import ImageFiles as ImageFiles
    from hashbench.datasets.protocol import Protocol as Protocol
    from hashbench.datasets.store import Archive as Archive
    from hashbench.datasets.store import OfficialFile as OfficialFile
    from hashbench.datasets.store import Release as Release
    from hashbench.datasets.store import SourceFile as SourceFile
    from hashbench.datasets.store import data_root as data_root
