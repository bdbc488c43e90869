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
        "Comparison": "hashbench.results.table",
        "DeepMethod": "hashbench.methods.base",
        "Executor": "hashbench.executors.base",
        "HashbenchError": "hashbench.errors",
        "Method": "hashbench.methods.base",
        "Result": "hashbench.results.result",
        "Task": "hashbench.methods.base",
        "Tools": "hashbench.methods.base",
        "TrainingData": "hashbench.methods.base",
        "as_loss": "hashbench.plugging.lending",
        "backbone": "hashbench.backbones",
        "check": "hashbench.plugging.checking",
        "compare": "hashbench.results.table",
        "compute_job": "hashbench.executors.worker:compute",
        "dataset": "hashbench.datasets.base",
        "draw": "hashbench.results.figures",
        "evaluate": "hashbench.metrics.evaluation",
        "find_runs": "hashbench.results.store",
        "load": "hashbench.runner",
        "method": "hashbench.methods.base",
        "option": "hashbench.methods.base",
        "report": "hashbench.results.report",
        "run": "hashbench.runner",
        "sweep": "hashbench.runner",
    },
)
__all__ += ["__version__"]

if TYPE_CHECKING:
    from hashbench.backbones import backbone as backbone
    from hashbench.datasets.base import dataset as dataset
    from hashbench.datasets.loading.batch import Batch as Batch
    from hashbench.errors import HashbenchError as HashbenchError
    from hashbench.executors.base import Executor as Executor
    from hashbench.executors.worker import compute as compute_job  # noqa: F401
    from hashbench.methods.base import DeepMethod as DeepMethod
    from hashbench.methods.base import Method as Method
    from hashbench.methods.base import Task as Task
    from hashbench.methods.base import Tools as Tools
    from hashbench.methods.base import TrainingData as TrainingData
    from hashbench.methods.base import method as method
    from hashbench.methods.base import option as option
    from hashbench.metrics.evaluation import evaluate as evaluate
    from hashbench.plugging.checking import check as check
    from hashbench.plugging.lending import as_loss as as_loss
    from hashbench.results.figures import draw as draw
    from hashbench.results.report import report as report
    from hashbench.results.result import Result as Result
    from hashbench.results.store import find_runs as find_runs
    from hashbench.results.table import Comparison as Comparison
    from hashbench.results.table import compare as compare
    from hashbench.runner import load as load
    from hashbench.runner import run as run
    from hashbench.runner import sweep as sweep
