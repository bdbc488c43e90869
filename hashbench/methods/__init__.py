"""Methods: the contract, hash centers and codebooks, and CRH; the names below are what a method's file needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashbench.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Batch": "hashbench.datasets.loading.batch",
        "DeepMethod": "hashbench.methods.contract",
        "Method": "hashbench.methods.contract",
        "PairMethod": "hashbench.methods.pairs",
        "PairTask": "hashbench.methods.pairs",
        "Task": "hashbench.methods.contract",
        "Tools": "hashbench.methods.contract",
        "TrainingData": "hashbench.methods.contract",
        "base_method": "hashbench.methods.contract",
        "balanced_words": "hashbench.methods.codebooks",
        "distances": "hashbench.methods.codebooks",
        "distinct_words": "hashbench.methods.codebooks",
        "gilbert_varshamov_distance": "hashbench.methods.codebooks",
        "hadamard_words": "hashbench.methods.codebooks",
        "majority": "hashbench.methods.codebooks",
        "max_distance_words": "hashbench.methods.codebooks",
        "method": "hashbench.methods.contract",
        "option": "hashbench.methods.contract",
        "random_words": "hashbench.methods.codebooks",
        "spaced_words": "hashbench.methods.codebooks",
        "spread": "hashbench.methods.codebooks",
        "widest": "hashbench.methods.codebooks",
    },
)

if TYPE_CHECKING:
    from hashbench.datasets.loading.batch import Batch as Batch
    from hashbench.methods.codebooks import balanced_words as balanced_words
    from hashbench.methods.codebooks import distances as distances
    from hashbench.methods.codebooks import distinct_words as distinct_words
    from hashbench.methods.codebooks import gilbert_varshamov_distance as gilbert_varshamov_distance
    from hashbench.methods.codebooks import hadamard_words as hadamard_words
    from hashbench.methods.codebooks import majority as majority
    from hashbench.methods.codebooks import max_distance_words as max_distance_words
    from hashbench.methods.codebooks import random_words as random_words
    from hashbench.methods.codebooks import spaced_words as spaced_words
    from hashbench.methods.codebooks import spread as spread
    from hashbench.methods.codebooks import widest as widest
    from hashbench.methods.contract import DeepMethod as DeepMethod
    from hashbench.methods.contract import Method as Method
    from hashbench.methods.contract import Task as Task
    from hashbench.methods.contract import Tools as Tools
    from hashbench.methods.contract import TrainingData as TrainingData
    from hashbench.methods.contract import base_method as base_method
    from hashbench.methods.contract import method as method
    from hashbench.methods.contract import option as option
    from hashbench.methods.pairs import PairMethod as PairMethod
    from hashbench.methods.pairs import PairTask as PairTask
