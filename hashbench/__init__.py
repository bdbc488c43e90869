"""hashbench: the benchmark suite for deep hashing whose numbers can be trusted.

Everything public is named here, in `hashbench.datasets` or in `hashbench.methods`, and imported on first use, so that
`import hashbench` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashbench.exports import lazy_exports

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Batch": "hashbench.datasets.loading.batch",
        "Comparison": "hashbench.results.tables.comparison",
        "Condition": "hashbench.evaluation.conditions.contract",
        "Curve": "hashbench.metrics.ranking",
        "DeepMethod": "hashbench.methods.contract",
        "Executor": "hashbench.executors.base",
        "FixedFeatures": "hashbench.evaluation.conditions.contract",
        "HashbenchError": "hashbench.errors",
        "Histograms": "hashbench.metrics.histograms",
        "Method": "hashbench.methods.contract",
        "PairMethod": "hashbench.methods.pairs",
        "PairScorer": "hashbench.methods.pairs",
        "PairTask": "hashbench.methods.pairs",
        "Queries": "hashbench.evaluation.conditions.contract",
        "Result": "hashbench.results.result",
        "SearchIndex": "hashbench.search.index",
        "Task": "hashbench.methods.contract",
        "Tools": "hashbench.methods.contract",
        "TrainingData": "hashbench.methods.contract",
        "as_loss": "hashbench.interop.method_as_loss",
        "base_method": "hashbench.methods.contract",
        "backbone": "hashbench.networks.backbones",
        "build_index": "hashbench.search.building",
        "check": "hashbench.checks.verdict",
        "compare": "hashbench.results.tables.comparison",
        "compute_job": "hashbench.executors.worker:compute",
        "condition": "hashbench.evaluation.conditions.contract",
        "dataset": "hashbench.datasets.base",
        "draw": "hashbench.results.figures.drawing",
        "evaluate": "hashbench.metrics.evaluation",
        "evaluate_run": "hashbench.experiments.reevaluation",
        "find_runs": "hashbench.results.finding",
        "load": "hashbench.experiments.runner",
        "measure": "hashbench.metrics.table",
        "method": "hashbench.methods.contract",
        "open_index": "hashbench.search.index",
        "option": "hashbench.methods.contract",
        "report": "hashbench.results.report",
        "run": "hashbench.experiments.runner",
        "search_page": "hashbench.search.page",
        "sweep": "hashbench.experiments.runner",
        "tune": "hashbench.experiments.tuning",
    },
)
__all__ += ["__version__"]

if TYPE_CHECKING:
    from hashbench.checks.verdict import check as check
    from hashbench.datasets.base import dataset as dataset
    from hashbench.datasets.loading.batch import Batch as Batch
    from hashbench.errors import HashbenchError as HashbenchError
    from hashbench.evaluation.conditions.contract import Condition as Condition
    from hashbench.evaluation.conditions.contract import FixedFeatures as FixedFeatures
    from hashbench.evaluation.conditions.contract import Queries as Queries
    from hashbench.evaluation.conditions.contract import condition as condition
    from hashbench.executors.base import Executor as Executor
    from hashbench.executors.worker import compute as compute_job  # noqa: F401
    from hashbench.experiments.reevaluation import evaluate_run as evaluate_run
    from hashbench.experiments.runner import load as load
    from hashbench.experiments.runner import run as run
    from hashbench.experiments.runner import sweep as sweep
    from hashbench.experiments.tuning import tune as tune
    from hashbench.interop.method_as_loss import as_loss as as_loss
    from hashbench.methods.contract import DeepMethod as DeepMethod
    from hashbench.methods.contract import Method as Method
    from hashbench.methods.contract import Task as Task
    from hashbench.methods.contract import Tools as Tools
    from hashbench.methods.contract import TrainingData as TrainingData
    from hashbench.methods.contract import base_method as base_method
    from hashbench.methods.contract import method as method
    from hashbench.methods.contract import option as option
    from hashbench.methods.pairs import PairMethod as PairMethod
    from hashbench.methods.pairs import PairScorer as PairScorer
    from hashbench.methods.pairs import PairTask as PairTask
    from hashbench.metrics.evaluation import evaluate as evaluate
    from hashbench.metrics.histograms import Histograms as Histograms
    from hashbench.metrics.ranking import Curve as Curve
    from hashbench.metrics.table import measure as measure
    from hashbench.networks.backbones import backbone as backbone
    from hashbench.results.figures.drawing import draw as draw
    from hashbench.results.finding import find_runs as find_runs
    from hashbench.results.report import report as report
    from hashbench.results.result import Result as Result
    from hashbench.results.tables.comparison import Comparison as Comparison
    from hashbench.results.tables.comparison import compare as compare
    from hashbench.search.building import build_index as build_index
    from hashbench.search.index import SearchIndex as SearchIndex
    from hashbench.search.index import open_index as open_index
    from hashbench.search.page import search_page as search_page
