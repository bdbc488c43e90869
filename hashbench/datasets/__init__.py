"""Data sets: protocols, readers, splits and the device loader; the names below are what a data set in code needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashbench.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Archive": "hashbench.datasets.files.releases",
        "Dataset": "hashbench.datasets.base",
        "ImageFiles": "hashbench.datasets.files.imagefiles",
        "ImageRelease": "hashbench.datasets.files.archives",
        "OfficialFile": "hashbench.datasets.files.releases",
        "Packed": "hashbench.datasets.files.archives",
        "Protocol": "hashbench.datasets.protocol",
        "Release": "hashbench.datasets.files.releases",
        "SourceFile": "hashbench.datasets.files.releases",
        "Split": "hashbench.datasets.base",
        "Store": "hashbench.datasets.base",
        "bag_of_words": "hashbench.datasets.files.bag_of_words",
        "data_root": "hashbench.datasets.files.releases",
        "dataset": "hashbench.datasets.base",
        "find_protocol": "hashbench.datasets.catalogue",
        "load": "hashbench.datasets.catalogue",
        "one_hot": "hashbench.datasets.base",
        "prepare": "hashbench.datasets.prepared.building",
        "read_lines": "hashbench.datasets.files.annotations",
        "read_pairs": "hashbench.datasets.files.annotations",
        "relative_path": "hashbench.datasets.files.annotations",
        "source": "hashbench.datasets.files.annotations",
    },
)

if TYPE_CHECKING:
    from hashbench.datasets.base import Dataset as Dataset
    from hashbench.datasets.base import Split as Split
    from hashbench.datasets.base import Store as Store
    from hashbench.datasets.base import dataset as dataset
    from hashbench.datasets.base import one_hot as one_hot
    from hashbench.datasets.catalogue import find_protocol as find_protocol
    from hashbench.datasets.catalogue import load as load
    from hashbench.datasets.files.annotations import read_lines as read_lines
    from hashbench.datasets.files.annotations import read_pairs as read_pairs
    from hashbench.datasets.files.annotations import relative_path as relative_path
    from hashbench.datasets.files.annotations import source as source
    from hashbench.datasets.files.archives import ImageRelease as ImageRelease
    from hashbench.datasets.files.archives import Packed as Packed
    from hashbench.datasets.files.bag_of_words import bag_of_words as bag_of_words
    from hashbench.datasets.files.imagefiles import ImageFiles as ImageFiles
    from hashbench.datasets.files.releases import Archive as Archive
    from hashbench.datasets.files.releases import OfficialFile as OfficialFile
    from hashbench.datasets.files.releases import Release as Release
    from hashbench.datasets.files.releases import SourceFile as SourceFile
    from hashbench.datasets.files.releases import data_root as data_root
    from hashbench.datasets.prepared.building import prepare as prepare
    from hashbench.datasets.protocol import Protocol as Protocol
