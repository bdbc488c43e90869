"""Exact, order-free evaluation of hash codes; knows codes, labels and counts, and nothing else of the project."""

from hashbench.metrics.evaluation import Scores, evaluate
from hashbench.metrics.hamming import first_bits, histograms, pack, unpack
from hashbench.metrics.histograms import Histograms
from hashbench.metrics.large.files import read_array
from hashbench.metrics.measures import Evaluation, Measure, evaluate_histograms, parse
from hashbench.metrics.ranking import Curve
from hashbench.metrics.statistics import class_separation, code_statistics

__all__ = [
    "Curve",
    "Evaluation",
    "Histograms",
    "Measure",
    "Scores",
    "class_separation",
    "code_statistics",
    "evaluate",
    "evaluate_histograms",
    "first_bits",
    "histograms",
    "pack",
    "parse",
    "read_array",
    "unpack",
]
