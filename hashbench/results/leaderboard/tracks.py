"""Tracks: which results are ranked together, derived from what a result and its spec state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hashbench.datasets.protocol import Protocol
from hashbench.errors import HashbenchError
from hashbench.results.result import Result
from hashbench.results.tables.conditions import CLEAN, condition_of

MANY = (
    50  # classes from which a data set has many: CIFAR-10 and NUS-WIDE lie below it, CIFAR-100 and ImageNet-100 above
)

#: The tracks in the order of the pages, and what is in each.
TRACKS = {
    "few classes": f"one label an image, fewer than {MANY} classes",
    "many classes": f"one label an image, {MANY} classes or more",
    "several labels": "several labels an image; an item that shares one with the query is relevant",
    "unseen classes": "queries and database are of classes without training images",
    "unsupervised": "labels withheld in training",
    "text": "documents as term vectors",
    "attacked": "finished runs measured again with changed queries: attacks, noise, blur, compression, occlusion",
}

# What methods of these families learn from, for results from before the runner stated it.
_BY_FAMILY = dict.fromkeys(("pairwise", "ranking", "pointwise", "proxy", "centers"), "used")


def labels_of(result: Result) -> str | None:
    """Return whether the method's labels were "used" or "withheld" in training, None where the result is unclear."""
    stated = result.provenance.get("labels") or _BY_FAMILY.get(str(result.provenance.get("family")))
    return stated if stated in ("used", "withheld") else None


def track_of(result: Result, data: Mapping[str, Any], protocol: Protocol) -> str:
    """Return the track of a result; `data` is that part of its run's identity.

    Raises HashbenchError where no track, or no single one, fits.
    """
    labels = labels_of(result)
    if labels is None:
        raise HashbenchError("its track is unclear: it does not state whether labels were used in training; run again")
    if result.condition:
        if "relevance" in result.coords:
            raise HashbenchError(f"its track is unclear: {result.condition} changes what is relevant, not the queries")
        condition = condition_of(result)
        if condition.name == CLEAN:
            raise HashbenchError(f"its track is unclear: {result.condition} is to compare with, and changes no query")
        if "surrogate" in condition.fields:
            raise HashbenchError("its attack was made on another run, whose own row could not have it")
        return "attacked"
    if result.coords["inputs"] == "text":
        return "text"
    if labels == "withheld":
        return "unsupervised"
    if protocol.rule.startswith("unseen-"):
        return "unseen classes"
    if data["multi_label"]:
        return "several labels"
    return "many classes" if data["num_classes"] >= MANY else "few classes"
